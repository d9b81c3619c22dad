"""Detection floors that hold: an error planted above the printed floor fails, whichever leaf, component and sign."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import session
from jaxcheck.result import Verdict
from jaxcheck.test_util import check_grads


def network(p):
    h = jnp.tanh(p["W"] @ p["x"] + p["b"])
    return jnp.sum(jnp.log1p(h**2)) + 0.1 * jnp.sum(p["W"] ** 2)


def mixed(p):
    return jnp.sum(jnp.sin(p["x"] * 1e-3)) * 1e3 + jnp.sum(jnp.exp(p["b"]) / 7)


def counted(p):
    # No reverse mode for autodiff: the differences are alone with the gradient.
    total = jax.lax.while_loop(
        lambda s: s[0] < 3,
        lambda s: (s[0] + 1, s[1] + jnp.sum(jnp.sin(p["x"] * (s[0] + 1)))),
        (0, jnp.zeros((), p["x"].dtype)),
    )[1]
    return total + jnp.sum(p["b"] ** 3)


def kinked(p):
    return jnp.sum(jnp.abs(p["b"])) + jnp.sum(jnp.maximum(p["x"], 0.0) ** 2)


LOSSES = {"network": network, "mixed": mixed, "counted": counted, "kinked": kinked}


def params(name):
    rng = np.random.default_rng(5)  # the same whichever tests were run before
    return {
        "W": jnp.asarray(rng.standard_normal((3, 4))),
        "x": jnp.asarray(rng.standard_normal(4)),
        "b": jnp.asarray([0.0 if name == "kinked" else 0.3, -0.7, 1.1]),
    }


def gradient(loss):
    def grad(p):
        return jax.tree.map(lambda x: x, jax.jacfwd(loss)(p))

    return grad


@pytest.mark.parametrize(("name", "mode", "x64"), [
    *((name, None, True) for name in LOSSES), ("network", jc.Sketch(), True), ("mixed", jc.Sketch(), True),
    ("network", None, False),
])  # fmt: skip
def test_above_the_floor_nothing_passes(name, mode, x64):
    with jax.enable_x64(x64):
        loss, p, rng = LOSSES[name], params(name), np.random.default_rng(6)
        grad = gradient(loss)
        report = jc.check_grad(loss, p, grad, mode=mode)
        assert report.verdict is Verdict.PASS
        true = jax.tree.map(np.asarray, grad(p))

        def fails(leaf, factor, plus, i):
            """Arrays for all leaves, of which all but a few numbers do nothing: one program for every error."""
            scale = {n: np.full(g.shape, factor * (n == leaf.path), g.dtype) for n, g in true.items()}
            shift = {n: np.zeros(g.shape, g.dtype) for n, g in true.items()}
            shift[leaf.path].reshape(-1)[i] = plus

            def off(p):
                return {n: g + g * scale[n] + shift[n] for n, g in grad(p).items()}

            found = jc.check_grad(loss, p, off, mode=mode, where=False).leaf(leaf.path)
            # Numbers that only the gradient holds, rounded to float32, may be granted their rounding; then the floor of
            # that report says so.
            size = max(abs(factor), abs(plus) / np.linalg.norm(true[leaf.path]))
            return found.verdict is Verdict.FAIL or (not x64 and found.floor >= size * (1 - 1e-6))

        for leaf in report.leaves:
            norm = np.linalg.norm(true[leaf.path])
            if not norm or not np.isfinite(leaf.floor):
                continue
            for sign in (1, -1):
                assert fails(leaf, sign * 1.2 * leaf.floor, 0.0, 0)
                where = (
                    int(np.argmax(np.abs(np.asarray(p[leaf.path]).ravel())))
                    if leaf.kinks
                    else rng.integers(true[leaf.path].size)
                )
                if mode is None:
                    assert fails(leaf, 0.0, sign * 1.2 * leaf.floor_component * norm, int(where))


@pytest.mark.parametrize(("off", "rtol"), [(0.0, None), (3e-11, None), (1e-9, 1e-7), (3e-8, 1e-7)])
def test_a_floor_is_never_below_what_is_seen(off, rtol):
    with jax.enable_x64(True):
        p = params("network")
        report = jc.check_grad(
            network,
            p,
            lambda p: jax.tree.map(lambda g: g * (1 + off), jax.grad(network)(p)),
            tolerance=jc.Tolerance(rtol),
        )
        for leaf in report.leaves:
            assert leaf.floor >= off


@pytest.mark.parametrize("make", [
    lambda x: (lambda v: jnp.sum(jnp.tanh(v)), lambda v: 1 / jnp.cosh(v) ** 2, [0.3, 18.0, 20.0, 30.0]),
    lambda x: (lambda v: jnp.sum(jnp.log(jax.nn.sigmoid(v))), lambda v: jax.nn.sigmoid(-v), [1.0, 30.0, 35.0]),
    lambda x: (lambda v: jnp.sum(jnp.exp(v) - 1), jnp.exp, [1e-9, 1e-12]),
    lambda x: (lambda v: jnp.sum(jnp.log1p(jnp.exp(v))), jax.nn.sigmoid, [-30.0, 0.1, 40.0]),
    lambda x: (lambda v: jnp.sum(jnp.sin(1e5 * v)), lambda v: 1e5 * jnp.cos(1e5 * v), [0.3, 0.7]),
], ids=["tanh", "log sigmoid", "expm1", "softplus", "oscillation"])  # fmt: skip
def test_what_rounding_explains_accuses_nobody(make):
    with jax.enable_x64(True):
        f, slope, at = make(None)
        x = jnp.asarray(at)
        assert jc.check_grad(f, x, slope).verdict is not Verdict.FAIL
        assert jc.check_grad(f, x, lambda v: slope(v) * 1.01).verdict is Verdict.FAIL


def test_a_smooth_point_beside_a_kink_is_no_kink():
    with jax.enable_x64(True):
        x = jnp.asarray([1e-6, 1.0])
        f = lambda v: jnp.sum(jax.nn.relu(v))  # noqa: E731
        right = jc.check_grad(f, x, lambda v: (v > 0) * 1.0)
        assert right.verdict is Verdict.PASS and not right.leaves[0].kinks
        assert jc.check_grad(f, x, lambda v: jnp.asarray([0.5, 1.0])).verdict is Verdict.FAIL


@pytest.mark.parametrize(("f", "x", "said"), [
    (lambda v: jnp.sum(jnp.maximum(v, 0.0)), [0.0, 1.0], "`max` at test_floors.py:"),
    (lambda v: jnp.sum(jnp.abs(v)), [0.0, 1.0], "`abs` at test_floors.py:"),
    (lambda v: jnp.sum(jnp.floor(v) * v), [1.0, 0.5], "`floor` at test_floors.py:"),
], ids=["max", "abs", "floor"])  # fmt: skip
def test_a_kink_is_named_by_its_line(f, x, said):
    assert said in jc.check_grad(f, jnp.asarray(x)).leaves[0].note


@pytest.mark.parametrize("name", ["network"])
def test_in_float64_a_floor_lies_below_1e_9(name):
    with jax.enable_x64(True):
        p = params(name)
        report = jc.check_grad(network, p, jax.grad(network))
        assert np.median([leaf.floor for leaf in report.leaves]) < 1e-9
        wrong = jc.check_grad(network, p, lambda p: jax.tree.map(lambda g: g * (1 + 1e-9), jax.grad(network)(p)))
        assert wrong.verdict is Verdict.FAIL
    # In float32 no run could tell an error below its unit.
    p = jax.tree.map(lambda x: x.astype(np.float32), p)
    assert jc.check_grad(network, p, lambda p: jax.tree.map(lambda g: g * (1 + 1e-9), jax.grad(network)(p))).ok


def test_an_error_spread_at_random_above_the_floor_does_not_hide_from_a_few_directions():
    """NumPy's code, so that nobody but random directions looks at the gradient."""
    rng = np.random.default_rng(0)
    a, w = rng.normal(size=(2, 400))

    def loss(w):
        return float(a @ np.sin(w))

    right = jc.check_grad(loss, w, lambda w: a * np.cos(w), mode=jc.Sketch())
    assert right.verdict is jc.Verdict.PASS and right.mode == "sketch"
    g = a * np.cos(w)
    for _ in range(8):
        off = rng.normal(size=g.shape)
        off *= 1.2 * right.leaves[0].floor * np.linalg.norm(g) / np.linalg.norm(off)
        report = jc.check_grad(loss, w, lambda w, off=off: a * np.cos(w) + off, mode=jc.Sketch())
        assert report.verdict is jc.Verdict.FAIL, (right.leaves[0].floor, str(report))


