"""The sentences of a report: the headline, who is blamed, what would have been caught, how it was done."""

from __future__ import annotations

import math

from jaxcheck.report import numbers
from jaxcheck.result import LeafResult, Reason, Report, Verdict

# Native precision is worth a line where it loses more than the single-precision noise every float32 net has.
_LOSS_WORTH_NAMING = 1e-4
_MOST_PRECISION_LINES = 5
# N and A agree on a component: within so many bars of N, or to this part of A where the bar is narrower.
_BARS, _CLOSE = 5.0, 1e-6

_BLAMED = {
    Reason.MANUAL_WRONG: "M, the gradient under test",
    Reason.STRUCTURE: "M, the gradient under test: its structure",
    Reason.AUTODIFF_DIFFERS: "A, autodiff of the plain program",
    Reason.NUMERIC_SUSPECT: "N, or what the program hides from autodiff; the numbers do not say which",
    Reason.PRECISION: "rounding, which is too coarse for a verdict",
    Reason.PRECISION_WRONG: "M, the gradient under test, as it is run in the caller's own dtypes",
    Reason.KINK: "the point, which is on a kink; not the gradient",
    Reason.JUMP: "the function, which jumps at this point",
    Reason.NOISE: "the function, which is noisy",
    Reason.DOMAIN: "the point, which is at the edge of the function's domain",
    Reason.IMPLICIT: "nobody: the differences cannot judge a sampler by rejection",
    Reason.NONFINITE: "a value that is not finite",
    Reason.NONDETERMINISTIC: "the function, or the gradient under test: one of them is random",
    Reason.SECOND_ORDER_WRONG: "the derivative of the rule",
    Reason.LAW_BROKEN: "the rule",
    Reason.TRANSFORM_WRONG: "the rule under a transformation or at another dtype",
}


_DROP_IN = ("check_grads", "check_jvp", "check_vjp")


def headline(report: Report) -> str:
    measured = [
        f"{numbers.small(difference)} to {witness}"
        for difference, witness in ((report.difference, "N"), (report.difference_autodiff, "A"))
        if not math.isnan(difference)
    ]
    at = f" at {report.point}" if report.point else ""
    tail = f"  difference {', '.join(measured)}{at}" if measured else ""
    return f"{report.verdict.value} {report.kind}({report.name}){tail}"


def blame(report: Report) -> list[str]:
    """One line per reason met among the leaves that are not in plain agreement, the report's own first."""
    by_reason: dict[Reason, list[LeafResult]] = {}
    if report.reason in _BLAMED:
        by_reason[report.reason] = []
    for leaf in report.leaves:
        # At a higher order what a leaf says is said of that order's derivative.
        higher = report.reason is Reason.SECOND_ORDER_WRONG and leaf.verdict is Verdict.FAIL
        reason = report.reason if higher else leaf.reason
        if reason in _BLAMED:
            by_reason.setdefault(reason, []).append(leaf)
    lines = []
    for reason, leaves in by_reason.items():
        at = f", at {numbers.names(leaf.path for leaf in leaves)}" if leaves else ""
        backed = reason is Reason.MANUAL_WRONG and leaves and _autodiff_sides_with_differences(leaves)
        lines.append(f"blamed: {_BLAMED[reason]}{at}{' (N and A agree with each other)' if backed else ''}")
    return lines


def _autodiff_sides_with_differences(leaves: list[LeafResult]) -> bool:
    """Whether N and A were seen to agree on every component that is blamed, within N's own bars."""
    listed = [component for leaf in leaves for component in leaf.worst]
    return all(leaf.worst for leaf in leaves) and all(
        abs(c.numeric - c.autodiff) <= _BARS * c.numeric_error + _CLOSE * abs(c.autodiff)
        and abs(c.numeric - c.autodiff) < 0.1 * abs(c.manual - c.autodiff)
        for c in listed
    )


def caught(report: Report) -> str:
    """What a PASS would have caught: the worst floor over the leaves, "" when no floor is known."""
    if report.verdict is not Verdict.PASS:
        return ""
    seen = [leaf for leaf in report.leaves if math.isfinite(leaf.floor)]
    parts = []
    for what, floors in (
        ("any leaf error", [leaf.floor for leaf in seen]),
        ("any single component", [leaf.floor_component for leaf in seen]),
    ):
        found = [floor for floor in floors if math.isfinite(floor)]
        if found and len(found) == len(numbers.known(floors)):  # one that is infinite is no bound at all
            parts.append(f"{what} above {numbers.small(max(found))}")
    if not parts:
        return ""
    unknown = [leaf.path for leaf in report.leaves if math.isnan(leaf.floor)]
    blind = [leaf.path for leaf in report.leaves if math.isinf(leaf.floor)]
    but = f"; not known for {numbers.names(unknown)}" if unknown else ""
    but += f"; nothing in {numbers.names(blind)}" if blind else ""
    kinked = [leaf.path for leaf in seen if leaf.reason is Reason.KINK]
    but += f"; not on the kinks of {numbers.names(kinked)}, where a range is right" if kinked else ""
    faint = [leaf.path for leaf in seen if leaf.faint]
    to = "what the other leaves do" if len(report.leaves) > len(faint) else "how steep the function is beside the point"
    zero = f"; for {numbers.names(faint)}, with next to no gradient, to {to}" if faint else ""
    at = f" at {report.point}" if report.point else ""
    return f"floor: would have caught {', '.join(parts)} (relative to the leaf's norm{zero}){at}{but}"


