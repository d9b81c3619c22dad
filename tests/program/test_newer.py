"""Operations that newer versions of JAX have: whoever knows operations by name knows these."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcheck as jc
from jaxcheck.program.run.by_numpy import by_numpy
from jaxcheck.program.where.kernels import _PLAIN
from jaxcheck.program.where.pulls import _PULLS

X = np.asarray([0.3, 0.9, 1.7])
NEWER = [name for name in ("log2", "one_minus_square") if hasattr(lax, name)]


@pytest.mark.skipif(not NEWER, reason="this JAX has none of them")
@pytest.mark.parametrize("name", NEWER)
def test_the_tables_say_what_jax_does(name):
    f = getattr(lax, name)
    with jax.enable_x64(True):
        eqn = jax.make_jaxpr(f)(X).eqns[0]
        value, slope = np.asarray(f(X)), np.asarray(jax.vmap(jax.grad(f))(X))
        (found,) = by_numpy(eqn.primitive, [v.aval for v in eqn.invars], [X], eqn.params)
    np.testing.assert_allclose(found, value, 1e-15)
    np.testing.assert_allclose(_PLAIN[name](X), value, 1e-15)
    np.testing.assert_allclose(_PULLS[name](eqn.params, [X], value, np.ones(3))[0], slope, 1e-15)


@pytest.mark.skipif(not NEWER, reason="this JAX has none of them")
@pytest.mark.parametrize("name", NEWER)
def test_so_does_ball_arithmetic(name):
    exact = pytest.importorskip("jaxcheck.program.ways.exact")
    pytest.importorskip("flint")
    f = getattr(lax, name)
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(lambda x: jnp.sum(f(x)))(X)
        slope, radius = exact.derivatives(closed, [X], [np.ones(3)])
        wanted = jnp.sum(jax.vmap(jax.grad(f))(X))
    np.testing.assert_allclose(slope, wanted, 1e-14)
    assert (radius < 1e-14).all()


@pytest.mark.where
def test_the_line_of_a_slip_beside_a_slope_of_tanh_is_named():
    @jax.custom_vjp
    def layer(x, w):
        return jnp.tanh(x @ w)

    def backward(kept, g):
        x, w = kept
        (dz,) = jax.vjp(jnp.tanh, x @ w)[1](g)
        dz = dz * 2.0
        return dz @ w.T, x.T @ dz

    layer.defvjp(lambda x, w: (layer(x, w), (x, w)), backward)
    rng = np.random.default_rng(0)
    report = jc.check_rule(layer, rng.normal(size=(5, 3)), rng.normal(size=(3, 4)))
    assert report.verdict is jc.Verdict.FAIL
    assert [culprit.source.strip() for culprit in report.culprits] == ["dz = dz * 2.0"]
