"""Around a point where kinks may cancel one another along every component: a layer at zero over symmetric data, say.
There the function has slopes on no kink, and M may be the gradient of one of its pieces all the same."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import BARS, LEAST_MOVE, NUDGE
from jaxcheck.check.settings import Case
from jaxcheck.evidence import gather, sketch
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.evidence.sides import AS_MUCH, autodiff_at
from jaxcheck.evidence.witnesses import on_host
from jaxcheck.judgement.measures import believed
from jaxcheck.judgement.vote import Opinion
from jaxcheck.result import Reason, Verdict
from jaxcheck.there import there

# Points around a kink at which M says what its pieces' gradients are. In some of them one leaf moves by up to a hundred
# times as much as another: where all units of a layer are decided at once, its bias alone switches them off.
AROUND, UNEVEN = 64, 2.0
# Elements computed below which running all differences once more takes less than compiling autodiff alone.
SMALL = 1e7


def cancelled(case: Case, directions, leaves, opinions) -> list[bool]:
    """Which leaves failed at a point where kinks may cancel one another along each component, as those of a layer at
    zero do over symmetric data: M may be the gradient of a piece all the same. Autodiff's gradient then changes as
    much as M differs from it when the point is moved a little, all leaves at once."""
    problem = case.problem
    failed = [one.reason is Reason.MANUAL_WRONG and ev.a is not None for ev, one in zip(leaves, opinions, strict=True)]
    if not any(failed) or problem.numbers is not None or gather.is_long(problem, AROUND * len(case.ladder.offsets)):
        return [False] * len(leaves)
    rng = np.random.default_rng([case.settings.seed, 23])
    way = NUDGE * scale_of(leaves) * rng.choice([-1.0, 1.0], case.point.size) * rng.uniform(0.5, 1.5, case.point.size)
    near = _autodiff_at(case, np.stack([case.point + way, case.point - way]), directions)
    changed = np.zeros(len(leaves), bool)
    for k, ev in enumerate(leaves):
        if failed[k] and ev.leaf.size:
            with np.errstate(all="ignore"):
                moved = np.abs(near[..., ev.leaf.start : ev.leaf.stop] - ev.a).max()
                changed[k] = moved >= AS_MUCH * np.abs(ev.m - ev.a).max()
    return list(changed)


def _autodiff_at(case: Case, points: np.ndarray, directions) -> np.ndarray:
    """Autodiff's gradients (K, G, P) at a few points: of a small problem with all that was measured at the first, which
    takes longer to run and needs no program of its own."""
    problem = case.problem
    sizes = [leaf.stop - leaf.start for leaf in problem.theta.leaves]
    rows = sum(sizes[k] if d is None else len(d) for k, d in directions.items())
    if rows * len(case.ladder.offsets) * problem.cost > SMALL:
        found, compiled = autodiff_at(problem, points)
        case.evaluations += len(points)
        case.compiled += compiled
        return found
    every = [gather.gather(problem, point, directions, case.ladder, case.settings.seed) for point in points]
    case.evaluations += sum(one.evaluations for one in every)
    case.compiled += sum(one.compiled for one in every)
    return np.stack([np.concatenate([there(ev.a) for ev in one.leaves], axis=1) for one in every])


def excused_by_itself(case: Case, directions, leaves, opinions) -> None:
    """Where nothing but M gives gradients: accused leaves judged once more with the range that M has on the pieces
    around the point. Many kinks may meet there, convex and concave ones, so that M lies between the pieces' gradients
    and yet outside the one-sided slopes of their sum. M is believed of its own pieces where it is right on the one that
    differs most from the point's; and of a component that is the same on all of them it says nothing."""
    accused = [
        k
        for k, (ev, one) in enumerate(zip(leaves, opinions, strict=True))
        if one.verdict is Verdict.FAIL and one.reason is Reason.MANUAL_WRONG and ev.a is None
    ]
    if not accused:
        return
    points = _around(case, leaves)
    around = on_host(there(case.problem.host_manual), points, ("gradient", case.problem.theta.values))
    case.evaluations += AROUND
    if not np.isfinite(around).all():
        return
    low, high = around.min(axis=0), around.max(axis=0)
    for k in accused:
        ev, where = leaves[k], slice(leaves[k].leaf.start, leaves[k].leaf.stop)
        kinked = _turning(ev, (high - low)[:, where])
        if not kinked.any():
            continue
        ranged = dataclasses.replace(ev, pieces=(low[:, where], high[:, where], kinked))
        second = case.judge(ranged)
        if second.verdict is Verdict.FAIL:
            continue
        other = points[int(np.argmax(np.linalg.norm(around[..., where] - ev.m, axis=(1, 2))))]
        if _judged_at(case, other, directions, k)[1].verdict is Verdict.PASS:
            leaves[k], opinions[k] = ranged, second


def _turning(ev: LeafEvidence, change: np.ndarray) -> np.ndarray:
    """Components (G, n) whose gradient turns at the point: by their one-sided slopes; or, where kinks cancel one
    another along the component, by the `change` (G, n) of M around it, which is as large as what M is off by."""
    out = np.zeros(ev.m.shape, bool)
    for p in ev.probes:
        if p.directions is None:
            found = p.slopes
            with np.errstate(all="ignore"):
                off = np.abs(found.value.T - ev.m[:, p.at])
                out[:, p.at] |= found.kink.T | ((off > BARS * found.error.T) & (change[:, p.at] >= AS_MUCH * off))
    return out & (change > 0)


def _around(case: Case, leaves) -> np.ndarray:
    """Points around the one that is checked, (AROUND, P)."""
    rng, scale = np.random.default_rng([case.settings.seed, 19]), scale_of(leaves)
    moves = rng.choice([-1.0, 1.0], (AROUND, scale.size)) * rng.uniform(0.5, 1.5, (AROUND, scale.size))
    sizes = 10 ** -rng.uniform(0, UNEVEN, (len(leaves), AROUND, 1))
    moves *= np.concatenate([np.tile(s, ev.m.shape[1]) for s, ev in zip(sizes, leaves, strict=True)], axis=1)
    return case.point + NUDGE * scale * moves


def _judged_at(case: Case, point: np.ndarray, directions, number: int) -> tuple[LeafEvidence, Opinion]:
    """A leaf at another point."""
    found = gather.gather(case.problem, point, directions, case.ladder, case.settings.seed)
    case.evaluations += found.evaluations
    case.compiled += found.compiled
    ev = dataclasses.replace(found.leaves[number], probes=believed(found.leaves[number].probes))
    return ev, case.judge(ev)


def scale_of(leaves) -> np.ndarray:
    return np.concatenate([sketch.own_scale(ev.values, LEAST_MOVE) for ev in leaves])