def precision(report: Report) -> list[str]:
    """The worst loss of the native dtype, if there is any, and every further leaf where it is worth naming."""
    measured = [leaf for leaf in report.leaves if leaf.precision and not math.isnan(leaf.precision)]
    measured.sort(key=lambda leaf: -leaf.precision)
    shown = [
        leaf
        for rank, leaf in enumerate(measured[:_MOST_PRECISION_LINES])
        if rank == 0 or leaf.precision > _LOSS_WORTH_NAMING
    ]
    lines = []
    for leaf in shown:
        right = "right, " if leaf.verdict is Verdict.PASS else ""
        lines.append(
            f"precision: leaf `{leaf.path}`: {right}native {leaf.native or leaf.dtype} "
            f"loses {numbers.small(leaf.precision)} of the gradient"
        )
    return lines


_LETTERS = {"manual": "M (manual)", "numeric": "N (numeric)", "autodiff": "A (autodiff)"}


def witnesses(report: Report) -> str:
    said = [
        f"{_LETTERS.get(witness.name, witness.name)} {witness.how}" + (f" ({witness.note})" if witness.note else "")
        for witness in report.witnesses
    ]
    return f"witnesses: {'; '.join(said)}" if said else ""


def textbook(report: Report) -> str:
    """The textbook's reading of the difference, and where it says less than the verdict, that it does."""
    # Its bands are for smooth points: on a kink a right gradient is far from the differences.
    if report.reason not in (Reason.AGREE, Reason.MANUAL_WRONG, Reason.NUMERIC_SUSPECT):
        return ""
    said = numbers.band(report.difference)
    if not said:
        return ""
    difference = numbers.small(report.difference)
    mistake = report.difference >= numbers.MISTAKE
    if mistake is (report.verdict is Verdict.FAIL) or report.verdict is Verdict.INCONCLUSIVE:
        return f"textbook: difference {difference} is {said}"
    if mistake:
        return f"textbook: difference {difference} is {said}, by that scale; it passes for what is said above"
    return f"textbook: difference {difference} is below 1e-3, so that scale alone does not see what failed here"


def cost(report: Report) -> str:
    """What was measured, planned and spent, as far as it is known."""
    took, parts = report.cost, []
    if not math.isnan(took.compiling):
        parts.append(f"compiling {took.compiling:.2g} s, running {took.running:.2g} s")
    if took.searching:
        parts.append(f"searching for the line {took.searching:.2g} s")
    if not math.isnan(took.evaluation):
        parts.append(f"{took.evaluation:.2g} s an evaluation")
    if not math.isnan(took.pair):
        parts.append(f"{took.pair:.2g} s a loss and gradient")
    if took.planned:
        parts.append(f"{numbers.count(took.planned, 'evaluation')} planned")
    if took.reused:
        parts.append(f"{took.reused:.2g} s of an earlier run's taken over")
    if took.peak:
        parts.append(f"at most {took.peak / 2**20:.3g} MiB in a program")
    return f"cost: {', '.join(parts)}" if parts else ""


def spent(report: Report) -> list[str]:
    """The seed, and what was spent as far as it is known."""
    said = [f"seed {report.seed}"]
    if report.evaluations:
        said.append(numbers.count(report.evaluations, "evaluation"))
    return said if math.isnan(report.seconds) else [*said, f"{report.seconds:.3g} s"]


def footer(report: Report) -> list[str]:
    """How it was done; at the end, where it disturbs nobody."""
    parameters = [numbers.count(report.theta_size, "parameter")] if report.leaves else []
    # A check that stopped before it chose anything has no mode to tell of.
    mode = f"mode: {report.mode} ({report.why_mode})" if report.why_mode else ""
    lines = (caught(report), *precision(report), textbook(report), witnesses(report), mode, cost(report))
    return [*(line for line in lines if line), "; ".join([*parameters, *spent(report)]), *again(report)]


def again(report: Report) -> list[str]:
    """What repeats a check that did not pass, as far as a report knows."""
    return [] if report.verdict is Verdict.PASS else [f"again: {line}" for line in repeats(report)]


def repeats(report: Report) -> list[str]:
    """The line that repeats a check; [] where none is known."""
    if report.made.again:
        return [report.made.again]
    if report.points:
        return []
    if not report.leaves:
        return []
    if report.kind in _DROP_IN:  # which has no seed to give
        return [f"jaxcheck.test_util.{report.kind}({report.name}, ...)"]
    return [f"jaxcheck.{report.kind}({report.name}, ..., seed={report.seed})"]
