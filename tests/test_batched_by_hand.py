"""What the caller's own batching rule (`custom_vmap`) computes is no part of what was called: rows of a check that run
in a batch are those of the function; and `check_rule` says where the two differ."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core
from jax.interpreters import batching, mlir

import jaxcheck as jc
from jaxcheck.program.custom.called import as_called
from jaxcheck.program.interpret import walk
from jaxcheck.result import Verdict
from jaxcheck.test_util import check_grads

X = np.array([0.3, 0.7, 1.1, -0.4], np.float32)


def badly_batched(f):
    """f, with a batching rule that is 1 % off."""
    made = jax.custom_batching.custom_vmap(f)
    made.def_vmap(lambda size, which, x: (f(x) * 1.01, True))
    return made


sine, cosine = badly_batched(jnp.sin), badly_batched(jnp.cos)


def ruled(slope, factor=1.0):
    @jax.custom_vjp
    def f(x):
        return sine(x)

    f.defvjp(lambda x: (sine(x), x), lambda x, g: (factor * g * slope(x),))
    return f


def loss(x):
    return jnp.sum(sine(x))


@pytest.mark.parametrize("mode", ["exhaustive", "sketch"])
@pytest.mark.parametrize(("factor", "verdict"), [(1.0, Verdict.PASS), (1.01, Verdict.FAIL)])
def test_a_gradient_is_judged_by_the_function(mode, factor, verdict):
    by_hand = jc.check_grad(loss, X, lambda x: factor * jnp.cos(x), mode=mode, where=False)
    f = ruled(jnp.cos, factor)
    by_rule = jc.check_grad(lambda x: jnp.sum(f(x)), X, mode=mode, where=False)
    assert [by_hand.verdict, by_rule.verdict] == [verdict] * 2, by_hand
    assert np.isfinite(by_hand.difference_autodiff)  # JAX has no reverse mode for it; the function has
    batch = jc.check_batch(loss, np.stack([X, X + 1]), lambda x: factor * jnp.cos(x))
    assert batch.verdict is verdict, batch


def test_what_the_caller_batches_is_what_the_batching_rule_computes():
    def batched(x):
        return jnp.sum(jax.vmap(sine)(x))

    x = np.stack([X, X + 1])
    assert jc.check_grad(batched, x, lambda x: 1.01 * jnp.cos(x), where=False).verdict is Verdict.PASS
    assert jc.check_grad(batched, x, jnp.cos, where=False).verdict is Verdict.FAIL


def test_the_drop_in_takes_the_rule_as_it_is_called():
    check_grads(ruled(cosine), (X,), 1, "rev")
    with pytest.raises(jc.GradientMismatch):
        check_grads(ruled(cosine, 1.01), (X,), 1, "rev")


def rows(f):
    report = jc.check_rule(f, X, algebra=False)
    return report, {r.name: r for r in report.rows if r.name.startswith("vmap")}


def test_a_batching_rule_of_the_function_is_named():
    report, found = rows(ruled(jnp.cos))
    assert (
        report.verdict is Verdict.FAIL
        and report.reason.name == "TRANSFORM_WRONG"
        and report.leaves[0].verdict is Verdict.PASS
    ), report
    row = found["vmap over primals"]
    assert (
        row.status == "WRONG" and "results" in row.detail and "`sin`" in row.detail and "batched by hand" in row.detail
    )
    assert abs(row.difference - 0.01) < 1e-6


def test_a_batching_rule_of_the_gradient_is_named():
    right = jax.custom_batching.custom_vmap(jnp.sin)
    right.def_vmap(lambda size, which, x: (jnp.sin(x), True))

    @jax.custom_vjp
    def f(x):
        return right(x)

    f.defvjp(lambda x: (right(x), x), lambda x, g: (g * jnp.cos(x),))
    report, found = rows(f)
    assert report.ok and {r.status for r in found.values()} == {"OK"}, report

    @jax.custom_vjp
    def g(x):
        return jnp.sin(x)

    g.defvjp(lambda x: (jnp.sin(x), x), lambda x, t: (t * cosine(x),))
    report, found = rows(g)
    assert not report.ok and report.leaves[0].verdict is Verdict.PASS, report
    assert "`cos`" in found["vmap over primals"].detail and "gradient" in found["vmap over primals"].detail


W = np.arange(1.0, 5.0, dtype=np.float32)


def normed(method, f=lambda a: a / np.sqrt((a * a).sum())):
    """A function of Python's that takes a batch for one large array."""

    @jax.custom_vjp
    def g(x):
        told = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jax.pure_callback(lambda a: np.asarray(f(np.asarray(a)), a.dtype), told, x, vmap_method=method)

    g.defvjp(lambda x: (g(x), x), lambda x, c: jax.vjp(lambda x: x / jnp.sqrt(jnp.sum(x * x)), x)[1](c))
    return g


