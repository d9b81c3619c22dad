"""Rules that are told what is not perturbed, and which result is not used, in the drop-in: they may be wrong there
alone."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.check import derivative
from jaxcheck.test_util import check_grads, check_jvp, check_vjp

X, Y = jnp.linspace(0.3, 0.9, 4), jnp.linspace(1.0, 2.0, 4)
Zero = jax.custom_derivatives.SymbolicZero


@pytest.fixture(autouse=True)
def _no_second_look(monkeypatch):
    """What is found wrong is not looked at leaf by leaf here, for the time it takes, but in one test."""
    monkeypatch.setattr(derivative, "by_leaf", lambda *args: None)


def number(c):
    return jnp.zeros(c.shape, c.dtype) if isinstance(c, Zero) else c


def backward(result=1.0, argument=1.0):
    """(x sin(y), x + y), the gradient off where the second result is not used, or the second argument not perturbed."""
    f = jax.custom_vjp(lambda x, y: (x * jnp.sin(y), x + y))

    def fwd(x, y):
        return f(x.value, y.value), (x.value, y.value, 1.0 if y.perturbed else argument)

    def bwd(kept, g):
        x, y, off = kept
        a, b = map(number, g)
        off *= result if isinstance(g[1], Zero) else 1.0
        return off * a * jnp.sin(y) + b, a * x * jnp.cos(y) + b

    f.defvjp(fwd, bwd, symbolic_zeros=True)
    return f


def forward(off=1.0, which=1):
    """x sin(y), the tangent off where one of the arguments is not perturbed."""
    f = jax.custom_jvp(lambda x, y: x * jnp.sin(y))

    def rule(primals, tangents):
        x, y = primals
        t, u = map(number, tangents)
        factor = off if isinstance(tangents[which], Zero) else 1.0
        return f(x, y), factor * (t * jnp.sin(y) + u * x * jnp.cos(y))

    f.defjvp(rule, symbolic_zeros=True)
    return f


def three(off):
    """x y z, the tangent off where the second argument alone is not perturbed."""
    f = jax.custom_jvp(lambda x, y, z: x * y * z)

    def rule(p, t):
        a, b, c = map(number, t)
        alone = [isinstance(one, Zero) for one in t] == [False, True, False]
        return f(*p), (off if alone else 1.0) * (a * p[1] * p[2] + b * p[0] * p[2] + c * p[0] * p[1])

    f.defjvp(rule, symbolic_zeros=True)
    return f


def tree(f):
    return lambda p: {"out": f(p["a"], p["b"])}


def pytrees(f):
    return lambda p, y: f(p["a"] * p["c"], y)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, lambda f: jax.jit(lambda x, y: f(2 * x, y))])
@pytest.mark.parametrize("order", [1, 2])
def test_right_rules_pass(wrap, order):
    check_grads(wrap(backward()), (X, Y), order, ["rev"])
    check_grads(wrap(forward()), (X, Y), order, ["fwd", "rev"])


@pytest.mark.slow
def test_right_rules_of_trees_and_of_one_argument():
    check_grads(tree(backward()), ({"a": X, "b": Y},), 1, ["rev"])
    check_grads(tree(forward()), ({"a": X, "b": Y},), 1, ["fwd", "rev", "lin"])
    check_grads(pytrees(backward()), ({"a": X, "c": 2.0}, Y), 1, ["rev"])
    check_grads(pytrees(forward()), ({"a": X, "c": 2.0}, Y), 1, ["fwd", "rev"])
    check_grads(lambda x: forward()(x, x), (X,), 1, ["fwd", "rev"])
    check_grads(lambda x: forward(1.05)(x, x), (X,), 1, ["fwd", "rev"])  # there it is never told so
    with jax.enable_x64(True):
        check_grads(backward(), (np.asarray(X, np.float64), np.asarray(Y, np.float64)), 1, ["rev"])


WRONG = {
    "result": (backward(result=1.05), ["rev"], "with result 0 alone used"),
    "argument": (backward(argument=1.05), ["rev"], "with `args[0]` alone perturbed"),
    "jit": (jax.jit(backward(argument=1.05)), ["rev"], "with `args[0]` alone perturbed"),
    "fwd": (forward(1.05), ["fwd"], "with `args[0]` alone perturbed"),
    "fwd, other": (forward(1.05, 0), ["fwd"], "with `args[1]` alone perturbed"),
    "lin": (forward(1.05), ["lin"], "with `args[0]` alone perturbed"),
    "rev of jvp": (forward(1.05), ["rev"], "with `args[0]` alone perturbed"),
    "inside jit": (lambda x, y: jax.jit(forward(1.05))(jnp.sin(x), y), ["fwd", "rev"], "alone perturbed"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rules_raise(name):
    f, modes, words = WRONG[name]
    with pytest.raises(jc.GradientMismatch, match="LAW_BROKEN") as caught:
        check_grads(lambda *args: f(*args), (X, Y), 1, modes)
    assert words in str(caught.value), caught.value


@pytest.mark.slow
def test_leaves_and_arguments_are_named():
    with pytest.raises(jc.GradientMismatch, match=r"`p\.a` alone perturbed"):
        check_grads(tree(forward(1.05)), ({"a": X, "b": Y},), 1, ["fwd"])
    with pytest.raises(jc.GradientMismatch, match=r"with `p` alone perturbed"):
        check_grads(pytrees(forward(1.05)), ({"a": X, "c": 2.0}, Y), 1, ["fwd"])
    with pytest.raises(jc.GradientMismatch, match=r"with `p\.b` not perturbed"):
        check_grads(lambda p: three(1.05)(p["a"], p["b"], p["c"]), ({"a": X, "b": Y, "c": X},), 1, ["fwd"])
    check_grads(lambda p: three(1.0)(p["a"], p["b"], p["c"]), ({"a": X, "b": Y, "c": X},), 1, ["fwd", "rev"])


def test_within_the_bound_that_was_asked_for():
    check_grads(forward(1.05), (X, Y), 1, ["fwd"], 0.2, 0.2)
    with pytest.raises(jc.GradientMismatch):
        check_grads(forward(1.05), (X, Y), 1, ["fwd"], 1e-3, 1e-3)


@pytest.mark.slow
def test_derivatives_that_jax_takes_in_the_other_doors():
    check_jvp(forward(), partial(jax.jvp, forward()), (X, Y))
    check_vjp(backward(), partial(jax.vjp, backward()), (X, Y))
    for f in (forward(1.05), backward(1.05)):
        with pytest.raises(jc.GradientMismatch, match="alone"):
            check_vjp(f, partial(jax.vjp, f), (X, Y), err_msg="mine")
    with pytest.raises(jc.GradientMismatch, match="alone"):
        check_jvp(forward(1.05), partial(jax.jvp, forward(1.05)), (X, Y))
    # A derivative of the caller's own does not pass through the rule of f.
    check_jvp(forward(1.05), lambda p, t: jax.jvp(lambda x, y: x * jnp.sin(y), p, t), (X, Y))


def test_it_is_looked_at_leaf_by_leaf(monkeypatch):
    monkeypatch.undo()
    with pytest.raises(jc.GradientMismatch) as caught:
        check_grads(forward(1.05), (X, Y), 1, ["fwd"])
    (leaf,) = caught.value.report.leaves
    assert leaf.path == "x" and leaf.verdict.name == "FAIL", leaf


def test_what_cannot_be_taken_is_told():
    f = jax.custom_jvp(lambda x, y: x * y)

    def rule(p, t):
        return f(*p), t[0] * p[1] + t[1] * p[0]  # no sum for a symbolic zero

    f.defjvp(rule, symbolic_zeros=True)
    with pytest.warns(jc.GradientCheckWarning, match="symbolic zeros, could not be taken: TypeError"):
        check_grads(f, (X, Y), 1, ["fwd"])


def test_other_rules_cost_nothing(monkeypatch):
    monkeypatch.setattr(derivative, "looked_at", None)
    f = jax.custom_jvp(lambda x, y: x * jnp.sin(y))
    f.defjvp(lambda p, t: (f(*p), t[0] * jnp.sin(p[1]) + t[1] * p[0] * jnp.cos(p[1])))
    check_grads(f, (X, Y), 1, ["fwd", "rev"])
