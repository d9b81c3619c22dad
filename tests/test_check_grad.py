"""The front door: forms of `grad`, extra data, modes, blame, cost, and what stays the same from run to run."""

from __future__ import annotations

import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import Reason, Verdict

RNG = np.random.default_rng(1)


def draw(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


P = {"layers": [{"W": draw(4, 5), "b": draw(5)}, {"W": draw(5, 3), "b": draw(3)}]}
X = jnp.asarray(RNG.normal(size=(10, 4)), jnp.float32)
Y = jnp.asarray(RNG.integers(0, 3, 10))


def loss(p, batch):
    x, y = batch["x"], batch["y"]
    h = jnp.tanh(x @ p["layers"][0]["W"] + p["layers"][0]["b"])
    z = h @ p["layers"][1]["W"] + p["layers"][1]["b"]
    return jnp.mean(jax.nn.logsumexp(z, axis=1) - z[jnp.arange(len(y)), y])


def backprop(p, batch, w2=1.0, b1=1.0):
    x, y = batch["x"], batch["y"]
    first, second = p["layers"]
    h = jnp.tanh(x @ first["W"] + first["b"])
    dz = (jax.nn.softmax(h @ second["W"] + second["b"]) - jax.nn.one_hot(y, 3)) / len(y)
    dh = dz @ second["W"].T * (1 - h * h)
    return {"layers": [{"W": x.T @ dh, "b": b1 * dh.sum(0)}, {"W": w2 * (h.T @ dz), "b": dz.sum(0)}]}


ARGS = ({"x": X, "y": Y},)


def test_two_planted_mistakes_are_found_and_named():
    jc.check_grad(loss, P, backprop, args=ARGS).assert_ok()
    report = jc.check_grad(loss, P, lambda p, batch: backprop(p, batch, w2=2, b1=4), args=ARGS, name="net")
    assert [x.path for x in report.leaves if x.verdict is Verdict.FAIL] == ["layers[0].b", "layers[1].W"]
    assert report.leaf("layers[1].W").hint.startswith("ratio 2.000")
    assert report.leaf("layers[0].b").hint.startswith("ratio 4.000")
    for worst in report.leaf("layers[1].W").worst:
        assert worst.manual == pytest.approx(2 * worst.numeric, rel=1e-6) == pytest.approx(2 * worst.autodiff, rel=1e-6)
    assert "blamed: M" in str(report) and "net" in str(report)
    with pytest.raises(jc.GradientMismatch, match="layers"):
        report.assert_ok()


with jax.enable_x64(True):
    EXACT = backprop(jax.tree.map(lambda x: x.astype(jnp.float64), P), {"x": X.astype(jnp.float64), "y": Y})

FORMS = {
    "function": backprop,
    "value_and_grad": jax.value_and_grad(loss),
    "numbers": EXACT,
    "numpy numbers": jax.tree.map(np.asarray, EXACT),
    "none": None,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", [None, "sketch"])
def test_every_form_of_grad(form, mode):
    report = jc.check_grad(loss, P, FORMS[form], args=ARGS, mode=mode).assert_ok()
    assert report.difference < 1e-6
    if form == "none":
        assert any("No custom rule" in note for note in report.notes)


def test_has_aux_and_float64_under_x64():
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), P)
        report = jc.check_grad(
            lambda p, batch: (loss(p, batch), {"n": 1}),
            wide,
            jax.grad(lambda p, batch: (loss(p, batch), 1), has_aux=True),
            args=ARGS,
            has_aux=True,
        )
        assert jax.config.jax_enable_x64
    assert report.assert_ok().difference < 1e-10
    assert all(leaf.dtype == "float64" for leaf in report.leaves)


@jax.custom_vjp
def good(x):
    return jnp.sin(x)


good.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


@jax.custom_vjp
def bad(x):
    return jnp.sin(x)


bad.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x) * (x > 0),))


@jax.custom_jvp
def bad_jvp(x):
    return x**3


bad_jvp.defjvp(lambda primals, tangents: (primals[0] ** 3, 2 * primals[0] ** 2 * tangents[0]))


def test_custom_rules_are_under_test_when_no_grad_is_given():
    x = jnp.asarray([0.3, -0.7])
    assert jc.check_grad(lambda x: jnp.sum(good(x)), x).ok
    report = jc.check_grad(lambda x: jnp.sum(bad(x)), x)
    assert report.reason is Reason.MANUAL_WRONG and report.leaves[0].worst[0].index == (1,)
    assert jc.check_grad(lambda x: jnp.sum(bad_jvp(x)), x).reason is Reason.MANUAL_WRONG
    # A wrong rule inside the loss does not speak against a right backprop by hand.
    assert jc.check_grad(lambda x: jnp.sum(bad(x)), x, jnp.cos).ok


def test_the_second_check_compiles_nothing():
    batch = {"x": X + 1, "y": Y}
    jc.check_grad(loss, P, backprop, args=ARGS)
    other = jax.tree.map(lambda x: 1.1 * x, P)
    for params, args in ((P, ARGS), (other, ARGS), (P, (batch,))):
        assert jc.check_grad(loss, params, backprop, args=args).compiled == 0
    wrong = lambda p, batch: backprop(p, batch, w2=2)  # noqa: E731
    first = jc.check_grad(loss, P, wrong, args=ARGS)
    assert first.compiled <= 3
    assert jc.check_grad(loss, P, wrong, args=ARGS).compiled == 0


