"""The numbers of a leaf's judgement: norms, formula (2) against each witness, and the differences' bar."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxcheck.bars import ALIKE, BARS, CLOSER, CONFIRMED, GROWS, GROWS_FOR, NEXT_TO_NOTHING, ONLY_ROUNDING, ZERO
from jaxcheck.evidence.differences import Slopes
from jaxcheck.evidence.measured import LeafEvidence, Probes
from jaxcheck.formula import formula2, norm2, norms, norms_along
from jaxcheck.result import NAN


def own_size(ev: LeafEvidence, zero: str = "largest") -> np.ndarray:
    """(n,) how far each component moves when it moves by its own size; a zero, by that of a unit of the leaf."""
    return ev.own_sizes if zero == "largest" else ev.own_sizes_strict


def influences(ev: LeafEvidence, g: np.ndarray) -> np.ndarray:
    """(G, n) what each component does to the output when it moves by its own size, up to a factor.

    A zero shows no size of its own; it takes the smallest, so that it does not drown what is known.
    """
    return g * ev.once(_weights)


def _weights(ev: LeafEvidence) -> np.ndarray:
    size = own_size(ev, "smallest")
    largest = size.max(initial=0.0)
    return size / largest if largest > 0 else size


def reference(ev: LeafEvidence, g: np.ndarray, apart: bool = True) -> np.ndarray:
    """(G, n) what an error in each component is relative to: the leaf's norm, or, where that is less, the
    leaf's influence on the output over the component's own size.

    Components of one leaf may have mixed units: next to the derivative by something tiny, the derivative
    by something huge is nothing in the norm, and yet moves the output as much.

    Args:
        apart: weigh every component by its own size, and a zero as strictly as any; otherwise by the size of
            its unit, and a zero by nothing but the norm.
    """
    sizes = [own_size(ev, zero) for zero in ("smallest", "largest")] if apart else [ev.unit_sizes] * 2
    with np.errstate(all="ignore"):
        weighed = norms(g * sizes[0])[:, None] / sizes[1]
    return np.fmin(weighed, norms(g)[:, None])


def believed(probes: tuple[Probes, ...]) -> tuple[Probes, ...]:
    """The probes less those of single components that later ones, closer to the point, exclude.

    Where the two agree both stay: the later one may be too close to see anything. But differences on one side know
    nothing where others have room on both: between them may lie what a singularity at the edge does.
    """
    out: list[Probes] = []
    for fine in probes:
        if fine.directions is None:
            out = [without(coarse, _excluded(coarse, fine)) for coarse in out]
        out.append(fine)
    return tuple(_less_one_sided(p, out) for p in out if len(p.slopes.value))


def _less_one_sided(probes: Probes, others: list[Probes]) -> Probes:
    """The probes, unknown where they look at one side, and others of the same components look at both."""
    one, alone = probes.slopes.one_sided, probes.directions is None
    if not one.any():
        return probes
    moved: list[np.ndarray] = [np.zeros(0, int)]  # the components of which others look at both sides
    for p in others:
        both = ~p.slopes.one_sided.any(axis=1) & np.isfinite(p.slopes.error).all(axis=1)
        if (p.directions is None) is alone:
            moved.append(p.at[both] if alone else np.flatnonzero(p.along[both].any(axis=0)))
    if alone:
        gone = np.isin(probes.at, np.concatenate(moved))
    else:
        gone = ~np.any(np.delete(probes.along, np.concatenate(moved), axis=1), axis=1)
    gone = one & gone[:, None]
    value = np.where(gone, np.nan, probes.slopes.value)
    error, rough = (np.where(gone, np.inf, x) for x in (probes.slopes.error, probes.slopes.rough))
    return dataclasses.replace(probes, slopes=dataclasses.replace(probes.slopes, value=value, error=error, rough=rough))


def _excluded(coarse: Probes, fine: Probes) -> np.ndarray:
    if coarse.directions is not None:
        return np.zeros(0, int)
    both, here, there = np.intersect1d(coarse.at, fine.at, return_indices=True)
    a, b = coarse.slopes[here], fine.slopes[there]
    with np.errstate(all="ignore"):
        apart = np.abs(a.value - b.value) > BARS * (a.error + b.error)
        # What is decided away from the point is not decided at it, where the closer one looked at both sides and would
        # have seen it; and at a jump there is no slope, whatever it looks like from further away.
        sees = np.isfinite(b.value) & np.isfinite(b.left_error) & np.isfinite(b.right_error) & ~np.isnan(b.left)
        apart |= (a.jump & ~b.jump & sees) | (b.jump & ~a.jump)
        gap = np.abs(a.right - a.left)
        apart |= a.kink & ~b.kink & sees & (gap > BARS * (b.left_error + b.right_error))
        apart = apart.any(axis=1)
    return both[apart]


def without(probes: Probes, indices: np.ndarray) -> Probes:
    """The probes less those of the single components `indices`."""
    if probes.directions is not None:
        return probes
    keep = ~np.isin(probes.at, indices)
    seen = {
        name: None if x is None else x[keep]
        for name, x in (
            ("crossed", probes.crossed),
            ("analytic", probes.analytic),
            ("beyond", probes.beyond),
            ("smooth", probes.smooth),
        )
    }
    return Probes(probes.slopes[keep], indices=probes.at[keep], **seen)


def is_another(ev: LeafEvidence) -> bool:
    """Whether M is another gradient than autodiff's; on a kink, another choice."""
    if ev.a is None:
        return False
    return not np.allclose(ev.m, ev.a, rtol=ALIKE, atol=ZERO * np.abs(ev.m).max(initial=0.0))