@pytest.mark.parametrize("method", ["broadcast_all", "expand_dims"])
def test_a_function_of_python_is_called_as_the_caller_calls_it(method):
    f = normed(method)
    assert jc.check_grad(lambda x: jnp.sum(W * f(x)), X).verdict is Verdict.PASS
    check_grads(f, (X,), 1, "rev")


def test_nor_is_it_judged_by_what_it_makes_of_a_batch():
    """Here the gradient would be right in a batch alone, and the results there are no other from row to row."""
    f = normed("broadcast_all", lambda a: (1.01 if a.ndim == 1 else 1.0) * a / np.sqrt((a * a).sum(-1, keepdims=True)))
    report = jc.check_grad(lambda x: jnp.sum(W * f(x)), X, where=False)
    assert report.reason.name == "MANUAL_WRONG", report


@pytest.mark.slow
def test_a_function_of_python_is_named():
    report, found = rows(normed("expand_dims"))
    row = found["vmap over primals"]
    assert row.status == "WRONG" and "results" in row.detail and "`pure_callback`" in row.detail, report


def test_every_nesting_is_opened():
    def nested(x):
        def step(c, row):
            return sine(c) * row, jax.jit(cosine)(c)

        return jax.lax.cond(x[0] > 0, sine, cosine, jax.lax.scan(step, x, jnp.ones((2, 4)))[0])

    program = jax.make_jaxpr(nested)(X)
    names = {eqn.primitive.name for eqn, _ in walk(as_called(program))}
    assert "custom_vmap_call" not in names and "sin" in names
    np.testing.assert_array_equal(jax.core.eval_jaxpr(as_called(program).jaxpr, program.consts, X)[0], nested(X))
    plain = jax.make_jaxpr(jnp.sin)(X)
    assert as_called(plain) is plain


P, Q = np.linspace(0.3, 0.7, 5), np.linspace(0.7, 0.2, 5)
SOME, NESTED = "vmap over some arguments", "vmap of vmap"


def summed(*wrong, off=1.05):
    """sum(x sin(w)) with a batching rule that is wrong where what is batched is as said: "x", "w", "xw"."""
    f = jax.custom_batching.custom_vmap(lambda x, w: jnp.sum(x * jnp.sin(w)))

    @f.def_vmap
    def _(size, which, x, w):
        x, w = (v if b else jnp.broadcast_to(v, (size, *v.shape)) for v, b in zip((x, w), which, strict=True))
        bad = "x" * which[0] + "w" * which[1] in wrong
        return (off if bad else 1.0) * jnp.sum(x * jnp.sin(w), -1), True

    return f


def with_slopes(f, slopes=lambda x, w: (jnp.sin(w), x * jnp.cos(w))):
    g = jax.custom_vjp(lambda x, w: f(x, w))
    g.defvjp(lambda x, w: (f(x, w), (x, w)), lambda r, c: tuple(c * s for s in slopes(*r)))
    return g


def wrong_rows(f, *args, **options):
    report = jc.check_rule(f, *args, algebra=False, **options)
    assert report.reason.name == "TRANSFORM_WRONG", report
    return {r.name: r.detail for r in report.rows if r.status == "WRONG"}


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        (("x", "w"), {SOME, NESTED}),
        (("x",), {SOME}),
        (("w",), {SOME, NESTED}),
        (("xw",), {"vmap over primals", NESTED}),
    ],
)
def test_some_arguments_in_a_batch(wrong, names):
    found = wrong_rows(with_slopes(summed(*wrong)), P, Q)
    assert set(found) == names
    if SOME in found:
        assert f"with `{wrong[0]}` alone in a batch; batched by hand: `" in found[SOME]


def test_a_backward_pass_with_some_arguments_in_a_batch():
    """The cotangent is in the batch, as in a loss, or is not: a Jacobian."""

    def pulled(bad):
        @jax.custom_batching.custom_vmap
        def back(x, w, c):
            return c * jnp.sin(w), c * x * jnp.cos(w)

        @back.def_vmap
        def _(size, which, *args):
            x, w, c = (v if b else jnp.broadcast_to(v, (size, *v.shape)) for v, b in zip(args, which, strict=True))
            off = 1.02 if which == bad else 1.0
            return (off * c[:, None] * jnp.sin(w), c[:, None] * x * jnp.cos(w)), (True, True)

        g = jax.custom_vjp(lambda x, w: jnp.sum(x * jnp.sin(w)))
        g.defvjp(lambda x, w: (jnp.sum(x * jnp.sin(w)), (x, w)), lambda r, c: back(*r, c))
        return g

    found = wrong_rows(pulled([True, False, True]), P, Q)
    assert "leaf `x` differs from the eager gradient with `x` alone in a batch and the cotangent" in found[SOME]
    found = wrong_rows(pulled([False, True, False]), P, Q)
    assert "with `w` alone in a batch;" in found[SOME]
    assert jc.check_rule(pulled(None), P, Q).ok


