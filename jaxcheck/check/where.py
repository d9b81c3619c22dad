"""After a FAIL of a hand-written gradient: the line of its backward pass that is wrong, where that can be proved."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxcheck.bars import MUST_CATCH, NEAR_LINE, TOO_DEAR
from jaxcheck.budget import current
from jaxcheck.formula import norm2
from jaxcheck.judgement.culprit import LEAST_RIGHT, Blame, Weighed, blame, only_value, price
from jaxcheck.problem.problem import Problem
from jaxcheck.program.abandoned import let_go, whole_tracebacks
from jaxcheck.program.where import differences, kernels, of_rules, slips, source, spoken, wording
from jaxcheck.program.where import problem as passes
from jaxcheck.program.where import smaller as small
from jaxcheck.program.where.alias import with_aliases
from jaxcheck.program.where.beyond import proves
from jaxcheck.program.where.made_for import with_makers
from jaxcheck.program.where.nonsense import NONSENSE, Late, Unflattened
from jaxcheck.program.where.search import Found, Search
from jaxcheck.program.where.shorter import in_full, shortened
from jaxcheck.program.where.two import of_one
from jaxcheck.records import Culprit
from jaxcheck.result import Reason, Report, Verdict
from jaxcheck.there import there

# Seconds that the search may take, and what of the budget that is left; of these, what hints may take, and what of that
# they may take where the search has left nothing.
SECONDS, PART, SLIPS, AFTER = 10.0, 0.5, 0.2, 0.5
UNFINISHED = (
    "the search for the line did not end within {:.2g} s: where={:.0f}, say, gives it more (as far as budget= does)"
)
# What is offered at least.
MORE = 60.0
UNSEEN = "The line was not looked for: JAX cannot trace the {} (Python's own, or NumPy's)"
# Leaves that are looked at alone where no one change makes all of them right.
TRIES = 3
# Whether a mistake of the search's own is raised, as the tests ask, and not taken for silence.
STRICT = False
# Prices that are one.
ONE_PRICE = 1e-9


def blamed(report: Report, problem: Problem, where: Any, *, rules: bool) -> Report:
    """The report with its culprits.

    Nobody is looked for but after a FAIL that blames the gradient, or its own derivative, and nobody is named where
    the search cannot see: code that is not JAX's own.

    Args:
        where: whether to look, or for how many seconds.
        rules: whether the custom rules inside are under test, rather than a whole backward pass.
    """
    wrong = tuple(leaf.path for leaf in report.leaves if leaf.verdict is Verdict.FAIL)
    if report.verdict is Verdict.FAIL and report.reason is Reason.SECOND_ORDER_WRONG and rules:
        wrong = ("second order",)
    elif report.verdict is not Verdict.FAIL or report.reason is not Reason.MANUAL_WRONG or not wrong:
        return report
    if problem.is_autodiff or not where:
        return report
    if problem.primal is None or problem.manual is None:
        return _unseen(report, problem)
    given = isinstance(where, (int, float, np.floating, np.integer)) and where not in (0, 1)
    seconds = min(float(where), current().left) if given else min(SECONDS, PART * current().left)
    if not seconds > 0:
        return report
    current().tell("the line")
    source.forget()
    start = time.perf_counter()
    end = start + seconds
    try:
        with np.errstate(all="ignore"), whole_tracebacks():  # a change that overflows repairs nothing
            for one in _problems(report, problem, rules, end):
                found = culprits(one, wrong)
                report = report if rules else _with_slips(report, one, end, SLIPS * seconds)
                if found:
                    return dataclasses.replace(report, culprits=found, notes=(*report.notes, *_at_what(one)))
    except Exception as error:
        let_go(error)
        # Whatever is met in a stranger's program, its verdict stands without a line.
        if STRICT and not isinstance(error, Unflattened):
            raise
        if not isinstance(error, Late):
            return report
    finally:
        current().search_seconds += time.perf_counter() - start
    return (
        report if time.perf_counter() < end else _with_note(report, UNFINISHED.format(seconds, max(MORE, 4 * seconds)))
    )


def _unseen(report: Report, problem: Problem) -> Report:
    if problem.numbers is not None:  # which come from no line
        return report
    return _with_note(report, UNSEEN.format("loss" if problem.primal is None else "gradient"))


def _with_note(report: Report, note: str) -> Report:
    return dataclasses.replace(report, notes=(*report.notes, note))


def _at_what(one: passes.Problem) -> list[str]:
    """At what sizes the line was looked for, where these are not the caller's."""
    cut = [f"{n} as {to}" for n, to in sorted(one.constants.cut.items())]
    return [f"The line was looked for in the same programs at small sizes: axes of {', '.join(cut)}."] if cut else []