@pytest.mark.slow
def test_an_error_of_one_component_above_its_floor_does_not_hide_from_a_few_directions():
    """NumPy's alone: of a thousand numbers some are so small that a direction of their own moves them and nothing else,
    and along that one what the tolerance grants the leaf does not count. The floor was that of these."""
    rng = np.random.default_rng(15)
    n = 1100
    scale, w = np.exp(rng.normal(size=n) * 6), rng.normal(size=n)
    w[:2] = 1e-5
    truth = scale * np.cos(w)
    norm, order, passed = np.linalg.norm(truth), np.argsort(np.abs(truth)), 0

    def check(wrong):
        report = jc.check_grad(lambda w: float(np.sum(scale * np.sin(w))), w, lambda w: truth + wrong, where=False)
        return report.verdict, report.leaves[0].floor_component

    verdict, floor = check(np.zeros(n))
    assert verdict is Verdict.PASS and floor < 1e-6
    for size in (1.1 * floor, 1e-7, 3e-8):
        for where in (0, order[-1]):
            verdict, floor_then = check(np.where(np.arange(n) == where, size * norm, 0.0))
            assert verdict is Verdict.FAIL or size <= floor_then, (size, where, floor_then)
            passed += verdict is Verdict.PASS
    assert passed  # some are small enough to


