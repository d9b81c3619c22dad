"""Kinds of mistake that concern a whole leaf, each from the evidence to a fitted statement or to nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from jaxcheck.bars import ADDED_UP, ENTRY, EXPLAINS, LEAVES, RATIO
from jaxcheck.formula import formula2, norm2
from jaxcheck.judgement.side_by_side import View, number
from jaxcheck.problem.beside import Beside


def ratio_of(m: np.ndarray, t: np.ndarray) -> float:
    """The factor that fits best."""
    peak = np.abs(t).max()
    return float(((m / peak) * (t / peak)).sum() / ((t / peak) ** 2).sum())


def zero(v: View) -> Iterator[str]:
    if not v.m.any():
        # On a kink it may be a choice.
        kinked = any(p.slopes.kink.any() for p in v.ev.probes)
        yield "the gradient is exactly zero" + ("" if kinked else " (stop_gradient, or never accumulated)")


def ratio(v: View) -> Iterator[str]:
    r = ratio_of(v.m, v.t)
    if v.is_(r * v.t):
        said = f"ratio {number(r)} on {v.entries(v.m, r * v.t)}"
        yield said + (meaning(r, v.beside) or _cut_to_norm(v, r))


def meaning(r: float, beside: Beside) -> str:
    """What a ratio may come from, or ""."""

    def near(x: float, close: float = RATIO) -> bool:
        return abs(abs(r) - x) <= close * abs(x)

    if near(1) and r < 0:
        return " (sign flipped)"
    minus = "-" if r < 0 else ""
    found = (f" (= {minus}{text}{said})" for text, value, close, said in _ratios(beside) if near(value, close))
    return next(found, "")


def _ratios(beside: Beside) -> Iterator[tuple[str, float, float, str]]:
    """(how a ratio is written, its size, how near it must be, what is said of it), the likelier first."""
    sizes = sorted({int(s) for s in beside.sizes if s > 2})
    for size in sizes:
        whose = f"the batch has size {size}" if size == beside.batch else f"a dimension here has size {size}"
        for text, value in ((f"{size}", size), (f"1/{size}", 1 / size)):
            yield text, value, RATIO, f", and {whose}: sum against mean?"
        if not float(size**0.5).is_integer():
            for text, value in ((f"sqrt({size})", size**0.5), (f"1/sqrt({size})", size**-0.5)):
                yield text, value, RATIO, f", and a dimension here has size {size}"
        for text, value in ((f"{size}/{size - 1}", size / (size - 1)), (f"{size - 1}/{size}", (size - 1) / size)):
            yield text, value, EXPLAINS, f", and {whose}: divided by n or by n - 1?"
    for a, b in itertools.combinations_with_replacement(sizes, 2):
        pairs = [(f"{a} x {b}", a * b), (f"1/({a} x {b})", 1 / (a * b))]
        pairs += [(f"{a}/{b}", a / b), (f"{b}/{a}", b / a)] if b % a else []  # a whole ratio needs no two of them
        for text, value in pairs:  # there are many of them, so nearer is asked for
            yield text, value, EXPLAINS, ", dimensions here: sum against mean?"


def _cut_to_norm(v: View, r: float) -> str:
    """Whether a leaf, or all of them alike, is scaled down to a round norm."""
    if not 0 < r < 1:
        return ""
    pairs = [(v.m, v.t), *((ev.m, t) for ev, t in v.others)]
    alike = [abs(ratio_of(m, t) - r) <= RATIO * r for m, t in pairs if np.any(t)]
    for what, which in (("its", pairs[:1]), ("the whole gradient's", pairs if all(alike) and len(alike) > 1 else [])):
        norm = float(np.sqrt(sum((m**2).sum() for m, _ in which)))
        if which and len(v.m) == 1 and _round(norm):
            return f" (that makes {what} norm {norm:.2g}: clipped?)"
    return ""


def _round(x: float) -> bool:
    """Whether a number has two digits at most."""
    return x > 0 and abs(x - float(f"{x:.1e}")) <= ENTRY * x


def of_complex(v: View) -> Iterator[str]:
    leaf = v.ev.leaf
    if not leaf.is_complex:
        return
    half = leaf.size
    m, t = (x[:, :half] + 1j * x[:, half:] for x in (v.m, v.t))
    turned = np.concatenate([v.t[:, :half], -v.t[:, half:]], axis=1)
    r = ratio_of(v.m, turned)
    if v.is_(turned):
        yield "conjugated: JAX's gradient of a complex parameter is dJ/dx - i dJ/dy (torch's is its conjugate)"
    elif v.is_(r * turned):
        yield f"conjugated, with a factor {number(r)} (JAX's gradient is dJ/dx - i dJ/dy)"
    elif v.is_(np.concatenate([v.t[:, :half], 0 * v.t[:, half:]], axis=1)):
        yield "the imaginary part is dropped"
    c = (np.conj(t) * m).sum() / (np.abs(t) ** 2).sum()
    if abs(c.imag) > RATIO * abs(c) and norm2(m - c * t) < v.close * 2 * norm2(m):
        # The real view is that of the conjugate of what the caller sees.
        real = f"{c.real:.4g} " if abs(c.real) > RATIO * abs(c) else ""
        yield f"times {real}{'-' if c.imag > 0 else '+' if real else ''}{abs(c.imag):.4g}i"


def turned(v: View) -> Iterator[str]:
    """Transposed, or its axes in another order."""
    leaf = v.ev.leaf
    if leaf.is_complex or len(leaf.shape) < 2 or sum(n > 1 for n in leaf.shape) < 2:
        return
    m, t = v.shaped(v.m), v.shaped(v.t)
    swapped = np.swapaxes(t, -1, -2)
    if min(leaf.shape[-2:]) > 1:
        for factor, said in ((1, ""), (-1, ", sign flipped")):
            if m.shape == swapped.shape and v.is_(factor * swapped.reshape(len(m), -1)):
                yield "transposed" + said
                return
        if v.is_(swapped.reshape(len(m), -1)):
            yield "transposed before the reshape"
            return
    if 2 < len(leaf.shape) <= MOST_AXES:
        for order in itertools.permutations(range(len(leaf.shape))):
            other = np.transpose(t, (0, *(i + 1 for i in order)))
            if order != tuple(range(len(order))) and v.is_(other.reshape(len(m), -1)):
                yield f"its axes in another order: {order}"
                return


# Entries of which two numbers may be fitted: with fewer they fit what is not so.
FITTED = 5
# Axes of a leaf that are permuted.
MOST_AXES = 5


def swapped(v: View) -> Iterator[str]:
    """Another leaf's gradient."""
    for other, theirs in v.others:
        if other.m.shape != v.m.shape:
            continue
        if other.leaf.shape == v.ev.leaf.shape and v.is_(theirs):
            back = formula2(other.m, v.t) < v.close
            yield f"this is the gradient of leaf `{other.leaf.path}`{' (swapped)' if back else ''}"
        elif other.leaf.shape == v.ev.leaf.shape[::-1] and len(v.ev.leaf.shape) == 2:
            if v.is_(np.swapaxes(theirs.reshape(-1, *other.leaf.shape), 1, 2).reshape(v.m.shape)):
                yield f"this is the gradient of leaf `{other.leaf.path}`, transposed (swapped)"


