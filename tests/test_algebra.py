"""Every law is broken on purpose by one rule, and by none of the right ones."""

from __future__ import annotations

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcheck.check.laws.algebra import laws


def numbers(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


X, W = numbers(4, 3), numbers(3, 2, seed=1)


def layer(back=lambda g: g, forward=None, wide=lambda g: g):
    """tanh(x) w with a rule; `back` spoils the cotangent, `forward` the value."""

    @jax.custom_vjp
    def f(x, w):
        return jnp.tanh(x) @ w

    def fwd(x, w):
        return (forward or f)(x, w), (x, w)

    def bwd(kept, g):
        (x, w), g = kept, back(g)
        return wide((g @ w.T) * (1 - jnp.tanh(x) ** 2)), jnp.tanh(x).T @ g

    f.defvjp(fwd, bwd)
    return f


def table(f, args=(X, W), argnums=(0, 1), **kwargs):
    rows = laws(f, args, kwargs, argnums=argnums)
    assert {r.group for r in rows} == {"law"}
    return {r.name: r for r in rows}


@pytest.mark.parametrize(
    ("back", "words"),
    [
        (lambda g: g**2, "g**2"),
        (jnp.abs, "|g|"),
        (jax.nn.relu, "relu(g)"),
        (lambda g: jnp.clip(g, -1, 1), "clip(g)"),
        (lambda g: jnp.clip(g, -1e5, 1e5), "clip(g)"),
        (jnp.sign, "sign(g)"),
        (lambda g: (g > 0).astype(g.dtype), "(g > 0)"),
        (lambda g: g**3, "g**3"),
    ],
)
def test_nonlinearities_are_named(back, words):
    rows = table(layer(back))
    assert rows["scale of the cotangent"].status == "WRONG"
    assert words in rows["scale of the cotangent"].detail
    assert rows["primal"].status == rows["the same twice"].status == "OK"


@pytest.mark.parametrize(
    ("special", "words"),
    [
        (lambda g: (g == g[0, 0]).all(), "all the same"),
        (lambda g: (g > 0).all() | (g < 0).all(), "> 0"),
        (lambda g: (g < 0).all(), "< 0"),
    ],
)
def test_wrong_for_cotangents_of_one_sign(special, words):
    """A sum's cotangent is one everywhere; a loss that falls everywhere hands down nothing but negative numbers."""
    factor = lambda g: jnp.where(special(g), 1 + 1e-6, 1.0)  # noqa: E731
    row = table(layer(lambda g: g * factor(g)))["linear in the cotangent"]
    assert row.status == "WRONG" and words in row.detail

    @jax.custom_jvp
    def f(x):
        return jnp.sin(x)

    f.defjvp(lambda x, t: (f(x[0]), jnp.cos(x[0]) * factor(t[0]) * t[0]))
    assert table(f, (X,), 0)["linear in the tangent"].status == "WRONG"


def test_what_leaves_the_range_at_a_large_scale_is_no_nonlinearity():
    rows = table(jnp.cosh, (np.array([700.0, -700.0, 0.0]),), 0)
    assert [r.name for r in rows.values() if r.status == "WRONG"] == []


def test_a_constant_term_breaks_zero():
    rows = table(layer(lambda g: g + 1e-9))
    assert rows["zero cotangent"].status == "WRONG" and "args[0]" in rows["zero cotangent"].detail


def test_a_wrong_but_linear_rule_breaks_adjointness_only():
    rows = table(layer(wide=lambda g: g * (1 + 1e-5)))
    assert [r.name for r in rows.values() if r.status == "WRONG"] == ["adjointness"]
    assert "args[0]" in rows["adjointness"].detail
    assert rows["adjointness"].difference == pytest.approx(1e-5, rel=0.9)


@pytest.mark.parametrize(("spoil", "words"), [(jnp.abs, "|t|"), (lambda t: jnp.clip(t, -1, 1), "clip(t)")])
def test_a_nonlinear_jvp_rule(spoil, words):
    @jax.custom_jvp
    def f(x):
        return jnp.sin(x)

    f.defjvp(lambda p, t: (f(*p), jnp.cos(p[0]) * spoil(t[0])))
    rows = table(f, (X,), 0)
    assert rows["scale of the tangent"].status == "WRONG" and words in rows["scale of the tangent"].detail


def test_a_tangent_of_nothing():
    @jax.custom_jvp
    def f(x):
        return jnp.sin(x)

    f.defjvp(lambda p, t: (f(*p), jnp.cos(p[0]) * t[0] + 1))
    assert table(f, (X,), 0)["zero tangent"].status == "WRONG"


def test_another_value_forward():
    row = table(layer(forward=lambda x, w: jnp.tanh(x) @ w * (1 + 1e-4)))["primal"]
    assert row.status == "WRONG" and "ulp" in row.detail


def test_a_better_formula_of_the_same_value_is_rounding():
    @jax.custom_vjp
    def f(x):
        return 1 - jnp.cos(x)

    f.defvjp(lambda x: (2 * jnp.sin(x / 2) ** 2, x), lambda x, g: (jnp.sin(x) * g,))
    row = table(f, (jnp.asarray([1e-2, 2e-2]),), 0)["primal"]
    assert row.status == "OK" and "rounding" in row.detail


@pytest.mark.parametrize("spoil", [lambda g: g[:, :1], lambda g: g.T.reshape(3, 4)])
def test_a_wrong_shape_is_the_rules_mistake(spoil):
    row = table(layer(wide=spoil))["structure"]
    assert row.status == "WRONG" and "Error" in row.detail


def test_a_counter_is_not_the_same_twice():
    calls = itertools.count(1)
    assert table(layer(lambda g: g * next(calls)))["the same twice"].status == "WRONG"


def test_values_kept_outside():
    kept = {}

    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    def fwd(x):
        kept["x"] = x
        return jnp.sin(x), None

    f.defvjp(fwd, lambda _, g: (jnp.cos(kept["x"]) * g,))
    rows = table(f, (X,), 0)
    assert rows["no hidden state"].status == "WRONG" and rows["the same twice"].status == "OK"


def test_symbolic_zeros_taken_for_something_else():
    @jax.custom_vjp
    def f(x):
        return jnp.sin(x), jnp.cos(x)

    def fwd(x):
        return f(x.value), x.value

    def bwd(x, g):
        zero = jax.custom_derivatives.SymbolicZero
        a, b = (0.0 if isinstance(c, zero) else c for c in g)
        return (jnp.cos(x) * a * (2 if isinstance(g[1], zero) else 1) - jnp.sin(x) * b,)

    f.defvjp(fwd, bwd, symbolic_zeros=True)
    rows = table(lambda x: f(x), (X,), 0)
    assert rows["one result used"].status == "WRONG" and rows["adjointness"].status == "OK"


def test_an_argument_that_is_not_perturbed():
    @jax.custom_vjp
    def f(x, y):
        return x * y

    def fwd(x, y):
        return x.value * y.value, (x.value, y.value, 1.0 if y.perturbed else 3.0)

    f.defvjp(fwd, lambda kept, g: (kept[1] * g * kept[2], kept[0] * g), symbolic_zeros=True)
    assert table(f, (X, X + 1))["one argument perturbed"].status == "WRONG"


@pytest.mark.parametrize(("narrow", "at"), [("float16", "1e+06 g"), ("float8_e4m3fn", "1000 g"), ("bfloat16", "")])
def test_overflow_of_a_dtype_inside_is_called_so(narrow, at):
    row = table(layer(lambda g: g.astype(narrow).astype(g.dtype)))["scale of the cotangent"]
    assert (row.status == "WRONG") is bool(at)
    if at:
        assert f"at {at}: overflow of {narrow}" in row.detail and "log" not in row.detail, row


def test_nan_equals_nothing():
    rows = table(layer(lambda g: jnp.log(g)))
    assert rows["linear in the cotangent"].status == "WRONG"
    assert table(layer(lambda g: g * jnp.nan))["linear in the cotangent"].status != "OK"


def test_bad_arguments():
    with pytest.raises(ValueError, match="argnums"):
        laws(jnp.sin, (X,), argnums=3)
    with pytest.raises(ValueError, match="differentiable"):
        laws(jnp.sin, (3,), argnums=0)
    with pytest.raises(ZeroDivisionError):
        laws(lambda x: 1 / 0, (X,), argnums=0)


def _jvp():
    f = jax.custom_jvp(lambda x, y: jnp.sin(x) * y)
    f.defjvp(lambda p, t: (f(*p), jnp.cos(p[0]) * t[0] * p[1] + jnp.sin(p[0]) * t[1]))
    return f, (X, X + 1), (0, 1)


def _jvps():
    f = jax.custom_jvp(lambda x, y: jnp.sin(x) * y)
    f.defjvps(lambda t, out, x, y: jnp.cos(x) * y * t, lambda t, out, x, y: jnp.sin(x) * t)
    return f, (X, X + 1), (0, 1)


def _nondiff():
    @functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
    def f(n, x):
        return x**n

    f.defvjp(lambda n, x: (f(n, x), x), lambda n, x, g: (n * x ** (n - 1) * g,))
    return f, (3, X), 1


def _symbolic():
    f = jax.custom_vjp(lambda x, y: (x * y, x + y))
    zero = jax.custom_derivatives.SymbolicZero

    def bwd(kept, g):
        a, b = (jnp.zeros(c.shape, c.dtype) if isinstance(c, zero) else c for c in g)
        return kept[1] * a + b, kept[0] * a + b

    f.defvjp(lambda x, y: ((x.value * y.value, x.value + y.value), (x.value, y.value)), bwd, symbolic_zeros=True)
    return f, (X, X + 1), (0, 1)


def _remat():
    f = jax.custom_vjp(lambda x: jnp.sin(x))
    f.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.cos(x) * g,), optimize_remat=True)
    return f, (X,), 0


