"""What is said of one claim about a map, and where it is worst. Pure."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import ROUND_OFF
from jaxcheck.evidence.maps import MapEvidence
from jaxcheck.formula import norm2
from jaxcheck.result import NAN, Reason, Verdict


@dataclasses.dataclass(frozen=True)
class Finding:
    """One claim about one map. `what` is "JVP" or "VJP"; numbers are relative to the claim's size.

    `output` is the flat real output (JVP) that is off most; `claimed` and `reference` its values. `place` says
    in words where the worst is: the leaf of the results, and of the inputs where one was looked at alone.
    `left_out` says in words which outputs took no part, where some did not. `doubtful`: it is not plainly right, and
    is examined before anyone is blamed; `evaluations` and `compiled`: what that took. `poor` says in words what could
    not be judged although it took part, and `blind` is where: (D, m) of tangents, (G, P) of pull-backs.
    """

    what: str
    verdict: Verdict
    reason: Reason
    difference: float = NAN
    bar: float = NAN
    output: int = -1
    claimed: float = NAN
    reference: float = NAN
    note: str = ""
    place: str = ""
    left_out: str = ""
    doubtful: bool = False
    evaluations: int = 0
    compiled: int = 0
    poor: str = ""
    blind: np.ndarray | None = dataclasses.field(default=None, compare=False)


def value_of_forward(
    outputs: np.ndarray, value: np.ndarray, owner: np.ndarray, rtol: float, atol: float, what: str
) -> Finding | None:
    """What is wrong with the value of a rule's forward pass, (m,), of leaves `owner`; None where nothing is: a leaf
    may be off by `rtol` of its norm beside the rounding of each number."""
    said = "the forward pass of the rule gives another value than the function"
    if value.shape != outputs.shape:
        return Finding(what, Verdict.FAIL, Reason.LAW_BROKEN, note=f"{said}: {value.size} numbers for {outputs.size}")
    with np.errstate(all="ignore"):
        squares = np.bincount(owner, np.where(np.isfinite(outputs), outputs, 0.0) ** 2)
        slack = rtol * np.sqrt(squares)[owner] + ROUND_OFF * np.abs(outputs) + atol
        same = (value == outputs) | (np.isnan(value) & np.isnan(outputs))
        off = np.where(same, 0.0, np.abs(value - outputs))
        off = np.where(np.isnan(off), np.inf, off)
        if (same | (off <= slack)).all():
            return None
        worst = int(np.argmax(np.where(same, 0.0, off) / np.where(slack > 0, slack, 1.0)))
        mine = owner == owner[worst]
        size = norm2(value[mine]) + norm2(outputs[mine])
        difference = float(norm2((value - outputs)[mine]) / size) if size else NAN
    return Finding(
        what, Verdict.FAIL, Reason.LAW_BROKEN, difference, NAN, worst, float(value[worst]), float(outputs[worst]), said
    )


def at_worst(
    ev: MapEvidence, finding: Finding, claim: np.ndarray, reference: np.ndarray, off: np.ndarray, allowed: np.ndarray
) -> Finding:
    """The finding at the number that is off most. `off` (D, m) or (G, D) is how far each number is off."""
    what, rank = finding.what, off / np.where(allowed > 0, allowed, 1.0)
    rank = np.where(np.isfinite(rank), rank, np.inf)
    if what == "VJP":  # a cotangent of one leaf says more than one of them all
        single = np.array([len(np.unique(ev.results[g != 0])) == 1 for g in ev.cotangents])[:, None] & (rank > 1)
        rank = np.where(single, rank, 0.0) if single.any() else rank
    where = np.unravel_index(int(np.argmax(rank)), off.shape)
    # Relative to the leaf of the results, or to the cotangent, where it is worst: others have other scales.
    row = (where[0], ev.results == ev.results[where[1]] if what == "JVP" else slice(None))
    size = norm2(claim[row]) + norm2(reference[row])
    return dataclasses.replace(
        finding,
        difference=float(norm2(np.where(off > 0, claim - reference, 0.0)[row]) / size) if size else NAN,
        output=int(where[1]) if what == "JVP" else -1,
        claimed=float(claim[where]),
        reference=float(reference[where]),
        place=_place(ev, what, where),
    )


def _place(ev: MapEvidence, what: str, where) -> str:
    """The leaf of the results, and that of the inputs, where the worst pair looked at one alone."""
    direction = ev.directions[where[0] if what == "JVP" else where[1]]
    parts = []
    if len(np.unique(ev.results)) > 1:
        found = [ev.results[where[1]]] if what == "JVP" else np.unique(ev.results[ev.cotangents[where[0]] != 0])
        parts += [f"result {found[0]}"] if len(found) == 1 else []
    if len(np.unique(ev.inputs)) > 1:
        found = np.unique(ev.inputs[direction != 0])
        parts += [f"input leaf {found[0]}"] if len(found) == 1 else []
    return ", ".join(parts)
