"""The eager mode of our own gives what JAX's gives, to arrays, and compiles the least."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import get_opaque_trace_state

from jaxcheck.program.ask import Refused
from jaxcheck.program.run import by_numpy, cache, eagerly
from jaxcheck.program.run.eagerly import as_it_is

X = jnp.asarray([[0.3, -1.2, 2.0, 0.3], [-0.0, 0.5, -3.0, 1e-3], [1.5, np.nan, np.inf, -np.inf]], jnp.float32)
V, K = jnp.asarray([0.7, 1.1, 2.5, 0.2], jnp.float32), jnp.asarray([2, -5, 7], jnp.int32)
SOME = {
    "arithmetic": lambda: [X + V, X - V, X * V, X / V, -X, K + 3, K * K, K - 1, V**3, V**-2, V**1.5, X + 2, 2 * V],
    "functions": lambda: [f(V) for f in (jnp.exp, jnp.log, jnp.tanh, jnp.sqrt, jnp.sin, jnp.cos, jnp.log1p, jnp.expm1,
                                         jnp.square, jax.nn.sigmoid, jax.lax.rsqrt, jnp.sign)],
    "comparisons": lambda: [X > V, X >= V, X < V, X <= V, X == V, X != V, (X > 0) & (X < 1), (X > 0) | ~(X < 1),
                            jnp.isfinite(X), K > 0, jnp.maximum(X, V), jnp.minimum(X, V), jnp.where(X > 0, X, 7.0)],
    "reductions": lambda: [X[:2].sum(), X[:2].sum(0), X.max(1), X.min(), V.mean(), V.var(), V.std()],
    "shapes": lambda: [X.T, X.reshape(2, 6), X[None], X[:, ::2], X[::-1], jnp.concatenate([X, X], 1), X.squeeze(),
                       jnp.split(X, [1, 3], axis=1), jnp.pad(V, (2, 1)), jnp.arange(5.0), jnp.eye(3), jnp.tril(X),
                       jax.lax.pad(V, jnp.float32(9), [(-1, 2, 1)]), jax.lax.pad(V, jnp.float32(9), [(2, -2, 2)])],
    "indices": lambda: [X[jnp.asarray([1, 0, 1])], X[:, jnp.asarray([[3, 0], [1, 1]])], X[1], X[:, jnp.asarray(2)],
                        jax.lax.dynamic_slice(V, (K[0],), (2,)), jax.lax.dynamic_slice(V, (K[2],), (2,)),
                        jax.vmap(lambda row, k: jax.lax.dynamic_slice(row, (k,), (2,)))(X[:2], K[:2]),
                        X[jnp.asarray([-1, 5])], X.at[jnp.asarray([7, 1])].get(mode="clip"),
                        jnp.take(X, jnp.asarray([0, 9]), axis=1), K % 3, jax.lax.rem(K, jnp.int32(3))],
    "types": lambda: [K.astype(jnp.float32), (X > 0).astype(jnp.float32), V.astype(jnp.bfloat16), V.astype(jnp.int32),
                      (X > 0).astype(jnp.int32), jnp.float32(2) * 3.0, jnp.asarray(2.0), jnp.asarray(np.ones(2))],
    "contractions": lambda: [X[:2] @ V, X[:2] @ X[:2].T, jnp.einsum("ij,kj->ik", X[:2], X[:2]),
                             jnp.einsum("bi,bj->bij", X[:2], X[:2]), jnp.outer(V, V)],
    "compiled": lambda: [jnp.sort(V), jnp.cumsum(V), jnp.fft.fft(V), X[jnp.asarray([0, 1])], X.at[0].add(V),
                         jax.lax.scan(lambda h, x: (h * x, h), V, X)[0], jax.nn.softmax(V), jax.nn.relu(V)],
}  # fmt: skip


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("wide", [False, True])
def test_what_jax_gives(name, wide):
    with jax.enable_x64(wide):
        mine, jaxs = jax.tree.leaves(as_it_is(lambda eager: eager(SOME[name]))), jax.tree.leaves(SOME[name]())
    for k, (a, b) in enumerate(zip(mine, jaxs, strict=True)):
        assert isinstance(a, jax.Array) and jax.typeof(a) == jax.typeof(b), k
        assert a.aval.weak_type == b.aval.weak_type, k
        np.testing.assert_allclose(
            np.asarray(a, np.complex128), np.asarray(b, np.complex128), 3e-6, 1e-6, err_msg=str(k)
        )


def test_what_differs_is_seen(monkeypatch):
    monkeypatch.setitem(by_numpy._OF, "add", lambda x, y: x - y)
    with pytest.raises(AssertionError):
        test_what_jax_gives("arithmetic", False)


def test_a_rule_is_run_on_numbers():
    seen = []

    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    def fwd(x):
        seen.append(float(x.sum()))
        return jnp.sin(x), x

    def bwd(x, g):
        seen.append(float(g[0]))
        return (g * jnp.cos(x),)

    f.defvjp(fwd, bwd)

    def both(eager):
        out, pull = eager(jax.vjp, f, V)
        return eager(pull, out)[0]

    np.testing.assert_allclose(as_it_is(both), np.sin(V) * np.cos(V), 1e-5)
    assert seen == pytest.approx([float(V.sum()), float(np.sin(V[0]))], rel=1e-5)


def test_a_loop_traced_anew_is_compiled_once(monkeypatch):
    made = []
    compiled = cache._compile
    monkeypatch.setattr(cache, "_compile", lambda *a: made.append(1) or compiled(*a))
    cache.clear()

    def turn(scale):
        return jax.lax.scan(lambda h, x: (h * x + jnp.sin(scale * h), h), V, X[:2])

    for _ in range(3):
        as_it_is(lambda eager: eager(turn, 1.5))
    assert len(made) == 1
    as_it_is(lambda eager: eager(turn, 2.5))
    assert len(made) == 2


def test_what_is_refused_here_is_left_to_jax(monkeypatch):
    seen = []

    def f(x):
        seen.append(get_opaque_trace_state())
        if len(seen) == 1:
            raise ValueError("not in this mode")
        return x + 1

    assert float(as_it_is(lambda eager: eager(f, jnp.float32(1)))) == 2 and len(seen) == 2

    def broken(x):
        raise ValueError("in no mode")

    with pytest.raises(Refused, match="in no mode"):
        as_it_is(lambda eager: eager(broken, 1.0))


def test_effects_and_callbacks_are_jaxs(monkeypatch):
    monkeypatch.setattr(eagerly.cache, "make", lambda *a: pytest.fail("compiled here"))
    told = []

    def f(x):
        jax.debug.callback(lambda v: told.append(float(v)), x[0])
        return jax.pure_callback(lambda v: np.asarray(v) * 2, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    np.testing.assert_array_equal(as_it_is(lambda eager: eager(f, V)), 2 * V)
    jax.effects_barrier()
    assert told == pytest.approx([float(V[0])])