def test_a_batch_of_batches_alone():
    """Wrong by the shape of what comes in: in a batch of one batch there are no more axes than that."""
    f = jax.custom_batching.custom_vmap(jnp.sin)
    inner = jax.custom_batching.custom_vmap(jnp.sin)
    inner.def_vmap(lambda size, which, x: (1.01 * jnp.sin(x), True))
    f.def_vmap(lambda size, which, x: (inner(x), True))
    g = jax.custom_vjp(lambda x: f(x))
    g.defvjp(lambda x: (f(x), x), lambda x, c: (c * jnp.cos(x),))
    found = wrong_rows(g, P)
    assert set(found) == {NESTED} and "in a batch of batches" in found[NESTED]


@pytest.mark.slow
def test_a_foreign_function_with_some_arguments_in_a_batch():
    def of(method, right):
        def dot(x, w):
            whole = x.ndim == w.ndim == 1 or (x.ndim == w.ndim and x.shape[0] == w.shape[0])
            return np.asarray((1.0 if right or whole else 1.1) * (x * np.sin(w)).sum(-1), x.dtype)

        def f(x, w):
            return jax.pure_callback(dot, jax.ShapeDtypeStruct((), x.dtype), x, w, vmap_method=method)

        return with_slopes(f)

    assert jc.check_rule(of("expand_dims", True), P, Q).ok
    assert SOME in wrong_rows(of("expand_dims", False), P, Q)
    assert jc.check_rule(of("sequential", True), P, Q).ok


@pytest.mark.slow
def test_a_primitive_with_a_batching_rule_of_its_own():
    def of(off):
        made = core.Primitive("scaled_product")
        made.def_impl(lambda x, w: x * w)
        made.def_abstract_eval(lambda x, w: jax.core.ShapedArray(jnp.broadcast_shapes(x.shape, w.shape), x.dtype))
        mlir.register_lowering(made, mlir.lower_fun(lambda x, w: x * w, multiple_results=False))

        def rule(args, dims):
            out = made.bind(*(x[None] if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(args, dims, strict=True)))
            return (off if None in dims else 1.0) * out, 0

        batching.primitive_batchers[made] = rule
        return with_slopes(made.bind, lambda x, w: (w, x))

    assert jc.check_rule(of(1.0), P, Q).ok
    assert "scaled_product" in wrong_rows(of(1.1), P, Q)[SOME]


@pytest.mark.slow
def test_many_arguments_and_trees():
    def of(*wrong):
        f = jax.custom_batching.custom_vmap(lambda x, y, z, w: x * y * z * w)

        @f.def_vmap
        def _(size, which, *args):
            x, y, z, w = (v if b else jnp.broadcast_to(v, (size, *v.shape)) for v, b in zip(args, which, strict=True))
            return (1.1 if which == [*map(bool, wrong)] else 1.0) * x * y * z * w, True

        g = jax.custom_vjp(lambda p, z, w: f(*p, z, w))

        def back(r, c):
            return jax.vjp(lambda p, z, w: p[0] * p[1] * z * w, *r)[1](c)

        g.defvjp(lambda *r: (f(*r[0], *r[1:]), r), back)
        return g

    args = ((P, Q), P + 1, Q + 1)
    report = jc.check_rule(of(), *args)
    assert report.ok and {r.status for r in report.rows if r.name.startswith("vmap")} == {"OK"}
    assert "with `p` alone in a batch" in wrong_rows(of(1, 1, 0, 0), *args)[SOME]
    assert "with all but `p` in a batch" in wrong_rows(of(0, 0, 1, 1), *args)[SOME]
    # Of one argument, its leaves.
    f = with_slopes(summed("w"))
    assert SOME in wrong_rows(lambda p: f(p["a"], p["b"]), {"a": P, "b": Q})


def test_ordinary_rules_have_no_more_rows():
    report = jc.check_rule(with_slopes(lambda x, w: jnp.sum(x * jnp.sin(w))), P, Q)
    assert report.ok and not {SOME, NESTED} & {r.name for r in report.rows}
