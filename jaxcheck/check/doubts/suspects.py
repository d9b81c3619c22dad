"""Which components of a leaf are looked at one by one."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import FAR_BELOW, LEAST_COST, WORK
from jaxcheck.budget import current
from jaxcheck.check.settings import Case
from jaxcheck.evidence import gather, second_look
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.formula import norms_along
from jaxcheck.judgement import locate, measures
from jaxcheck.judgement.vote import Opinion
from jaxcheck.problem.scale import component_scale
from jaxcheck.result import Reason, Verdict

# Components of one leaf that get the full ladder when they are suspected.
FOLLOW_UP = 64
# The fewest where time is short, fewer where autodiff has named them, and the part of what is left of it that one look
# at components may take; of a minute, where there is no end to it.
FEWEST, NAMED, SHARE, MINUTE = 4, 1, 0.1, 60.0
# More than any leaf has that is looked at so.
MANY = 2.0**30
# By how much more than its own size a component moves where it moves the function too little: three rungs of a ladder.
# Where that is too little, too, by how much more again, up to the size of what is no number's own, 1: half a ladder.
FARTHER, FARTHEST = 64.0, 4096.0


def wide(ev: LeafEvidence, must_catch: float) -> np.ndarray:
    """(n,) components whose own bar is so wide that must_catch may be missed."""
    broad = np.zeros(ev.m.shape[1], bool)
    if all(p.directions is not None for p in ev.probes):
        return broad
    with np.errstate(all="ignore"):
        size = measures.reference(ev, ev.m, apart=False)
        narrow = np.zeros_like(broad)
        for p in ev.probes:
            if p.directions is None:
                sharp = (p.slopes.error <= FAR_BELOW * must_catch * size[:, p.indices].T).all(axis=1)
                narrow[p.indices] |= sharp
                broad[p.indices] |= ~sharp
    return broad & ~narrow & ev.m.any()


def farther(case: Case, number: int, ev: LeafEvidence, opinion: Opinion) -> tuple[LeafEvidence, Opinion]:
    """The evidence of a leaf that no autodiff speaks for, with what is seen too little moved by more than its own size
    as well: at a network's small initialisation a loss is nearly linear over many times that, and below it moves by its
    rounding; and what is all but zero has no size to speak of. It may tell more of what M says; a mistake is seen at
    the point, or not at all."""
    if not _agrees(opinion) or (ev.a is not None and np.isfinite(ev.a).all()):
        return ev, opinion
    scale, times, must_catch = component_scale(ev.values, gather.FLOOR), FARTHER, case.settings.must_catch
    while True:
        indices = np.flatnonzero(wide(ev, must_catch))[: min(FOLLOW_UP, _affordable(case))]
        blind = [p for p in ev.probes if p.directions is not None] if _blind(ev, must_catch) else []
        if not indices.size and not blind:
            return ev, opinion
        found, spent, compiled = second_look.follow_up(
            case.problem,
            case.point,
            number,
            indices,
            case.ladder,
            case.settings.seed,
            scale=_enlarged(scale[indices, None], times)[:, 0],
            again=[dataclasses.replace(p, directions=_enlarged(p.along, times)) for p in blind],
        )
        case.evaluations += spent
        case.compiled += compiled
        more = dataclasses.replace(ev, probes=measures.believed((*found[: 2 if blind else 1], *ev.probes)))
        second = case.judge(more)
        if _agrees(second):
            ev, opinion = more, second
        if scale.min() * times >= 1 / FARTHER:
            return ev, opinion
        times *= FARTHEST


def _agrees(opinion: Opinion) -> bool:
    return opinion.verdict is Verdict.PASS and opinion.reason is Reason.AGREE and not opinion.doubtful


def _blind(ev: LeafEvidence, must_catch: float) -> bool:
    """Whether the bars of a leaf's directions, of every one, are so wide that must_catch may be missed."""
    dense = [p for p in ev.probes if p.directions is not None]
    with np.errstate(all="ignore"):
        sizes = [norms_along(p.along, ev.m) for p in dense]
        return bool(dense) and all((p.slopes.error > must_catch * s).any() for p, s in zip(dense, sizes, strict=True))


def _enlarged(directions: np.ndarray, times: float) -> np.ndarray:
    """Directions (D, n) times a number, up to moves by 1, or by `FARTHER` times their own."""
    peak = np.abs(directions).max(axis=1, keepdims=True, initial=0.0)
    with np.errstate(all="ignore"):
        return directions * np.minimum(times, np.maximum(np.where(peak > 0, 1 / peak, 1.0), FARTHER))


def _affordable(case: Case, fewest: int = FEWEST) -> int:
    """How many components may be looked at one by one within a part of the time that is left: what tells whom to blame
    comes before where the mistake is. A power of two, so that it is the same whenever the loss takes about as long."""
    clock = current()
    each = clock.row_seconds * len(case.ladder.offsets)
    if not each > 0:
        return case.point.size
    return max(fewest, 1 << int(np.log2(np.clip(min(clock.left, MINUTE) * SHARE / each, 1, MANY))))


def suspects(case: Case, number: int, ev: LeafEvidence, opinion: Opinion) -> np.ndarray:
    """Components of a leaf to look at one by one, most suspicious first."""
    n = ev.m.shape[1]
    cheap = n * len(case.ladder.offsets) * max(case.problem.cost, LEAST_COST) <= 5 * WORK
    # With autodiff at hand a few witnesses suffice; without it more components must be looked at.
    known = ev.a is not None and np.isfinite(ev.a).all()
    # On kinks those that are not looked at are judged by the gradients of the adjacent pieces (`kinks`).
    cheap &= n <= FOLLOW_UP or not (known and any(p.slopes.kink.any() for p in ev.probes if p.directions is not None))
    limit = n if cheap and n <= 1024 else FOLLOW_UP if cheap or not known else FOLLOW_UP // 8
    limit = min(limit, _affordable(case, NAMED if known else FEWEST))
    if not known and limit < n and opinion.reason in (Reason.MANUAL_WRONG, Reason.NUMERIC_SUSPECT):
        found = case.wrong_components(number, ev)
        if found is not None:
            return found[:limit]
    suspect = locate.suspicion(ev, opinion).max(axis=0, initial=0.0)
    order = np.argsort(-suspect, kind="stable")[:limit]
    if limit < n and not suspect.any():
        rng = np.random.default_rng([case.settings.seed, n])
        return np.sort(rng.choice(n, limit, replace=False))
    return np.sort(order)
