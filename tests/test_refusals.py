"""Whose exception it is: the caller's code and JAX may refuse, our own mistakes come out; what was not run is told."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

import jaxcheck as jc
from jaxcheck.check.laws import adjoint, algebra, eager, linear
from jaxcheck.check.transforms import compared, sharded
from jaxcheck.check.transforms import dtype as transforms_dtype
from jaxcheck.evidence import maps
from jaxcheck.program import ask as gate
from jaxcheck.program.run.cache import clear
from jaxcheck.result import Reason, Row, Verdict

V = jnp.asarray(np.random.default_rng(0).standard_normal(4), jnp.float32)
FAST = dict(algebra=False, transforms=False)


def sine(bwd=lambda x, g: (jnp.cos(x) * g,), fwd=lambda x: (jnp.sin(x), x)):
    f = jax.custom_vjp(lambda x: jnp.sin(x))
    f.defvjp(fwd, bwd)
    return f


def wrong(report):
    return {r.name for r in report.rows if r.status == "WRONG"}


def bug(*_args, **_kwargs):
    raise KeyError("ours")


OURS = [(algebra, "_tangent_sizes"), (algebra, "some_inputs"), (algebra, "strip_rules"), (linear, "_row"),
        (adjoint, "_allowed"), (eager, "_compare"), (compared, "natural"),
        (sharded, "_split"), (transforms_dtype, "as_in"), (maps, "slopes"),
        (maps, "from_vector")]  # fmt: skip


@pytest.mark.parametrize(("module", "name"), OURS, ids=[f"{m.__name__.split('.')[-1]}.{n}" for m, n in OURS])
def test_our_own_mistakes_come_out(module, name, monkeypatch):
    """A mistake in our code, wherever it is, is no answer about the caller's rule."""
    if name == "_split" and len(jax.devices()) < 2:
        pytest.skip("one device")

    # The mistake must seem to be on a line of the package, as a real one would be.
    planted = compile("def planted(*a, **k):\n    raise KeyError('ours')\n", module.__file__, "exec")
    namespace = {}
    exec(planted, namespace)
    monkeypatch.setattr(module, name, namespace["planted"])
    clear()  # a program that is known is not built again
    f = jax.custom_jvp(lambda x, y: jnp.sin(x) * y)
    f.defjvp(lambda p, t: (f(*p), jnp.cos(p[0]) * t[0] * p[1] + jnp.sin(p[0]) * t[1]))
    with pytest.raises(KeyError, match="ours"):
        jc.check_rule(f, V, V + 2)


def test_the_gate():
    def ours():
        namespace = {}
        exec(compile("def f():\n    return [][0]\n", gate.__file__, "exec"), namespace)
        return namespace["f"]()

    with pytest.raises(IndexError):
        gate.ask(ours)
    with pytest.raises(gate.Refused) as caught:
        gate.ask(bug)
    assert isinstance(caught.value.error, KeyError)
    # JAX's refusals are told from ours although JAX takes its frames out of the traceback.
    with pytest.raises(gate.Refused, match="forward-mode"):
        gate.ask(eager._has_jvp.__globals__["jax"].jvp, sine(), (V,), (V,))


def test_laws_that_were_not_run_are_counted():
    def needs_numbers(x, g):
        return (g * jnp.cos(x) * (1.0 if float(np.asarray(g).sum()) < 1e9 else 2.0),)

    report = jc.check_rule(sine(needs_numbers), V)
    group = [r for r in report.rows if r.group == "transformation"]
    run = [r for r in group if r.status != "UNSUPPORTED"]
    assert 0 < len(run) < len(group)
    assert any(n.startswith(f"{len(run)} of {len(group)} transformations run; not run: ") for n in report.notes)
    assert (
        not any("laws run" in n or "transformations run" in n for n in jc.check_rule(sine(), V).notes)
        or len(jax.devices()) < 2
    )  # the row "sharded" needs two


