"""The one evaluator: every nesting gives what JAX gives, and a state goes through all of it in order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxcheck.program import interpret, jaxpr


class Plain(jaxpr.Way):
    """Nothing else is done; the state counts equations as they are run."""

    def constant(self, value, aval):
        return interpret.as_declared(value, aval)

    def equation(self, eqn, operands, state):
        self.callers_seen = [e.primitive.name for e in self.callers]
        return interpret.bind(eqn, operands), state + 1

    def plain(self, value):
        return value

    def general(self, value, aval):
        return jaxpr.array(value, aval)


@jax.custom_vjp
def _ruled(x):
    return jnp.sin(x)


_ruled.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


@jax.custom_jvp
def _ruled_forward(x):
    return jnp.sin(x)


_ruled_forward.defjvp(lambda x, t: (jnp.sin(x[0]), t[0] * jnp.cos(x[0])))


def _scan(f):
    def run(x):
        carry, ys = lax.scan(lambda c, y: (f(c) * y, c + y), x, jnp.linspace(1.0, 2.0, 5), reverse=True, unroll=2)
        return carry + ys.sum()

    return run


def _while(f):
    return lambda x: lax.while_loop(lambda c: c[0] < 9, lambda c: (c[0] + f(c[1]) ** 2 + 1, c[1]), (x, x))[0]


def _with_batching_rule(f):
    function = jax.custom_batching.custom_vmap(f)
    function.def_vmap(lambda size, batched, x: (jax.vmap(f)(x), True))
    return function


def _batched_cond(f):
    return lambda x: sum(jax.vmap(lambda t: lax.cond(t > 0, f, lambda t: -t, t))(jnp.stack([x, -x])))


def _batched_while(f):
    """Rows that end after different numbers of turns."""

    def halved(t):
        return lax.while_loop(
            lambda c: (jnp.abs(c[0]) > 0.3) & (c[1] < 3), lambda c: (0.5 * f(c[0]), c[1] + 1), (t, 0)
        )[0]

    return lambda x: jnp.sum(jax.vmap(halved)(jnp.stack([x, 4 * x, 0.1 * x])) * jnp.array([1.0, 2.0, 3.0], jnp.float32))


def _tripled(x):
    return 3.0 * x


NESTED = {
    "jit": jax.jit,
    "remat": jax.checkpoint,
    "custom_vjp": lambda f: lambda x: f(_ruled(x)),
    "custom_jvp": lambda f: lambda x: f(_ruled_forward(x)),
    "scan": _scan,
    "while": _while,
    "fori": lambda f: lambda x: lax.fori_loop(0, 3, lambda i, c: f(c) + i, x),
    "cond": lambda f: lambda x: lax.cond(jnp.sum(x) > 0, f, lambda x: x * 2, x),
    "switch": lambda f: lambda x: lax.switch(2, [f, lambda x: x + 1, lambda x: f(x) * 2], x),
    "custom_vmap": _with_batching_rule,
    "linear solve": lambda f: lambda x: lax.custom_linear_solve(_tripled, f(x), lambda _, b: b / 3.0, symmetric=True),
    "platforms": lambda f: lambda x: lax.platform_dependent(x, cpu=f, default=lambda x: f(x)),
    "vmap of cond": _batched_cond,
    "vmap of while": _batched_while,
    "key": lambda f: lambda x: f(x) + jax.random.normal(jax.random.fold_in(jax.random.key(3), 1), x.shape, x.dtype),
}  # fmt: skip
X = np.float32(0.7)


def _ours(f, *args):
    closed = jax.make_jaxpr(f)(*args)
    return lambda *args: jaxpr.run(Plain(), closed, args, jnp.int32(0))


@pytest.mark.parametrize("inner", ["jit", "scan", "cond", "custom_vjp"])
@pytest.mark.parametrize("outer", NESTED)
def test_results_are_jaxs(outer, inner):
    f = NESTED[outer](NESTED[inner](jnp.tanh))
    wanted = jax.jit(f)(X)
    run = _ours(f, X)
    np.testing.assert_allclose(jax.jit(run)(X)[0][0], wanted, rtol=1e-6)
    many = jnp.asarray([0.7, -0.2, 0.1], jnp.float32)
    np.testing.assert_allclose(jax.vmap(run)(many)[0][0], jax.vmap(f)(many), rtol=1e-6)


@pytest.mark.parametrize("wrap", ["jit", "remat", "scan", "cond", "custom_jvp"])
def test_gradients_are_evaluated(wrap):
    f = jax.grad(NESTED[wrap](lambda x: jnp.tanh(x) * x))
    np.testing.assert_allclose(_ours(f, X)(X)[0][0], f(X), rtol=1e-6)


def test_the_state_goes_through_loops_and_branches():
    def f(x):  # 5 x (sin, mul) and 2 x cos in a branch, and what makes the decision: ge, convert
        y = lax.scan(lambda c, _: (jnp.sin(c) * 2, None), x, None, length=5)[0]
        return lax.cond(y >= 0, lambda y: jnp.cos(jnp.cos(y)), lambda y: y, y)

    count = lambda x: int(_ours(f, X)(x)[1])  # noqa: E731
    assert count(np.float32(0.7)) == 5 * 2 + 2 + 2
    assert count(np.float32(-0.7)) == 5 * 2 + 2


def test_a_loop_counts_its_own_iterations():
    run = _ours(lambda x: lax.while_loop(lambda c: c < 20, lambda c: c * 2, x), X)
    counts = jax.vmap(run)(jnp.asarray([1.0, 6.0, 30.0], jnp.float32))[1]
    assert counts.tolist() == [5, 2, 0]


def test_a_way_knows_the_calls_around_it():
    way = Plain()
    closed = jax.make_jaxpr(jax.jit(jax.checkpoint(lambda x: jnp.sin(x))))(X)
    jaxpr.run(way, closed, [X], 0)
    assert [n.replace("pjit", "jit") for n in way.callers_seen] in (["jit", "checkpoint"], ["jit", "remat2"])
    assert way.callers == []


def test_prints_are_dropped(capfd):
    def f(x):
        jax.debug.print("x is {}", x)
        return x

    assert _ours(f, X)(X)[0] == [X]
    jax.effects_barrier()
    assert capfd.readouterr().out == ""
