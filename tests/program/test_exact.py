"""Derivatives in ball arithmetic: those of the formula, where float64 has none of their digits too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

flint = pytest.importorskip("flint")

from jaxcheck.program.ways.exact import Unknown, derivatives  # noqa: E402


def slope(f, *args, tangents):
    with jax.enable_x64(True):
        args = [jnp.asarray(a) for a in args]
        return derivatives(jax.make_jaxpr(f)(*args), args, tangents)


def looped(x, w):
    def step(h, row):
        return jnp.tanh(w @ h + row), h.sum()

    h, ys = lax.scan(step, jnp.zeros(3), x)
    return lax.cond(h[0] > 0, lambda h: h**3, jnp.exp, h).sum() + lax.fori_loop(0, 3, lambda i, s: s * 0.5 + ys[i], 0.0)


def layers(x, w):
    z = jax.nn.relu(x @ w)
    z = jax.nn.softmax(z - z.mean(axis=1, keepdims=True)) + jax.nn.gelu(z)
    top = jnp.sort(z, axis=1)[:, ::-1][:, :2]
    return jnp.log(jnp.cumsum(top**2, axis=0) + 1.0).at[jnp.array([0, 0, 1])].add(z[:3, :2]).prod(axis=1).sum()


def algebra(x, w):
    a = w @ w.T + 3 * jnp.eye(3)
    return (
        jnp.linalg.slogdet(a)[1]
        + jnp.linalg.solve(a, x[0]) @ x[1]
        + jnp.linalg.cholesky(a).sum()
        + jnp.linalg.norm(jnp.where(x > 0, x, 0.1 * x))
        + jnp.linalg.inv(a)[0, 1]
    )


@pytest.mark.parametrize("f", [looped, layers, algebra])
def test_as_autodiff_where_autodiff_is_good(f):
    rng = np.random.default_rng(3)
    x, w, v, u = rng.normal(size=(5, 3)), rng.normal(size=(3, 3)), rng.normal(size=(5, 3)), rng.normal(size=(3, 3))
    value, radius = slope(f, x, w, tangents=[v, u])
    with jax.enable_x64(True):
        expected = jax.jvp(f, (jnp.asarray(x), jnp.asarray(w)), (jnp.asarray(v), jnp.asarray(u)))[1]
    np.testing.assert_allclose(value, np.ravel(expected), rtol=1e-12)
    assert (radius < 1e-14 * np.abs(value)).all() and (radius > 0).all()


@pytest.mark.parametrize(
    ("f", "x", "truth"),
    [
        (jnp.tanh, 25.0, 4 * np.exp(-50.0)),
        (lambda x: jnp.log(1 - jnp.exp(-x)), 60.0, np.exp(-60.0)),
        (jax.nn.log_sigmoid, 80.0, np.exp(-80.0)),
        (lambda x: (x - jnp.sin(x)) / x**3, 1e-5, -1e-5 / 60),
        (lambda x: 2 * lax.stop_gradient(x) * x, 3.0, 12.0),
    ],
)
def test_where_float64_has_no_digits(f, x, truth):
    value, radius = slope(f, x, tangents=[1.0])
    assert value[0] == pytest.approx(truth, rel=1e-9) and radius[0] < 1e-12 * abs(value[0])


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jnp.sum(x / x),
        lambda x: jnp.sum(1 / x),
        lambda x: jnp.sum(x**-2),
        jnp.linalg.norm,
        lambda a: jnp.linalg.solve(jnp.diag(a), jnp.ones(2)).sum(),
    ],
)
def test_a_division_by_zero_encloses_nothing(f):
    value, radius = slope(f, np.zeros(2), tangents=[np.ones(2)])
    assert np.isnan(value).all() and np.isnan(radius).all()


def test_a_division_by_zero_that_is_not_chosen_does_not_matter():
    value, radius = slope(lambda x: jnp.sum(jnp.where(x > 0, 1 / x, x)), np.array([0.0, 2.0]), tangents=[np.ones(2)])
    assert value[0] == 0.75 and radius[0] < 1e-15


def test_what_is_not_known_is_said():
    with pytest.raises(Unknown, match="eigh"):
        slope(lambda a: jnp.linalg.eigvalsh(a)[0], np.eye(3), tangents=[np.eye(3)])
    with pytest.raises(Unknown, match="complex"):
        slope(lambda x: jnp.fft.fft(x).real, np.ones(4), tangents=[np.ones(4)])
    with pytest.raises(Unknown, match="iterations"):
        slope(lambda x: lax.fori_loop(0, 10**6, lambda i, s: s * 0.5, x), 1.0, tangents=[1.0])


def test_the_precision_of_other_code_stays():
    before = flint.ctx.prec
    slope(jnp.sin, 1.0, tangents=[1.0])
    assert flint.ctx.prec == before


@pytest.mark.parametrize("key", [jax.random.key(3), jax.random.PRNGKey(3)], ids=["typed", "raw"])
def test_random_keys_pass_through(key):
    # Asked about a chain of random moves, it raised: a key is no array of NumPy's.
    def chain(p, keys):
        def move(x, key):
            return x + p * jax.random.uniform(key), jax.random.fold_in(key, 1)

        end, moved = jax.lax.scan(move, 0.0, keys)
        return jnp.sin(end) + 0.0 * jax.random.uniform(moved[0])

    keys = jax.random.split(key, 3)
    closed = jax.make_jaxpr(lambda p, k: [chain(p, k)])(jnp.float32(0.5), keys)
    slope, radius = derivatives(closed, [np.float32(0.5), keys], [np.float32(1), None])
    assert abs(slope[0] - float(jax.grad(chain)(0.5, keys))) < 1e-5 and radius[0] < 1e-15
