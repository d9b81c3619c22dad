"""What the drop-in looks at where a rule is told what is not perturbed, or not used (`symbolic_zeros`): it may be right
when everything is, and wrong for one argument, or for one result."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from jaxcheck.check.doubts import again
from jaxcheck.check.laws.algebra import parts_of
from jaxcheck.check.settings import Settings
from jaxcheck.evidence import maps
from jaxcheck.judgement.findings import Finding
from jaxcheck.judgement.maps import judge
from jaxcheck.problem import alone, derivatives
from jaxcheck.problem.map import Map
from jaxcheck.problem.user import first_line
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.objective import Traced
from jaxcheck.result import Reason, Verdict
from jaxcheck.theta import Theta

NOT_TAKEN = "its derivative {words}, which the rule is told by symbolic zeros, could not be taken: {why}"


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """A part of a function's derivative: the `names` of the leaves that move, and what is wrong of it."""

    names: Sequence[str]
    one: Map
    evidence: maps.MapEvidence
    found: tuple[Finding, ...]


def looked_at(
    primal: Traced, point: Sequence[Any], modes: Sequence[str], names: Sequence[str], theta: Theta, settings: Settings
) -> tuple[list[Part], list[str]]:
    """(the parts, each held against differences of its own; a sentence for each that could not be taken)."""
    said, moved, made, missing = [], [], [], []
    for words, traced, leaves in _asked(primal, point, modes, names, theta):
        try:
            made.append(ask(derivatives.make, "", traced, [point[k] for k in leaves], modes))
        except Refused as no:
            missing.append(NOT_TAKEN.format(words=words, why=first_line(no.error)))
            continue
        said.append(words)
        moved.append([names[k] for k in leaves])
    parts, evidence = [], maps.measure(made, seed=0)[0] if made else []
    for words, mine, one, ev in zip(said, moved, made, evidence, strict=True):
        told = again.settled(one, ev, judge(ev, settings.tolerance, must_see=settings.must_catch), settings)
        wrong = tuple(_said(words, finding) for finding in told if finding.verdict is Verdict.FAIL)
        parts.append(Part(mine, one, ev, wrong))
    return parts, missing


def _asked(
    primal: Traced, point: Sequence[Any], modes: Sequence[str], names: Sequence[str], theta: Theta
) -> Iterator[tuple[str, Traced, Sequence[int]]]:
    """(words, the function, the leaves that move): cotangents that are symbolic zeros are those of reverse mode."""
    for part, words in _arguments(names, [leaf.path for leaf in theta.leaves]).items():
        yield words, alone.of_inputs(primal, point, part), part
    count = len(primal.closed.out_avals)
    for part in parts_of(count, True) if "rev" in modes else ():
        yield _of_results(part, count), alone.of_results(primal, point, part), range(len(point))


def _arguments(names: Sequence[str], paths: Sequence[str]) -> dict[tuple[int, ...], str]:
    """The leaves that move together, in words: those of an argument, as in `jax.grad`; one alone; all but one.

    Args:
        paths: of the leaves in the tuple of the arguments, `[0].a`, of which `names` name the first part.
    """
    count, heads = len(names), [path[: path.find("]") + 1] for path in paths]
    found: dict[tuple[int, ...], str] = {}
    whole = list(dict.fromkeys(heads))
    for (i,) in parts_of(len(whole), False):
        part = tuple(k for k, head in enumerate(heads) if head == whole[i])
        inside = paths[part[0]].removeprefix(whole[i])
        found[part] = f"with `{names[part[0]].removesuffix(inside)}` alone perturbed"
    for part in parts_of(count, True):
        (k,) = part if len(part) == 1 else set(range(count)) - set(part)
        found.setdefault(part, f"with `{names[k]}` {'alone' if len(part) == 1 else 'not'} perturbed")
    return found


def _of_results(part: tuple[int, ...], count: int) -> str:
    if len(part) == 1:
        return f"with result {part[0]} alone used"
    (k,) = set(range(count)) - set(part)
    return f"with result {k} not used"


def _said(words: str, finding: Finding) -> Finding:
    note = f"{words}, as symbolic zeros tell the rule"
    note = "; ".join(x for x in (note, finding.note) if x)
    return dataclasses.replace(finding, reason=Reason.LAW_BROKEN, note=note, place="")
