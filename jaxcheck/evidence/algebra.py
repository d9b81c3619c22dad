"""The laws that every custom rule obeys: exact up to rounding, no differences needed, blind to no kink.

The rules are run in float64 on promoted arguments where they allow it, else as they are. What concerns
Python (repeatability, hidden state, the forward's value) is run eagerly, at the caller's own dtypes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.evidence import laws_eager, laws_linear
from jaxcheck.evidence.laws_adjoint import Adjoint, masks
from jaxcheck.evidence.laws_run import Job, run
from jaxcheck.evidence.laws_site import Site, build, finite, host, natural, norm, pull, push, unsupported, worst
from jaxcheck.program.strip import Which, strip_rules
from jaxcheck.result import Row

# Leaves used alone, each a program of its own.
ALONE = 4


def laws(f: Callable, args: Sequence[Any], kwargs: dict | None = None, *, argnums: Any = (0,), seed: int = 0,
         which: Which = "user") -> tuple[Row, ...]:  # fmt: skip
    """Test the rules inside `f` at one point; one row per law, status OK, WRONG or UNSUPPORTED.

    Args:
        argnums: positional arguments to differentiate; their other leaves are carried along.
        which: the rules that the adjointness law does without (see `strip`).

    Returns:
        Rows of group "law". A rule that JAX cannot transpose has its reasons instead of results.

    Raises:
        ValueError: if an argnum is out of range or nothing is differentiable.
        Whatever `f` itself raises.
    """
    site, kwargs = build(f, args, kwargs or {}, argnums), kwargs or {}
    jax.eval_shape(site.call, *site.live)  # what f itself raises is not about its rules
    structure, usable = laws_eager.structure(site)
    rows: list[Row] = []
    if usable:
        with np.errstate(all="ignore"):  # what is not finite is said in the rows
            rows = _exact(f, args, kwargs, argnums, seed, which)
    rows.append(structure)
    if usable:
        with np.errstate(all="ignore"):
            rows += laws_eager.rows(site, lambda: _wide(f, args, kwargs, argnums), seed)
    return tuple(rows)


def _wide(f: Callable, args: Sequence[Any], kwargs: dict, argnums: Any) -> Site:
    return build(f, args, kwargs, argnums, np.float64)


def _exact(f: Callable, args: Any, kwargs: dict, argnums: Any, seed: int, which: Which) -> list[Row]:
    try:
        with jax.enable_x64(True):
            point = _Point(_wide(f, args, kwargs, argnums), seed, which)
            if point.answers["pull"].error is None or point.answers["push"].error is None:
                return point.rows()
    except Exception:  # a program written for one precision may fail in any way in another
        pass
    return _Point(build(f, args, kwargs, argnums), seed, which).rows()


class _Point:
    """The evaluations at one point, in the precision of the site, all of them in one program."""

    def __init__(self, site: Site, seed: int, which: Which):
        self.site, self.seed = site, seed
        self.outs = jax.eval_shape(site.call, *site.live)
        self.stripped = strip_rules(site.call, which)
        self.g = laws_linear.directions(self.outs, seed, "g")
        self.t = laws_linear.directions(site.live, seed, "t")
        self.masks = masks(self.t["g1"])
        self.fixed_names = tuple(self.g)
        for k in _some(len(self.outs)):
            self.g[f"only {k}"] = [x if k == i else jnp.zeros_like(x) for i, x in enumerate(self.g["g1"])]
        self.answers = run({**self._main(), **self._alone()}) if self.outs else {}

    def _main(self) -> dict[str, Job]:
        x = self.site.live
        return {
            "pull": Job(pull(self.site.call), x, list(self.g.values())),
            "push": Job(push(self.site.call), x, [*self.t.values(), *self.masks]),
            "plain": Job(push(self.stripped), x, self.masks),
        }

    def _alone(self) -> dict[str, Job]:
        """One result used (the others' cotangents are symbolic zeros), one argument perturbed."""
        x, call, jobs = list(self.site.live), self.site.call, {}
        if len(self.outs) > 1:
            for k in _some(len(self.outs)):
                jobs[f"out {k}"] = Job(lambda p, g, k=k: pull(lambda *v: [call(*v)[k]])(p, g), x, [[self.g["g1"][k]]])
        if len(x) > 1:
            for k in _some(len(x)):
                jobs[f"in {k}"] = Job(_one_input(call, k), x, [self.g["g1"]])
        return jobs

    def rows(self) -> list[Row]:
        if not self.outs:
            return [unsupported("law", "linear in the cotangent", "the function has no differentiable result")]
        site, a = self.site, self.answers
        n = len(self.fixed_names)
        linear = a["pull"] if a["pull"].error else dataclasses.replace(a["pull"], rows=a["pull"].rows[:n])
        values = site.call(*site.live)
        found = laws_linear.rows(linear, self.fixed_names, site.paths, "cotangent",
                                 natural(values, site.live, self.g["g1"]))  # fmt: skip
        if a["push"].error is None:
            names = tuple(self.t)
            results = [f"result {k}" for k in range(len(self.outs))]
            tangents = dataclasses.replace(a["push"], rows=a["push"].rows[: len(names)])
            sizes = _tangent_sizes(values, site.live, self.t["g1"])
            found += laws_linear.rows(tangents, names, results, "tangent", sizes)
        adjoint = Adjoint(site, self.g["g1"], self.t["g1"], a["pull"], self.masks, self.seed)
        found.append(adjoint.row("adjointness", a["plain"], self.stripped, is_rule=False))
        if a["push"].error is None:
            own = dataclasses.replace(a["push"], rows=a["push"].rows[-len(self.masks) :])
            found.append(adjoint.row("adjointness of its own jvp", own, site.call, is_rule=True))
        return found + self._parts()

    def _parts(self) -> list[Row]:
        if (whole := self.answers["pull"]).error is not None:
            return []
        at = list(self.g)
        found = []
        for kind, title in (("out", "one result used"), ("in", "one argument perturbed")):
            for name in (n for n in self.answers if n.startswith(kind + " ")):
                k, answer = int(name.split()[1]), self.answers[name]
                if answer.error is not None:
                    found.append(unsupported("law", title, answer.error))
                    continue
                wanted = whole.rows[at.index(f"only {k}")] if kind == "out" else [whole.rows[0][k]]
                paths = self.site.paths if kind == "out" else [self.site.paths[k]]
                unit = max(answer.unit, whole.unit)
                sizes = [max(norm(x), norm(y)) for x, y in zip(wanted, whole.rows[0], strict=False)]
                noise = [norm(x - y) for x, y in zip(whole.rows[at.index("noise")], whole.rows[0], strict=True)]
                floor = 64 * unit * max(sizes, default=0.0) + 64 * max(noise, default=0.0)
                d, bad = worst(answer.rows[0], wanted, [256 * unit * s + floor for s in sizes], sizes)
                other = f"result {k} alone" if kind == "out" else f"`{self.site.paths[k]}` alone"
                text = "" if bad < 0 else f"leaf `{paths[bad]}`: with {other} not its part of the whole"
                if bad >= 0 and not finite(wanted):
                    found.append(unsupported("law", title, "the rule's result is not finite at this point"))
                else:
                    found.append(Row("law", title, "OK" if bad < 0 else "WRONG", d, text))
        return _worst_each(found)


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


def _one_input(call: Callable, k: int) -> Callable:
    def pulled(x: list[Any], g: list[Any]) -> list[Any]:
        return list(jax.vjp(lambda v: call(*x[:k], v, *x[k + 1 :]), x[k])[1](list(g)))

    return pulled