def proportional(v: View) -> Iterator[str]:
    """A term that is a multiple of the parameter, or of its sign, forgotten or added."""
    values = np.where(np.isfinite(v.ev.values), v.ev.values, 0.0)  # a mask of -inf has no part in a term
    if not values.any():
        return
    signs = np.sign(values)
    for what, term in (("parameter", values), *([("sign(parameter)", signs)] if np.ptp(signs) else [])):
        c = float((v.residual @ term).sum() / (term @ term) / len(v.residual))
        carried = np.abs(term) > EXPLAINS * np.abs(term).max()
        if carried.sum() < 2:  # one number is a multiple of any other
            continue
        if c and formula2(v.residual, np.broadcast_to(c * term, v.residual.shape)) < RATIO:
            kind = "missing" if c < 0 else "extra"
            where = v.entries(v.residual, c * term[None], np.abs(term)[None] > 0)
            yield f"{kind} term {number(abs(c))} x {what} on {where} (regularisation)"
            return
    if v.m.size > 2:
        yield from _both(v, values)


def _both(v: View, values: np.ndarray) -> Iterator[str]:
    """A factor and such a term together, or the parameter alone."""
    term = np.broadcast_to(values, v.t.shape)
    c = ratio_of(v.m, term)
    if v.is_(c * term):
        yield f"it is {number(c)} x parameter: nothing of the loss's own slope is in it"
        return
    if v.m.size < FITTED:
        return
    scale = np.abs(v.t).max(), np.abs(values).max()
    table = np.stack([v.t.ravel() / scale[0], term.ravel() / scale[1]], axis=1)
    found = np.linalg.lstsq(table, v.m.ravel(), rcond=None)[0]
    r, c = float(found[0] / scale[0]), float(found[1] / scale[1])
    if v.is_(r * v.t + c * term):
        # The term may be one of the truth's that the factor should not have touched.
        yield (
            f"ratio {number(r)}{meaning(r, v.beside)}, and {number(abs(c))} x parameter "
            f"{'too much' if c > 0 else 'too little'}"
        )


def elementwise(v: View) -> Iterator[str]:
    """A function of the right gradient, entry by entry."""
    if v.m.size < 2:
        return
    if np.ptp(np.sign(v.t)):
        r = ratio_of(v.m, np.sign(v.t))
        guesses = [
            ("its absolute value", np.abs(v.t)),
            (f"its sign alone, times {number(r)}", r * np.sign(v.t)),
            ("its square", v.t**2),
        ]
        for said, guess in guesses:
            if v.is_(guess):
                yield said
                return
    offset = float(v.residual.mean())
    if np.all(np.abs(v.residual - offset) <= RATIO * abs(offset)) and v.is_(v.t + offset):
        yield f"{number(offset)} is added to every entry"
    limit = float(np.abs(v.m).max())
    beyond = np.abs(v.t) > limit * (1 + ENTRY)
    if int(beyond.sum()) > 1 or (beyond.any() and _round(limit)):
        if v.is_(np.clip(v.t, -limit, limit)):
            yield f"clipped to +-{number(limit)}: {int(beyond.any(axis=0).sum())} of {v.ev.leaf.size} entries"


def rounded(v: View) -> Iterator[str]:
    """Numbers of a narrow dtype, near the truth: rounded, or added up in it."""
    off = formula2(v.m, v.t)
    if not 0 < off < LEAVES or v.m.size < 3:
        return
    wide = v.ev.leaf.dtype in ("float64", "complex128")
    for name in ("bfloat16", "float16", *(["float32"] if wide else [])):
        if off < ADDED_UP * _UNITS[name] and _holds(v.m, name) and not _holds(v.t, name):
            yield f"every entry is a number of {name}: it was rounded to it, or added up in it"
            return


_UNITS = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23}


def _holds(x: np.ndarray, dtype: str) -> bool:
    """Whether a dtype holds these numbers."""
    if dtype == "bfloat16":
        narrow = np.ascontiguousarray(x, np.float32)
        return bool((narrow == x).all()) and not (narrow.view(np.uint32) & 0xFFFF).any()
    with np.errstate(all="ignore"):
        return bool((x.astype(dtype).astype(np.float64) == x).all())
