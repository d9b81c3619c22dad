"""Code that looks for errors in a branch, and primitives that do something else in a batch: as solvers' libraries do.

Both are written here as equinox writes them, of which lineax, optimistix and diffrax are made.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

import jaxcheck as jc
from jaxcheck.program import asides, converge, foreign
from jaxcheck.test_util import check_grads


def _fail(x):
    raise RuntimeError("a root outside of its bracket")


def error_if(x, wrong):
    """x, or an error where something is wrong: the call of Python takes and gives floats."""
    return jax.lax.cond(wrong, lambda x: jax.pure_callback(_fail, jax.typeof(x), x), lambda x: x, x)


# The new value, whatever says that a loop is over; in a batch, where rows are done at different times, the old one.
newer = Primitive("newer")
newer.def_impl(lambda going, new, old: new)
newer.def_abstract_eval(lambda going, new, old: new)
mlir.register_lowering(newer, mlir.lower_fun(lambda going, new, old: new, multiple_results=False))


def _in_a_batch(args, axes):
    size = next(x.shape[a] for x, a in zip(args, axes, strict=True) if a is not None)
    moved = [
        jnp.broadcast_to(x, (size, *jnp.shape(x))) if a is None else jnp.moveaxis(x, a, 0)
        for x, a in zip(args, axes, strict=True)
    ]
    return jnp.where(moved[0], moved[1], moved[2]), 0


batching.primitive_batchers[newer] = _in_a_batch


def bisected(a, tolerance):
    """The root of x^3 + x = a between -2 and 2, to a tolerance; its flag is carried, and rows that are done rest."""

    def step(carry):
        low, high, going = carry
        middle = (low + high) / 2
        below = middle**3 + middle < a
        new = jnp.where(below, middle, low), jnp.where(below, high, middle)
        low, high = (newer.bind(going, x, y) for x, y in zip(new, (low, high), strict=True))
        return low, high, high - low > tolerance

    start = (jnp.full_like(a, -2), jnp.full_like(a, 2), jnp.array(True))
    low, high, _ = jax.lax.while_loop(lambda c: c[2], step, start)
    return error_if((low + high) / 2, jnp.abs(low) >= 2)


def solver(factor, tolerance=1e-5):
    @jax.custom_vjp
    def solve(a):
        return bisected(a, jnp.asarray(tolerance, a.dtype))

    solve.defvjp(lambda a: (solve(a),) * 2, lambda x, g: (factor * g / (3 * x**2 + 1),))
    return solve


@pytest.mark.slow
@pytest.mark.parametrize("factor", [pytest.param(1.0, marks=pytest.mark.slow), 1.01])
def test_an_implicit_rule_over_a_bisection_is_judged_at_its_limit(factor):
    a, verdict = np.float32(0.8), jc.Verdict.PASS if factor == 1 else jc.Verdict.FAIL
    solve = solver(factor)
    report = jc.check_grad(lambda a: solve(a) ** 2, a, where=False)
    assert report.verdict is verdict and {w.how for w in report.witnesses} <= {"lifted", "float64"}, str(report)
    assert jc.check_rule(solve, a, transforms=False, where=False).verdict is verdict
    if factor == 1:
        check_grads(solve, (a,), 1, ["rev"])
    else:
        with pytest.raises(jc.GradientMismatch):
            check_grads(solve, (a,), 1, ["rev"])


@pytest.mark.parametrize("taken", [False, True])
def test_a_branch_that_is_taken_is_heard(taken):
    """There Python gives the numbers, in the precision that it is called with."""

    def halved(x):
        return np.asarray(x) / 2

    def loss(w):
        pull = jax.custom_vjp(lambda w: jax.pure_callback(halved, jax.typeof(w), w, vmap_method="expand_dims"))
        pull.defvjp(lambda w: (pull(w), None), lambda _, g: (g / 2,))
        return jnp.sum(jax.lax.cond((w[0] > 0) == taken, pull, lambda w: w, w) ** 2)

    w = np.asarray([0.5, -0.25, 1.0], np.float32)
    closed = jax.make_jaxpr(loss)(w)
    assert bool(asides.silent(closed, [w], False)) is not taken
    report = jc.check_grad(loss, w)
    assert report.verdict is jc.Verdict.PASS, str(report)
    slope = 0.5 if taken else 2.0
    assert jc.check_grad(loss, w, lambda w: slope * 1.01 * w).verdict is jc.Verdict.FAIL


def test_another_librarys_primitive_is_opened():
    closed = jax.make_jaxpr(lambda x: newer.bind(x > 0, 2 * x, x))(np.float32(1))
    (eqn,) = [e for e in closed.eqns if e.primitive is newer]
    assert foreign.holds_foreign(closed) and str(foreign.opened(eqn, False)) == str(
        jax.make_jaxpr(lambda c, x, y: x)(True, np.float32(1), np.float32(1))
    )
    assert not foreign.holds_foreign(
        jax.make_jaxpr(lambda x: jnp.linalg.qr(jnp.sin(x))[0])(np.eye(2, dtype=np.float32))
    )


def _until_small(x):
    return jax.lax.while_loop(lambda c: jnp.abs(c[1]) > 1e-5, lambda c: (c[0] + c[1], c[1] * c[1]), (x, x / 2))[0]


# What lineax's `linear_solve` is with conjugate gradients: a loop to a tolerance, inside another library's primitive.
solved = Primitive("solved")
solved.def_impl(_until_small)
solved.def_abstract_eval(lambda x: x)


@pytest.mark.parametrize("nested", [False, True])
def test_a_loop_in_another_librarys_primitive_is_seen(nested):
    closed = jax.make_jaxpr(jax.jit(solved.bind) if nested else solved.bind)(np.float32(0.5))
    assert converge.iterates(closed) and not foreign.holds_foreign(foreign.without_foreign(closed))


def test_a_branch_of_whole_numbers_is_called():
    """Nothing could tell that a number of theirs is missing, so there is none missing."""

    def loss(w):
        far = jax.lax.cond(
            jnp.abs(jax.lax.stop_gradient(w[0])) > 2,
            lambda w: jax.pure_callback(lambda w: np.int32(3), jax.ShapeDtypeStruct((), np.int32), w),
            lambda w: jnp.int32(1),
            jax.lax.stop_gradient(w),
        )
        return far * jnp.sum(w**2)

    w = np.asarray([0.5, -0.25], np.float32)
    assert not asides.silent(jax.make_jaxpr(loss)(w), [w], False)
    assert jc.check_grad(loss, w).verdict is jc.Verdict.PASS
