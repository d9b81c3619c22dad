"""Every transformation is broken on purpose by one rule, and by none of the right ones."""

from __future__ import annotations

import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_algebra import RIGHT, W, X, layer

from jaxcheck.check.transforms.compared import TRANSFORMED, Matrix, transformations
from jaxcheck.check.transforms.partly import NESTED, SOME
from jaxcheck.program.alike import alike

NAMES = ["eager", "jit", "vmap over primals", "vmap over cotangents", "vmap over both", "scan", "remat", "jvp of vjp",
         "sharded", "float32", "bfloat16", "float16", "float64"]  # fmt: skip


def table(f, args=(X, W), argnums=(0, 1)):
    rows = transformations(f, args, argnums=argnums)
    names = [r.name for r in rows if r.name not in (SOME, NESTED)]  # those of a batching rule of the rule's own alone
    assert names == NAMES and {r.group for r in rows} == {"transformation"}
    return {r.name: r for r in rows}


def wrong(rows):
    return [r.name for r in rows.values() if r.status == "WRONG"]


@pytest.mark.parametrize("make", [lambda: (layer(), (X, W), (0, 1)), *RIGHT])
def test_right_rules(make):
    rows = table(*make())
    assert wrong(rows) == []
    assert rows["eager"].status == rows["jit"].status == rows["vmap over both"].status == "OK"


def test_a_rule_that_looks_for_tracers():
    """Every transformation traces: it is one of them, or the call outside, that is off, and "jit" says so."""
    assert wrong(table(layer(lambda g: 2 * g if isinstance(g, jax.core.Tracer) else g))) == ["jit"]
    assert wrong(table(layer(lambda g: g if isinstance(g, jax.core.Tracer) else 2 * g))) == ["jit"]


def batched(g, *, primal, cotangent):
    """Spoils g where it is batched: custom_vmap sees which operands are."""

    @jax.custom_batching.custom_vmap
    def same(g, x):
        return g * 1.0

    @same.def_vmap
    def _(size, which, g, x):
        bad = which == [cotangent, primal]
        g = g if which[0] else jnp.broadcast_to(g, (size, *g.shape))
        return g * (2.0 if bad else 1.0), True

    return same


@pytest.mark.parametrize(
    ("primal", "cotangent", "name"),
    [(True, False, "vmap over primals"), (False, True, "vmap over cotangents"), (True, True, "vmap over both")],
)
def test_each_vmap_by_itself(primal, cotangent, name):
    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    f.defvjp(lambda x: (jnp.sin(x), x),
             lambda x, g: (jnp.cos(x) * batched(g, primal=primal, cotangent=cotangent)(g, x),))  # fmt: skip
    rows = table(f, (X,), 0)
    assert [n for n in wrong(rows) if n.startswith("vmap") and n != NESTED] == [name]
    assert rows["jit"].status == "OK"


def spoiled_in(function):
    """A rule that is wrong while one function of the checker is on the stack: one transformation alone."""

    def back(g):
        inside = any(function == line.name for line in traceback.extract_stack())
        return 2 * g if inside else g

    return layer(back)


@pytest.mark.parametrize(("where", "name"), [("_scan", "scan"), ("_remat", "remat"), ("_jvp_of_vjp", "jvp of vjp"),
                                             ("_jit", "jit"), ("_sharded", "sharded")])  # fmt: skip
def test_one_transformation_by_itself(where, name):
    assert wrong(table(spoiled_in(where))) == [name]


def test_wrong_at_second_order():
    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    f.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.cos(jax.lax.stop_gradient(x)) * g,))
    rows = table(f, (X,), 0)
    assert wrong(rows) == ["jvp of vjp"] and "second order" in rows["jvp of vjp"].detail


def test_one_device_or_two():
    row = table(layer())["sharded"]
    assert row.status == ("OK" if len(jax.devices()) > 1 else "UNSUPPORTED")


