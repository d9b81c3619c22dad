"""Pallas kernels, as their authors hold them: in interpret mode, with a rule of their own made of kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

import jaxcheck as jc
from jaxcheck.program import kernels
from jaxcheck.program.identity import same_program
from jaxcheck.test_util import check_grads

RNG = np.random.default_rng(0)


def arr(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def out(x, *shape):
    return jax.ShapeDtypeStruct(shape or x.shape, x.dtype)


def gelu_kernel(x_ref, o_ref):
    o_ref[...] = jnp.tanh(x_ref[...]) * x_ref[...]


def gelu_back_kernel(wrong, x_ref, g_ref, o_ref):
    t = jnp.tanh(x_ref[...])
    o_ref[...] = g_ref[...] * (t + wrong * x_ref[...] * (1 - t * t))


def elementwise(kernel, *args):
    """Blocks of 8 rows, of which the last may be cut short."""
    rows, width = args[0].shape
    spec = pl.BlockSpec((8, width), lambda i: (i, 0))
    return pl.pallas_call(
        kernel,
        grid=(pl.cdiv(rows, 8),),
        in_specs=[spec] * len(args),
        out_specs=spec,
        out_shape=out(args[0]),
        interpret=True,
    )(*args)


def gelu(wrong=1.0):
    f = jax.custom_vjp(lambda x: elementwise(gelu_kernel, x))
    f.defvjp(lambda x: (f(x), x), lambda x, g: (elementwise(lambda *refs: gelu_back_kernel(wrong, *refs), x, g),))
    return f


def matmul_kernel(x_ref, y_ref, o_ref):
    """Sums over the last axis of the grid, in a fori_loop of its own."""

    @pl.when(pl.program_id(2) == 0)
    def _():
        o_ref[...] = jnp.zeros_like(o_ref)

    def turn(k, acc):
        return acc + x_ref[:, k][:, None] * y_ref[k, :][None]

    o_ref[...] += jax.lax.fori_loop(0, x_ref.shape[1], turn, jnp.zeros(o_ref.shape, o_ref.dtype))


def product(x, y):
    m, k, n = *x.shape, y.shape[1]
    return pl.pallas_call(
        matmul_kernel,
        grid=(m // 4, n // 4, k // 4),
        in_specs=[pl.BlockSpec((4, 4), lambda i, j, k: (i, k)), pl.BlockSpec((4, 4), lambda i, j, k: (k, j))],
        out_specs=pl.BlockSpec((4, 4), lambda i, j, k: (i, j)),
        out_shape=out(x, m, n),
        interpret=True,
    )(x, y)


def matmul(wrong=1.0):
    f = jax.custom_vjp(product)
    f.defvjp(lambda x, y: (f(x, y), (x, y)), lambda kept, g: (product(g, kept[1].T), wrong * product(kept[0].T, g)))
    return f


CASES = {
    "elementwise": (gelu, (arr(16, 5),)),
    "cut short": (gelu, (arr(11, 3),)),
    "matmul": (matmul, (arr(8, 4), arr(4, 8))),
}


@pytest.mark.parametrize("name", CASES)
def test_a_kernels_rule_has_three_witnesses(name):
    make, args = CASES[name]
    loss = lambda args: jnp.sum(jnp.cos(make()(*args)))  # noqa: E731
    report = jc.check_grad(loss, args)
    assert report.verdict is jc.Verdict.PASS
    assert [w.how for w in report.witnesses] == ["float64"] * 3
    assert max(leaf.floor for leaf in report) < 1e-6 and report.difference_autodiff < 1e-9


@pytest.mark.parametrize("name", ["cut short", "matmul"])
def test_a_wrong_kernel_fails(name):
    make, args = CASES[name]
    report = jc.check_grad(lambda args: jnp.sum(make(1.001)(*args)), args, where=False)
    assert (report.verdict, report.reason) == (jc.Verdict.FAIL, jc.Reason.MANUAL_WRONG)
    assert [leaf.path for leaf in report.failed] == [f"[{len(args) - 1}]"]


@pytest.mark.slow
def test_a_right_kernel_passes_in_every_door():
    f, x = gelu(), arr(8, 4)
    assert jc.check_rule(f, x, level="quick").verdict is jc.Verdict.PASS
    assert jc.check_batch(lambda x: jnp.sum(f(x)), jnp.stack([x, 2 * x])).verdict is jc.Verdict.PASS
    check_grads(f, (x,), 1, modes=["rev"])
    with pytest.raises(jc.GradientMismatch):
        check_grads(gelu(1.01), (x,), 1, modes=["rev"])


def test_a_kernel_without_a_rule_is_nobodys_mistake():
    report = jc.check_rule(lambda x: elementwise(gelu_kernel, x), arr(8, 4))
    assert report.reason is not jc.Reason.LAW_BROKEN
    assert not [row for row in report.rows if row.status == "WRONG"]


def test_an_opened_kernel_computes_the_same():
    x, y = arr(8, 12), arr(12, 4)
    program = jax.make_jaxpr(product)(x, y)
    opened = kernels.without_kernels(program)
    assert "pallas_call" in str(program) and "pallas_call" not in str(opened)
    run = jax.extend.core.jaxpr_as_fun(opened)
    np.testing.assert_array_equal(run(x, y)[0], product(x, y))
    np.testing.assert_allclose(jax.grad(lambda x: run(x, y)[0].sum())(x), jnp.ones((8, 4)) @ y.T, rtol=1e-5)


def test_what_a_kernel_reads_and_writes_is_no_difference_between_two_traces():
    # An effect's text holds the address of a variable.
    def traced():
        return jax.make_jaxpr(lambda x: elementwise(gelu_kernel, x))(arr(8, 4))

    assert same_program(traced(), traced())

    def in_place(p):
        ref = jax.new_ref(jnp.zeros(()))

        def turn(i, carry):
            ref[...] += jnp.sin(p[i])
            return carry

        jax.lax.fori_loop(0, 3, turn, None)
        return ref[...]

    assert jc.check_grad(in_place, jnp.arange(3.0), jnp.cos).verdict is jc.Verdict.PASS
    assert jc.check_grad(in_place, jnp.arange(3.0), lambda p: 1.01 * jnp.cos(p)).verdict is jc.Verdict.FAIL