def _with_slips(report: Report, one: passes.Problem, end: float, most: float) -> Report:
    """The report with a hint at the leaves that have none, where one slip in the loss's backward pass explains all.

    Args:
        end: of the search, by `time.perf_counter`; `most`: the seconds to take.
    """
    silent = [leaf.path for leaf in report.leaves if leaf.verdict is Verdict.FAIL and not leaf.hint]
    if not silent:
        return report
    tape, runs, seeds = one.loss
    given = [[run[o] for o in one.tape.outputs] for run in one.runs]
    now = time.perf_counter()
    deadline = now + min(most, max(end - now, AFTER * most))
    said = "; or ".join(slips.explain(tape, runs, seeds, len(given[0]), given, deadline))
    return dataclasses.replace(
        report,
        leaves=tuple(dataclasses.replace(leaf, hint=said) if leaf.path in silent else leaf for leaf in report.leaves),
    )


def _problems(report: Report, problem: Problem, rules: bool, deadline: float) -> Iterator[passes.Problem]:
    values = [kernels.held(x) for x in (*problem.theta.inexact(), *problem.extras)]
    if rules:
        yield from filter(differences.agree, of_rules.problems(problem.loss, values, deadline))
        return
    loss, manual = problem.loss.closed, there(problem.manual).closed
    count = len(problem.theta.leaves)
    if small.is_large(loss, manual):
        one = _cut_down(report, (loss, manual), values, count, deadline)
        if one is not None:
            yield one
            return
    one = _of_loss(loss, manual, values, count, deadline)
    if one is not None and _agrees(report, one):
        yield shortened(one, (loss, manual), values, count)


def _of_loss(
    loss: Any, manual: Any, values: list[np.ndarray], count: int, deadline: float, cut: Any = None
) -> passes.Problem | None:
    """The problem of a whole backward pass. Numbers that are handed over are others at the second point, if the pass is
    wrong alike there: what is taken for a constant may be one of them by chance."""
    numbers = [k for k in range(count, len(values)) if values[k].dtype.kind == "f" and not values[k].ndim]
    for moving in ([*range(count), *numbers], None) if numbers else (None,):
        one = passes.of_loss(loss, manual, values, count, [np.ones(1)], deadline, moving, cut=cut)
        if one is not None:
            return one
    return None


def _cut_down(
    report: Report, large: tuple[Any, Any], values: list[np.ndarray], count: int, deadline: float
) -> passes.Problem | None:
    """The first smaller problem of the same programs with the same leaves wrong, None where there is none."""
    for sizes in small.cuts(large, count):
        try:
            loss, manual = (small.resized(program, sizes) for program in large)
            given = [small.cut(x, sizes) for x in values]
            one = _of_loss(loss, manual, given, count, deadline, sizes)
        except (*NONSENSE, Unflattened) as error:  # at other sizes the program may be nonsense
            let_go(error)
            continue
        alike = one is not None and one.wrong() == [leaf.verdict is Verdict.FAIL for leaf in report.leaves]
        if alike and differences.agree(there(one)):
            return one
    return None


def _agrees(report: Report, one: passes.Problem) -> bool:
    """Whether the truth that the search goes by is that of the check: the same leaves are wrong, and the gradients
    are as long as the differences say."""
    wrong = one.wrong()
    for leaf, astray, target, size in zip(report.leaves, wrong, one.targets[0], one.scales[0], strict=True):
        if astray != (leaf.verdict is Verdict.FAIL):
            return False
        norm = float(norm2(target))
        known = leaf.norm_autodiff if np.isfinite(leaf.norm_autodiff) else leaf.norm_numeric
        # Of a gradient that is zero but for rounding, in what size rounding is of.
        if np.isfinite(known) and abs(known - norm) > MUST_CATCH * max(norm, known, size if norm < size else 0):
            return False
    return True


