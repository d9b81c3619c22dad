"""Witnesses for a function of any pytrees: its JVP and VJP along random directions, at any order.

A `Map` is one function to differentiate: f itself, or (at second order) the JVP or VJP of f as a
function of its own inputs. Its tangents are checked against the ladder, elementwise; its cotangents by
adjointness, <g, J v> = <J^T g, v>, against tangents that the ladder has confirmed.

Real view as in `problem.problem`: complex numbers are pairs, and a cotangent g in the real view stands for
JAX's g_re - i g_im.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.bars import HALF_PRECISION
from jaxcheck.evidence import rows
from jaxcheck.evidence.differences import Ladder, Slopes, slopes
from jaxcheck.evidence.leafwise import LARGE, cotangents_of, directions_of, is_wide, own_size
from jaxcheck.evidence.sides import AT, without_kinks_beside
from jaxcheck.problem.leaves import belongs
from jaxcheck.problem.map import Map
from jaxcheck.problem.real_view import from_vector, to_vector
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.objective import Traced
from jaxcheck.program.run.compile import execute
from jaxcheck.there import there

# Values up to this size are sampled with every direction in one batch.
LADDER = Ladder(first=0.1, ratio=5.0, count=10)
# Elements computed, and kept, for the sake of directions of single leaves: beyond it the dense ones must do.
OWN_WORK, OWN_SIZE = 2e8, 1e7


@dataclasses.dataclass(frozen=True, eq=False)
class MapEvidence:
    """What was measured of one map; D directions, m real outputs, G cotangents.

    Attributes:
        outputs: (m,) at the point. directions: (D, P). numeric: `Slopes` (D, m).
        tangent, reference: (D, m) or None. cotangents: (G, m), zero where an output is not finite at the point, and
            their pull-backs (G, P) or None.
        inputs, results: (P,) and (m,) the leaf that each real number belongs to.
        point: (P,) the inputs.
        wide: (D,) directions that move some component by far more than its own size.
        own: see `Map`.
        scatter: how far the tangents (D, m) and the pull-backs (G, P) move when the point does by some rounding units;
            None where they are, or that was not asked.
    """

    outputs: np.ndarray
    directions: np.ndarray
    numeric: Slopes
    tangent: np.ndarray | None
    reference: np.ndarray | None
    cotangents: np.ndarray
    pulled: np.ndarray | None
    inputs: np.ndarray
    results: np.ndarray
    point: np.ndarray
    wide: np.ndarray
    pulled_reference: np.ndarray | None = None
    own: bool = False
    scatter: tuple[np.ndarray | None, np.ndarray | None] = (None, None)


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """What one map is run at: along `directions` (D, P), with so many `cotangents`; `inputs` and `results` as in
    `MapEvidence`, `rows` as `_one` takes them; `sizes` (G,) of the cotangents, divided by afterwards."""

    one: Map
    directions: np.ndarray
    cotangents: int
    inputs: np.ndarray
    results: np.ndarray
    rows: tuple
    sizes: np.ndarray

    @property
    def slots(self) -> tuple[Traced | None, ...]:
        one = self.one
        return one.primal, one.tangent, one.reference, one.cotangent, one.reference_pull

    @property
    def values(self) -> int:
        """How often the function is evaluated."""
        return len(LADDER.offsets) * len(self.directions)


def _planned(one: Map, rng: np.random.Generator, directions: int, symmetric: bool) -> _Plan:
    point = to_vector(one.point, np)
    inputs, results = belongs(one.point), belongs(one.primal.program.closed.out_avals)
    m = len(results)
    room = OWN_SIZE / max(len(LADDER.offsets) * m, 1)
    room = min(room, OWN_WORK / max(len(LADDER.offsets) * one.cost, 1.0))
    v = directions_of(one.point, rng, 1 if one.name and not symmetric else directions, room)
    # The large programs are those of higher orders; most of a small check's time is spent compiling them.
    plain = one.own or one.name or room < 1
    rule = 0.0 if plain else LARGE if one.primal.unit < HALF_PRECISION else 1.0
    g, weigh, sizes = cotangents_of(results, rng, OWN_SIZE / max(m, 1), 1 if one.name else 2, rule)
    if symmetric:
        g, weigh = v[v[:, :m].any(axis=1), :m], None
        sizes = np.ones(len(g))
    # Made here: the rows are few and small, and arithmetic on them would only be compiled.
    moved = (point + LADDER.offsets[:, None, None] * v).reshape(-1, point.size)
    near = 1 + 4 * one.primal.unit * rng.choice([-1.0, 1.0], (0 if one.name else 1, point.size))
    points = np.concatenate([point[None], np.where(np.isfinite(point), point, 0.0) * near])
    # What vouches for a tangent is also asked on both sides of the point, close by, along every direction.
    sides = np.concatenate([point + AT * one.primal.unit * v, point - AT * one.primal.unit * v])
    vouched = np.concatenate([np.repeat(point[None], len(v), axis=0), sides]), np.concatenate([v, v, v])
    # Only the cotangents that are to be divided by the outputs are finished there.
    weigh = None if weigh is None else np.tile(weigh, len(points))
    pulled = _pairs(points, sizes[:, None] * g)
    return _Plan(one, v, len(g), inputs, results, (moved, _pairs(points, v), vouched, pulled, weigh), sizes)


def measure(
    maps: Sequence[Map],
    seed: int,
    directions: int = 2,
    *,
    symmetric: bool = False,
) -> tuple[list[MapEvidence], int]:
    """Run all maps in one compiled program; (evidence per map, programs compiled).

    Directions are dense ones through all inputs at once, and one per input leaf; cotangents likewise, for
    each leaf has its own scale and what a small one does is nothing in a sum with a large one. Maps of
    higher order (those with a name) get one dense direction. With `symmetric` (gradients, whose
    derivative is a Hessian, in the inputs that come first) the directions in these are the cotangents.
    """
    plans = [
        _planned(one, np.random.default_rng([seed, number]), directions, symmetric) for number, one in enumerate(maps)
    ]
    programs = [traced.program for plan in plans for traced in plan.slots if traced is not None]
    present = tuple(tuple(traced is not None for traced in plan.slots) for plan in plans)
    work = sum(plan.one.cost * plan.values for plan in plans)

    def run(chunks: tuple[int, ...]):
        def build(bound, inputs):
            bound, out = list(bound), []
            for plan, row, chunk in zip(plans, inputs, chunks, strict=True):
                out.append(_one(plan.one, [bound.pop(0) if t is not None else None for t in plan.slots], chunk, *row))
            return out

        return ask(execute, ("maps", present, chunks), build, programs, [plan.rows for plan in plans], work=work)

    with jax.enable_x64(True):
        try:
            found, compiled = run(tuple(rows.chunk_of(plan.one.primal.program, plan.values) for plan in plans))
        except Refused as no:
            if not isinstance(no.error, NotImplementedError):
                raise no.error from None
            found, compiled = run((1,) * len(maps))  # what cannot be batched goes row by row
        found = jax.tree_util.tree_map(np.asarray, found)
    return [_evidence(plan, *values) for plan, values in zip(plans, found, strict=True)], compiled


def _evidence(plan: _Plan, samples, tangent, reference, g, pulled, other) -> MapEvidence:
    """From what `_one` gives."""
    point, v, count = to_vector(plan.one.point, np), plan.directions, plan.cotangents
    samples = samples.reshape(len(LADDER.offsets), len(v), -1)
    wide = is_wide(point, v)
    numeric = _without_jumps_afar(slopes(samples, LADDER, plan.one.primal.unit), wide, (v != 0).all(axis=1))
    if reference is not None:
        reference, *sides = np.split(reference, 3)
        numeric = without_kinks_beside(numeric, reference, np.stack(sides))
    # What is pulled back of a large or small cotangent, of a usual one: so that bounds are what they are of any.
    g = g / _of_rows(plan.sizes, g)
    pulled, other = (None if x is None else x / _of_rows(plan.sizes, x) for x in (pulled, other))
    (tangent, moves), (pulled, sways) = _at_point(tangent, len(v)), _at_point(pulled, count)
    return MapEvidence(
        outputs=samples[0, 0],
        directions=v,
        numeric=numeric,
        tangent=tangent,
        reference=reference,
        cotangents=g[:count],
        pulled=pulled,
        inputs=plan.inputs,
        results=plan.results,
        point=point,
        wide=wide,
        pulled_reference=_at_point(other, count)[0],
        own=plan.one.own,
        scatter=(moves, sways),
    )


def _without_jumps_afar(numeric: Slopes, wide: np.ndarray, dense: np.ndarray) -> Slopes:
    """Slopes (D, m) less the jumps that are seen only along `wide` directions, whose smallest steps may still be many
    periods of what a tiny input does: those know nothing, where a dense direction at each input's own scale sees none.
    """
    near = dense & ~wide
    smooth = np.isfinite(numeric.value[near]) & np.isfinite(numeric.error[near]) & ~numeric.jump[near]
    afar = numeric.jump & wide[:, None] & smooth.any(axis=0)
    unknown = {name: np.where(afar, np.inf, getattr(numeric, name)) for name in ("error", "rough")}
    return dataclasses.replace(numeric, jump=numeric.jump & ~afar, **unknown)


def _of_rows(sizes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The sizes of the cotangents, for rows that are theirs at several points, one point after the other."""
    return np.tile(sizes, len(rows) // len(sizes))[:, None]


def _at_point(rows: np.ndarray | None, count: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """What was found at the point, the first `count` rows, and how far the others, next to it, are off; if any."""
    if rows is None or len(rows) == count:
        return rows, None
    with np.errstate(all="ignore"):
        return rows[:count], np.abs(rows[count:] - rows[:count])


def _each(f: Callable, rows: tuple[Any, Any]) -> Any:
    """f of every row, one after the other: a rule need not bear vmap."""
    if len(rows[0]) == 1:
        return f(rows[0][0], rows[1][0])[None]
    return jax.lax.map(lambda row: f(*row), rows)


def _pairs(points: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every point with every row of values."""
    return np.repeat(points, len(values), axis=0), np.concatenate([values] * len(points))


def _one(one: Map, bound: Sequence[Any], chunk: int, moved: Any, v: Any, vouched: Any, g: Any, weigh: Any) -> tuple:
    primal, tangent, reference, cotangent, other = bound
    ins = one.primal.program.closed.in_avals

    def f(x):
        return to_vector(primal(*from_vector(x, ins)))

    def push(traced: Traced, run: Callable, v: Any):
        avals = traced.program.closed.in_avals
        half = len(avals) // 2

        def one_tangent(x, t):
            return to_vector(run(*from_vector(x, avals[:half]), *from_vector(t, avals[half:])))

        return _each(one_tangent, v)

    def pull(traced: Traced, run: Callable):
        avals = traced.program.closed.in_avals
        conj = [jnp.conj] if any(jnp.issubdtype(a.dtype, jnp.complexfloating) for a in ins) else []

        def one_cotangent(x, ct):
            back = run(*from_vector(x, avals[: len(ins)]), *from_vector(ct, avals[len(ins) :], conjugate=True))
            return to_vector([conj[0](b) if conj else b for b in back])

        return _each(one_cotangent, (at, g))

    samples = rows.evaluate(f, moved, chunk)
    at, g = g
    if weigh is not None:
        g = jnp.where(weigh[:, None], g * own_size(samples[0]), g)
    # What is infinite by design has no derivative to be held to, and in a sum it leaves nothing to be seen.
    g = jnp.where(jnp.isfinite(samples[0]), g, 0.0)
    return (
        samples,
        None if tangent is None else push(there(one.tangent), tangent, v),
        None if reference is None else push(there(one.reference), reference, vouched),
        g,
        None if cotangent is None else pull(there(one.cotangent), cotangent),
        None if other is None else pull(there(one.reference_pull), other),
    )
