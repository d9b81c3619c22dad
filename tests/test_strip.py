"""A planted wrong rule is gone after stripping, wherever it hides; JAX's own stay."""

import functools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxcheck.program import interpret
from jaxcheck.program.custom.census import find_rules
from jaxcheck.program.custom.strip import count_rules, strip, strip_rules
from jaxcheck.program.float64.shadow import in_float64

X = np.float32(0.3)
TRUTH = np.cos(X)


@jax.custom_vjp
def vjp_rule(x):
    return jnp.sin(x)


vjp_rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (2 * g,))


@jax.custom_jvp
def jvp_rule(x):
    return jnp.sin(x)


jvp_rule.defjvp(lambda p, t: (jvp_rule(*p), 7 * t[0]))


@jax.custom_jvp
def defjvps_rule(x):
    return jnp.sin(x)


defjvps_rule.defjvps(lambda t, ans, x: 9 * t)


@jax.custom_gradient
def gradient_rule(x):
    return jnp.sin(x), lambda g: (g * 5,)


class Callable:
    def __call__(self, x):
        return jnp.sin(x)


object_rule = jax.custom_vjp(Callable())
object_rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (3 * g,))


class Forward:
    def __call__(self, x):
        return jnp.sin(x), x


class Backward:
    def __call__(self, x, g):
        return (3 * g,)


all_objects_rule = jax.custom_vjp(Callable())
all_objects_rule.defvjp(Forward(), Backward())
jax_primal_rule = jax.custom_vjp(jnp.sin)
jax_primal_rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (3 * g,))
partial_rule = jax.custom_jvp(functools.partial(lambda scale, x: scale * jnp.sin(x), 1.0))
partial_rule.defjvp(lambda p, t: (jnp.sin(*p), 4 * t[0]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _nondiff(f, x):
    return f(x)


_nondiff.defvjp(lambda f, x: (f(x), x), lambda f, x, g: (2 * g,))


def nondiff_rule(x):
    return _nondiff(jnp.sin, x)


@jax.custom_vjp
def symbolic_rule(x, y):
    return jnp.sin(x) * y


def _symbolic_fwd(x, y):
    assert x.perturbed
    return jnp.sin(x.value) * y.value, None


symbolic_rule.defvjp(_symbolic_fwd, lambda _, g: (6 * g, None), symbolic_zeros=True)


def symbolic(x):
    return symbolic_rule(x, 1.0)


@jax.custom_vjp
def outer_rule(x):
    return jvp_rule(vjp_rule(x)) + jnp.sin(x) - jnp.sin(jnp.sin(x))


outer_rule.defvjp(lambda x: (outer_rule(x), x), lambda x, g: (8 * g,))

RULES = {
    "custom_vjp": vjp_rule, "custom_jvp": jvp_rule, "defjvps": defjvps_rule,
    "custom_gradient": gradient_rule, "callable": object_rule, "all_callables": all_objects_rule,
    "jax_primal": jax_primal_rule, "partial": partial_rule, "nondiff_argnums": nondiff_rule,
    "symbolic_zeros": symbolic, "nested": outer_rule,
}  # fmt: skip


def _equinox_rules():
    equinox = pytest.importorskip("equinox")

    @equinox.filter_custom_vjp
    def with_vjp(x):
        return jnp.sin(x)

    with_vjp.def_fwd(lambda perturbed, x: (jnp.sin(x), None))
    with_vjp.def_bwd(lambda residuals, g, perturbed, x: 2 * g)

    @equinox.filter_custom_jvp
    def with_jvp(x):
        return jnp.sin(x)

    with_jvp.def_jvp(lambda primals, tangents: (jnp.sin(primals[0]), 3 * tangents[0]))
    return {"vjp": with_vjp, "jvp": with_jvp}


WRAPPERS = {
    "plain": lambda f: f,
    "jit": jax.jit,
    "jit_jit": lambda f: jax.jit(lambda x: jax.jit(f)(x)),
    "remat": jax.checkpoint,
    "scan": lambda f: lambda x: lax.scan(lambda c, _: (c, f(x)), x, None, length=2)[1][1],
    "scan_carry": lambda f: lambda x: lax.scan(lambda c, _: (f(c), None), x, None, length=1)[0],
    "cond": lambda f: lambda x: lax.cond(x > 0, f, jnp.cos, x),
    "switch": lambda f: lambda x: lax.switch(1, [jnp.cos, f, jnp.tan], x),
    "fori": lambda f: lambda x: lax.fori_loop(0, 1, lambda i, c: f(c), x),
    "vmap": lambda f: lambda x: jax.vmap(f)(jnp.stack([x, x])).sum() / 2,
    "map": lambda f: lambda x: lax.map(f, x[None])[0],
    "deep": lambda f: jax.jit(lambda x: lax.scan(
        lambda c, _: (jax.checkpoint(jax.jit(f))(c), None), x, None, length=1)[0]),
}  # fmt: skip


def slopes(f, every):
    yield jax.grad(f)(X)
    if not every:
        return
    yield jax.jvp(f, (X,), (np.float32(1),))[1]
    yield jax.jit(jax.grad(f))(X)
    yield jax.grad(jax.jit(f))(X)
    yield jax.vmap(jax.grad(f))(X[None])[0]
    yield jax.grad(jax.checkpoint(f))(X)


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("rule", RULES)
def test_stripped_gradient_is_the_truth(rule, wrap):
    f = WRAPPERS[wrap](RULES[rule])
    assert abs(jax.grad(f)(X) - TRUTH) > 0.5  # the rule is wrong: the test can fail
    stripped = strip_rules(f)
    np.testing.assert_allclose(stripped(X), np.sin(X), rtol=1e-6)
    for slope in slopes(stripped, wrap in ("plain", "deep") or rule == "custom_jvp"):
        np.testing.assert_allclose(slope, TRUTH, rtol=1e-6)


@pytest.mark.parametrize("rule", ["vjp", "jvp"])
@pytest.mark.parametrize("wrap", ["plain", "jit", "scan_carry", "remat"])
def test_equinox_rules_are_the_users(rule, wrap):
    f = WRAPPERS[wrap](_equinox_rules()[rule])
    assert abs(jax.grad(f)(X) - TRUTH) > 0.5
    np.testing.assert_allclose(jax.grad(strip_rules(f))(X), TRUTH, rtol=1e-6)


def test_while_loop_forward():
    def f(x):
        return lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, jvp_rule(c[1])), (0, x))[1]

    assert jax.jvp(f, (X,), (np.float32(1),))[1] == 7
    found = jax.jvp(strip_rules(f), (X,), (np.float32(1),))[1]
    np.testing.assert_allclose(found, TRUTH, rtol=1e-6)