def test_what_calls_python_is_not_laid_over_devices():
    """XLA would end the process: one device calls Python while the other waits for it."""

    def on_host(f, x):
        return jax.pure_callback(f, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")

    f = jax.custom_vjp(lambda x: on_host(np.sinh, x))
    f.defvjp(lambda x: (on_host(np.sinh, x), x), lambda x, g: (g * on_host(np.cosh, x),))
    row = table(f, (np.linspace(-1, 1, 30, dtype=np.float32),), 0)["sharded"]
    assert row.status == "UNSUPPORTED"
    assert row.detail == ("it calls back into Python" if len(jax.devices()) > 1 else "one device")


@pytest.mark.parametrize(
    ("narrow", "given", "names"),
    [
        ("bfloat16", "float32", {"float32", "float64"}),
        ("float32", "float32", set()),
        ("float32", "float64", {"float64"}),
    ],
)
def test_a_cotangent_that_loses_its_digits(narrow, given, names):
    """Down to those of what was given, it is the precision that the rule was written for."""
    with jax.enable_x64(given == "float64"):
        args = [jnp.asarray(v, given) for v in (X, W)]
        assert set(wrong(table(layer(lambda g: g.astype(narrow).astype(g.dtype)), args))) == names


def test_only_bfloat16_is_wrong():
    assert wrong(table(layer(lambda g: 3 * g if g.dtype == jnp.bfloat16 else g))) == ["bfloat16"]


def test_a_gradient_that_is_not_finite():
    rows = table(layer(lambda g: g * jnp.nan))
    assert rows["eager"].status == "WRONG" and rows["jit"].status == "UNSUPPORTED"


def test_a_rule_that_needs_numbers():
    rows = table(layer(lambda g: g * (1.0 if float(np.asarray(g).sum()) < 1e9 else 2.0)))
    assert rows["eager"].status == "OK" and rows["jit"].status == "UNSUPPORTED"
    assert "Tracer" in rows["jit"].detail or "Concret" in rows["jit"].detail


def test_values_kept_outside_leak():
    kept = {}

    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    def fwd(x):
        kept["x"] = x
        return jnp.sin(x), None

    f.defvjp(fwd, lambda _, g: (jnp.cos(kept["x"]) * g,))
    rows = table(f, (X,), 0)
    assert (
        rows["eager"].status == "OK"
        and rows["scan"].status == "WRONG"
        and "kept from another call" in rows["scan"].detail
    )


def test_what_is_the_same_program_is_not_run(monkeypatch):
    """A rule under jit, and in batches of another length."""
    run = []
    compiled = Matrix._compiled
    monkeypatch.setattr(Matrix, "_compiled", lambda self, programs: run.append([*programs]) or compiled(self, programs))
    assert wrong(table(layer())) == []
    assert run == [[n for n in TRANSFORMED if n != "jit"]]
    run.clear()
    cosine = jax.custom_batching.custom_vmap(jnp.cos)
    cosine.def_vmap(lambda n, which, x: (jnp.cos(x[:4]) if n <= 4 else jnp.concatenate([jnp.cos(x[:4]), x[4:]]), True))

    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    f.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * cosine(x),))
    assert wrong(table(f, (X,), 0)) == ["vmap over both"] and len(run) == 2


def test_a_program_for_another_length_is_alike():
    def of(f, n):
        return jax.make_jaxpr(jax.vmap(f))(jax.ShapeDtypeStruct((n, 6), jnp.float32))

    def pieces(x):
        return jnp.concatenate([x[:3], x[3:] * 2]).reshape(2, 3).sum(0)

    assert alike(of(pieces, 7), of(pieces, 3), sizes=(7, 3)) and not alike(of(pieces, 7), of(pieces, 3))
    assert not alike(of(pieces, 7), of(lambda x: pieces(3 * x), 3), sizes=(7, 3))
    assert not alike(of(lambda x: x[:4], 7), of(lambda x: x[:5], 3), sizes=(7, 3))
