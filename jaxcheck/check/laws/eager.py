"""What a rule must keep beside its formula: structure, the function's value, repeatability, no memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.check.laws import state
from jaxcheck.check.laws.run import Job, run
from jaxcheck.check.laws.site import Arrays, Site, draw, finite, host, norm, unit_of, unsupported, worst
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.run.eagerly import as_it_is
from jaxcheck.result import Row

EPS = float(np.finfo(np.float64).eps)
# Ulps by which two formulas of one value may differ. In bfloat16 as many are half of the value: beyond a few, unless it
# is float64 already, it is looked at in float64.
FEW, MANY = 4.0, 64.0
# Part of itself to which a difference shrinks in float64 where it was rounding. A choice.
ROUNDS = 1e-4
# What JAX cannot do, or what a rule's author forbids; other TypeErrors and ValueErrors are the rule's mistakes.
_BLAMELESS = (
    "forward-mode",
    "reverse-mode differentiation does not work",
    "not implemented",
    "closed-over",
    "do not support jvp",
    "linearization failed",
)


def structure(site: Site) -> tuple[Row, bool]:
    """The row "structure", and whether the rule can be differentiated at all, in either mode."""
    avals: list[Any] = []

    def probe(*x: Any) -> None:
        out, pulled = jax.vjp(site.call, *x)
        avals.extend(map(jax.typeof, pulled([jnp.ones_like(o) for o in out])))

    title = "structure"
    try:
        ask(jax.eval_shape, probe, *site.live)
    except Refused as no:  # the rule may raise anything
        error, text = no.error, str(no.error)
        if isinstance(error, jax.errors.JAXTypeError):  # the rule needs concrete numbers; it is run eagerly
            return unsupported("law", title, error), True
        blameless = any(words in text.lower() for words in _BLAMELESS)
        if isinstance(error, (TypeError, ValueError)) and not blameless:
            detail = f"{_leaf(site, text)}{type(error).__name__}: {' '.join(text.split())[:400]}"
            return Row("law", title, "WRONG", float("nan"), detail), False
        return unsupported("law", title, error), _has_jvp(site)
    weak = []
    for path, x, a in zip(site.paths, site.live, avals, strict=True):
        if a.shape != x.shape or a.dtype != x.dtype:
            text = f"leaf `{path}`: cotangent {a.str_short()}, argument {jax.typeof(x).str_short()}"
            return Row("law", title, "WRONG", float("nan"), text), True
        if getattr(a, "weak_type", False) and not getattr(jax.typeof(x), "weak_type", False):
            weak.append(path)
    detail = f"weakly typed: {', '.join(f'`{p}`' for p in weak[:3])}" if weak else ""
    return Row("law", title, "OK", 0.0, detail), True


def _has_jvp(site: Site) -> bool:
    try:
        ask(jax.eval_shape, lambda *x: jax.jvp(site.call, x, x)[1], *site.live)
    except Refused:
        return False
    return True


def _leaf(site: Site, text: str) -> str:
    """The leaf, where a single one is left once the others are held fixed; JAX's text names it by a path if at all."""
    if len(site.live) == 1:
        return f"leaf `{site.paths[0]}`: "
    shapes = [str(tuple(x.shape)).strip("()") for x in site.live]
    hits = [p for p, s in zip(site.paths, shapes, strict=True) if s and f"[{s.rstrip(',').replace(' ', '')}]" in text]
    return f"leaf `{hits[0]}`: " if len(hits) == 1 else ""


def rows(site: Site, wide: Callable[[], Site], seed: int) -> list[Row]:
    """The rows "primal", "the same twice" and "no hidden state", run eagerly at the caller's dtypes."""
    x = site.live
    titles = ("the same twice", "no hidden state")
    try:
        # First: what it compiles, others need not.
        ran = as_it_is(lambda eager: _in_turn(site, seed, eager))
    except Refused as no:
        return [_primal(site, wide, seed), *(unsupported("law", t, no.error) for t in titles)]
    found = [_primal(site, wide, seed)]
    first, u1, again, second, u2, repeat, ua, ub = ran
    if not finite(u1):
        return [*found, *(unsupported("law", t, "the rule's result is not finite at this point") for t in titles)]
    unit = unit_of(*(v.dtype for v in x))
    d, bad = _compare([*again, *repeat], [*u1, *first], unit)
    text = _which(site, bad, "two calls differ")
    found.append(Row("law", titles[0], "OK" if bad < 0 else "WRONG", d, text))
    if not finite([*u2, *second]):  # the neighbour lies outside the domain: the point itself must do
        ub = u2
    d, bad = _compare([*ua, *ub], [*u1, *u2], unit)
    text = _which(site, bad % len(x) if bad >= 0 else bad, "fwd, fwd, bwd, bwd differs from fwd, bwd, fwd, bwd")
    found.append(Row("law", titles[1], "OK", d) if bad < 0 else Row("law", titles[1], "WRONG", d, text))
    if bad < 0:
        found[-1] = _remembered(site, seed, found[-1], (u1, u2))
    return found


def _in_turn(site: Site, seed: int, eager: Callable) -> list[Arrays]:
    """What two points give in turn, and then both forward passes before either's way back."""
    x, x2 = site.live, state.elsewhere(site.live)
    eager(jax.vjp, site.call, *x)  # a forward pass of which nobody asks the way back is none of the others' business
    first, pull1 = eager(jax.vjp, site.call, *x)
    g = draw(first, seed, "g1")
    u1, again = host(eager(pull1, g)), host(eager(pull1, g))
    second, pull2 = eager(jax.vjp, site.call, *x2)
    u2 = host(eager(pull2, g))
    repeat, pull_a = eager(jax.vjp, site.call, *x)
    # Before the first's backward: what a rule keeps aside is now the second's.
    _, pull_b = eager(jax.vjp, site.call, *x2)
    return [host(first), u1, again, host(second), u2, host(repeat), host(eager(pull_a, g)), host(eager(pull_b, g))]