def _gradient():
    @jax.custom_gradient
    def f(x):
        return x**2, lambda g: 2 * x * g

    return f, (X,), 0


def _equinox():
    @eqx.filter_custom_vjp
    def f(tree):
        return tree["a"] ** 2 * tree["n"]

    f.def_fwd(lambda perturbed, tree: (f(tree), None))
    f.def_bwd(lambda res, g, perturbed, tree: {"a": 2 * tree["a"] * tree["n"] * g, "n": None})
    return f, ({"a": X, "n": 3},), 0


def _complex():
    f = jax.custom_vjp(lambda z: jnp.exp(z) * jnp.conj(z))

    def bwd(z, g):
        return (g * jnp.exp(z) * jnp.conj(z) + jnp.conj(g * jnp.exp(z)),)

    f.defvjp(lambda z: (f(z), z), bwd)
    return f, (X + 1j * X[::-1],), 0


def _integers():
    f = jax.custom_vjp(lambda x, i, on: (x[i] * on, i))

    def bwd(kept, g):
        x, i, on = kept
        zeros = (np.zeros(np.shape(v), jax.dtypes.float0) for v in (i, on))
        return (jnp.zeros_like(x).at[i].add(g[0] * on), *zeros)

    f.defvjp(lambda x, i, on: (f(x, i, on), (x, i, on)), bwd)
    return f, (X, jnp.asarray([0, 2, 2]), True), (0, 1, 2)