def test_nothing_judged_is_inconclusive(monkeypatch):
    """However the pieces come about: no leaf and no row that was run is not a PASS."""
    from jaxcheck.check import rule_report

    report = jc.Report("check_rule", "f", Verdict.PASS, Reason.AGREE, rows=(Row("law", "x", "UNSUPPORTED"),))
    assert rule_report.with_rows(report, 0.0).verdict is Verdict.INCONCLUSIVE

    def f(x):
        heard = io_callback(lambda v: v, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
        return sine()(x) + 0 * heard

    report = jc.check_rule(f, V)
    assert report.verdict is Verdict.INCONCLUSIVE and "do not support JVP" in report.notes[0]
    assert all(r.status == "UNSUPPORTED" for r in report.rows if r.name not in ("primal",))


@pytest.mark.parametrize("inner", [lambda x: x, sine()], ids=["no rule", "a rule"])
def test_what_jax_cannot_do_is_not_the_rules_fault(inner, monkeypatch):
    """The second derivative of exp1 raises inside JAX."""
    monkeypatch.setattr(compared, "TRANSFORMED", {"jvp of vjp": compared.TRANSFORMED["jvp of vjp"]})
    found = compared._matrix(lambda x: jax.scipy.special.exp1(jnp.abs(inner(x)) + 0.5), (V[:1],), {}, (0,), 0)
    assert [(r.name, r.status) for r in found[:2]] == [("eager", "OK"), ("jvp of vjp", "UNSUPPORTED")]
    assert "TypeError" in found[1].detail


def test_but_what_the_rule_alone_does_is():
    kept = {}

    def fwd(x):
        kept["x"] = x
        return jnp.sin(x), None

    report = jc.check_rule(sine(lambda _, g: (jnp.cos(kept["x"]) * g,), fwd), V)
    assert report.verdict is Verdict.FAIL and report.reason is Reason.LAW_BROKEN
    assert {"no hidden state", "jit", "scan"} <= wrong(report)


def test_a_residual_in_a_list():
    kept = []

    def fwd(x):
        kept.append(x)
        return jnp.sin(x), None

    report = jc.check_rule(sine(lambda _, g: (jnp.cos(kept.pop()) * g,), fwd), V)
    assert report.verdict is Verdict.FAIL and report.reason is Reason.LAW_BROKEN and "hidden state" in report.notes[0]


def test_a_function_that_keeps_a_tracer():
    kept = []

    def f(x):
        kept.append(jnp.sin(x))
        return sum(kept[-2:])

    report = jc.check_rule(f, V)
    assert report.verdict is Verdict.INCONCLUSIVE and report.reason is Reason.NONDETERMINISTIC
    assert "keeps values from one call to the next" in report.notes[0]


def dropout(draw):
    def f(x, k1, k2):
        return x * draw(k1, x) + jnp.sin(x) * draw(k2, x)

    rule = jax.custom_vjp(f)

    def bwd(kept, g):
        x, k1, k2 = kept
        return (g * draw(k1, x) + jnp.cos(x) * g * draw(k2, x)).astype(x.dtype), None, None

    rule.defvjp(lambda *a: (rule(*a), a), bwd)
    return rule


DRAWS = {"mask": lambda k, x: jax.random.bernoulli(k, 0.5, x.shape).astype(x.dtype),
         "uniform": lambda k, x: (jax.random.uniform(k, x.shape, x.dtype) < 0.5).astype(x.dtype)}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", DRAWS)
def test_the_same_key_draws_the_same_mask_in_every_dtype(name, dtype):
    x = jnp.asarray(np.random.default_rng(0).standard_normal(8)).astype(dtype)
    rows = transforms_dtype.rows(dropout(DRAWS[name]), (x, jax.random.key(0), jax.random.key(1)), {}, (0,), 0)
    names = ("float32", "bfloat16", "float16", "float64")
    assert [(r.name, r.status) for r in rows] == [(n, "OK") for n in names], rows


def test_and_a_mask_that_is_another_one_backward_is_wrong():
    f = jax.custom_vjp(lambda x, k: x * jax.random.bernoulli(k, 0.5, x.shape))

    def bwd(kept, g):
        factor = jnp.asarray(3.0 if g.dtype == jnp.bfloat16 else 1.0, g.dtype)
        return g * factor * jax.random.bernoulli(kept[1], 0.5, g.shape), None

    f.defvjp(lambda x, k: (f(x, k), (x, k)), bwd)
    rows = transforms_dtype.rows(f, (jnp.tile(V, 4), jax.random.key(0)), {}, (0,), 0)
    assert [r.name for r in rows if r.status == "WRONG"] == ["bfloat16"]


@pytest.mark.parametrize("rule", [False, True])
def test_donated_arguments_live_on(rule):
    inner = sine() if rule else jnp.sin
    f = jax.jit(lambda p, n: inner(p["a"]) * p["b"] * n, donate_argnums=(0, 1))
    p, n = {"a": V + 0, "b": V + 1}, jnp.arange(4)
    report = jc.check_rule(f, p, n)
    assert report.ok and not wrong(report), str(report)
    assert not any(r.status == "UNSUPPORTED" and "deleted" in r.detail for r in report.rows)
    assert np.isfinite(np.asarray(p["a"] + p["b"] + n)).all()


@pytest.mark.parametrize("method", [None, "sequential"])
def test_pure_callbacks(method):
    def host(x):
        return jax.pure_callback(
            lambda v: np.sin(v).astype(v.dtype), jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method=method
        )

    f = jax.custom_vjp(host)
    f.defvjp(lambda x: (f(x), x), lambda x, g: (jnp.cos(x) * g,))
    report = jc.check_rule(f, V)
    assert report.verdict is not Verdict.FAIL and not wrong(report)
    assert report.ok or "pure_callback" in report.notes[0]


@pytest.mark.slow
def test_shard_map():
    devices = jax.devices()[:2]
    mesh, spec = jax.sharding.Mesh(np.array(devices), ("i",)), jax.sharding.PartitionSpec("i")
    f = jax.shard_map(lambda x: sine()(x) * 2, mesh=mesh, in_specs=spec, out_specs=spec)
    report = jc.check_rule(f, jax.device_put(V, jax.sharding.NamedSharding(mesh, spec)), transforms=False)
    assert report.ok and not wrong(report), str(report)