def plain(report):
    return pickle.dumps([(x.path, x.difference, x.error_bar, x.floor, x.worst) for x in report.leaves])


@pytest.mark.parametrize("mode", ["exhaustive", "sketch"])
def test_a_seed_decides_everything(mode):
    one, two = (jc.check_grad(loss, P, backprop, args=ARGS, mode=mode, seed=3) for _ in range(2))
    assert plain(one) == plain(two) and one.seed == 3
    if mode == "sketch":
        assert plain(jc.check_grad(loss, P, backprop, args=ARGS, mode=mode, seed=4)) != plain(one)


def test_adding_a_leaf_does_not_change_anothers_directions():
    small = {"a": jnp.asarray([0.3, -0.7])}
    f = lambda p: jnp.sum(jnp.sin(p["a"])) + jnp.sum(p.get("Z", jnp.zeros(1)) ** 2)  # noqa: E731
    one = jc.check_grad(f, small, jax.grad(f), mode="sketch")
    two = jc.check_grad(f, {**small, "Z": jnp.asarray([1e-9])}, jax.grad(f), mode="sketch")
    assert one.leaf("a").difference == pytest.approx(two.leaf("a").difference, rel=1e-2)


def test_one_wrong_component_in_a_hundred_thousand():
    x = np.random.default_rng(0).normal(size=100_000)
    f = lambda x: jnp.sum(jnp.sin(x))  # noqa: E731
    right = jc.check_grad(f, x, jnp.cos).assert_ok()
    assert right.mode == "sketch" and "too many" in right.why_mode and right.evaluations < 1000
    report = jc.check_grad(f, x, lambda x: jnp.cos(x).at[54_321].add(1e-3))
    assert report.verdict is Verdict.FAIL and report.leaves[0].worst[0].index == (54_321,)


def test_a_nondeterministic_gradient_or_loss():
    noise = np.random.default_rng(0)
    f = lambda x: jnp.sum(x**2)  # noqa: E731
    x = jnp.asarray([0.3, -0.7])
    assert jc.check_grad(f, x, lambda x: 2 * np.asarray(x) + noise.normal()).reason is Reason.NONDETERMINISTIC
    count = itertools.count()
    assert (
        jc.check_grad(lambda x: float(np.sum(x)) * next(count), np.ones(2), np.ones_like).reason
        is Reason.NONDETERMINISTIC
    )


def test_mixed_scales_in_one_tree():
    p = {"tiny": jnp.float32(1e-8), "huge": jnp.float32(1e8)}
    f = lambda p: jnp.sin(p["tiny"] * 1e8) + jnp.sin(p["huge"] * 1e-8)  # noqa: E731
    g = lambda p: {"tiny": 1e8 * jnp.cos(p["tiny"] * 1e8), "huge": 1e-8 * jnp.cos(p["huge"] * 1e-8)}  # noqa: E731
    assert all(leaf.difference < 1e-9 for leaf in jc.check_grad(f, p, g).assert_ok().leaves)
    report = jc.check_grad(f, p, lambda p: {**g(p), "huge": 1.00001 * g(p)["huge"]})
    assert [x.path for x in report.leaves if x.verdict is Verdict.FAIL] == ["huge"]


LEAVES = {
    "logsumexp at 1e4": (jax.nn.logsumexp, jnp.asarray([1e4, 9999.0, 3.0])),
    "a norm near zero": (jnp.linalg.norm, jnp.asarray([1e-15, 2e-15])),
    "log of 1e-30": (lambda x: jnp.sum(jnp.log(x)), jnp.asarray([1e-30, 1.0])),
    "cholesky": (lambda x: jnp.sum(jnp.linalg.cholesky(x @ x.T + jnp.eye(3))), jnp.asarray(RNG.normal(size=(3, 3)))),
    "eigenvalues": (lambda x: jnp.sum(jnp.linalg.eigvalsh(x + x.T) ** 3), jnp.asarray(RNG.normal(size=(4, 4)))),
    "sorted": (lambda x: jnp.sum(jnp.sort(x) * jnp.arange(5.0)), jnp.asarray(RNG.normal(size=5))),
    "a loss of 1e12": (lambda x: 1e12 + jnp.sum(jnp.sin(x)), jnp.asarray([0.3, -0.7])),
    "1e-30": (lambda x: 1e-30 * jnp.sum(jnp.sin(x)), jnp.asarray([0.3, -0.7])),
    "fast": (lambda x: jnp.sum(jnp.sin(1e4 * x)), jnp.asarray([0.3, -0.7])),
    "spread": (lambda x: jnp.sum(x**2 * jnp.asarray([1e-8, 1.0, 1e8])), jnp.asarray([1e4, 1.0, 1e-4])),
    "at a kink's foot": (lambda x: jnp.sum(jnp.abs(x) ** 1.5), jnp.asarray([1e-9, 1.0])),
}


@pytest.mark.parametrize("name", LEAVES)
def test_right_but_hard(name):
    f, x = LEAVES[name]
    jc.check_grad(f, x, jax.grad(f)).assert_ok()
    assert jc.check_grad(f, x, lambda x: jax.grad(f)(x) * (1 + 1e-5)).verdict is Verdict.FAIL
