"""A check keeps to its budget, stops when asked to, and says what it left out."""

from __future__ import annotations

import dataclasses
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import budget, session
from jaxcheck.check.doubts import as_run, kinks
from jaxcheck.evidence import blocks, flat, rows, sketch
from jaxcheck.evidence.differences import Ladder
from jaxcheck.result import Cost
from jaxcheck.theta import take_apart

# Evaluations along one direction, but for that at the point.
STEPS = len(Ladder().offsets) - 1
PARAMS = {"a": np.linspace(0.1, 1.0, 30), "b": np.linspace(0.2, 1.1, 30), "c": np.linspace(0.3, 1.2, 30)}


@pytest.fixture(autouse=True)
def ctrl_c_as_in_a_terminal():
    """A run in the background is started with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def nobody_listens(monkeypatch):
    """The run of pytest that this is would take Ctrl-C for its own."""
    monkeypatch.setattr(session, "_listeners", [])


class Slow:
    """A loss in NumPy that takes `seconds` by a clock of its own, and remembers which leaves were moved."""

    def __init__(self, monkeypatch, seconds: float):
        self.now, self.seconds, self.moved, self.at = 0.0, seconds, [], {}
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def __call__(self, p):
        self.now += self.seconds
        if self.now in self.at:
            self.at[self.now]()
        self.moved.append(frozenset(k for k, x in p.items() if np.abs(np.asarray(x) - PARAMS[k]).max() > 1e-9))
        return float(sum(np.sum(np.sin(np.asarray(x))) for x in p.values()))


def grad(p):
    return {k: np.cos(np.asarray(x)) for k, x in p.items()}


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan")])
def test_a_budget_is_positive(wrong):
    with pytest.raises(ValueError, match=r"budget=.*above 0"):
        jc.check_grad(jnp.sum, jnp.ones(2), budget=wrong)


@pytest.mark.parametrize(
    ("option", "said"),
    [({"budget": "60"}, "budget='60'"), ({"budget": True}, "budget=True"), ({"progress": 3}, "progress=3")],
)
def test_of_another_kind(option, said):
    with pytest.raises(TypeError, match=said):
        jc.check_grad(jnp.sum, jnp.ones(2), **option)


@pytest.mark.parametrize("seconds", [0.4, 12.0, 60.0, 140.0, 300.0, 1000.0])
def test_it_is_kept_and_what_was_not_looked_at_does_not_pass(monkeypatch, seconds):
    slow = Slow(monkeypatch, 1.0)
    report = jc.check_grad(slow, PARAMS, grad, budget=seconds)
    assert slow.now <= 1.2 * seconds + 1.0
    moved = [leaves for leaves in slow.moved if len(leaves) == 1]
    seen = {k: sum(leaves == {k} for leaves in moved) for k in PARAMS}
    order = list(dict.fromkeys(moved))
    if seconds >= 1000:
        assert report.ok and not report.cost.stopped
    for leaf in report.leaves:
        if seen[leaf.path.strip("[']")] < STEPS:
            assert (leaf.verdict, leaf.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.INTERRUPTED)
        else:
            assert leaf.verdict is jc.Verdict.PASS
    if report.reason is jc.Reason.INTERRUPTED:
        assert report.verdict is jc.Verdict.INCONCLUSIVE and "budget" in report.notes[0]
    # No leaf's second direction comes before every leaf's first.
    assert moved[: STEPS * len(order)] == [leaf for leaf in order for _ in range(STEPS)][: len(moved)]
    assert report.to_json() == jc.Report.from_json(report.to_json()).to_json()


def test_a_mistake_that_two_witnesses_see_is_told_all_the_same(monkeypatch):
    """And one that the differences alone see waits for the second look."""
    loss = lambda x: jnp.sum(jnp.sin(x))  # noqa: E731
    monkeypatch.setattr(blocks, "ONE_CALL", 0)
    x = jnp.linspace(0.1, 1.0, 8)
    rate = []

    def stop(moment):
        rate.append(moment.doing)
        if moment.doing == "leaves":
            signal.raise_signal(signal.SIGINT)

    report = jc.check_grad(loss, x, lambda x: 1.5 * jnp.cos(x), progress=stop)
    assert (report.verdict, report.reason, report.cost.stopped) == (jc.Verdict.FAIL, jc.Reason.MANUAL_WRONG, "user")
    report = jc.check_grad(loss, x, 1.5 * jnp.cos(x), progress=stop)
    assert report.verdict is jc.Verdict.FAIL
    host = jc.check_grad(lambda p: float(np.sum(np.sin(p))), x, lambda p: 1.5 * np.cos(p), mode="sketch", progress=stop)
    assert (host.verdict, host.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.INTERRUPTED)
    assert "at first sight MANUAL_WRONG" in host.leaves[0].note and "rows" in rate


def test_rows_in_several_calls_are_the_rows_of_one(monkeypatch):
    key = jax.random.key(0)
    params = {"w": jax.random.normal(key, (6, 5)), "b": jnp.linspace(-1.0, 1.0, 5)}
    loss = lambda p: jnp.mean(jnp.tanh(jnp.ones((3, 6)) @ p["w"] + p["b"]) ** 2)  # noqa: E731
    whole = [jc.check_grad(loss, params, jax.grad(loss), mode=mode) for mode in (None, "sketch")]
    monkeypatch.setattr(blocks, "ONE_CALL", 0)
    parts = [jc.check_grad(loss, params, jax.grad(loss), mode=mode) for mode in (None, "sketch")]
    for one, other in zip(whole, parts, strict=True):
        assert one.ok and other.ok and other.evaluations == one.evaluations
        assert [x.probes for x in one.leaves] == [x.probes for x in other.leaves]
        assert [x.floor for x in one.leaves] == pytest.approx([x.floor for x in other.leaves], rel=1e-6)


def test_ctrl_c_once_gives_what_is_known(monkeypatch):
    slow = Slow(monkeypatch, 1.0)
    slow.at = {83.0: lambda: signal.raise_signal(signal.SIGINT)}
    before = signal.getsignal(signal.SIGINT)
    report = jc.check_grad(slow, PARAMS, grad, budget=None, mode="sketch")
    assert slow.now == 83.0 and signal.getsignal(signal.SIGINT) is before
    assert (report.verdict, report.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.INTERRUPTED)
    assert report.notes[0].startswith("stopped by Ctrl-C") and "1 of 3 leaves not decided" in report.notes[0]
    assert [leaf.verdict for leaf in report.leaves].count(jc.Verdict.PASS) == 2


def test_ctrl_c_twice_stops(monkeypatch):
    slow = Slow(monkeypatch, 1.0)

    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    slow.at = {60.0: twice}
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        jc.check_grad(slow, PARAMS, grad, budget=None)
    assert slow.now == 60.0 and signal.getsignal(signal.SIGINT) is before
    assert budget._CURRENT.get() is None


@jax.custom_vjp
def square(x):
    return x * x


square.defvjp(lambda x: (x * x, x), lambda x, g: (2 * x * g,))


def groups(report):
    return {row.group for row in report.rows if row.detail != "not looked at"}


def test_levels_of_a_rule(monkeypatch):
    x = jnp.linspace(0.5, 1.5, 3)
    full, quick = jc.check_rule(square, x), jc.check_rule(square, x, level="quick")
    assert full.ok and groups(full) >= {"law", "transformation"} and not any("level" in note for note in full.notes)
    assert quick.ok and "transformation" not in groups(quick) and "law" in groups(quick)
    assert any("not looked at" in note for note in quick.notes)
    # A rule as slow as this one gets the quick level by itself, and the report says so.
    monkeypatch.setattr(budget.Budget, "worked", property(lambda self: 100.0))
    chosen = jc.check_rule(square, x)
    assert chosen.ok and groups(chosen) == groups(quick)
    assert any('level="quick" was chosen' in note and "some 400 s" in note for note in chosen.notes)
    assert groups(jc.check_rule(square, x, level="full")) == groups(full)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"level": "fast"}, "level='fast'"), ({"level": "quick", "order": 2}, "order=2"), ({"budget": 0}, "budget=0")],
)
def test_no_such_level(options, said):
    with pytest.raises(ValueError, match=said):
        jc.check_rule(square, jnp.ones(2), **options)


@pytest.mark.parametrize(
    ("at", "left"), [("laws", {"laws", "transformations"}), ("transformations", {"transformations"})]
)
def test_a_rule_that_time_left_in_part(at, left):
    """What was not looked at keeps it from passing, and is named."""

    def stop(moment):
        if moment.doing == at:
            signal.raise_signal(signal.SIGINT)

    report = jc.check_rule(square, jnp.linspace(0.5, 1.5, 4), progress=stop)
    assert (report.verdict, report.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.INTERRUPTED)
    assert all(leaf.verdict is jc.Verdict.PASS for leaf in report.leaves)
    assert {row.name for row in report.rows if row.detail == "not looked at"} == left


def test_a_batch_on_the_host_that_time_left_in_part(monkeypatch):
    slow = Slow(monkeypatch, 1.0)
    points = [PARAMS] * 4
    whole = jc.check_batch(slow, points, grad, budget=None, mode="sketch")
    assert whole.ok
    slow.now = 0.0
    part = jc.check_batch(slow, points, grad, budget=350.0, mode="sketch")
    assert slow.now <= 1.2 * 350 + 1
    assert (part.verdict, part.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.INTERRUPTED)
    assert 0 < part.points_passed < 4 and part.points_inconclusive == 4 - part.points_passed == len(part.points)
    slow.now = 0.0
    assert jc.check_batch(slow, points, grad, budget=0.5).reason is jc.Reason.INTERRUPTED


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_a_batch_in_several_calls(monkeypatch, factor):
    """As many points as time allowed; the others are not passed."""
    monkeypatch.setattr(blocks, "ONE_CALL", 0)
    monkeypatch.setattr(rows, "chunk_rows", lambda cost, count: min(count, 2))
    loss, points = lambda x: jnp.sum(jnp.sin(x)), jnp.linspace(0.1, 1.0, 14).reshape(7, 2)
    gradient = lambda x: factor * jnp.cos(x)  # noqa: E731
    whole = jc.check_batch(loss, points, gradient)
    assert whole.points_passed == (7 if factor == 1 else 0)

    def stop(moment):
        if moment.doing == "points" and moment.done == 4:
            signal.raise_signal(signal.SIGINT)

    part = jc.check_batch(loss, points, gradient, progress=stop)
    assert (part.verdict, part.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.INTERRUPTED)
    assert part.points_passed == (4 if factor == 1 else 0) and part.points_failed == 0
    assert any("4 of the points left look wrong" in note for note in part.notes) is (factor != 1)
    assert part.notes[0].startswith("stopped by Ctrl-C") and len(part.points) == 7 - part.points_passed


def test_the_report_says_what_it_cost():
    x = jnp.linspace(0.1, 1.0, 7)
    for compiled in (True, False):
        report = jc.check_grad(lambda x: jnp.sum(jnp.sin(x)), x, jnp.cos, mode=jc.Sketch(2))
        cost = report.cost
        assert (cost.compiling > 0) is compiled and cost.running > 0 and cost.peak > 0 and cost.pair > 0
        assert (cost.planned, cost.budget, cost.stopped) == (2 * len(Ladder().offsets), 60.0, "")
        assert cost.compiling + cost.running < report.seconds
        assert f"cost: compiling {cost.compiling:.2g} s" in str(report) and "50 evaluations planned" in str(report)
        assert jc.Report.from_json(report.to_json()) == report


@pytest.mark.slow
def test_a_large_problem_in_several_calls(monkeypatch):
    """All leaves share their directions; gradients too are taken one by one."""
    monkeypatch.setattr(flat, "WORK", 0)
    params = {"w": jnp.linspace(0.1, 1.0, 1100), "b": jnp.linspace(-1.0, 1.0, 5)}
    loss = lambda p: jnp.sum(jnp.sin(p["w"])) + jnp.sum(p["b"] ** 3)  # noqa: E731
    right, wrong = jax.grad(loss), lambda p: jax.grad(loss)(p) | {"b": 2.9 * p["b"] ** 2}
    whole = [jc.check_grad(loss, params, grad) for grad in (right, wrong)]
    monkeypatch.setattr(blocks, "ONE_CALL", 0)
    parts = [jc.check_grad(loss, params, grad) for grad in (right, wrong)]
    for one, other in zip(whole, parts, strict=True):
        assert [(x.verdict, x.reason, x.probes) for x in one.leaves] == [
            (x.verdict, x.reason, x.probes) for x in other.leaves
        ]
        assert [x.floor for x in one.leaves] == pytest.approx([x.floor for x in other.leaves], rel=1e-6, nan_ok=True)
    assert [x.ok for x in parts] == [True, False]

    def stop(moment):
        if moment.doing == "rows":
            signal.raise_signal(signal.SIGINT)

    known = jc.check_grad(loss, params, wrong, progress=stop)
    assert all(x.reason is jc.Reason.INTERRUPTED and x.norm_manual > 0 for x in known.leaves)
    assert known.leaf("['w']" if known.leaves[0].path.startswith("[") else "w").difference_autodiff < 1e-9


@pytest.mark.parametrize("stage", [as_run, kinks])
def test_a_pass_waits_for_the_looks_that_it_depends_on(monkeypatch, stage):
    """The native run of every leaf; beside the kink, those on one."""

    def stop(*args):
        raise budget.Stopped

    monkeypatch.setattr(stage, "second_opinions", stop)
    params = {"a": jnp.asarray([0.0, 0.4]), "b": jnp.asarray([0.5, 0.7])}
    loss = lambda p: jnp.sum(jnp.maximum(p["a"], 0.0)) + jnp.sum(jnp.sin(p["b"]))  # noqa: E731
    grad = lambda p: {"a": jnp.where(p["a"] >= 0, 1.0, 0.0), "b": jnp.cos(p["b"])}  # noqa: E731
    report = jc.check_grad(loss, params, grad)
    reasons = {leaf.path: leaf.reason for leaf in report.leaves}
    assert report.reason is jc.Reason.INTERRUPTED and reasons["a"] is jc.Reason.INTERRUPTED
    assert reasons["b"] is (jc.Reason.INTERRUPTED if stage is as_run else jc.Reason.AGREE)


def test_in_a_run_of_pytest_ctrl_c_means_the_run():
    from types import SimpleNamespace

    from jaxcheck.pytest_plugin import _Run

    plugin = SimpleNamespace(made=[], test="t")
    report = dataclasses.replace(jc.check_grad(lambda x: x**2, 1.0), cost=Cost(stopped="user"))
    with pytest.raises(KeyboardInterrupt):
        _Run._heard(plugin, report)
    assert len(plugin.made) == 1


def test_a_compilation_is_foreseen_by_those_before_it():
    """Nobody can stop a compiler: one of twice the equations that one of 20 s had is not begun with 30 s left."""
    clock = budget.Budget(30)
    clock.compiled(20.0, 1000, small=True)
    assert clock.compilation(2000, small=True) == 40.0
    # Neither the other kind, nor what is smaller, nor what is larger by far.
    assert clock.compilation(2000) == clock.compilation(900, small=True) == clock.compilation(9000, small=True) == 0
    clock.compiled(10.0, 1000, small=True)
    assert clock.compilation(2000, small=True) == 20.0  # by the fastest: a guess must not cost a verdict


def test_a_program_that_would_take_too_long_to_compile_is_not_compiled(monkeypatch):
    monkeypatch.setattr(budget.Budget, "compilation", lambda self, equations, small: 1e3 if equations > 4 else 0.0)
    report = jc.check_grad(lambda w: jnp.sum(jnp.tanh(w) ** 3), np.linspace(0.123, 0.9, 7), budget=60)
    assert report.reason is jc.Reason.INTERRUPTED
    assert "what comes next takes about 1e+03 s" in str(report)


def test_the_clock_is_asked_while_directions_are_drawn():
    """A million directions of six parameters took a minute to draw, whatever the budget."""
    leaf = take_apart(np.linspace(0.1, 1, 6)).leaves[0]
    with budget.running(1e-6, None):
        time.sleep(1e-3)
        with pytest.raises(budget.Stopped):
            sketch.directions(leaf, np.linspace(0.1, 1, 6), 10**6, 0)