def test_jax_rules_stay_by_default():
    zero = np.float32(0)
    for f, kept, bare in ((jax.nn.relu, 0.0, 0.5), (jax.nn.softplus, 0.5, 0.0)):
        assert jax.grad(strip_rules(f))(zero) == kept
        assert jax.grad(strip_rules(f, "third_party"))(zero) == kept
        assert jax.grad(strip_rules(f, "all"))(zero) == bare


def test_which_may_be_a_function():
    def f(x):
        return vjp_rule(x) + jvp_rule(x)

    only = strip_rules(f, lambda info: info.kind == "custom_vjp")
    np.testing.assert_allclose(jax.grad(only)(X), TRUTH + 7, rtol=1e-6)
    named = strip_rules(f, lambda info: info.name == "jvp_rule")
    np.testing.assert_allclose(jax.grad(named)(X), TRUTH + 2, rtol=1e-6)
    with pytest.raises(ValueError, match="which"):
        strip_rules(f, "mine")


def test_a_users_rule_inside_a_kept_rule_is_left_and_counted():
    # The adjoint of odeint is JAX's rule, and differentiates the user's right-hand side itself.
    from jax.experimental.ode import odeint

    closed = jax.make_jaxpr(lambda x: odeint(lambda y, t: vjp_rule(y), x, jnp.array([0.0, 0.5]))[-1])(X)
    assert count_rules(strip(closed)) == count_rules(closed) > 0