def _pytree():
    f = jax.custom_vjp(lambda p, key: p["w"] * jax.random.bernoulli(key, 0.5, (4, 3)) * p["s"])

    def bwd(kept, g):
        p, key = kept
        g = g * jax.random.bernoulli(key, 0.5, (4, 3))
        return {"w": g * p["s"], "s": jnp.sum(g * p["w"]), "none": None}, None

    f.defvjp(lambda p, key: (f(p, key), (p, key)), bwd)
    return f, ({"w": X, "s": jnp.float32(2), "none": None}, jax.random.key(0)), (0, 1)


RIGHT = [_jvp, _jvps, _nondiff, _symbolic, _remat, _gradient, _equinox, _complex, _integers, _pytree]


@pytest.mark.parametrize("make", [lambda: (layer(), (X, W), (0, 1)), *RIGHT])
def test_right_rules_break_no_law(make):
    f, args, argnums = make()
    rows = table(f, args, argnums)
    assert [r for r in rows.values() if r.status == "WRONG"] == []
    assert rows["linear in the cotangent"].status == rows["adjointness"].status == rows["primal"].status == "OK"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_arguments(dtype):
    args = (X.astype(dtype), W.astype(dtype))
    assert [r for r in table(layer(), args).values() if r.status == "WRONG"] == []
    assert table(layer(jnp.abs), args)["scale of the cotangent"].status == "WRONG"


def test_a_rule_that_only_runs_in_float32():
    def pinned(g):
        if g.dtype != jnp.float32:
            raise TypeError("float32 only")
        return g

    assert [r for r in table(layer(pinned)).values() if r.status == "WRONG"] == []
    assert table(layer(lambda g: jnp.abs(pinned(g))))["linear in the cotangent"].status == "WRONG"


def test_a_kink_is_no_broken_law():
    @jax.custom_vjp
    def f(x):
        return jnp.maximum(x, 0)

    f.defvjp(lambda x: (f(x), x), lambda x, g: (jnp.where(x >= 0, g, 0),))
    rows = table(f, (jnp.asarray([-1.0, 0.0, 1.0]),), 0)
    assert [r for r in rows.values() if r.status == "WRONG"] == [] and "kink" in rows["adjointness"].detail
