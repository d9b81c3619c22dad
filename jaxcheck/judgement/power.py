"""What a PASS would have caught: mutate the truth, judge again from the numbers at hand, no new evaluations.

The detection floor is the smallest mutation, relative to the leaf's norm, that turns the verdict to FAIL, up and
down: mutation testing of the check itself (DeMillo, Lipton & Sayward 1978, Computer 11(4):34). What stands for the
truth is autodiff where it is there, else M; and the floor is never below what M is seen to be off by, plus the bar of
that: an error of this size may have passed. A mutation is of one output alone, the one that shows it least: another,
of which more is known, would give it away.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxcheck.bars import BARS, COMPONENT, FAINT, OBVIOUS, SIZES
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.formula import norms
from jaxcheck.judgement.chance import from_differences, hidden
from jaxcheck.judgement.influence import reach
from jaxcheck.judgement.looks import look
from jaxcheck.judgement.measures import own_size, reference
from jaxcheck.judgement.vote import judge
from jaxcheck.options import Tolerance
from jaxcheck.result import NAN, Reason, Verdict
from jaxcheck.there import there

# Components beyond which floors beside autodiff are found on a sample: 80 judgements of 10^6 outlast the check itself.
MANY, SAMPLE = 16384, 4096
# The first of the sizes, among which one is caught if any is.
LARGE = 7
# A floor that is not known.
UNKNOWN = (NAN, NAN)


def floors(ev: LeafEvidence, tolerance: Tolerance, must_catch: float, influence: np.ndarray) -> tuple[float, float]:
    """(floor of the whole leaf, floor of one component), relative to the leaf's norm; inf when nothing is caught.

    A component of another unit than the leaf's largest is held to what it does to the output (`reference`).

    A leaf whose gradient is zero has no scale of its own; errors are then measured against `influence`, the largest
    influence of any leaf on the outputs (in units of the output, for a move by the leaf's own scale), and both are that
    floor. So are they in an output that the leaf does not move.

    Args:
        influence: (G,) per output, see `influence.influence`.
    """
    if without_scale(ev, influence):
        zero = _zero_floor(ev, tolerance, float(influence.max(initial=0.0)))
        return zero, zero

    whole_leaf, believed = ev, ev.a is not None and bool(np.isfinite(ev.a).all())
    if believed and ev.m.shape[1] > MANY:
        ev = _sample(ev, _hardest(ev, tolerance, _kinked(ev), _shown(ev, influence))[1])
    kinked = _kinked(ev)
    said = judge(ev, tolerance, must_catch=must_catch)
    believed &= said.reason is not Reason.AUTODIFF_DIFFERS
    # On a kink a range of gradients is right, and M's own choice stays.
    truth = np.where(kinked, ev.m, there(ev.a)) if believed else ev.m
    shown = _shown(ev, influence)
    column, (where, index) = _hardest_output(ev, believed, shown), _hardest(ev, tolerance, kinked, shown)
    counts_for = reference(ev, truth, apart=False)[where, index]

    def caught(mutant: Callable[[float], np.ndarray], size: float) -> bool:
        return all(
            judge(ev, tolerance, m=mutant(s), must_catch=must_catch).verdict is Verdict.FAIL for s in (size, -size)
        )

    def whole(size: float) -> np.ndarray:
        mutant = truth.copy()
        mutant[column] *= 1 + size
        return mutant

    def one(size: float) -> np.ndarray:
        mutant = truth.copy()
        mutant[where, index] += size * counts_for
        return mutant

    least = 2 * tolerance.between_programs(ev.sharp)  # formula (2) of an error is half of it
    guess = max(0, int(np.searchsorted(-np.array(SIZES), -least, side="right")) - 1)
    # A leaf of one number is that component.
    alone = truth.shape[1] == 1 and column == where and counts_for == abs(truth[column, 0])
    of_all = _smallest(lambda s: caught(whole, s), guess)
    of_one = of_all if alone else _smallest(lambda s: caught(one, s), guess)
    # What the differences say against M and autodiff, and were not believed in, may be wrong with both.
    off, single = _off(whole_leaf, believed and not said.outvoted, influence)
    return max(of_all, off, 0.0 if believed else hidden(ev, tolerance, shown)), max(of_one, single)


def as_stopped(ev: LeafEvidence, floor: tuple[float, float]) -> tuple[float, float]:
    """The floors of a leaf that is right where its loops rest: an error of the size by which the gradient, as it stops,
    is off from that has passed."""
    if ev.stopped is None:
        return floor
    with np.errstate(all="ignore"):
        off, norm = np.abs(ev.stopped - ev.m), norms(ev.m)
        whole, one = norms(off) / norm, (off / reference(ev, ev.m, apart=False)).max(axis=1, initial=0.0)
    return max(floor[0], float(np.nanmax(whole, initial=0.0))), max(floor[1], float(np.nanmax(one, initial=0.0)))


def without_scale(ev: LeafEvidence, influence: np.ndarray) -> bool:
    """Whether floors are relative to `influence`: a gradient that is zero has no scale of its own, nor has one that is
    nothing but its own round-off (a bias before batch norm)."""
    norm, faint = norms(ev.m), reach(ev).max(initial=0.0) <= FAINT * influence.max(initial=0.0)
    return bool(not (norm > 0).any() or (faint and not (norm > OBVIOUS * norms(ev.m_error) + norms(ev.m_given)).any()))


def _nothing(ev: LeafEvidence) -> np.ndarray:
    """(G,) the outputs of which the gradient is zero in the caller's own dtype, or next to it."""
    return norms(ev.m) <= ev.least / FAINT


def _shown(ev: LeafEvidence, influence: np.ndarray) -> np.ndarray:
    """(G,) the outputs that have a say of what would be caught: those that the leaf moves, unless it moves none."""
    moves = norms(ev.m) > 0
    moves = moves & ~_nothing(ev) if (moves & ~_nothing(ev)).any() else moves
    shown = moves & (reach(ev) > FAINT * influence)
    return shown if shown.any() else moves


def _off(ev: LeafEvidence, believed: bool, influence: np.ndarray) -> tuple[float, float]:
    """(the whole leaf, one component): what M is seen to be off by, from autodiff where that is `believed`, else from
    the differences, plus the bar of that."""
    norm = norms(ev.m)
    with np.errstate(all="ignore"):
        held = np.where(_kinked(ev), ev.m, there(ev.a)) if believed else ev.m
        off, bars = np.abs(ev.m - held), ev.m_error + ev.a_error if believed else ev.m_error
        seen = norms(off + bars) / norm
        single = ((off + bars) / reference(ev, held, apart=False)).max(axis=1, initial=0.0)
        # An output that the leaf does not move but for rounding: relative to that, everything would be large.
        still = ((norm <= BARS * norms(bars)) & (reach(ev) <= FAINT * influence)) | _nothing(ev)
        unseen = np.where(influence > 0, norms((off + bars) * own_size(ev)) / influence, 0.0)
        seen, single = np.where(still, unseen, seen), np.where(still, unseen, single)
        if not believed:
            whole, one = from_differences(ev, _kinked(ev))
            shown = _shown(ev, influence)
            seen, single = (np.where(shown, np.fmax(x, y), x) for x, y in ((seen, whole), (single, one)))
    return float(np.max(seen, initial=0.0)), float(np.max(single, initial=0.0))


def _sample(ev: LeafEvidence, hardest: int) -> LeafEvidence:
    """Some components in place of all, `hardest` among them, weighed so that every norm is about what it was; the
    differences are off from M by what they were. What autodiff would catch depends on nothing else."""
    n = ev.m.shape[1]
    kept = np.zeros(n, bool)
    kept[np.random.default_rng(n).choice(n, SAMPLE, replace=False)] = True
    kept[hardest] = True
    for p in ev.probes:
        if p.directions is None:
            kept[p.at] = True
    places = np.flatnonzero(kept)
    with np.errstate(all="ignore"):
        weight = norms(ev.m) / norms(ev.m[:, places])
    weight = np.where(np.isfinite(weight), weight, 1.0)[:, None]

    def some(x: np.ndarray | None) -> np.ndarray | None:
        return None if x is None else x[:, places] * weight

    less = dataclasses.replace(
        ev,
        values=ev.values[places],
        m=some(ev.m),
        m_error=some(ev.m_error),
        a=some(ev.a),
        a_error=some(ev.a_error),
        m_given=some(ev.m_given),
        stopped=some(ev.stopped),
    )
    probes = []
    for p in ev.probes:
        if p.directions is None:
            mine = dataclasses.replace(p, indices=np.searchsorted(places, p.at))
        else:
            mine = dataclasses.replace(p, directions=p.along[:, places])
        shift = mine.project(less.m) - p.project(ev.m)
        moved = {name: getattr(p.slopes, name) + shift for name in ("value", "left", "right")}
        moved["quotients"] = p.slopes.quotients + shift[..., None]
        probes.append(dataclasses.replace(mine, slopes=dataclasses.replace(p.slopes, **moved)))
    pieces = None if ev.pieces is None else tuple(x[:, places] if x.dtype == bool else some(x) for x in ev.pieces)
    return dataclasses.replace(less, probes=tuple(probes), pieces=pieces)


def _smallest(caught: Callable[[float], bool], guess: int) -> float:
    """Smallest size of a descending run of caught mutants (bisection; detection is monotone in size).

    Args:
        guess: the number of the size to begin at: that is it, most often, and the next one is not caught.
    """
    if caught(SIZES[guess]):
        low, high, step = guess, len(SIZES), 1
        while low + step < high and high == len(SIZES):
            low, high, step = (low + step, high, 2 * step) if caught(SIZES[low + step]) else (low, low + step, step)
    else:
        # The largest may be beyond what the differences can judge, see `Slopes.steepest`.
        low = next((i for i in range(LARGE) if caught(SIZES[i])), LARGE)
        if low == LARGE:
            return float("inf")
        high = guess if low < guess else len(SIZES)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if caught(SIZES[middle]) else (low, middle)
    return SIZES[low]


def _kinked(ev: LeafEvidence) -> np.ndarray:
    """(n,) the components that lie on a kink, as far as they were looked at alone."""
    found = np.zeros(ev.m.shape[1], bool)
    for probes in ev.probes:
        if probes.directions is None:
            found[probes.at] |= probes.slopes.kink.any(axis=1)
    return found


def _hardest_output(ev: LeafEvidence, believed: bool, shown: np.ndarray) -> int:
    """The output of those `shown` in which an error of the whole leaf is hardest to see."""
    seen = np.full(len(ev.m), np.inf)
    with np.errstate(all="ignore"):
        if believed:
            seen = norms(ev.m_error + there(ev.a_error)) / norms(ev.m)
        for p in ev.probes:
            claim, s = np.abs(p.project(ev.m)), p.slopes
            known = np.isfinite(s.error) & (claim > 0) & ~(claim > s.steepest)
            told = np.where(known, (BARS * s.error + np.abs(p.project(ev.m) - s.value)) / claim, np.inf)
            seen = np.fmin(seen, told.min(axis=0, initial=np.inf))
    return int(np.argmax(np.where(shown, np.where(np.isnan(seen), np.inf, seen), -1.0)))


def _hardest(ev: LeafEvidence, tolerance: Tolerance, kinked: np.ndarray, shown: np.ndarray) -> tuple[int, int]:
    """The output, of those `shown`, and the component whose error is hardest to see, relative to what it counts for in
    the leaf; off the kinks."""
    with np.errstate(all="ignore"):
        seen = np.full(ev.m.shape, np.inf)  # the least error that some witness sees, per component
        if ev.a is not None and np.isfinite(ev.a).all():
            # As `facts.find` asks of components: by part of their own size, which the largest hide most in.
            seen = COMPONENT * tolerance.between_programs(ev.sharp) * np.abs(ev.m) + ev.m_error + there(ev.a_error)
        for probes in ev.probes:
            # A direction that all move along is held to a part of what all do: one alone must stand out from that.
            one, off = look(ev, probes, ev.m, None, tolerance), np.abs(probes.project(ev.m) - probes.slopes.value)
            allowed = np.where(one.usable, np.where(probes.slopes.kink, 0.0, off) + one.slack, np.inf)
            if probes.directions is None:
                seen[:, probes.at] = np.minimum(seen[:, probes.at], allowed.T)
            elif ev.a is None:
                for direction, most in zip(probes.directions, allowed, strict=True):
                    seen = np.minimum(seen, most[:, None] / np.abs(direction))
        relative = seen / reference(ev, ev.m, apart=False)
        relative = np.where(np.isnan(relative), 0.0, np.where(kinked & ~kinked.all(), -1.0, relative))
    where, index = np.unravel_index(int(np.argmax(np.where(shown[:, None], relative, -2.0))), relative.shape)
    return int(where), int(index)


def _zero_floor(ev: LeafEvidence, tolerance: Tolerance, influence: float) -> float:
    """What a leaf without a gradient may do to the output unseen, over what the most influential leaf does."""
    if not influence:
        return float("inf")
    size, worst, choices = own_size(ev), 0.0, np.zeros(ev.m.shape[1])
    seen = np.full(size.shape, np.inf)
    for probes in ev.probes:
        s = probes.slopes
        # On a kink every choice between the slopes of its sides is right, of each component for itself.
        choice = np.where(s.kink, np.maximum(np.abs(s.left), np.abs(s.right)), 0.0).max(axis=1, initial=0.0)
        error = BARS * s.error.max(axis=1, initial=0.0)
        if probes.directions is None:
            choices[probes.at] = np.maximum(choices[probes.at], choice)
            seen[probes.at] = np.fmin(seen[probes.at], error * size[probes.at])
        else:
            worst = max(worst, float((error + choice).max(initial=0.0)))
    if any(p.directions is None for p in ev.probes):
        worst = float(seen.max(initial=0.0)) + float(np.sum(choices * size))
    worst += tolerance.atol * float(size.max(initial=0.0))
    worst += BARS * float((ev.m_error * size).max(initial=0.0))
    return worst / influence if np.isfinite(worst) else float("inf")


def unresolved(ev: LeafEvidence, must_catch: float) -> int:
    """Components that M says are zero, and autodiff does not, that do move the function: by so little that
    the differences cannot tell whether that is a slope. What does not move it at all, or by its rounding, is not among
    them."""
    if ev.is_autodiff or (ev.a is not None and np.isfinite(ev.a).all()):
        return 0
    with np.errstate(all="ignore"):
        told, moving = np.zeros(ev.m.shape, bool), np.zeros(ev.m.shape, bool)
        for probes in ev.probes:
            s = probes.slopes
            moved = s.span > 2 * ev.unit * s.size
            blind = moved & ~(BARS * s.error <= must_catch * s.reach) & ~s.wakes
            if probes.directions is None:
                told[:, probes.at] |= (~blind).T
                moving[:, probes.at] |= blind.T
            elif not ev.m.any():
                moving |= np.any(blind, axis=0)[:, None]
    return int(((ev.m == 0) & moving & ~told).any(axis=0).sum())
