"""A loss that holds derivatives back from autodiff, in a leaf so small that the differences see little of it: nobody is
blamed, and nobody believed, on autodiff's word alone. The truth is that of a larger scale."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.program import derived
from jaxcheck.test_util import check_grads

A = jnp.asarray([0.3, -0.7, 1.1, 0.4], jnp.float32)
B = jnp.asarray([0.9, -1.3], jnp.float32)
held = jax.lax.stop_gradient


def loss_of(size):
    return lambda p: jnp.sum(jnp.sin(p["a"])) + size * jnp.sum(p["b"] * held(p["b"]))


def gradient_of(size, times):
    return lambda p: {"a": jnp.cos(p["a"]), "b": times * size * p["b"]}


@pytest.mark.parametrize("size", [1e-6, 1e-9, 1e-10, 1e-12])
def test_the_right_gradient_and_that_of_autodiff(size):
    params = {"a": A, "b": B}
    right = jc.check_grad(loss_of(size), params, gradient_of(size, 2))
    assert (right.verdict, right["b"].reason) == ("PASS", "AUTODIFF_DIFFERS")
    for half in (gradient_of(size, 1), jax.grad(loss_of(size)), None):
        report = jc.check_grad(loss_of(size), params, half)
        assert (report.verdict, report["b"].reason) == ("FAIL", "NUMERIC_SUSPECT")
        assert report["a"].verdict == "PASS"


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, 1])
def test_at_the_other_doors(times):
    size, wanted = 1e-10, "PASS" if times == 2 else "FAIL"

    @jax.custom_vjp
    def f(a, b):
        return jnp.sum(jnp.sin(a)) + size * jnp.sum(b * held(b))

    f.defvjp(lambda a, b: (f.fun(a, b), (a, b)), lambda r, g: (g * jnp.cos(r[0]), g * times * size * r[1]))
    assert jc.check_rule(f, A, B, level="quick").verdict == wanted
    points = {"a": jnp.stack([A, A + 0.1]), "b": jnp.stack([B, B + 0.1])}
    assert jc.check_batch(loss_of(size), points, gradient_of(size, times)).verdict == wanted
    if wanted == "PASS":
        check_grads(f, (A, B), 1, modes=["rev"])
    else:
        with pytest.raises(AssertionError, match="NUMERIC_SUSPECT"):
            check_grads(f, (A, B), 1, modes=["rev"])


def test_each_component_is_known_by_its_own_size():
    scales = jnp.asarray([1.0, 1e-4, 1e-6, 1e-9], jnp.float32)
    w = jnp.asarray([0.4, -0.8, 1.2, 0.7], jnp.float32)

    def loss(w):
        return jnp.sum(scales * jnp.sin(w)) + jnp.sum(scales * w * held(w))

    def right(w):
        return scales * jnp.cos(w) + 2 * scales * w

    assert jc.check_grad(loss, w, right).reason == "AUTODIFF_DIFFERS"
    report = jc.check_grad(loss, w, lambda w: right(w).at[3].multiply(1.001))
    assert report.verdict == "FAIL" and report.leaves[0].worst[0].index == (3,)


@pytest.mark.parametrize("count", [60, 5000])
def test_the_component_that_is_wrong_is_named_where_autodiff_is_wrong_everywhere(count):
    rng = np.random.default_rng(4)
    c, w = (jnp.asarray(rng.normal(size=count), jnp.float32) for _ in range(2))
    report = jc.check_grad(
        lambda w: jnp.mean(jnp.sin(w) * c) + jnp.mean(w * held(w)),
        w,
        lambda w: ((jnp.cos(w) * c + 2 * w) / count).at[17].multiply(1.2),
    )
    assert report.verdict == "FAIL" and [x.index for x in report.leaves[0].worst] == [(17,)]


def test_a_softmax_holds_nothing_back():
    """JAX's own stop_gradients are harmless: nothing is looked at once more."""
    x = jnp.asarray([1.0, 2.0, 0.5], jnp.float32)
    report = jc.check_grad(lambda x: jax.nn.logsumexp(x), x, jax.nn.softmax)
    assert report.reason == "AGREE" and "stop_gradient" not in str(report)


def test_what_has_steps_is_left_to_the_differences():
    """A straight-through estimator is no gradient of what it computes; the formula's own is 0 between the steps."""
    w = jnp.asarray([0.3, 1.4, -0.8], jnp.float32)

    def loss(w):
        return jnp.sum((w + held(jnp.round(w) - w)) ** 2) + jnp.sum(w)

    assert jc.check_grad(loss, w, jnp.ones_like).reason == "AUTODIFF_DIFFERS"
    assert jc.check_grad(loss, w, jax.grad(loss)).reason == "NUMERIC_SUSPECT"
    assert jc.check_grad(loss, w, jax.grad(loss), surrogate=True).reason == "SURROGATE"


