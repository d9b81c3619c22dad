"""A line is named with the change that repairs it, in reports of every form; and nobody is, where nothing is proved."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.judgement.culprit import Weighed, blame
from jaxcheck.program.where import search, spreading, tape
from jaxcheck.report import line
from tests.where import build, rates
from tests.where.cases import CASES

pytestmark = pytest.mark.where

# One of each kind: a factor, a transposition, another value, a term, a scan, a rule, an alias.
NAMED = {
    ("dense", "dz3 = q - y"): "dz3 = (q - y) / x.shape[0]",
    ("attention", "dk = ds @ q"): "dk = ds.T @ q",
    ("layernorm", "dg = (dh * xc).sum(0)"): "dg = (dh * xhat).sum(0)",
    ("dense", "dz1 = dh1 * (1 - h1)"): "dz1 = dh1 * (1 - h1**2)",
    ("rnn_scan", 'dh = dz @ p["W"]'): 'dh = dz @ p["W"].T',
    ("rule_gate", "dB = x.T @ dgate"): "dB = x.T @ dpre",
    ("ridge", "da = dm"): "da = dm * t",
    ("embedding", 'dE = jnp.zeros_like(p["E"]).at[tokens].set(dtok)'): "",
    ("attention", "ds = a * (da - jnp.sum(da * a, axis=0, keepdims=True))"): (
        "ds = a * (da - jnp.sum(da * a, axis=1, keepdims=True))"
    ),
    ("heads", "inner = jnp.sum(da * a, axis=-2, keepdims=True)"): "inner = jnp.sum(da * a, axis=-1, keepdims=True)",
    ("stacked", "dv = a @ dout"): "dv = a.mT @ dout",
    ("layernorm", "dxhat = dh"): 'dxhat = dh * p["g"]',  # read twice
    ("gaussian", "dscale = jnp.sum(weighted)"): "dscale = 2 * jnp.sum(weighted)",  # beyond a linear solve
    ("rule_logdet", "dB = dA @ B"): "dB = 2 * (dA @ B)",
    ("film", "dn = da.reshape(3, 4, 4, 2, 2)"): "dn = (da * scale).reshape(3, 4, 4, 2, 2)",
}
# Of each pair the first was once named alone: the change is as well made on the second.
EITHER = {
    ("film", "dz = dg.reshape(z.shape)"): {43, 44},
    ("batchnorm", "dvar = jnp.sum(dzn * (z - mean), axis=0) * -0.5 / std**2"): {38, 40},
    ("renamed", "dpre1 = delta1"): {36, 37, 38},
}


def case(net: str, wrong: str):
    return next(c for c in CASES if (c.net, c.wrong) == (net, wrong))


@pytest.mark.parametrize(("net", "wrong"), NAMED)
def test_the_line_is_named(net, wrong):
    report, at = rates.report(case(net, wrong))
    (culprit,) = report.culprits
    assert (culprit.line, culprit.source, culprit.edit, culprit.kind) == (at, wrong, NAMED[net, wrong], "line")
    assert culprit.leaves == tuple(leaf.path for leaf in report.failed)
    assert 0 < report.cost.searching < report.seconds and "searching for the line" in str(report)


@pytest.mark.parametrize(("net", "wrong"), EITHER)
def test_lines_that_may_be_wrong_as_well_are_named_together(net, wrong):
    report, _ = rates.report(case(net, wrong))
    assert ({c.line for c in report.culprits}, {c.kind for c in report.culprits}) == (EITHER[net, wrong], {"one of"})


def test_a_value_that_is_right_as_something_else_does_not_point_on():
    assert rates.report(case("rule_pool", "da = x @ q"))[0].culprits == ()


def test_a_factor_that_makes_it_an_array_of_another_shape():
    report, at = rates.report(case("mixture", "dz = -dj[:, :, None]"))
    assert [(c.kind, c.line, c.edit) for c in report.culprits] == [("line", at, "dz = (-dj[:, :, None]) * z")]


def test_two_lines_are_not_blamed_for_a_factor_before_both(monkeypatch):
    """Where it is not found: the two lines bring in the same."""
    monkeypatch.setattr(spreading, "factors", lambda *_: iter(()))
    assert rates.report(case("mixture", "dz = -dj[:, :, None]"))[0].culprits == ()


@pytest.mark.slow
def test_a_name_that_others_read_is_not_blamed_for_one_of_them():
    report, at = rates.report(case("pendulum", "ddrag = ddrag - h * q0 * lv"))
    assert [(c.kind, c.line) for c in report.culprits] == [("line", at)]


def test_a_truth_that_differences_contradict_is_not_searched_by(monkeypatch):
    whole = tape.Tape.back
    monkeypatch.setattr(
        tape.Tape, "back", lambda *given: ({i: 1.1 * g for i, g in whole(*given)[0].items()}, whole(*given)[1])
    )
    report, _ = rates.report(case("rule_gate", "dB = x.T @ dgate"))
    assert (report.verdict, report.culprits) == (jc.Verdict.FAIL, ())


def test_every_face_shows_it():
    report, at = rates.report(case("attention", "dv = a @ dc"))
    (culprit,) = report.culprits
    place = f"{culprit.file.rsplit('/', 1)[1]}:{at}"
    assert all(said in str(report) for said in (place, "dv = a @ dc", "dv = a.T @ dc"))
    assert line.cause(report).endswith(f"at {place} (loss)")
    assert jc.Report.from_json(report.to_json()).culprits == report.culprits


def test_a_factor_along_a_chain_names_a_set():
    report, at = rates.report(case("layernorm", "da = inv * (dxhat - m1 / d - xhat * m2)"))
    assert at in [c.line for c in report.culprits]
    assert {c.kind for c in report.culprits} == {"one of"}


def test_two_mistakes_are_named_one_after_the_other():
    def loss(p):
        return jnp.sum(jnp.tanh(p["a"])) + jnp.sum(jnp.sin(p["b"]) ** 2)

    def grad(p):
        a = 1 - jnp.tanh(p["a"])
        b = 2 * jnp.sin(p["b"])
        return {"a": a, "b": b}

    report = jc.check_grad(loss, {"a": np.arange(1.0, 4), "b": np.arange(2.0, 5)}, grad)
    assert [(c.kind, c.source, c.leaves) for c in report.culprits] == [
        ("line", 'a = 1 - jnp.tanh(p["a"])', ("a",)),
        ("line", 'b = 2 * jnp.sin(p["b"])', ("b",)),
    ]
    assert "changed, `a` is right" in str(report)
    assert "changed, `b` is right" in str(report)


def test_three_mistakes_name_nobody():
    def loss(p):
        return jnp.sum(jnp.tanh(p["a"])) + jnp.sum(jnp.sin(p["b"]) ** 2) + jnp.sum(jnp.exp(p["c"]))

    def grad(p):
        return {"a": 1 - jnp.tanh(p["a"]), "b": 2 * jnp.sin(p["b"]), "c": p["c"]}

    report = jc.check_grad(loss, {"a": np.arange(1.0, 4), "b": np.arange(2.0, 5), "c": np.arange(3.0)}, grad)
    assert report.verdict is jc.Verdict.FAIL
    assert report.culprits == ()


@pytest.mark.parametrize("right", [True, False], ids=["a right gradient", "where=False"])
def test_nothing_is_searched(monkeypatch, right):
    monkeypatch.setattr(search.Search, "go", lambda self: pytest.fail("it was searched"))
    found, _ = build.planted(case("ridge", "da = dm"))
    params, args = build.point(found, np.float32)
    report = jc.check_grad(found.loss, params, jax.grad(found.loss) if right else found.grad, args=args, where=right)
    assert report.ok is right
    assert report.culprits == ()


def test_foreign_code_keeps_the_search_silent():
    def grad(x):
        return jax.pure_callback(lambda x: 3 * np.asarray(x), jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    report = jc.check_grad(lambda x: jnp.sum(x**2), np.arange(1.0, 4, dtype=np.float32), grad)
    assert report.verdict is jc.Verdict.FAIL
    assert report.culprits == ()


def weighed(at: int, kind: str = "swap", **more) -> Weighed:
    return Weighed(("m.py", at), kind, "own", **more)


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ([weighed(1), weighed(2, was=True)], "line", (0,)),
        ([weighed(1), weighed(1, "times"), weighed(2, "times")], "one of", (0, 2)),
        ([weighed(1, "plus product", was=True)], None, ()),
        ([weighed(n) for n in range(4)], None, ()),
        ([], None, ()),
    ],
    ids=["what was right is not blamed", "near", "too dear", "too many", "nothing"],
)
def test_blame(changes, kind, told):
    found = blame(changes)
    assert (found and found.kind) == kind
    assert (found.changes if found else ()) == told
