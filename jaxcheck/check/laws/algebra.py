"""The laws that every custom rule obeys: exact up to rounding, no differences needed, blind to no kink.

The rules are run in float64 on promoted arguments where they allow it, else as they are. What concerns
Python (repeatability, hidden state, the forward's value) is run eagerly, at the caller's own dtypes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.check.laws import eager, linear
from jaxcheck.check.laws.adjoint import Adjoint
from jaxcheck.check.laws.rounding import with_rounding
from jaxcheck.check.laws.run import Answer, Job, Pulled, run
from jaxcheck.check.laws.site import (
    Site,
    build,
    finite,
    host,
    natural,
    norm,
    pull,
    push,
    some_inputs,
    some_outputs,
    unsupported,
    worst,
)
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.converge import is_decided_by, iterates
from jaxcheck.program.custom.census import sees_zeros
from jaxcheck.program.custom.strip import Which, strip_rules
from jaxcheck.result import Row

# A step and a relative difference by which a slope is recognised, in float64; its truncation is about the step squared.
APART, ROUGHLY = 1e-4, 1e-3
NOT_ITS_DERIVATIVE = "autodiff of the loop without its rule is not the slope of the loop's limit (a bisection?)"
# An error up to which a loop's other steps are believed to be all that is wrong: the default of must_catch.
STEPS = 1e-3
OTHER_STEPS = "a loop inside takes other steps for another cotangent, and has no limit to be run on to (an integrator?)"
# Leaves used alone, each a program of its own.
ALONE = 4


def laws(f: Callable, args: Sequence[Any], kwargs: dict | None = None, *, argnums: Any = (0,), seed: int = 0,
         which: Which = "user", wide: bool = True) -> tuple[Row, ...]:  # fmt: skip
    """Test the rules inside `f` at one point; one row per law, status OK, WRONG or UNSUPPORTED.

    Args:
        argnums: positional arguments to differentiate; their other leaves are carried along.
        which: the rules that the adjointness law does without (see `strip`).
        wide: whether `f` may be called in the 64-bit mode: not where it holds NumPy data that JAX keeps as float32.

    Returns:
        Rows of group "law". A rule that JAX cannot transpose has its reasons instead of results.

    Raises:
        ValueError: if an argnum is out of range or nothing is differentiable.
        Whatever `f` itself raises.
    """
    site, kwargs = build(f, args, kwargs or {}, argnums), kwargs or {}
    jax.eval_shape(site.call, *site.live)  # what f itself raises is not about its rules
    structure, usable = eager.structure(site)
    rows: list[Row] = []
    if usable:
        with np.errstate(all="ignore"):  # what is not finite is said in the rows
            rows = _exact(f, args, kwargs, argnums, seed, which, wide)
    rows.append(structure)
    if usable:
        with np.errstate(all="ignore"):
            rows += eager.rows(site, lambda: _wide(f, args, kwargs, argnums), seed)
    return tuple(rows)


def _wide(f: Callable, args: Sequence[Any], kwargs: dict, argnums: Any) -> Site:
    return build(f, args, kwargs, argnums, np.float64)


def _exact(f: Callable, args: Any, kwargs: dict, argnums: Any, seed: int, which: Which, wide: bool) -> list[Row]:
    try:
        if wide:
            with jax.enable_x64(True):
                point = _Point(_wide(f, args, kwargs, argnums), seed, which)
                if not point.outs or point.answers["pull"].error is None or point.answers["push"].error is None:
                    return point.rows()
    except Refused:  # a program written for one precision may fail in any way in another
        pass
    try:
        return _Point(build(f, args, kwargs, argnums), seed, which).rows()
    except Refused as no:
        return [unsupported("law", "linear in the cotangent", no.error)]


class _Point:
    """The evaluations at one point, in the precision of the site, all of them in one program."""

    def __init__(self, site: Site, seed: int, which: Which):
        self.site, self.seed = site, seed
        self.outs = ask(jax.eval_shape, site.call, *site.live)
        self.values = Pulled(site.call).values(site.live)
        self.stripped = strip_rules(site.call, which)
        # Each leaf at its own scale: what a small one does wrong must not drown in what a large one does right.
        self.g = linear.directions(self.outs, seed, "g", linear.weights(self.values, -1))
        self.t = linear.directions(site.live, seed, "t", linear.weights(site.live, 1))
        # What a rule may branch on are the symbolic zeros that some results and some arguments alone leave.
        zeros = sees_zeros(ask(jax.make_jaxpr(site.call), *site.live))
        self.used, self.moved = parts_of(len(self.outs), zeros), parts_of(len(site.live), zeros)
        for part in self.used:
            self.g[f"part {part}"] = [x if i in part else np.zeros_like(x) for i, x in enumerate(self.g["own"])]
        self.masks = [v for n, v in self.t.items() if n.startswith("only ")] or [self.t["own"]]
        self._jobs = {**self._main(), **self._alone()} if self.outs else {}
        self.answers = run(self._jobs)

    def _main(self) -> dict[str, Job]:
        x = self.site.live
        return {
            "pull": Job(pull(self.site.call), x, list(self.g.values())),
            "push": Job(push(self.site.call), x, list(self.t.values())),
            "plain": Job(push(self.stripped), x, self.masks),
        }

    def _alone(self) -> dict[str, Job]:
        """Some results used (the others' cotangents are symbolic zeros), some arguments perturbed."""
        x, call, jobs = list(self.site.live), self.site.call, {}
        for part in self.used:
            jobs[f"out {part}"] = Job(pull(some_outputs(call, part)), x, [[self.g["own"][k] for k in part]])
        for part in self.moved:
            jobs[f"in {part}"] = Job(some_inputs(call, part), x, [self.g["own"]])
        return jobs

    def rows(self) -> list[Row]:
        """The laws as the program runs; those that it breaks, at the limit of loops that stop at a tolerance: for
        another cotangent such a loop takes other steps, and its derivative as stopped is not the rule's."""
        found = self._rows()
        closed = [a.closed for a in self.answers.values() if a.closed is not None]
        if not any(r.status == "WRONG" for r in found):
            return found
        if not any(map(iterates, closed)):
            broken = self._asked(r.name for r in found if r.status == "WRONG")
            self.answers = with_rounding(broken, self.answers, self._compared())
            return [self._beside_autodiff(r) for r in self._rows()]
        self.answers = self.answers | run(self._asked(r.name for r in found if r.status == "WRONG"), at_limit=True)
        limit = {r.name: r for r in self._rows()}
        against = limit.get("adjointness")
        if against is not None and against.status == "WRONG" and not self._autodiff_holds():
            limit["adjointness"] = unsupported("law", "adjointness", NOT_ITS_DERIVATIVE)
            return [limit["adjointness"] if r.name == "adjointness" else r for r in found]
        return [self._at_limit(r, limit[r.name]) for r in found]

    def _compared(self) -> dict[str, list[int]]:
        """The rows whose rounding is in a bar, of jobs with many."""
        compared = ("g1", "own", *linear.OF_ONE_SIGN)
        return {
            job: [k for k, name in enumerate(rows) if name in compared or name.startswith("only ")]
            for job, rows in (("pull", self.g), ("push", self.t))
        }

    def _asked(self, broken: Iterable[str]) -> dict[str, Job]:
        """The evaluations that the broken laws are about."""
        said = " ".join(broken).replace("cotangent", "")
        words = {"push": ("tangent", "jvp"), "out": ("result used",), "in": ("argument perturbed",)}
        kinds = {kind for kind, some in words.items() if any(word in said for word in some)}
        return {n: job for n, job in self._jobs.items() if n.split()[0] in kinds or n.split()[0] not in words}

    def _beside_autodiff(self, row: Row) -> Row:
        """Adjointness to autodiff of the program without the rule says nothing where that is not its slope."""
        if row.name != "adjointness" or row.status != "WRONG" or self._autodiff_holds():
            return row
        return unsupported("law", "adjointness", NOT_ITS_DERIVATIVE)

    def _at_limit(self, stopped: Row, limit: Row) -> Row:
        if stopped.status != "WRONG":
            return stopped
        if limit.status == "OK":
            return dataclasses.replace(
                limit, detail=f"at the loop's limit; as stopped it is off by {stopped.difference:.1g}"
            )
        # An integrator of the adjoint takes steps by its cotangent, and has no limit that it could be run on to.
        pull = self.answers["pull"].closed
        cotangents = range(len(self.site.live), len(self.site.live) + len(self.outs))
        steps = pull is not None and is_decided_by(pull, cotangents)
        if steps and max(stopped.difference, limit.difference) <= STEPS:
            return unsupported("law", stopped.name, f"off by {stopped.difference:.1g}: {OTHER_STEPS}")
        return stopped

    def _autodiff_holds(self) -> bool:
        """Whether autodiff of the loops run on is the slope of their limit, roughly: a bisection's is 0, whatever the
        root does, for its brackets are made from constants alone."""
        plain = self.answers["plain"]
        if plain.error is not None:
            return True
        x, call = self.site.live, self.stripped
        job = Job(lambda p, t: [(b - a) / (2 * APART) for a, b in zip(
            *(call(*[v + (s * APART * d).astype(v.dtype) for v, d in zip(p, t, strict=True)]) for s in (-1, 1)),
            strict=True)], x, self.masks)  # fmt: skip
        found = run({"slope": job}, at_limit=True)["slope"]
        if found.error is not None:
            return True
        for a, b in zip(found.rows, plain.rows, strict=True):
            for slope, tangent in zip(a, b, strict=True):
                if norm(slope - tangent) > ROUGHLY * max(norm(slope), norm(tangent)):
                    return False
        return True

    def _rows(self) -> list[Row]:
        if not self.outs:
            return [unsupported("law", "linear in the cotangent", "the function has no differentiable result")]
        site, a = self.site, self.answers
        values, g, t = self.values, self.g, self.t
        found = linear.rows(a["pull"], tuple(g), site.paths, "cotangent",
                                 *(natural(values, site.live, g[n]) for n in ("g1", "own")))  # fmt: skip
        if a["push"].error is None:
            results = [f"result {k}" for k in range(len(self.outs))]
            sizes = (_tangent_sizes(values, site.live, t[n]) for n in ("g1", "own"))
            found += linear.rows(a["push"], tuple(t), results, "tangent", *sizes)
        used = ["own", *(n for n in g if n.startswith("only "))]
        pulled = _picked(a["pull"], g, used)
        adjoint = Adjoint(site, values, [g[n] for n in used], t["own"], pulled, self.masks, self.seed)
        found.append(adjoint.row("adjointness", a["plain"], self.stripped, is_rule=False))
        if a["push"].error is None:
            alone = [n for n in t if n.startswith("only ")] or ["own"]
            own = _picked(a["push"], t, alone)
            found.append(adjoint.row("adjointness of its own jvp", own, site.call, is_rule=True))
        return found + self._parts()

    def _parts(self) -> list[Row]:
        if (whole := self.answers["pull"]).error is not None:
            return []
        at, found = list(self.g), []
        every = whole.rows[at.index("own")]
        noise = [norm(x - y) for x, y in zip(whole.rows[at.index("own noise")], every, strict=True)]
        for kind, title, parts, count in (
            ("out", "one result used", self.used, len(self.outs)),
            ("in", "one argument perturbed", self.moved, len(every)),
        ):
            for part in parts:
                answer = self.answers[f"{kind} {part}"]
                if answer.error is not None:
                    found.append(unsupported("law", title, answer.error))
                    continue
                wanted = whole.rows[at.index(f"part {part}")] if kind == "out" else [every[k] for k in part]
                paths = self.site.paths if kind == "out" else [self.site.paths[k] for k in part]
                unit = max(answer.unit, whole.unit)
                sizes = [norm(x) for x in wanted]
                floor = 64 * unit * max(sizes, default=0.0) + 64 * max(noise, default=0.0)
                if whole.off and answer.off:
                    floor += max(whole.off[at.index("own")]) + max(answer.off[0])
                d, bad = worst(answer.rows[0], wanted, [256 * unit * s + floor for s in sizes], sizes)
                words = self._words(kind, part, count)
                text = "" if bad < 0 else f"leaf `{paths[bad]}`: {words} not its part of the whole"
                if bad >= 0 and not finite(wanted):
                    found.append(unsupported("law", title, "the rule's result is not finite at this point"))
                else:
                    found.append(Row("law", title, "OK" if bad < 0 else "WRONG", d, text))
        return _worst_each(found)

    def _words(self, kind: str, part: tuple[int, ...], count: int) -> str:
        alone = len(part) == 1
        k = part[0] if alone else next(i for i in range(count) if i not in part)
        what = f"result {k}" if kind == "out" else f"`{self.site.paths[k]}`"
        if alone:
            return f"with {what} alone"
        return f"with {what} not used" if kind == "out" else f"with {what} not perturbed"


def _picked(answer: Answer, asked: dict[str, Any], names: Sequence[str]) -> Answer:
    """The answer at some of the rows that were asked for."""
    at = [] if answer.error else list(asked)
    rows, off = ([every[at.index(n)] for n in names] if at and every else [] for every in (answer.rows, answer.off))
    return dataclasses.replace(answer, rows=rows, off=off)


def _tangent_sizes(values: Sequence[Any], x: Sequence[Any], t: Sequence[Any]) -> list[float]:
    """The size of a tangent by its units, |f| |t| / |x|."""
    moves = [norm(b) / norm(a) for a, b in zip(host(x), host(t), strict=True) if norm(a) > 0]
    return [norm(v) * sum(moves) if finite([v]) else 0.0 for v in host(values)]


def _worst_each(rows: list[Row]) -> list[Row]:
    order, best = ("OK", "UNSUPPORTED", "WRONG"), {}
    for row in rows:
        old = best.get(row.name)
        if old is None or (order.index(row.status), row.difference) > (order.index(old.status), old.difference):
            best[row.name] = row
    return list(best.values())


def _some(count: int) -> list[int]:
    return sorted({*range(min(count, ALONE - 1)), count - 1}) if count else []


def parts_of(count: int, zeros: bool) -> list[tuple[int, ...]]:
    """Single leaves of several, and where it matters all but one of them: some of each."""
    alone = [(k,) for k in _some(count)] if count > 1 else []
    return alone + [tuple(i for i in range(count) if i != k) for k in _some(count) if zeros and count > 2]
