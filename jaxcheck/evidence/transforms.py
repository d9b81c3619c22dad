"""A rule under JAX's transformations: each must give what the rule gives eagerly.

The reference is the eager vjp at a few points, in float64 where the rule allows it: there a wrong
result cannot hide behind rounding, nor rounding look like one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.evidence import transforms_dtype
from jaxcheck.evidence.laws_site import (
    Site,
    build,
    draw,
    finite,
    host,
    natural,
    norm,
    pull,
    reason,
    unit_in,
    unit_of,
    unsupported,
    worst,
)  # fmt: skip
from jaxcheck.evidence.transforms_programs import SINGLE, TRANSFORMED
from jaxcheck.program.compile import Program, execute
from jaxcheck.program.interpret import walk
from jaxcheck.program.objective import NOT_TRACEABLE
from jaxcheck.result import Row

POINTS = 3  # not 2: a batch of two is broadcast by mistake more easily, and found less


def transformations(f: Callable, args: Sequence[Any], kwargs: dict | None = None, *, argnums: Any = (0,),
                    seed: int = 0) -> tuple[Row, ...]:  # fmt: skip
    """Test `f` with its rules under every transformation; status OK, WRONG or UNSUPPORTED.

    Returns:
        Rows of group "transformation". Where the eager gradient does not exist or is not finite, the
        others have nothing to be compared with and say so.

    Raises:
        ValueError: if an argnum is out of range or nothing is differentiable.
        Whatever `f` itself raises.
    """
    kwargs = kwargs or {}
    native = build(f, args, kwargs, argnums)
    jax.eval_shape(native.call, *native.live)
    with np.errstate(all="ignore"):  # what is not finite is said in the rows
        rows = _matrix(f, args, kwargs, argnums, seed)
        return (*rows, *transforms_dtype.rows(f, args, kwargs, argnums, seed))


def _matrix(f: Callable, args: Any, kwargs: dict, argnums: Any, seed: int) -> list[Row]:
    try:
        with jax.enable_x64(True):
            return Matrix(build(f, args, kwargs, argnums, np.float64), seed).rows()
    except Exception:  # written for one precision: then in that one
        pass
    try:
        return Matrix(build(f, args, kwargs, argnums), seed).rows()
    except Exception as error:
        return [unsupported("transformation", name, error) for name in ("eager", *TRANSFORMED, "sharded")]


class Matrix:
    """The eager reference of one site, and the transformed programs to compare with it."""

    def __init__(self, site: Site, seed: int):
        self.site = site
        self.x = [list(site.live)]
        for k in range(1, POINTS):
            self.x.append([jnp.asarray(v * (1 - k / 32), v.dtype) for v in site.live])
        outs = site.call(*site.live)
        if not outs:
            raise ValueError("the function has no differentiable result")
        self.g = [draw(outs, seed, f"row{k}") for k in range(POINTS)]
        self.t = draw(site.live, seed, "second")
        eager = pull(site.call)
        first = [host(eager(self.x[0], g)) for g in self.g]
        self.reference = [first[0], *(host(eager(x, g)) for x, g in zip(self.x[1:], self.g[1:], strict=True))]
        self.cotangents = first
        if not all(map(finite, self.reference)):  # the neighbours lie outside the domain
            self.x, self.reference = self.x[:1] * POINTS, first
        self.primals = [first[0], *(host(eager(x, self.g[0])) for x in self.x[1:])]
        unit = unit_of(*(v.dtype for v in site.live))
        moves = [jnp.sign(r.real) for r in draw(site.live, seed, "noise")]
        moved = [jnp.asarray(v * (1 + 8 * unit * m), v.dtype) for v, m in zip(site.live, moves, strict=True)]
        noise = [norm(a - b) for a, b in zip(host(eager(moved, self.g[0])), first[0], strict=True)]
        residue = natural(outs, site.live, self.g[0])
        self.noise = [n + unit * r for n, r in zip(noise, residue, strict=True)]

    def rows(self) -> list[Row]:
        if not finite(self.reference[0]):
            bad = next(p for p, u in zip(self.site.paths, self.reference[0], strict=True) if not finite([u]))
            why = "the eager gradient is not finite"
            nan = any(np.isnan(u).any() for u in self.reference[0])  # an infinite slope can be right
            status = "WRONG" if nan else "UNSUPPORTED"
            eager = Row("transformation", "eager", status, float("nan"), f"leaf `{bad}`: not finite")
            return [eager, *(unsupported("transformation", n, why) for n in (*TRANSFORMED, "sharded"))]
        programs, failures = {}, {}
        for name, transform in TRANSFORMED.items():
            try:
                traced = jax.make_jaxpr(lambda x, g, t, tr=transform: tr(self.site.call, x, g, t))(*self._data())
                programs[name] = Program(traced)
            except Exception as error:  # JAX's reason is the answer
                failures[name] = error
        results = self._run(programs)
        rows = [Row("transformation", "eager", "OK", 0.0)]
        for name in TRANSFORMED:
            found = failures.get(name, results.get(name))
            if _leaks(found):
                text = f"the rule has a side effect that eagerly goes unnoticed: {reason(found)}"
                rows.append(Row("transformation", name, "WRONG", float("nan"), text))
            elif isinstance(found, BaseException):
                rows.append(unsupported("transformation", name, found))
            else:
                rows.append(self._judge(name, found, programs[name].closed))
        return [*rows, self._sharded()]

    def _data(self) -> tuple[Any, Any, Any]:
        def stack(table):
            return [jnp.stack(column) for column in zip(*table, strict=True)]

        return stack(self.x), stack(self.g), self.t

    def _run(self, programs: dict[str, Program]) -> dict[str, Any]:
        data = jax.tree_util.tree_leaves(self._data())

        def whole(calls, *flat):
            return [call(*flat) for call in calls]

        def compiled(names: tuple[str, ...]) -> dict[str, Any]:
            chosen = [programs[n] for n in names]
            work = sum(p.cost for p in chosen)
            return dict(zip(names, execute(("matrix", len(names)), whole, chosen, *data, work=work)[0], strict=True))

        try:
            return {n: host(v) for n, v in compiled(tuple(programs)).items()}
        except Exception:
            results: dict[str, Any] = {}
            for name in programs:  # one by one, so that one failure is not everybody's
                try:
                    results[name] = host(compiled((name,))[name])
                except Exception as error:
                    results[name] = error
            return results

    def _judge(self, name: str, found: list[np.ndarray], closed: Any) -> Row:
        unit = unit_in(closed)
        wanted = {"vmap over cotangents": self.cotangents, "vmap over primals": self.primals}.get(name, self.reference)
        if name in SINGLE:
            wanted = [self.reference[0]]
        count = len(self.site.live)
        stacked = [np.stack([row[k] for row in wanted]) if name not in SINGLE else wanted[0][k] for k in range(count)]
        d, bad = self._differs(found[:count], stacked, unit)
        if name == "jit" and bad < 0:
            d, bad = self._differs(found[count:], stacked, unit)
        if bad >= 0:
            text = f"leaf `{self.site.paths[bad]}` differs from the eager gradient"
            return Row("transformation", name, "WRONG", d, text)
        if name == "jvp of vjp" and any(eqn.primitive.name == "while" for eqn, _ in walk(closed)):
            return Row("transformation", name, "OK", d, "the derivative itself was not compared: it iterates")
        if name == "jvp of vjp" and unit_in(closed) > 1e-15:
            return Row("transformation", name, "OK", d, "the derivative itself was not compared: low precision inside")
        if name == "jvp of vjp":
            return self._second(name, found[count:], d)
        return Row("transformation", name, "OK", d)

    def _differs(self, found: Sequence[Any], wanted: Sequence[Any], unit: float) -> tuple[float, int]:
        sizes = [norm(w) if finite([w]) else 0.0 for w in wanted]
        # A leaf whose gradient is nothing but rounding has the rounding of the others for its bar.
        floor = 64 * unit * max(sizes, default=0.0)
        loose = 4096 * unit if unit > 1e-10 else 1e-10
        return worst(found, wanted, [loose * s + 64 * n + floor for s, n in zip(sizes, self.noise, strict=True)], sizes)

    def _second(self, name: str, tangents: list[np.ndarray], d: float) -> Row:
        """The tangent of the rule's result against its differences, where they are smooth enough to tell."""
        if not finite(tangents):
            return Row("transformation", name, "WRONG", float("nan"), "the derivative of the rule is not finite")
        if unit_of(*(v.dtype for v in self.site.live)) > 1e-15:
            return Row("transformation", name, "OK", d, "the derivative itself was not compared: no float64")
        h, eager = 1e-5, pull(self.site.call)
        moved = [[v + s * h * t for v, t in zip(self.x[0], self.t, strict=True)] for s in (1, -1)]
        ends = [host(eager(x, self.g[0])) for x in moved]
        for k, (plus, minus, here, t) in enumerate(zip(*ends, self.reference[0], tangents, strict=True)):
            right, left = (plus - here) / h, (here - minus) / h
            centre = (right + left) / 2
            size = max(norm(centre), norm(t))
            bar = 10 * norm(right - left) + 1e-4 * size + 1e-8 * norm(here) + 64 * self.noise[k] / h
            if np.isfinite(bar) and norm(centre - t) > bar:
                text = f"leaf `{self.site.paths[k]}`: wrong at second order, against differences of the gradient"
                return Row("transformation", name, "WRONG", norm(centre - t) / size, text)
        return Row("transformation", name, "OK", d)

    def _sharded(self) -> Row:
        name, devices = "sharded", jax.devices()
        if len(devices) < 2:
            return unsupported("transformation", name, "one device")
        mesh = jax.sharding.Mesh(np.array(devices[:2]), ("rows",))
        specs = [_split(v) for v in self.x[0]]
        if not any(any(s) for s in specs):
            return unsupported("transformation", name, "no axis of even length to split")
        try:
            x = [jax.device_put(v, jax.sharding.NamedSharding(mesh, s)) for v, s in zip(self.x[0], specs, strict=True)]
            everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
            found = host(jax.jit(pull(self.site.call))(x, [jax.device_put(v, everywhere) for v in self.g[0]]))
        except Exception as error:
            return unsupported("transformation", name, error)
        d, bad = self._differs(found, self.reference[0], unit_of(*(v.dtype for v in x)))
        text = "" if bad < 0 else f"leaf `{self.site.paths[bad]}` differs from the gradient on one device"
        return Row("transformation", name, "OK" if bad < 0 else "WRONG", d, text)


def _leaks(found: Any) -> bool:
    """Whether a tracer outlived its trace, which JAX reports in several ways; to need a number is not that."""
    if isinstance(found, NOT_TRACEABLE) or not isinstance(found, Exception):
        return False
    return isinstance(found, jax.errors.UnexpectedTracerError) or "Tracer'>" in str(found)


def _split(value: Any) -> jax.sharding.PartitionSpec:
    axis = next((i for i, n in enumerate(value.shape) if n and n % 2 == 0), None)
    return jax.sharding.PartitionSpec(*([None] * axis + ["rows"] if axis is not None else []))
