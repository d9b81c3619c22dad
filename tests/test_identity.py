"""A compiled program may answer only for what it provably computes: generated nests of transformations."""

from __future__ import annotations

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcheck as jc
from jaxcheck.program import constants, identity
from jaxcheck.program.run import cache
from jaxcheck.program.run.compile import Program, execute
from jaxcheck.result import Verdict

RNG = np.random.default_rng(7)


def custom_vjp(f):
    g = jax.custom_vjp(f)
    g.defvjp(lambda x: (f(x), x), lambda x, ct: jax.vjp(f, x)[1](ct))
    return g


def custom_jvp(f):
    g = jax.custom_jvp(f)
    g.defjvp(lambda p, t: jax.jvp(f, p, t))
    return g


WRAPPERS = {
    "jit": jax.jit,
    "scan": lambda f: lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=2)[0],
    "cond": lambda f: lambda x: lax.cond(x[0] > 0, f, jnp.cos, x),
    "while": lambda f: lambda x: lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, f(s[1])), (0, x))[1],
    "fori": lambda f: lambda x: lax.fori_loop(0, 2, lambda _, c: f(c), x),
    "remat": jax.checkpoint,
    "vmap": lambda f: lambda x: jax.vmap(lambda s: f(x * s))(jnp.ones(2)).sum(0),
    "vjp": custom_vjp,
    "jvp": custom_jvp,
}
CONSTANTS = (
    np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.5]), jnp.array([1.0, 2.0, 3.0]), np.array([1, 2, 3]),
    np.array([1.0, 2.0, 3.0], np.float32), jnp.array(2.0), 2.0, -0.0, 0.0,
)  # fmt: skip


def nest(rng):
    """A function of a vector with constants somewhere in a nest of transformations; and what it was made of."""
    path = tuple(rng.choice(list(WRAPPERS), rng.integers(1, 4)))
    which = tuple(int(i) for i in rng.integers(len(CONSTANTS), size=2))
    a, b = (CONSTANTS[i] for i in which)

    def f(x):
        return jnp.sin(x * a) + b

    for name in path:
        f = WRAPPERS[name](f)
    return f, (path, which)


def traced(f):
    return constants.settled(jax.make_jaxpr(f)(np.ones(3, np.float32)), False)


@pytest.mark.parametrize("seed", range(6))
def test_programs_of_one_identity_compute_the_same(seed):
    rng = np.random.default_rng(seed)
    seen = {}
    for _ in range(40):
        f, made = nest(rng)
        closed = traced(f)
        for program, own in ((Program(closed), True), (Program.of(closed), True)):
            name = identity.identity(program.closed, own_constants=own)
            value = np.asarray(program(np.float32([0.3, -0.2, 0.9]))[0])
            old, how = seen.setdefault(name, (value, made))
            assert value.tobytes() == old.tobytes(), (how, made)
        # Taking constants out of calls changes no result.
        assert np.array_equal(Program.of(closed)(np.ones(3, np.float32))[0], Program(closed)(np.ones(3, np.float32))[0])


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_another_constant_is_another_program(wrapper, kind):
    def make(c):
        return WRAPPERS[wrapper](lambda x: jnp.sin(x * c))

    one, same, other = (traced(make(kind(np.float32(c)))) for c in ([1, 2, 3], [1, 2, 3], [1, 2, 4]))
    assert identity.same_program(one, same)
    assert not identity.same_program(one, other)
    x = np.float32([0.3, -0.2, 0.9])
    for closed in (one, other):
        found, _ = execute("test", lambda programs, v: programs[0](v), [Program.of(closed)], x)
        assert np.allclose(found[0], jax.jit(jax.extend.core.jaxpr_as_fun(closed))(x)[0], rtol=1e-6)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_another_functions_gradient_does_not_pass(wrapper):
    def make(c):
        inner = WRAPPERS[wrapper](lambda x: jnp.sin(x * c))
        return lambda x: jnp.sum(inner(x))

    one, other, x = make(np.array([1.0, 2.0, 3.0])), make(np.array([4.0, 5.0, 6.0])), jnp.ones(3)
    backprop = one if wrapper != "while" else make(np.array([1.0, 2.0, 3.0]))

    def gradient(f):
        return jax.jacfwd(f) if wrapper in ("while", "fori") else jax.grad(f)

    assert jc.check_grad(one, x, gradient(backprop)).verdict is Verdict.PASS
    assert jc.check_grad(other, x, gradient(one)).verdict is Verdict.FAIL
    report = jc.check_grad(other, x, gradient(other))
    assert report.verdict is Verdict.PASS
    assert jc.check_grad(other, x, gradient(other)).compiled == 0


def test_new_data_in_a_jitted_loss_compiles_nothing():
    def check(data):
        loss = jax.jit(lambda w: jnp.sum((data @ w) ** 2))
        return jc.check_grad(loss, jnp.ones(4), lambda w: 2 * data.T @ (data @ w))

    assert check(RNG.standard_normal((5, 4))).ok
    report = check(RNG.standard_normal((5, 4)))
    assert report.verdict is Verdict.PASS and report.compiled == 0
    assert check(RNG.standard_normal((6, 4))).verdict is Verdict.PASS


@pytest.mark.parametrize("inner", [lambda f: f, jax.jit, lambda f: jax.jit(jax.checkpoint(f))])
def test_numpy_randomness_is_seen_at_any_depth(inner):
    def loss(w):
        return inner(lambda v: jnp.sum(v * np.random.default_rng().standard_normal(3)))(w)  # unseeded on purpose

    assert jc.check_grad(loss, jnp.ones(3), lambda w: w).reason.name == "NONDETERMINISTIC"


def test_an_edited_rule_is_another_rule():
    f = jax.custom_vjp(lambda x: jnp.sum(jnp.sin(x)))
    f.defvjp(lambda x: (jnp.sum(jnp.sin(x)), x), lambda x, g: (g * jnp.cos(x),))
    assert jc.check_grad(f, jnp.ones(3)).verdict is Verdict.PASS
    f.defvjp(lambda x: (jnp.sum(jnp.sin(x)), x), lambda x, g: (g * jnp.cos(x) * 1.01,))
    assert jc.check_grad(f, jnp.ones(3)).verdict is Verdict.FAIL


def test_two_threads_check_at_once():
    reports = {}

    def check(k):
        data = np.full(3, float(k))
        reports[k] = jc.check_grad(
            jax.jit(lambda w: jnp.sum(jnp.sin(w * data))),
            jnp.ones(3),
            lambda w: data * jnp.cos(w * (data if k % 2 else 2 * data)),
        )

    threads = [threading.Thread(target=check, args=(k,)) for k in range(1, 5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {k: r.verdict is Verdict.PASS for k, r in reports.items()} == {1: True, 2: False, 3: True, 4: False}


def test_the_cache_is_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(cache, "_CACHE_BYTES", 1)
    for k in range(3):
        execute(("bounded", k), lambda programs, x: x + 1, [], np.ones(2))
    assert len(cache._CACHE) == 1
