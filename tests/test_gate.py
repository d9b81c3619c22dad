"""What the caller's code raises is an answer wherever it is asked, and what we raise comes out: planted, one by one."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import budget, store_file, tracebacks
from jaxcheck.check import door, made, minimise, where
from jaxcheck.faces import cases, pytest_grads
from jaxcheck.problem import host, user
from jaxcheck.program import ask as gate
from jaxcheck.program import kernels, native
from jaxcheck.program.custom import owner, rules
from jaxcheck.program.float64 import lifting, shadow
from jaxcheck.program.run import cache, hosts
from jaxcheck.program.where import kernels as on_host
from jaxcheck.program.where import nonsense

PACKAGE = Path(jc.__file__).parent


def theirs(*_args, **_kwargs):
    raise ZeroDivisionError("theirs")


def ours(module):
    """A function that fails by accident on a line of a module of the package."""
    namespace = {}
    exec(compile("def planted(*a, **k):\n    return {}['ours']\n", module.__file__, "exec"), namespace)
    return namespace["planted"]


def comes_out():
    return pytest.raises(KeyError, match="ours")


def test_whose_it_was_is_told_where_there_is_no_frame():
    with pytest.raises(gate.Refused, match="at least 2"):
        gate.ask(getattr)  # no Python at all
    with pytest.raises(gate.Refused, match="takes 0"):
        gate.ask(lambda: 0, 1)  # the caller's, given what it does not take
    with pytest.raises(TypeError, match="missing"):
        gate.ask(gate.ask)  # ours


class Stranger:
    """Whose attributes raise."""

    def __getattribute__(self, name):
        if name in ("__class__", "func", "__wrapped__", "fun"):
            return theirs() if name != "__class__" else Stranger
        return object.__getattribute__(self, name)


def test_a_strangers_attribute(monkeypatch):
    assert [x for x in owner._neighbours(Stranger()) if x is not None] == []
    assert made.made(Stranger()).file == ""
    monkeypatch.setattr(owner, "_attribute", ours(owner))
    with comes_out():
        list(owner._neighbours(Stranger()))
    monkeypatch.setattr(made, "place", ours(made))
    with comes_out():
        made.made(theirs)


def rule_of(jvp):
    f = jax.custom_jvp(jnp.sin)
    f.defjvp(jvp)
    closed = jax.make_jaxpr(f)(1.0)
    return closed, next(e for e in closed.eqns if rules.rule_kind(e))


def test_a_rule(monkeypatch):
    closed, eqn = rule_of(theirs)
    assert rules.rule_programs(eqn) == []
    assert shadow._rule_failure(closed) == "promotion fails: ZeroDivisionError: theirs"
    monkeypatch.setattr(rules, "rule_kind", lambda eqn: "hijax")
    assert not rules._has_jvp(eqn)
    monkeypatch.setattr(rules, "_partial", ours(rules))
    for asked in (rules.rule_programs, rules._has_jvp, lambda eqn: shadow._rule_failure(closed)):
        with comes_out():
            asked(eqn)


def test_a_primitive_of_high_level_types(monkeypatch):
    x = jax.make_jaxpr(jnp.sin)(1.0).eqns[0]
    tree = jax.tree_util.tree_structure((1.0,))
    prim = SimpleNamespace(in_tree=tree, expand=theirs)
    eqn = SimpleNamespace(primitive=x.primitive, params={"_prim": prim}, invars=x.invars, outvars=[])
    assert rules.primal(eqn) is None
    eqn.params["_prim"].expand = ours(rules)
    with comes_out():
        rules.primal(eqn)


def test_a_function_in_float64(monkeypatch):
    def f(x):
        return theirs() if x.dtype == np.float64 else x * 2

    x = (jnp.ones(2, jnp.float32),)
    assert shadow._promoted(f, x, {}) == (None, "promotion fails: ZeroDivisionError: theirs")
    monkeypatch.setattr(shadow, "tidy", ours(shadow))
    with comes_out():
        shadow._promoted(jnp.sin, x, {})


def called_back(back):
    def call(x):
        return jax.pure_callback(lambda v: np.sin(v), jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    f = jax.custom_vjp(call)
    f.defvjp(lambda x: (call(x), x), back)
    return native.trace_native(lambda x: f(x), (jnp.ones(2, jnp.float32),), {})


def test_a_rule_that_calls_back(monkeypatch):
    def raising(x, g):
        return (jax.pure_callback(theirs, jax.ShapeDtypeStruct(g.shape, g.dtype), g),)

    with pytest.raises(gate.Refused) as no:
        shadow._try_callbacks(called_back(raising))
    assert isinstance(no.value.error, jax.errors.JaxRuntimeError)
    traced = called_back(lambda x, g: (g * jnp.cos(x),))
    shadow._try_callbacks(traced)  # forward mode refuses, and is nobody's mistake
    monkeypatch.setattr(shadow.rules, "is_inexact", lambda x: True)
    monkeypatch.setattr(shadow.jnp, "sum", ours(shadow))
    with comes_out():
        shadow._try_callbacks(traced)


def test_a_primitive_that_cannot_be_emitted_again(monkeypatch):
    eqn = jax.make_jaxpr(jnp.sin)(1.0).eqns[0]
    value = lifting.Value(jnp.float32(1), True)
    monkeypatch.setattr(lifting.interpret, "bind", theirs)
    with pytest.raises(lifting.Unliftable, match="`sin` cannot be emitted in float64: theirs"):
        lifting.Lifter(True)._again(eqn, [value], frozenset())
    monkeypatch.setattr(lifting.interpret, "bind", ours(lifting))
    with comes_out():
        lifting.Lifter(True)._again(eqn, [value], frozenset())


def test_a_kernel(monkeypatch):
    pallas = pytest.importorskip("jax.experimental.pallas")
    inner = pytest.importorskip("jax._src.pallas.hlo_interpreter")

    def double(x, y):
        y[...] = x[...] * 2

    x = jnp.ones(4)
    call = pallas.pallas_call(double, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)
    eqn = next(e for e in jax.make_jaxpr(call)(x).eqns if kernels.is_kernel(e))
    assert kernels._traced(eqn) is not None
    monkeypatch.setattr(inner, "pallas_call_hlo_interpret", theirs)
    assert kernels._traced(eqn) is None
    monkeypatch.undo()
    monkeypatch.setattr(kernels, "_counted", lambda *_: ours(kernels))
    with comes_out():
        kernels._traced(eqn)


def test_a_trace_that_failed_is_let_go_of():
    kept = []

    def f(leaves, extras):
        kept.extend(leaves)
        theirs()

    with pytest.raises(ZeroDivisionError):
        native.jaxpr_of(f, [jnp.ones(2)], [])
    with pytest.raises(jax.errors.UnexpectedTracerError):
        jax.block_until_ready(kept[0] + 1)


def test_a_change_that_is_nonsense():
    assert nonsense.tried(np.matmul, np.ones(3), np.ones(4)) is None
    assert nonsense.tried(jax.lax.dot, np.ones(3), np.ones(4)) is None
    assert nonsense.tried(lambda: np.float64(1e300) * 1e300) == np.inf
    with comes_out():
        nonsense.tried(ours(where))
    eqn = jax.make_jaxpr(lambda x, y: x @ y)(np.ones(3), np.ones(3)).eqns[0]
    assert on_host.bound(eqn, [np.ones(3), np.ones(3)])[0] == 3
    with pytest.raises(nonsense.NONSENSE):
        on_host.bound(eqn, [np.ones(3), np.ones(4)])


def test_only_options_that_xla_does_not_know_are_left_out():
    asked = []

    def lowered(error):
        def compile(compiler_options=None):
            asked.append(compiler_options)
            if compiler_options is not None:
                raise error
            return "compiled"

        return SimpleNamespace(compile=compile)

    unknown = jax.errors.JaxRuntimeError("INVALID_ARGUMENT: No such compile option: 'x'")
    assert cache._compile(lowered(unknown), True) == "compiled" and len(asked) == len(cache.QUICK) + 1
    for error in (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED"), KeyError("option")):
        with pytest.raises(type(error)):
            cache._compile(lowered(error), True)


def test_the_others_hear_how_a_process_ended(monkeypatch):
    said = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(hosts, "can_talk", lambda: True)
    monkeypatch.setattr(hosts, "Session", lambda _: SimpleNamespace(say=lambda what, error: said.append(error)))
    with hosts.taking_part():
        pass
    for error in (KeyError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)), hosts.taking_part():
            raise error
    assert said == ["", "KeyError: 'x'", "KeyboardInterrupt: "] and hosts._CURRENT.get() is None


@pytest.mark.parametrize("error", [None, KeyError, KeyboardInterrupt])
def test_a_file_is_written_whole_or_not(error):
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE numbers (n)")
    with contextlib.suppress(KeyError, KeyboardInterrupt), store_file.transaction(connection):
        connection.execute("INSERT INTO numbers VALUES (1)")
        if error is not None:
            raise error
    assert not connection.in_transaction
    assert connection.execute("SELECT count(*) FROM numbers").fetchone() == (int(error is None),)


def test_notes_for_the_caller():
    with pytest.raises(ZeroDivisionError) as caught, tracebacks.note("raised there"):
        raise ZeroDivisionError from KeyError()
    assert caught.value.__notes__ == ["raised there"] and caught.value.__cause__ is None
    with pytest.raises(user.StructureError) as caught, tracebacks.note("raised there", but=user.StructureError):
        raise user.StructureError
    with pytest.raises(KeyboardInterrupt) as stopped, tracebacks.note("raised there"):
        raise KeyboardInterrupt
    assert not hasattr(caught.value, "__notes__") and not hasattr(stopped.value, "__notes__")


def test_a_loss_that_jax_cannot_differentiate(monkeypatch):
    def one(value):
        return SimpleNamespace(
            theta=SimpleNamespace(ravel=lambda: np.ones(2)),
            value=value,
            wide_args=tuple,
            host_leaves=lambda theta, vector: [vector],
        )

    said = (None, "the loss cannot be differentiated by JAX (TracerArrayConversionError)")
    assert host.autodiff_on_host(one(lambda xs, _: float(np.sin(xs[0]).sum()))) == said
    assert host.autodiff_on_host(one(theirs))[1].endswith("(ZeroDivisionError)")
    monkeypatch.setattr(host, "real_rows", ours(host))
    with comes_out():
        host.autodiff_on_host(one(lambda xs, _: jnp.sum(xs[0])))


def test_theirs_passes_or_not():
    assert pytest_grads._passes(lambda: None) and not pytest_grads._passes(theirs)
    with comes_out():
        pytest_grads._passes(ours(pytest_grads))


def test_tracebacks_end_in_the_callers_code():
    @door.door
    def check(error):
        raise error

    for error, frames in ((ValueError("bad"), 2), (KeyboardInterrupt(), 3)):
        with pytest.raises(type(error)) as caught:
            check(error)
        assert len(caught.traceback) == frames, caught.traceback


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_a_case_that_fails_is_told(error, tmp_path):
    assert cases._tried(lambda: 1) == (1, None)
    file = tmp_path / "check_it.py"
    file.write_text(f"raise {error.__name__}('theirs')")
    with cases.loaded(cases.File(file)) as (found, raised):
        assert found == [] and isinstance(raised, error)
    told = cases.outcome(
        "x", cases.File(file), cases.Case(cases.CaseInfo("x", "grad"), functools.partial(_raise, error)), None
    )
    assert told.error == f"{error.__name__}: theirs"
    with pytest.raises(KeyboardInterrupt):
        cases._tried(_raise, KeyboardInterrupt)


def _raise(error):
    raise error("theirs")


def test_who_watches_may_raise():
    one = budget.Budget(None, theirs)
    one.tell("this")
    one.tell("that")
    with pytest.raises(ZeroDivisionError, match="theirs"):
        one.close()


def test_a_smaller_call_may_be_nonsense():
    signature = minimise.inspect.signature(lambda loss, x: None)
    report = SimpleNamespace(reason=jc.Reason.MANUAL_WRONG, failed=[], verdict=jc.Verdict.FAIL)
    for f, stays in ((theirs, False), (lambda *_, **__: report, True)):
        assert minimise._Search(f, signature.bind(None, 1), report, 0.0).stays({"x": 0}) is stays


def test_a_verdict_stands_without_a_line(monkeypatch):
    monkeypatch.setattr(where, "_problems", theirs)
    report = jc.check_grad(lambda x: jnp.sum(x**2), np.ones(3), lambda x: 3 * x)
    assert report.verdict is jc.Verdict.FAIL and not report.culprits