@pytest.mark.slow
@pytest.mark.parametrize("modes", [("rev",), ("fwd",), ("fwd", "rev")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_drop_in_says_its_floor_to_who_listens_and_holds_it(dtype, modes):
    x, heard = np.asarray([0.3, -1.2, 0.7], dtype), []
    with jax.enable_x64(dtype == np.float64):
        stop = session.listen(heard.append)
        try:
            check_grads(scaled(1.0, modes), (x,), 1, modes)
        finally:
            stop()
        (report,) = heard
        assert 1e-9 < report.floor < 1e-6 and f"floor {report.floor:.1e}" in repr(report)
        with pytest.raises(jc.GradientMismatch):
            check_grads(scaled(1 + 1.01 * report.floor, modes), (x,), 1, modes)
        check_grads(scaled(1.0, modes), (x,), 1, modes)
    assert len(heard) == 1


def scaled(factor, modes):
    """Sine, its derivative wrong by a factor that float32 holds, too: as a sum."""
    sine = jax.custom_vjp(jnp.sin) if modes == ("rev",) else jax.custom_jvp(jnp.sin)
    if modes == ("rev",):
        sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.cos(x) * g + (factor - 1) * jnp.cos(x) * g,))
    else:
        sine.defjvp(lambda p, t: (jnp.sin(p[0]), jnp.cos(p[0]) * t[0] + (factor - 1) * jnp.cos(p[0]) * t[0]))
    return sine


def test_a_floor_that_is_relative_to_other_leaves_says_so():
    """Saturated attention: of the queries' gradient nothing but round-off is left."""
    rng = np.random.default_rng(4)
    params, x = {k: np.float32(rng.normal(size=(4, 4))) for k in "qkv"}, np.float32(rng.normal(size=(6, 4)) * 2)

    def loss(p):
        return jnp.sum(jnp.sin(jax.nn.softmax(8 * (x @ p["q"]) @ (x @ p["k"]).T, -1) @ (x @ p["v"])))

    report = jc.check_grad(loss, params, where=False)
    assert [leaf.path for leaf in report if leaf.faint] == ["k", "q"] and report.ok, str(report)
    assert "for `k`, `q`, with next to no gradient, to what the other leaves do" in str(report).replace("\n", " ")
    assert not jc.check_grad(network, {"W": np.ones((2, 3)), "x": np.ones(3), "b": np.ones(2)})["W"].faint


@pytest.mark.slow
@pytest.mark.parametrize("name", ["abs", "relu", "weighed"])
def test_on_a_kink_a_floor_does_not_promise_to_catch_another_choice(name):
    """A gradient that is zero there had the floor of the differences' bar, 1e-19, and any choice passes."""
    loss, most = {
        "abs": (lambda p: jnp.sum(jnp.abs(p)), 1.0),
        "relu": (lambda p: jnp.sum(jax.nn.relu(p)), 1.0),
        "weighed": (lambda p: jnp.sum(jnp.abs(p) * jnp.arange(1.0, 4.0)), 3.0),
    }[name]
    x = np.zeros(3)
    report = jc.check_grad(loss, x, jnp.zeros_like)
    assert report and report.reason is jc.Reason.KINK
    other = jc.check_grad(loss, x, lambda p: jnp.zeros_like(p).at[2].set(0.3 * most))
    assert other and other.reason is jc.Reason.KINK
    assert report.floor > 0.3