def test_counts():
    closed = jax.make_jaxpr(WRAPPERS["deep"](outer_rule))(X)
    assert count_rules(closed) == 3
    assert count_rules(closed, "all") == 3
    assert count_rules(strip(closed)) == 0
    assert count_rules(jax.make_jaxpr(jax.nn.relu)(X)) == 0
    assert count_rules(jax.make_jaxpr(jax.nn.relu)(X), "all") == 1
    twice = jax.make_jaxpr(lambda x: vjp_rule(vjp_rule(x)))(X)
    assert count_rules(twice) == 2


def test_nothing_to_strip_is_left_alone():
    closed = jax.make_jaxpr(jax.jit(lambda x: jax.nn.relu(x) + jnp.sin(x)))(X)
    assert strip(closed) is closed


def test_pytrees_and_static_arguments():
    def f(tree, n, *, flag, scale=2.0):
        if not flag:
            raise ValueError
        out = {"y": vjp_rule(tree["w"]) * scale, "n": n, "none": tree["none"]}
        return [out for _ in range(n)]

    tree = {"w": jnp.arange(3.0), "none": None}
    out = strip_rules(f)(tree, 2, flag=True)
    assert len(out) == 2 and out[0]["none"] is None and out[0]["n"] == 2
    np.testing.assert_allclose(out[1]["y"], 2 * np.sin(np.arange(3.0)), rtol=1e-6)
    slope = jax.grad(lambda w: strip_rules(f)({"w": w, "none": None}, 1, flag=True)[0]["y"].sum())
    np.testing.assert_allclose(slope(jnp.arange(3.0)), 2 * np.cos(np.arange(3.0)), rtol=1e-6)


def test_large_constants_are_not_copied_into_calls():
    big = jnp.asarray(np.random.default_rng(0).normal(size=(50,)).astype(np.float32))

    def f(x):
        return vjp_rule(x * big).sum()

    stripped = strip(jax.make_jaxpr(f)(X))
    assert [c.shape for c in interpret.constants(stripped)] == [(50,)]


def test_random_nestings():
    shuffled = random.Random(3)
    names = [n for n in WRAPPERS if n != "plain"]
    for _ in range(6):
        f = RULES[shuffled.choice(list(RULES))]
        chosen = [shuffled.choice(names) for _ in range(3)]
        for name in chosen:
            f = WRAPPERS[name](f)
        np.testing.assert_allclose(jax.grad(strip_rules(f))(X), TRUTH, rtol=1e-6, err_msg=chosen)


def test_float64_programs_strip_too():
    with jax.enable_x64(True):
        slope = jax.grad(strip_rules(jax.jit(vjp_rule)))(np.float64(0.3))
        np.testing.assert_allclose(slope, np.cos(0.3), rtol=1e-15)


def _cube():
    hijax = pytest.importorskip("jax.experimental.hijax")
    if not hasattr(hijax, "VJPHiPrimitive"):
        pytest.skip("this JAX has no primitives of that kind")

    class Cube(hijax.VJPHiPrimitive):
        def __init__(self, aval):
            self.in_avals, self.out_aval, self.params = (aval,), aval, {}
            super().__init__()

        def expand(self, x):
            return x**3

        def vjp_fwd(self, nonzero, x):
            return self(x), x

        def vjp_bwd_retval(self, x, g):
            return (g * 7 * x * x,)

    return lambda x: Cube(jax.typeof(x))(x)


@pytest.mark.parametrize("wrap", ["plain", "jit"])
def test_hijax_rules(wrap):
    f = WRAPPERS[wrap](_cube())
    np.testing.assert_allclose(jax.grad(f)(X), 7 * X * X, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(strip_rules(f))(X), 3 * X * X, rtol=1e-6)
    (info,) = find_rules(f)(X)
    assert (info.name, info.kind, info.origin) == ("Cube", "hijax", "user")


def test_hijax_rules_in_float64():
    run = in_float64(lambda x: _cube()(x.astype(jnp.float32)))
    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.grad(run)(np.float64(0.3)), 7 * 0.09, rtol=1e-14)