def culprits(one: passes.Problem, wrong: tuple[str, ...]) -> tuple[Culprit, ...]:
    """Whom a problem's own changes name; `wrong` are the leaves that are told."""
    found = _searched(one)
    if not found:
        return _in_turn(one, wrong)
    named = _named(one, found)
    return (
        () if named is None else tuple(_culprit(one, _plain(one, found, i), named.kind, wrong) for i in named.changes)
    )


def _named(one: passes.Problem, found: list[Found]) -> Blame | None:
    """Whom these changes name; nobody where it may be what cannot be seen into."""
    named = blame([Weighed(**f.fields) for f in found])
    return None if named is None or not all(proves(one, found[i].fields) for i in named.changes) else named


def _plain(one: passes.Problem, found: list[Found], i: int) -> Found:
    """Of the changes of one line that are as likely as this one, the first that can be written down. One of a decision
    that is not proved stands back behind what is almost as likely, and is."""
    this = found[i]
    those = [f for f in found if f.fields["where"] == this.fields["where"]]
    if this.fields["unproved"]:
        this = min((f for f in those if _is_near(f, this)), key=lambda f: f.price, default=this)
    alike = [f for f in those if abs(f.price - this.price) < ONE_PRICE and not f.fields["unproved"]]
    return next((f for f in (this, *alike) if wording.changed_line(one, f.edit)), this)


def _is_near(one: Found, other: Found) -> bool:
    told = not one.fields["unproved"] and not only_value(one.fields)
    return told and one.price < min(other.price + NEAR_LINE, TOO_DEAR)


def _searched(one: passes.Problem) -> list[Found]:
    asked = price, NEAR_LINE, TOO_DEAR, LEAST_RIGHT, only_value
    found = in_full(one, Search(one.short, *asked).go(), price) if one.short is not None else []
    return with_makers(one, with_aliases(one, found or Search(one, *asked).go(), price), NEAR_LINE)


def _culprit(one: passes.Problem, found: Found, kind: str, wrong: tuple[str, ...]) -> Culprit:
    edit = found.edit
    place, text, unproved = edit.site.place, source.text_of(edit.site.place), found.fields["unproved"]
    return Culprit(
        place.file,
        place.line,
        text,
        "" if unproved else wording.changed_line(one, edit),
        (spoken.undecided(one, edit) if unproved else spoken.in_words(one, edit))
        + ("" if text else f", in {spoken.equation(one, edit.site)}"),
        kind,
        wrong,
    )


def _in_turn(one: passes.Problem, wrong: tuple[str, ...]) -> tuple[Culprit, ...]:
    """Two mistakes, one after the other: first the line that makes some of the wrong leaves right, then the one that
    makes all the others right as well. Nobody is named where that is not so."""
    astray = [k for k, w in enumerate(one.wrong()) if w]
    if one.exchanged():
        return ()
    path = dict(zip(astray, wrong, strict=True)) if len(astray) == len(wrong) else dict.fromkeys(astray, wrong[0])
    for k in sorted(astray, key=one.depth)[:TRIES] if len(astray) > 1 else ():
        if one.late():
            return ()
        found = [(f, one.repaired(f.edit)) for f in _searched(one.only(k))]
        most = max((len(those) for _, those in found), default=0)
        found = [(f, those) for f, those in found if len(those) == most]
        named = _named(one, [f for f, _ in found])
        if found and (named is None or named.kind != "line"):
            return ()  # what is not clear where least can be wrong is made up for further on
        if named is None or not most < len(astray):
            continue
        first, those = found[named.changes[0]]
        after = one.after(first.edit)
        others = _searched(after)
        named = _named(after, others)
        if named is None or named.kind != "line" or of_one(one, first, others[named.changes[0]]):
            continue
        pairs = (
            (first, [n for n in astray if n in those]),
            (others[named.changes[0]], [n for n in astray if n not in those]),
        )
        return tuple(_culprit(one, f, "line", tuple(path[n] for n in which)) for f, which in pairs)
    return ()