def _remembered(site: Site, seed: int, row: Row, eager: Sequence[Any]) -> Row:
    """The row "no hidden state" after a look at other values and at another shape."""
    try:
        d, bad = state.of_values(site, seed, eager)
    except Refused:
        return row
    text = "at other values it is not what autodiff without the rule gives, as it was at the first: is a value kept?"
    if bad < 0:
        d, bad = state.of_shape(site, seed) or (0.0, -1)
        text = "after a call of another shape it is another one: is something of the last call kept?"
    return row if bad < 0 else Row("law", row.name, "WRONG", d, f"leaf `{site.paths[bad]}`: {text}")


def _which(site: Site, bad: int, text: str) -> str:
    if bad < 0:
        return ""
    return f"leaf `{site.paths[bad]}`: {text}" if bad < len(site.paths) else f"a result: {text}"


def _compare(found: Sequence[Any], wanted: Sequence[Any], unit: float, ulps: float = 16) -> tuple[float, int]:
    # Bitwise on CPU; a GPU may add in another order the second time.
    sizes = [max(norm(a), norm(b)) if finite([a, b]) else float("nan") for a, b in zip(found, wanted, strict=True)]
    pairs = [(a, b, s) for a, b, s in zip(found, wanted, sizes, strict=True)]
    same = [np.array_equal(a, b, equal_nan=True) for a, b, _ in pairs]
    found = [b if s else a for (a, b, _), s in zip(pairs, same, strict=True)]
    clean = [(np.zeros(1), np.zeros(1), 1.0) if s else (a, b, z)
             for a, (_, b, z), s in zip(found, pairs, same, strict=True)]  # fmt: skip
    return worst([a for a, _, _ in clean], [b for _, b, _ in clean], [ulps * unit * z for *_, z in clean],
                 [z for *_, z in clean])  # fmt: skip


def _primal(site: Site, wide: Callable[[], Site], seed: int) -> Row:
    """The forward of the rule gives the function's own value, in both modes, bitwise or to some ulps."""
    title = "primal"
    try:
        ulps, where, _ = _primal_gap(site, seed)
    except Refused as no:
        return unsupported("law", title, no.error)
    if np.isnan(ulps):
        return Row("law", title, "WRONG", ulps, f"{where}: not finite where the function is, or the reverse")
    unit = unit_of(*(v.dtype for v in site.live))
    good = Row("law", title, "OK", ulps * unit, "bitwise" if ulps == 0 else f"{where}: {ulps:.2g} ulp")
    if ulps <= (FEW if unit > EPS else MANY):
        return good
    try:  # two formulas of one value differ by rounding, which float64 makes small; two values do not
        with jax.enable_x64(True):
            ulps64, _, inside = _primal_gap(ask(wide), seed)
    except Refused:
        ulps64, inside = float("nan"), unit
    if unit > EPS and ulps64 * EPS <= ROUNDS * ulps * unit:
        return dataclasses.replace(good, detail=f"{good.detail}, by rounding ({ulps64:.2g} in float64)")
    if ulps <= MANY and not ulps64 * EPS > MANY * inside:
        return good
    return Row("law", title, "WRONG", ulps * unit, f"{where}: the rule's forward is {ulps:.3g} ulp off the function")


def _primal_gap(site: Site, seed: int) -> tuple[float, str, float]:
    """(the largest difference in ulps of a result's largest entry, NaN where only one is finite; where; the unit of the
    coarsest precision that takes part)."""
    x, t = list(site.live), draw(site.live, seed, "t1")
    # One program, not operations, each of which would be compiled by itself. What is run as it stands is the pull-back.
    jobs = {
        "own": lambda x, _: _comparable(site.full(*x)),
        "vjp": lambda x, _: _comparable(jax.vjp(site.full, *x)[0]),
        "jvp": lambda x, t: _comparable(jax.jvp(site.full, x, t)[0]),
    }
    answers = run({name: Job(fn, x, [t]) for name, fn in jobs.items()})
    # A custom_vjp has no forward mode; some rules have no reverse.
    ways = {name: a.rows[0] for name, a in answers.items() if name != "own" and a.error is None}
    failed = answers["own"].error or (None if ways else answers["vjp"].error)
    if failed is not None:
        raise Refused(failed)
    own = answers["own"].rows[0]
    kinds = [v.dtype for v in ask(jax.eval_shape, lambda *x: _comparable(site.full(*x)), *x)]
    gap, where = 0.0, "results"
    inside = max(a.unit for name, a in answers.items() if name == "own" or name in ways)
    for name, found in ways.items():
        for k, (a, b) in enumerate(zip(found, own, strict=True)):
            if a.shape == b.shape and np.array_equal(a, b, equal_nan=True):
                continue
            if not finite([a, b]):
                return float("nan"), f"result {k} by {name}", inside
            unit = unit_of(kinds[k])
            ulps = float(np.abs(a - b).max() / np.abs(b).max() / unit) if np.abs(b).max() > 0 else float("inf")
            if ulps > gap:
                gap, where = ulps, f"result {k} by {name}"
    return gap, where, inside


def _comparable(values: Sequence[Any]) -> list[Any]:
    """Results without keys and the like, which cannot be compared."""
    return [jnp.asarray(v) for v in values if not _is_extended(v)]


def _is_extended(value: Any) -> bool:
    return jax.dtypes.issubdtype(jax.dtypes.result_type(value), jax.dtypes.extended)
