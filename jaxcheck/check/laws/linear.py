"""Linearity of a rule: which (co)tangents to ask for, what must hold between the answers, and what is wrong if not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.check.laws.run import Answer
from jaxcheck.check.laws.site import Arrays, draw, finite, host, norm, unsupported, worst
from jaxcheck.program import interpret
from jaxcheck.program.custom.rules import is_inexact
from jaxcheck.result import Row

# Weights of two cotangents in their mix: no sum or difference of them is one of its parts.
A, B = -0.75, -1.5
# Groups of leaves that are used alone: one product over all would hide a small leaf.
GROUPS = 8
# One sample of the round-off may be zero by chance.
NOISE, NOISES = ("noise", "noise 2", "noise 3"), 64
OF_ONE_SIGN = ("abs", "-abs", "mixed", "mixed too", "ones", "ones mixed")
# A mean over 1e6 points hands a rule 1e-6, a sum of squares of large values 1e6 and more: limits lie anywhere.
SCALES = (1e-3, 1e3, -1.0, 1e6, 1e-6, 1e12, 1e-12)
# Beyond which a result, or what is on the way to it, leaves the range of float64.
LARGEST = 1e300
# The furthest from 1 that a dtype bears: what a rule computes on its way may leave the range of a narrow one.
BEARS = {"float16": 1e3, "complex64": 1e6, "float32": 1e6, "bfloat16": 1e6}
FURTHEST = max(SCALES)
# Stands for nothing in sums and quotients that must not be zero.
LEAST = 1e-300
# For the words of a nonlinearity that was found: two answers are one up to this part of them, and one that grows with
# its cotangent keeps at least that part of the growth. Choices; they decide nothing.
SAME, MOST = 1e-3, 0.9


def directions(like: Sequence[Any], seed: int, name: str, weights: Sequence[float]) -> dict[str, Arrays]:
    """The (co)tangents to evaluate a rule at. `noise` is g1 moved by its round-off: it shows the error bar.

    `own` is g1 with each leaf times its weight, `half` and `rest` are two parts of it, every other entry here
    and the others there, and `only k` those of its leaves, group by group: a rule may look for zeros. `abs`, `-abs`
    and `ones` (the cotangent of a plain sum) have one sign, each leaf at its weight; what is `mixed` gives them.
    """
    # On the host: by JAX, each of these operations would be a program to compile, for each shape.
    g1, g2 = (list(map(np.asarray, draw(like, seed, name + n))) for n in "12")
    own = [_times(w, x) for w, x in zip(weights, g1, strict=True)]
    half = [np.arange(x.size).reshape(x.shape) % 2 == 0 for x in own]
    rows = {
        "g1": g1,
        "g2": g2,
        "own": own,
        "own noise": _jitter(own, draw(like, seed, name + NOISE[0])),
        "half": [np.where(h, x, np.zeros_like(x)) for h, x in zip(half, own, strict=True)],
        "rest": [np.where(h, np.zeros_like(x), x) for h, x in zip(half, own, strict=True)],
        **(only(own) if len(own) > 1 else {}),
        "mix": [_times(A, x) + _times(B, y) for x, y in zip(g1, g2, strict=True)],
        "zero": [np.zeros_like(x) for x in g1],
        **{n: _jitter(g1, draw(like, seed, name + n)) for n in NOISE},
        **_of_one_sign(g1, weights),
    }
    far = min((BEARS.get(str(x.dtype), FURTHEST) for x in g1), default=1.0)
    return rows | {f"{c:g}": [_times(c, x) for x in g1] for c in SCALES if 1 / far <= abs(c) <= far}


def _of_one_sign(g: Sequence[Any], weights: Sequence[float]) -> dict[str, Arrays]:
    """`abs` is `mixed` + `mixed too`, and half of their difference is what `ones mixed` has more than `ones`."""
    size = [np.abs(x).astype(x.dtype) for x in g]
    flips = [(-1.0) ** (np.arange(x.size) + k).reshape(x.shape) for k, x in enumerate(g)]  # a scalar has one sign alone
    more = [(f * (1 + s)).astype(s.dtype) for f, s in zip(flips, size, strict=True)]
    found = {
        "abs": size,
        "-abs": [-s for s in size],
        "mixed": [_times(0.5, s) + m for s, m in zip(size, more, strict=True)],
        "mixed too": [_times(0.5, s) - m for s, m in zip(size, more, strict=True)],
        "ones": [np.ones_like(s) for s in size],
        "ones mixed": [np.ones_like(s) + m for s, m in zip(size, more, strict=True)],
    }
    return {n: [_times(w, x) for w, x in zip(weights, row, strict=True)] for n, row in found.items()}


def weights(values: Sequence[Any], power: int) -> list[float]:
    """The size of each leaf to the `power`, as powers of two; 1 where it has none, or there is one leaf alone."""
    found = []
    for x in host(values):
        size = norm(x) / np.sqrt(max(x.size, 1))
        known = np.isfinite(size) and size > 0 and len(values) > 1
        # Powers of two within float32's range round nothing.
        found.append(float(2.0 ** np.clip(power * np.round(np.log2(size)), -60, 60)) if known else 1.0)
    narrow = any(jax.dtypes.result_type(v) == jnp.float16 for v in values)
    return [1.0] * len(found) if narrow else found


def only(g: Sequence[Any]) -> dict[str, Arrays]:
    """`g`, a group of leaves at a time, the others zero."""
    count = min(GROUPS, len(g))
    return {f"only {m}": [x if i % count == m else np.zeros_like(x) for i, x in enumerate(g)] for m in range(count)}


def _jitter(g: Sequence[Any], moves: Sequence[Any]) -> Arrays:
    return [
        (x * (1 + 8 * np.asarray(jnp.finfo(x.dtype).eps, x.real.dtype) * np.real(np.asarray(m)))).astype(x.dtype)
        for x, m in zip(g, moves, strict=True)
    ]


def _times(c: float, x: Any) -> Any:
    return (x * np.asarray(c, x.real.dtype)).astype(x.dtype)


def rows(answer: Answer, names: Sequence[str], paths: Sequence[str], what: str,
         naturals: Sequence[float], naturals_own: Sequence[float]) -> list[Row]:  # fmt: skip
    """The rows "linear in the ...", "scale of the ...", "zero ..." and "additive ..." for the answers at `directions`.

    `naturals` are the sizes that results would have without cancellation, at g1 and at `own`; their rounding
    is in the bars.
    """
    titles = [f"linear in the {what}", f"scale of the {what}", f"zero {what}", f"additive in the {what}"]
    if answer.error is not None:
        return [unsupported("law", t, answer.error) for t in titles]
    u = dict(zip(names, answer.rows, strict=True))
    if not any(finite(u[k]) for k in ("g1", "g2", "abs", "-abs")):
        return [unsupported("law", t, "the rule's result is not finite at this point") for t in titles]
    symbol, unit = "U" if what == "cotangent" else "J", answer.unit
    mixed = [A * x + B * y for x, y in zip(u["g1"], u["g2"], strict=True)]
    noise = [max(norm(x - u[n][k]) for n in NOISE) for k, x in enumerate(u["g1"])]
    noise = [n + unit * s for n, s in zip(noise, naturals, strict=True)]
    own_noise = [norm(x - y) + unit * s for x, y, s in zip(u["own"], u["own noise"], naturals_own, strict=True)]
    sign_noise = own_noise
    if answer.off:
        off = dict(zip(names, answer.off, strict=True))
        noise = [n + o / NOISES for n, o in zip(noise, off["g1"], strict=True)]
        own_noise = [n + o / NOISES for n, o in zip(own_noise, off["own"], strict=True)]
        # Cotangents that are all the same may be the very ones of which nothing is left (softmax).
        largest = [max(each) for each in zip(*(off[n] for n in OF_ONE_SIGN), strict=True)]
        sign_noise = [n + o / NOISES for n, o in zip(sign_noise, largest, strict=True)]
    floor = 64 * unit * max(map(norm, u["g1"]), default=0.0)
    parts = [-A * norm(x) - B * norm(y) for x, y in zip(u["g1"], u["g2"], strict=True)]
    letter = "g" if what == "cotangent" else "t"
    said = _overflow(u, answer.closed, symbol, letter) or _name(u, floor, symbol, letter)
    linear = _row(titles[0], u["mix"], mixed, parts, noise, unit, paths, said)
    scale = _scale_row(titles[1], u, noise, unit, paths, said)
    added = _added_row(titles[3], u, own_noise, unit, paths, f"{symbol}({letter})")
    if linear.status == "OK":
        linear = _one_sign_row(linear, u, sign_noise, unit, paths, symbol, letter)
    return [linear, scale, _zero_row(titles[2], u["zero"], paths, symbol), added]


def _added_row(title: str, u: dict[str, Any], noise: Any, unit: float, paths: Any, symbol: str) -> Row:
    """What the whole gives is the sum of what its parts give: entries by halves, and leaf by leaf."""
    found = []
    groups = tuple(n for n in u if n.startswith("only "))
    for names, words in ((("half", "rest"), "two halves of the entries"), (groups, "its leaves one by one")):
        if len(names) > 1:
            terms = [[u[n][k] for n in names] for k in range(len(u["own"]))]
            sums = [np.sum(t, axis=0) for t in terms]
            sizes = [sum(map(norm, t)) for t in terms]
            said = f"{symbol} is not the sum of what {words} give: a branch on a zero?"
            found.append(_row(title, u["own"], sums, sizes, noise, unit, paths, said))
    wrong = [r for r in found if r.status == "WRONG"]
    return max(wrong or found, key=lambda r: r.difference)


def _one_sign_row(good: Row, u: dict[str, Any], noise: Any, unit: float, paths: Any, symbol: str, g: str) -> Row:
    """Of one sign or all the same, it is what those of mixed signs make of it."""
    both = list(zip(u["mixed"], u["mixed too"], u["ones mixed"], strict=True))
    size = [norm(x) + norm(y) for x, y, _ in both]
    for name, wanted, sizes, kind in (
        ("abs", [x + y for x, y, _ in both], size, f"{g} > 0"),
        ("-abs", [-x - y for x, y, _ in both], size, f"{g} < 0"),
        ("ones", [z - (x - y) / 2 for x, y, z in both], [s + norm(b[2]) for s, b in zip(size, both, strict=True)],
         f"{g} all the same"),
    ):  # fmt: skip
        said = f"{symbol}({g}) for {kind} is not what {g} of mixed signs make of it: a branch on signs or values?"
        row = _row(good.name, u[name], wanted, sizes, noise, unit, paths, said)
        if row.status == "WRONG":
            return row
    return good


def _row(title: str, found: Any, wanted: Any, parts: Any, noise: Any, unit: float, paths: Any, said: str) -> Row:
    bars = [256 * unit * p + NOISES * n + LEAST for p, n in zip(parts, noise, strict=True)]
    d, k = worst(found, wanted, bars, parts)
    if k < 0:
        return Row("law", title, "OK", d)
    return Row("law", title, "WRONG", d, f"leaf `{paths[k]}`: {said}" if k < len(paths) else said)


def _scale_row(title: str, u: dict[str, Any], noise: Any, unit: float, paths: Any, said: str) -> Row:
    found = []
    for c in SCALES:
        if f"{c:g}" in u:
            wanted = [c * x for x in u["g1"]]
            if any(np.abs(x).max(initial=0.0) > LARGEST for x in wanted):  # no rule can say it
                continue
            parts = [norm(x) for x in wanted]
            scaled = [abs(c) * n for n in noise]
            found.append(_row(title, u[f"{c:g}"], wanted, parts, scaled, unit, paths, said))
    wrong = [r for r in found if r.status == "WRONG"]
    return max(wrong, key=lambda r: r.difference) if wrong else max(found, key=lambda r: r.difference)


def _zero_row(title: str, zero: list[np.ndarray], paths: Sequence[str], symbol: str) -> Row:
    for k, x in enumerate(zero):
        if not (x == 0).all():
            name = f"leaf `{paths[k]}`: " if k < len(paths) else ""
            largest = float(np.abs(x).max())
            return Row("law", title, "WRONG", largest, f"{name}{symbol}(0) = {largest:.3g}, not 0: a constant term?")
    return Row("law", title, "OK", 0.0)


def _overflow(u: dict[str, Any], closed: Any, symbol: str, g: str) -> str:
    """What is said where all is finite but at large multiples of g, and the program holds a dtype with less room than
    its widest; else ""."""
    lost = {f"{c:g}": abs(c) for c in SCALES if f"{c:g}" in u and not finite(u[f"{c:g}"])}
    rest = all(finite(x) for k, x in u.items() if k not in lost)
    if closed is None or not lost or min(lost.values()) < 1 or not rest:
        return ""
    values = [v for eqn, _ in interpret.walk(closed) for v in eqn.outvars]
    dtypes = {v.aval.dtype for v in [*interpret.opened(closed).invars, *values] if is_inexact(v.aval)}
    room = {float(jnp.finfo(d).max): str(d) for d in dtypes}
    if len(room) < 2:
        return ""
    least = min(room)
    return (
        f"{symbol} is finite at {g} and not at {min(lost.values()):g} {g}: overflow of {room[least]}, which the rule "
        f"rounds to on its way (it ends at {least:.3g})"
    )


def _name(u: dict[str, Any], floor: float, symbol: str, g: str) -> str:
    """The nonlinearity, in the words that its evidence allows."""

    def near(a: str, b: str, c: float = 1.0) -> bool:
        gap = sum(norm(x - c * y) for x, y in zip(u[a], u[b], strict=True))
        return gap <= SAME * (size(a) + abs(c) * size(b)) / 2 + floor and size(a) > 0

    def size(a: str) -> float:
        return sum(map(norm, u[a]))

    tests: list[tuple[Callable[[], bool], str]] = [
        (lambda: not all(finite(x) for k, x in u.items() if k != "zero"),
         f"{symbol} is finite at some {g} and not at others (log({g}), sqrt({g}) or 1/{g}?)"),
        (lambda: near("zero", "g1") and size("zero") > 0, f"{symbol}(0) = {symbol}({g}): it does not depend on {g}"),
        (lambda: near("-1", "g1") and near("1000", "g1", 1e6),
         f"{symbol}(-{g}) = {symbol}({g}), {symbol}(1000 {g}) = 1e6 {symbol}({g}): even in the {_long(g)} ({g}**2?)"),
        (lambda: near("-1", "g1") and near("1000", "g1", 1e3),
         f"{symbol}(-{g}) = {symbol}({g}), {symbol}(1000 {g}) = 1000 {symbol}({g}): even in the {_long(g)} (|{g}|?)"),
        (lambda: near("-1", "g1"), f"{symbol}(-{g}) = {symbol}({g}): even in the {_long(g)} ({g}**2 or |{g}|?)"),
        (lambda: near("-1", "g1", -1) and near("1000", "g1") and near("0.001", "g1"),
         f"{symbol}(c {g}) = {symbol}({g}) for c > 0 (sign({g})? {g} normalised?)"),
        (lambda: near("1000", "g1") and size("-abs") <= floor,
         f"{symbol}(c {g}) = {symbol}({g}) for c > 0 and {symbol}(-|{g}|) = 0 (({g} > 0)?)"),
        (lambda: size("-abs") <= floor < size("abs"), f"{symbol}(-{g}) = 0 for {g} > 0 (relu({g})?)"),
        (lambda: size("abs") <= floor < size("-abs"), f"{symbol}({g}) = 0 for {g} > 0 (relu(-{g})?)"),
        (lambda: near("1000", "g1", 1e9), f"{symbol}(1000 {g}) = 1e9 {symbol}({g}) ({g}**3?)"),
        (lambda: size("1000") < MOST * 1000 * size("g1"),
         f"{symbol}(1000 {g}) = {size('1000') / max(size('g1'), LEAST):.3g} {symbol}({g}): saturates (clip({g})?)"),
        (lambda: size("1e+06") < MOST * 1000 * size("1000") or size("1e+12") < MOST * 10**6 * size("1e+06"),
         f"{symbol}(c {g}) is less than c {symbol}({g}) for large c: saturates (clip({g})?)"),
        (lambda: near("1000", "g1", 1e9), f"{symbol}(1000 {g}) = 1e9 {symbol}({g}) ({g}**3?)"),
        (lambda: 1000 * size("1e-06") < MOST * size("0.001") or 10**6 * size("1e-12") < MOST * size("1e-06"),
         f"{symbol}(c {g}) is less than c {symbol}({g}) for small c: flushed (where(|{g}| < ..., 0, {g})?)"),
    ]  # fmt: skip
    for holds, text in tests:
        try:
            if holds():
                return text
        except KeyError:  # a scale left out for float16
            continue
    return f"{symbol}(a {g}1 + b {g}2) is not a {symbol}({g}1) + b {symbol}({g}2)"


def _long(g: str) -> str:
    return "cotangent" if g == "g" else "tangent"