def on_edge(probes: Probes) -> np.ndarray:
    """(D,) differences on the one side that is in the function's domain which settle nowhere, see `moves.drifts`."""
    return np.any(probes.slopes.one_sided & ~np.isfinite(probes.slopes.value), axis=1)


def on_one_side(ev: LeafEvidence) -> np.ndarray:
    """(n,) the components of which differences look at one side, and none at both."""
    one, both = np.zeros((2, ev.m.shape[1]), bool)
    for p in ev.probes:
        if p.directions is None:
            one[p.at] |= p.slopes.one_sided.any(axis=1)
            both[p.at] |= np.all(np.isfinite(p.slopes.error) & ~p.slopes.one_sided, axis=1)
    return one & ~both


def near_edge(ev: LeafEvidence) -> np.ndarray:
    """(n,) the components of which some difference would leave the function's domain on one side."""
    found = np.zeros(ev.m.shape[1], bool)
    for p in ev.probes:
        if p.directions is None and p.slopes.increments is not None:
            inside = np.all(np.isfinite(p.slopes.increments), axis=-1)
            found[p.at] |= np.any(inside.any(axis=-1) & ~inside.all(axis=-1), axis=1)
    return found


def excluded(coarse: tuple[Probes, ...], fine: Probes) -> bool:
    """Whether differences of single components closer to the point exclude those of other probes."""
    return any(_excluded(p, fine).size for p in coarse)


def by_column(a: np.ndarray, b: np.ndarray, error: np.ndarray | None = None) -> float:
    """Formula (2) of the column of (G, n) that is off most: each cotangent has its own scale. Not of one that is no
    larger than its `error`: of x|x| at 0 a difference knows no digit."""
    sizes = norms(a) + norms(b)
    told = ~(sizes <= ONLY_ROUNDING * np.max(sizes, initial=0.0))
    if error is not None:
        told &= ~(norms(error) >= sizes)
    if len(a) == 1 or not told.any():
        return formula2(a, b)
    return float(np.max([formula2(x, y) for x, y in zip(a[told], b[told], strict=True)]))


def unjudged(ev: LeafEvidence) -> bool:
    """Whether M is what autodiff says, and every direction along which the whole leaf was moved crosses a kink: of the
    components that are on none autodiff alone has spoken."""
    dense = [p for p in ev.probes if p.directions is not None]
    crossed = bool(dense) and all(bool(p.slopes.kink.all()) for p in dense)
    return crossed and (ev.is_autodiff or (ev.a is not None and not is_another(ev)))


def steep(ev: LeafEvidence) -> bool:
    """Whether M claims of some difference, which nothing else judges, more than it can judge (`Slopes.steepest`)."""
    if ev.a is not None or ev.is_autodiff:
        return False
    beyond = np.zeros(ev.m.shape, bool)
    judged = np.zeros(ev.m.shape, bool)
    with np.errstate(all="ignore"):
        for p in ev.probes:
            over = np.abs(p.project(ev.m)) > p.slopes.steepest
            if p.directions is not None:
                if over.any():
                    return True
                continue
            beyond[:, p.at] |= over.T
            judged[:, p.at] |= (~over & np.isfinite(p.slopes.value)).T
    return bool((beyond & ~judged).any())


