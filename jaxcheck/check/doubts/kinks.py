"""Second opinions on leaves that passed only as subgradients: beside the kink, and along it."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import NUDGE, WORK
from jaxcheck.check.doubts import rounding
from jaxcheck.check.doubts.around import cancelled, excused_by_itself, scale_of
from jaxcheck.check.settings import Case
from jaxcheck.evidence import gather, ties
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.evidence.sides import Sides, sides
from jaxcheck.evidence.witnesses import measure
from jaxcheck.judgement.looks import round_off
from jaxcheck.judgement.measures import believed, is_another, unjudged
from jaxcheck.judgement.ties import Broken, broken
from jaxcheck.judgement.vote import Opinion, judge
from jaxcheck.result import Reason, Verdict

# Components on a kink that are looked at for ties, and as many pairs of them: what this work pays for, within limits.
FEWEST, MOST = 8, 64


def second_opinions(case: Case, directions, leaves: list[LeafEvidence], opinions: list[Opinion]) -> list[Opinion]:
    """Opinions after a look beside the kinks and along the ties; `leaves` is changed in place.

    On a kink a range of gradients is right; the ties are left alone where M is autodiff's own choice.
    """
    opinions = list(opinions)
    accused = [_accused(case, *pair) for pair in zip(leaves, opinions, strict=True)]
    if not any(accused):
        accused = cancelled(case, directions, leaves, opinions)
    pieces = _meeting(case, leaves, opinions, accused)
    if pieces is not None:
        _excused(case, pieces, leaves, opinions, accused)
    elif case.problem.host_manual is not None:
        excused_by_itself(case, directions, leaves, opinions)
    # Autodiff's own choice as well: a unit that is off at the point hides what is wrong of it where it is on.
    kinked = [k for k, ev in enumerate(leaves) if opinions[k].reason is Reason.KINK and not ev.is_autodiff]
    if kinked and case.problem.numbers is None:
        _beside(case, directions, leaves, opinions, kinked)
    doubted = [k for k, pair in enumerate(zip(leaves, opinions, strict=True)) if _doubted(*pair)]
    if doubted and not (pieces is not None and pieces.adjacent):
        _along(case, leaves, opinions, doubted)
    return opinions


def concerns(case: Case, ev: LeafEvidence, opinion: Opinion) -> bool:
    """Whether a leaf may be judged otherwise here, of what it is at the point."""
    return _doubted(ev, opinion) or _accused(case, ev, opinion)


def _meeting(case: Case, leaves, opinions, accused: list[bool]) -> Sides | None:
    """The gradients of the pieces that meet at the point, where autodiff gives them and there is rounding."""
    problem = case.problem
    known = all((ev.a is not None or ev.is_autodiff) and np.isfinite(ev.m).all() for ev in leaves)
    pairs = list(zip(leaves, opinions, strict=True))
    if not known or not (any(accused) or any(_doubted(*pair) for pair in pairs)):
        return None
    m, a, bars = (
        np.concatenate(x, axis=1)
        for x in zip(
            *(
                (
                    ev.m,
                    next(x for x in (ev.held, ev.a, ev.m) if x is not None),
                    round_off(ev, ev.m_error) + ev.m_given + (0.0 if ev.a is None else round_off(ev, ev.a_error)),
                )
                for ev in leaves
            ),
            strict=True,
        )
    )
    found, spent, compiled = sides(problem, case.point, m, a, bars, case.ladder, case.settings.seed)
    case.evaluations += spent
    case.compiled += compiled
    return found


def _accused(case: Case, ev: LeafEvidence, opinion: Opinion) -> bool:
    """Whether the pieces that meet at the point may say otherwise of a leaf: one that failed; or one of which the
    differences of single components may know too little to speak against autodiff. Not one that was found to hold a
    derivative back: what the pieces say holds it back as well."""
    if ev.held is not None:
        return False
    if opinion.verdict is Verdict.PASS and opinion.reason is Reason.KINK:
        return unjudged(ev) or (opinion.doubtful and _far_outside(ev))
    if opinion.reason is Reason.AUTODIFF_DIFFERS and ev.a is not None and np.isfinite(ev.a).all():
        return True
    if opinion.verdict is not Verdict.FAIL or not ev.leaf.size:
        return False
    if opinion.reason is Reason.NUMERIC_SUSPECT or any(p.slopes.kink.any() for p in ev.probes):
        return True
    if opinion.reason is not Reason.MANUAL_WRONG or ev.a is None or not np.isfinite(ev.a).all():
        return False
    # Where one component decides nothing alone, autodiff's choice looks as wrong as any other.
    autodiff = judge(ev, case.settings.tolerance, m=ev.a, must_catch=case.settings.must_catch)
    return autodiff.verdict is Verdict.FAIL


def _far_outside(ev: LeafEvidence) -> bool:
    """Whether the gradient of a component is further from its one-sided slopes than these are from each other."""
    for p in ev.probes:
        if p.directions is None:
            s, claim = p.slopes, p.project(ev.m)
            low, high = np.minimum(s.left, s.right), np.maximum(s.left, s.right)
            if (s.kink & (np.maximum(low - claim, claim - high) > high - low)).any():
                return True
    return False


def _excused(case: Case, found: Sides, leaves, opinions, accused: list[bool]) -> None:
    """Accused leaves judged once more, with the range that each of their components has."""
    for k in np.flatnonzero(accused):
        ev = leaves[k]
        where = slice(ev.leaf.start, ev.leaf.stop)
        low, high, kinked = found.low[:, where], found.high[:, where], found.kinked[:, where]
        if found.adjacent:
            # Of a piece as a whole, M is a subgradient in what stands on a kink, also where the few ways out of the
            # point show none of it: sorted, the middle of five that are tied is in the middle whichever way they go.
            tied = _tied(ev)
            low, high, kinked = (
                np.where(tied, np.fmin(low, ev.m), low),
                np.where(tied, np.fmax(high, ev.m), high),
                kinked | tied,
            )
        if kinked.any():
            leaves[k] = dataclasses.replace(ev, pieces=(low, high, kinked), alone=found.alone)
            opinions[k] = rounding.placed(case, leaves[k], case.judge(leaves[k]))


def _tied(ev: LeafEvidence) -> np.ndarray:
    """(G, n) the components that differences of their own find on a kink."""
    tied = np.zeros(ev.m.shape, bool)
    for p in ev.probes:
        if p.directions is None:
            tied[:, p.at] |= p.slopes.kink.T
    return tied


def _doubted(ev: LeafEvidence, opinion: Opinion) -> bool:
    if opinion.reason is not Reason.KINK or ev.is_autodiff:
        return False
    return ev.a is None or is_another(ev)


def _beside(case: Case, directions, leaves, opinions, doubted) -> None:
    """The same check a little off the kink, where only one gradient is right."""
    rng = np.random.default_rng([case.settings.seed, 13])
    scale = scale_of(leaves)
    off = NUDGE * scale * rng.choice([-1.0, 1.0], scale.size) * rng.uniform(0.5, 1.5, scale.size)
    both = []
    for point in (case.point + off, case.point - off):
        beside = gather.gather(case.problem, point, directions, case.ladder, case.settings.seed)
        case.evaluations += beside.evaluations
        case.compiled += beside.compiled
        both.append(beside.leaves)
    # A constant says what it says of this point alone.
    if all(np.array_equal(a.m, b.m) for there in both for a, b in zip(there, leaves, strict=True)):
        return
    for there in both:
        _judged_beside(case, there, leaves, opinions, doubted)


def _judged_beside(case: Case, beside, leaves, opinions, doubted) -> None:
    for k in doubted:
        if opinions[k].verdict is Verdict.FAIL:
            continue
        ev = dataclasses.replace(beside[k], probes=believed(beside[k].probes))
        second = case.judge(ev)
        if second.verdict is Verdict.FAIL and second.reason is Reason.MANUAL_WRONG:
            leaves[k] = ev
            opinions[k] = dataclasses.replace(
                second, note=f"seen beside the kink: the point was moved by about {NUDGE:g} of the parameters' size"
            )


def _along(case: Case, leaves, opinions, doubted) -> None:
    """Along the ties at the point; and, where other kinks may hide them, at one beside it that keeps the ties."""
    rng = np.random.default_rng([case.settings.seed, 17])
    places = _on_kinks(leaves, doubted)
    if len(places) < 2:
        return
    m, m_error = (
        np.concatenate(parts, axis=1)
        for parts in zip(*((ev.m, round_off(ev, ev.m_error) + ev.m_given) for ev in leaves), strict=True)
    )
    found = _broken_at(case, case.point, places, leaves, doubted, m, m_error, rng)
    where = ""
    if not found and case.problem.numbers is None:
        point = ties.beside(case.point, scale_of(leaves), NUDGE, rng)
        _, stack, _, compiled = measure(case.problem, point, np.zeros((1, point.size)), case.ladder, case.settings.seed)
        case.compiled += compiled
        if stack is not None and not np.array_equal(stack[0], m) and np.isfinite(stack[0]).all():
            found = _broken_at(case, point, places, leaves, doubted, stack[0], m_error, rng)
            where = f"seen beside the point, which was moved by about {NUDGE:g} of the parameters' size: "
    for k in doubted:
        mine = [b for b in found if any(leaves[k].leaf.start <= i < leaves[k].leaf.stop for i in b.members)]
        if mine:
            opinions[k] = _wrong(leaves, k, opinions[k], mine, where)


def _broken_at(case: Case, point, places, leaves, doubted, m, m_error, rng) -> list[Broken]:
    problem, seed = case.problem, case.settings.seed
    most = int(np.clip(WORK / (len(case.ladder.offsets) * problem.cost), FEWEST, MOST))
    places = places[:most]
    known = np.concatenate(
        [np.zeros(ev.m.shape[1], bool) if ev.pieces is None else ev.pieces[2].any(axis=0) for ev in leaves]
    )[places]
    kinked, spent, compiled = ties.single(problem, point, places, known, scale_of(leaves)[places], case.ladder, seed)
    case.evaluations += spent
    case.compiled += compiled
    mine = np.zeros(point.size, bool)
    for k in doubted:
        mine[leaves[k].leaf.start : leaves[k].leaf.stop] = True
    made, rows = ties.candidates(kinked, mine[kinked.places], most, rng)
    if not made:
        return []
    wide = ties.directions(kinked, rows, point.size)
    found, seen, spent, compiled = ties.look(problem, point, wide, case.ladder, seed)
    case.evaluations += spent
    case.compiled += compiled
    if seen is not None and seen.crossed[[tie.along for tie in made]].any():
        grazed, compiled = ties.grazed(problem, point, made, wide, case.ladder)
        case.compiled += compiled
        seen.crossed[: len(wide)] &= ~grazed
    return broken(made, wide, found, seen, kinked, m, m_error, case.settings.tolerance)


def _on_kinks(leaves, doubted) -> np.ndarray:
    """Places in theta of components that a difference found on a kink, those of doubted leaves first."""
    found = []
    for k in sorted(range(len(leaves)), key=lambda k: k not in doubted):
        for p in leaves[k].probes:
            if p.directions is None:
                found.append(leaves[k].leaf.start + p.at[p.slopes.kink.any(axis=1)])
        if leaves[k].pieces is not None:
            found.append(leaves[k].leaf.start + np.flatnonzero(leaves[k].pieces[2].any(axis=0)))
    _, first = np.unique(np.concatenate(found), return_index=True) if found else ((), np.zeros(0, int))
    return np.concatenate(found)[np.sort(first)][:MOST] if len(first) else np.zeros(0, int)


def _wrong(leaves, number: int, opinion: Opinion, found: list[Broken], where: str) -> Opinion:
    """The leaf is wrong along a tie: its components are within their one-sided slopes only one by one."""
    ev = leaves[number]
    residual = np.zeros(ev.m.shape)
    for b in found:
        inside = [i - ev.leaf.start for i in b.members if ev.leaf.start <= i < ev.leaf.stop]
        residual[:, inside] = (b.claimed - b.numeric) / len(b.members)
    worst = max(found, key=lambda b: abs(b.claimed - b.numeric))
    others = sorted(
        {e.leaf.path for e in leaves if e is not ev and any(e.leaf.start <= i < e.leaf.stop for i in worst.members)}
    )
    along = f"with {', '.join(f'`{path}`' for path in others)}" if others else "with one another"
    slopes = " to ".join(f"{x:.6g}" for x in worst.slopes)
    note = (
        f"{where}each component lies between its one-sided slopes, but moved along the kink {along} the function "
        f"has slope{'s' * (len(worst.slopes) - 1)} {slopes}, the gradient {worst.claimed:.6g}"
    )
    return dataclasses.replace(opinion, verdict=Verdict.FAIL, reason=Reason.MANUAL_WRONG, residual=residual, note=note)
