"""A gradient that was computed before, in the caller's own float32, and is handed out by a function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc


def numpy_loss(x, y):
    return lambda p: float(np.mean((np.tanh(x @ np.asarray(p["W"]) + np.asarray(p["b"])) - y) ** 2))


def jax_loss(x, y):
    return lambda p: jnp.mean((jnp.tanh(x @ p["W"] + p["b"]) - y) ** 2)


@pytest.mark.parametrize("loss", [numpy_loss, jax_loss])
@pytest.mark.parametrize("held", ["numpy", "jax"])
@pytest.mark.parametrize("off", [0.0, 1e-3])
def test_it_is_held_to_the_rounding_it_had(loss, held, off):
    verdicts = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
        params = {"W": rng.normal(size=(4, 4)), "b": rng.normal(size=4)}
        found = jax.grad(jax_loss(x, y))(jax.tree.map(jnp.asarray, params))
        found = {k: v * np.float32(1 + off) for k, v in found.items()}
        found = {k: np.asarray(v) for k, v in found.items()} if held == "numpy" else found
        report = jc.check_grad(loss(x, y), params, lambda p, found=found: found, where=False)
        verdicts.append(report.verdict)
        assert all(leaf.verdict is jc.Verdict.FAIL or leaf.floor < off for leaf in report.leaves if off), str(report)
    assert set(verdicts) == {jc.Verdict.FAIL if off else jc.Verdict.PASS}


def test_what_is_random_is_still_seen():
    def loss(p):
        return jnp.sum(p**2)

    rng, p = np.random.default_rng(0), np.ones(3, np.float32)
    report = jc.check_grad(loss, p, lambda p: jnp.asarray(2 + 1e-3 * rng.normal(size=3), jnp.float32))
    assert report.reason is jc.Reason.NONDETERMINISTIC, str(report)


def test_masks_of_minus_infinity_take_no_part_in_a_hint():
    rng = np.random.default_rng(0)
    table, e = rng.normal(size=(3, 3)), rng.normal(size=(5, 3))
    table[0, 2] = -np.inf

    def total(t):
        step = lambda a, x: (jax.nn.logsumexp(a[:, None] + t, 0) + x, None)  # noqa: E731
        return jax.nn.logsumexp(jax.lax.scan(step, e[0], e[1:])[0])

    for made, verdict in ((lambda g: g, jc.Verdict.PASS), (lambda g: g.T, jc.Verdict.FAIL)):
        report = jc.check_grad(total, table, lambda t, made=made: made(jax.grad(total)(t)), where=False)
        assert report.verdict is verdict, str(report)


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("off", [0.0, 1e-3])
def test_one_leaf_that_was_computed_before(xp, off):
    """A linear leaf, the sum of whose data is taken once, in float32, beside one that is computed."""
    verdicts = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = xp.asarray(rng.normal(size=(20, 4)), np.float32)
        params = {k: rng.normal(size=4).astype(np.float32) for k in "vw"}
        total = x.sum(0) * np.float32(1 + off)

        def loss(p, x=x):
            return xp.sum(x @ p["w"]) + xp.sum(xp.sin(x @ p["v"]))

        def gradient(p, x=x, total=total):
            return {"w": total, "v": x.T @ xp.cos(x @ p["v"])}

        report = jc.check_grad(loss, params, gradient, where=False)
        verdicts.append(report.verdict)
        assert report["v"].ok and report["v"].floor < 1e-3, str(report)
    assert set(verdicts) == {jc.Verdict.FAIL if off else jc.Verdict.PASS}


@pytest.mark.parametrize("handed_out", [False, True])
def test_next_to_a_threshold_rounding_may_have_decided_otherwise(handed_out):
    """In float32 a unit is off that is on in float64, by 2e-9: nobody is convicted for that, nor passes by it."""
    x = np.array([1.0, 1.0], np.float32)
    w = np.array([0.1, -0.1], np.float32)  # the float32 sum is 0, off

    def loss(w):
        return jnp.maximum(x @ w + np.float32(2e-9), 0) + jnp.sum(w**2)

    right = jax.grad(loss)(w)
    otherwise = np.asarray(right) - x
    for numbers, verdicts in ((right, ["PASS"]), (otherwise, ["INCONCLUSIVE", "PASS"]), (3 * right, ["FAIL"])):
        report = jc.check_grad(loss, w, (lambda w, g=numbers: g) if handed_out else numbers, where=False)
        assert report.verdict in verdicts, str(report)