def coarse(slopes: Slopes, claim: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Whether several successive larger steps confirm the claim although the smallest do not.

    That is how a function looks whose values are quantised inside (log(1 - a) with a rounded next to
    1): flat at the smallest steps, right at the larger ones. They must confirm it to `CONFIRMED`, and lie
    closer by `CLOSER` to the claim than the ladder's own estimate does.
    """
    off = np.abs(slopes.quotients - claim[..., None])
    near = (
        off
        <= np.minimum(CONFIRMED * np.abs(claim) + NEXT_TO_NOTHING * scale, CLOSER * np.abs(slopes.value - claim))[
            ..., None
        ]
    )
    if near.shape[-1] < 4:
        return np.zeros(claim.shape, bool)
    return np.any(near[..., :-3] & near[..., 1:-2] & near[..., 2:-1] & near[..., 3:], axis=-1)


def unbounded(slopes: Slopes) -> np.ndarray:
    """Whether the slope on a side, for all that the ladder shows, grows without end: of its smallest steps that tell
    more than noise, each changes the quotient the same way and by no less than the one before.

    Of a smooth function it changes by less each time, as the steps do; of a cube root at zero by more.
    """
    if slopes.steps is None or slopes.increments is None:
        return np.zeros(slopes.value.shape, bool)
    out = np.zeros(slopes.value.shape, bool)
    with np.errstate(all="ignore"):
        quotients = slopes.increments / slopes.steps[..., None, :]
        told = np.abs(slopes.increments) > BARS * slopes.noise[..., None, None]
        for at in np.argwhere(told.sum(axis=-1) > GROWS_FOR):
            *where, _ = at = tuple(at)
            change = np.diff(quotients[at][told[at]])[-GROWS_FOR:]
            same = (np.sign(change) == np.sign(change[0])).all() and change[0] != 0
            out[tuple(where)] |= same and bool((np.abs(change[1:]) > GROWS * np.abs(change[:-1])).all())
    return out


def numeric(ev: LeafEvidence) -> tuple[np.ndarray, np.ndarray]:
    """(N, its error bars), each (G, n), of the components that differences looked at alone; NaN for the others."""
    n, error = np.full(ev.m.shape, np.nan), np.full(ev.m.shape, np.nan)
    for p in ev.probes:
        if p.directions is None:
            keep = ~(error[:, p.at] < p.slopes.error.T)  # looked at twice: the narrower
            n[:, p.at] = np.where(keep, p.slopes.value.T, n[:, p.at])
            error[:, p.at] = np.where(keep, p.slopes.error.T, error[:, p.at])
    return n, error


def relative_numbers(ev: LeafEvidence, m: np.ndarray, a: np.ndarray | None) -> tuple[float, float, float, float]:
    """(difference to N, difference to A, relative error bar of N, norm of N)."""
    to_a = NAN if a is None else by_column(m, a)
    if any(p.directions is None for p in ev.probes):
        n, error = numeric(ev)
        if m.size and np.isfinite(n).all():
            both = norm2(m) + norm2(n)
            bar = float(norm2(error) / both) if both else NAN
            return by_column(m, n, error), to_a, bar, float(norm2(n))
    dense = [p for p in ev.probes if p.directions is not None]
    if not dense:
        return NAN, to_a, NAN, NAN
    probes = dense[0]
    s = probes.slopes
    # With v_i = +-s_i, E (v.r)^2 = sum (s_i r_i)^2: each direction estimates the scaled norms.
    projected, norm_m = probes.project(m), norms_along(probes.along, m)
    good = np.isfinite(s.value) & np.isfinite(s.error) & ~(np.abs(projected) > s.steepest)
    if not good.any():
        return NAN, to_a, NAN, NAN
    off, size, bar, norm_n = (np.zeros(len(m)) for _ in range(4))
    for k, known in enumerate(good.T):
        if known.any():
            norm_n[k] = _rms(s.value[known, k])
            off[k], bar[k] = _rms(projected[known, k] - s.value[known, k]), _rms(s.error[known, k])
            size[k] = _rms(norm_m[known, k]) + norm_n[k]
    told = size > ONLY_ROUNDING * size.max()
    if not told.any():
        return (0.0 if not off.any() else 1.0), to_a, NAN, 0.0
    k = int(np.argmax(np.where(told, off / np.where(told, size, 1.0), -1.0)))
    return float(off[k] / size[k]), to_a, float(bar[k] / size[k]), NAN


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def nearest(probes: Probes, claim: np.ndarray) -> np.ndarray:
    """(D, G) the slopes along directions; on a kink, of what lies between its one-sided slopes what is nearest to a
    claimed gradient (G, n): any of it is right."""
    s = probes.slopes
    between = np.clip(probes.project(claim), np.minimum(s.left, s.right), np.maximum(s.left, s.right))
    return np.where(s.kink, between, s.value)
