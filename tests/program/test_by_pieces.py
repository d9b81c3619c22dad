"""Small programs without a compiler: what the compiled ones give, and only where it is less work."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcheck.program import rounding
from jaxcheck.program.run import by_numpy, by_pieces, cache
from jaxcheck.program.run.by_pieces import pieces
from jaxcheck.program.run.compile import Program
from jaxcheck.program.run.eagerly import run_eagerly

A = np.asarray(np.random.default_rng(0).normal(size=(3, 4)), np.float32)
B = np.asarray(np.random.default_rng(1).normal(size=(3, 4, 2)), np.float32)


def attention(a, b):
    return [jax.nn.softmax(jnp.einsum("ij,ijk->ik", a, b)) @ b[0].T, jnp.where(jnp.tril(a) > 0, a, -1e9).mean()]


SMALL = {
    "attention": attention,
    "a gradient": lambda a, b: jax.grad(lambda a: sum(jnp.sum(jnp.sin(x)) for x in attention(a, b)))(a),
    "a batch": lambda a, b: jax.vmap(lambda x: attention(a, b * x))(jnp.arange(3.0)),
    "calls": lambda a, b: jax.checkpoint(jax.jit(attention))(a, jax.nn.silu(b)),
}


def of(f):
    return Program.of(jax.make_jaxpr(f)(A, B))


@pytest.mark.parametrize("name", SMALL)
def test_what_the_compiler_gives(name):
    program = of(SMALL[name])
    found = pieces(program)(A, B)
    for x, y, v in zip(found, jax.jit(program)(A, B), program.closed.out_avals, strict=True):
        assert x.dtype == v.dtype and x.shape == v.shape
        np.testing.assert_allclose(x, y, 1e-5, 1e-6)


def test_what_differs_is_seen(monkeypatch):
    monkeypatch.setitem(by_numpy._OF, "exp", lambda x, **_: x)
    with pytest.raises(AssertionError):
        test_what_the_compiler_gives("attention")


def test_what_was_run_eagerly_is_at_hand():
    def f(a, b):
        return jnp.sort(a * 2) + jax.lax.scan(lambda h, x: (h * x + jnp.sin(h), None), a, B[:, :3, 0].T @ b[:, :, 0])[0]

    cache.clear()
    assert pieces(of(f)) is None
    run_eagerly(f, A, B)
    np.testing.assert_allclose(pieces(of(f))(A, B)[0], f(A, B), 1e-5, 1e-6)


@pytest.mark.parametrize("f", [
    lambda a, b: jnp.sort(a),  # not NumPy's here
    lambda a, b: (jax.debug.print("{}", a), a)[1],
    lambda a, b: jnp.broadcast_to(a, (2000, 1000, 3, 4)) * 2,
    lambda a, b: jax.jit(lambda x: [x := x + 1 for _ in range(5000)][-1])(a),
    lambda a, b: a.astype(jnp.bfloat16) + 1,
])  # fmt: skip
def test_what_is_left_to_the_compiler(f):
    cache.clear()
    assert pieces(of(f)) is None


def layers(x):
    for _ in range(6):
        x = jnp.tanh(0.7 * x) * jnp.exp(-x * x) + 0.3
    return [jnp.sum(x * A), x[0]]


def scanned(x):
    def turn(h, row):
        return jnp.tanh(h * 0.9 + row), h**2

    last, seen = jax.lax.scan(turn, 0.1 * x, jnp.stack([x, -x, x * x]), reverse=True)
    return [jnp.sum(last), jnp.sum(seen * A)]


def bars(f, constants=False):
    x = A.astype(np.float64)
    with jax.enable_x64(True):
        program = Program.of(jax.make_jaxpr(f)(x))
    found, compiled = rounding.round_off(f.__name__, [program], list, list, [x], [False], 1e-7 * constants, constants)
    return jax.tree_util.tree_leaves(found), compiled


@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize("f", [layers, scanned])
def test_round_off_is_measured_without_a_compiler(f, constants, monkeypatch):
    found, compiled = bars(f, constants)
    assert not compiled
    monkeypatch.setattr(rounding, "once", lambda *given: None)
    known, compiled = bars(f, constants)
    assert compiled
    for x, y in zip(found, known, strict=True):
        assert x.dtype == y.dtype and (x != 0).all()
        np.testing.assert_allclose(x, y, 0.5)


def test_but_for_operations_that_are_not_numpys_and_large_arrays():
    def one(f, x, times=1):
        return by_pieces.once(f.__name__, f, [x], [Program.of(jax.make_jaxpr(f)(x))], times)

    def sorted_too(x):
        return {"sorted": jnp.sort(x)}

    def doubled(x):
        return {"twice": 2 * x}

    assert one(sorted_too, A) is None and one(doubled, A, 1e7) is None
    np.testing.assert_array_equal(one(doubled, A)["twice"], 2 * A)
    np.testing.assert_array_equal(one(doubled, B)["twice"], 2 * B)
    np.testing.assert_array_equal(one(doubled, 3 * A)["twice"], 6 * A)  # kept by what it does, not by the numbers
