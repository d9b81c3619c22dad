"""Right rules raise no alarm, wrong twins do and are named. JAXCHECK_TEST_ALL=1 runs every one of them in full."""

from __future__ import annotations

import os

import pytest
from real_rules import Rule
from real_rules.by_hand import RIGHT, Twin, wrong
from real_rules.of_jax import RULES
from real_rules.of_libraries import PACKAGES, rules_of

import jaxcheck as jc
from jaxcheck.test_util import check_grads

ALL = os.environ.get("JAXCHECK_TEST_ALL") == "1"
# Of JAX's, and of those by hand, what goes through everything when not all do.
FULL = {"nn.relu", "custom_linear_solve", "while", "complex abs", "take", "bfloat16"}
HAND = {"log1pexp jvp", "symbolic zeros vjp", "optimize_remat", "None cotangent", "key", "complex abs2", "real to complex",  # noqa: E501
        "bfloat16 pinned", "several outputs", "zero size"}  # fmt: skip


def named(found, *, keep=lambda r: True):
    return [pytest.param(r, id=r.name, marks=marks(r)) for r in found if ALL or keep(r)]


def marks(rule):
    alarm = getattr(rule, "known", "") and not rule.known.startswith("order 2")
    return [pytest.mark.xfail(reason=rule.known)] if alarm else []  # strict: a mended one must lose its mark


def describe(report: jc.Report) -> str:
    return "\n".join(f"{r.group}/{r.name}: {r.detail}" for r in report.rows if r.status == "WRONG") + f"\n{report}"


def in_full(rule: Rule, **options) -> None:
    report = jc.check_rule(rule.f, *rule.args, **rule.options, **options)
    if rule.name == "zero size":  # nothing to be wrong, and said so
        assert report.reason is jc.Reason.VACUOUS, describe(report)
        return
    assert report.verdict is jc.Verdict.PASS, describe(report)


def drop_in(rule: Rule, order: int) -> None:
    if order:
        check_grads(rule.f, rule.args, order, rule.modes)


@pytest.mark.parametrize("rule", named(RULES, keep=lambda r: not r.slow))
def test_of_jax(rule):
    drop_in(rule, rule.order if ALL and not rule.known else 1)
    if ALL or rule.name in FULL:
        in_full(rule)


@pytest.mark.parametrize("package", PACKAGES)
def test_of_libraries(package):
    pytest.importorskip(package)
    for rule in rules_of(package):
        if rule.known:
            with pytest.raises(Exception):  # noqa: B017, PT011 to be mended: then `known` goes
                drop_in(rule, 1) or in_full(rule)
            continue
        if ALL or not rule.slow:
            drop_in(rule, rule.order if ALL else 1)
        if ALL:
            in_full(rule)


@pytest.mark.parametrize("rule", named(RIGHT))
def test_by_hand(rule):
    drop_in(rule, 0 if "surrogate" in rule.options else rule.order if ALL else min(rule.order, 1))
    in_full(rule, algebra=ALL or rule.name in HAND, transforms=ALL or rule.name in HAND)


@pytest.mark.parametrize("twin", named(wrong()))
def test_wrong_twins(twin: Twin):
    laws = twin.reason in ("LAW", "LAW_BROKEN") or ALL
    report = jc.check_rule(
        twin.f, *twin.args, order=twin.order, algebra=laws, transforms=twin.transforms or ALL, where=False
    )
    assert report.verdict is jc.Verdict.FAIL, describe(report)
    assert {x.path for x in report.leaves if x.verdict is jc.Verdict.FAIL} >= twin.leaves, describe(report)
    if twin.reason != "LAW":  # nonlinear: the leaf may be wrong as well
        assert {x.path for x in report.leaves if x.verdict is jc.Verdict.FAIL} == twin.leaves, describe(report)
        assert report.reason.name == twin.reason, describe(report)
    assert {x.name for x in report.rows if x.status == "WRONG"} >= twin.rows, describe(report)
    assert not report.ok
    with pytest.raises(jc.GradientMismatch):
        report.assert_ok()