@pytest.mark.slow
def test_where_nobody_knows_the_derivative_without_it_autodiff_alone_convicts_nobody(monkeypatch):
    """A loop that reverse mode cannot go through, held back, and too many components for forward mode; the leaf is too
    small for the differences."""

    def count(x):
        return jax.lax.while_loop(lambda v: v < 10.0, lambda v: v * 1.5 + 1.0, x)

    def loss(p):
        rest = jnp.sum(p["c"] ** 2) + 1e8 * jnp.sum(jnp.sin(p["a"]))
        return (
            rest + 1e8 * jnp.sum(jnp.sin(p["a"])) + 1e-9 * jnp.sum(p["b"] ** 2 * held(count(jnp.sum(jnp.abs(p["b"])))))
        )

    def other(p):
        factor = count(jnp.sum(jnp.abs(p["b"])))
        return {"a": 1e8 * jnp.cos(p["a"]), "b": 3e-9 * p["b"] * factor, "c": 2 * p["c"]}

    few = jc.check_grad(loss, {"a": A, "b": B, "c": jnp.ones(3)}, other)
    assert (few["b"].verdict, few["b"].reason) == ("FAIL", "MANUAL_WRONG")
    monkeypatch.setattr(derived, "MOST_PUSHED", 8)
    report = jc.check_grad(loss, {"a": A, "b": B, "c": jnp.ones(3)}, other)
    assert (report["b"].verdict, report["b"].reason) == ("INCONCLUSIVE", "NOISE")
    assert "stop_gradient" in str(report)


@pytest.mark.parametrize("times", [2, 1])
def test_before_a_loop_without_reverse_mode(times):
    """Forward mode tells what nothing held back would give."""
    size = 1e-10

    def halved(x):
        return jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] / 2), (0, x))[1]

    def loss(p):
        return jnp.sum(jnp.sin(p["a"])) + size * jnp.sum(halved(p["b"] * held(p["b"])))

    report = jc.check_grad(loss, {"a": A, "b": B}, lambda p: {"a": jnp.cos(p["a"]), "b": times * size / 8 * p["b"]})
    assert report.ok == (times == 2), str(report)


@pytest.mark.parametrize("part", [1e-6, 1e-5, 1e-4, 1e-3])
@pytest.mark.parametrize(
    ("given", "looped"),
    [("none", False), ("autodiff", False), ("by hand", False), ("autodiff", True), ("by hand", True)],
)
def test_what_gradient_and_autodiff_leave_out_alike(part, given, looped):
    """A term held back of which nobody but the differences knows: a part of the leaf that is no excuse."""
    x = np.array([0.3, -0.7, 1.1])

    def term(p):
        return jnp.sum(p**3) + part * jnp.sum(held(jnp.sin(2 * p)))

    def loss(p):
        if not looped:
            return term(p)
        return jax.lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1] + term(p)), (0, 0.0 * jnp.sum(p)))[1]

    grads = {"none": None, "autodiff": jax.grad(term), "by hand": lambda p: 3 * p**2}
    grad = grads[given] if not looped else lambda p: 2 * (grads[given](p))
    report = jc.check_grad(loss, x, grad)
    assert report.verdict is jc.Verdict.FAIL, str(report)
    assert report.reason in ("NUMERIC_SUSPECT", "MANUAL_WRONG"), report.reason


def test_one_component_that_both_leave_out():
    x = np.array([0.3, -0.7, 1.1], np.float32)
    report = jc.check_grad(
        lambda p: 1e4 * jnp.sum(p[:2] ** 3) + jnp.sin(held(p[2])), x, lambda p: jnp.array([3e4, 3e4, 0.0]) * p**2
    )
    assert report.verdict is jc.Verdict.FAIL
    assert [c.index for c in report.leaves[0].worst] == [(2,)]


@pytest.mark.parametrize("eps", [5e-5, 2e-4, 1e-3])
def test_what_is_held_back_makes_no_kink(eps):
    """Autodiff beside the point holds it back as well: that is no other piece of the function."""
    x = np.random.default_rng(0).normal(size=5)
    report = jc.check_grad(
        lambda p: jnp.sum(p**2) + eps * jax.lax.stop_gradient(p[0] * p[1] * p[2]), x, lambda p: 2 * p
    )
    assert (report.verdict, report.reason) == (jc.Verdict.FAIL, jc.Reason.NUMERIC_SUSPECT)
