"""Witnesses for a function of any pytrees: its JVP and VJP along random directions, at any order.

A `Map` is one function to differentiate: f itself, or (at second order) the JVP or VJP of f as a
function of its own inputs. Its tangents are checked against the ladder, elementwise; its cotangents by
adjointness, <g, J v> = <J^T g, v>, against tangents that the ladder has confirmed.

Real view as in `witnesses`: complex numbers are pairs, and a cotangent g in the real view stands for
JAX's g_re - i g_im.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxcheck.evidence import rows
from jaxcheck.evidence.differences import Ladder, Slopes, slopes
from jaxcheck.evidence.sketch import component_scale
from jaxcheck.program.compile import Program, execute
from jaxcheck.program.objective import Traced

# Values up to this size are sampled with every direction in one batch.
LADDER = Ladder(first=0.1, ratio=5.0, count=10)
# Leaves that get a direction or a cotangent of their own; of more leaves several share one.
OWN = 16
# Elements computed, and kept, for the sake of those: beyond it the dense ones must do.
OWN_WORK, OWN_SIZE = 2e8, 1e7
# A leaf whose entries span more than this holds several units.
MIXED = 1e3


@dataclasses.dataclass(frozen=True, eq=False)
class Map:
    """One function on flat inexact inputs, with its derivatives traced as programs.

    `tangent` and `cotangent` are under test (None where not asked for); `reference` is the tangent of
    the program without the user's rules (None without such rules, or where JAX has no forward mode; then
    `reference_pull` is its cotangent). `iterative`: an iterative solver inside limits what differences see.
    """

    name: str
    primal: Traced
    point: tuple[np.ndarray, ...]
    tangent: Traced | None
    cotangent: Traced | None
    reference: Traced | None
    reference_pull: Traced | None = None
    iterative: bool = False

    @property
    def cost(self) -> float:
        return self.primal.program.cost


@dataclasses.dataclass(frozen=True, eq=False)
class MapEvidence:
    """What was measured of one map; D directions, m real outputs, G cotangents.

    Attributes:
        outputs: (m,) at the point. directions: (D, P). numeric: `Slopes` (D, m).
        iterative: as in `Map`; higher: the map is itself a derivative.
        tangent, reference: (D, m) or None. cotangents: (G, m) and their pull-backs (G, P) or None.
        inputs, results: (P,) and (m,) the leaf that each real number belongs to.
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
    pulled_reference: np.ndarray | None = None
    iterative: bool = False
    higher: bool = False


def real_size(values: Sequence[ArrayLike]) -> int:
    return sum(x.size * (2 if np.iscomplexobj(x) else 1) for x in map(np.asarray, values))


def to_vector(values: Sequence[Any], xp: Any = jnp) -> Any:
    """Flat arrays to one real vector: per array its real parts, then its imaginary parts."""
    parts = []
    for x in values:
        x = xp.asarray(x).reshape(-1)
        parts += [x.real, x.imag] if xp.iscomplexobj(x) else [x]
    return xp.concatenate([p.astype(xp.float64) for p in parts]) if parts else xp.zeros(0)


def from_vector(vector: Any, avals: Sequence[Any], conjugate: bool = False) -> list[Any]:
    """Inverse of `to_vector` for arrays like `avals`, in their dtypes."""
    out, start = [], 0
    for aval in avals:
        size = int(np.prod(aval.shape))
        part = vector[start : start + size]
        start += size
        if jnp.issubdtype(aval.dtype, jnp.complexfloating):
            imaginary = vector[start : start + size]
            start += size
            part = part - 1j * imaginary if conjugate else part + 1j * imaginary
        out.append(part.reshape(aval.shape).astype(aval.dtype))
    return out


def measure(maps: Sequence[Map], seed: int, directions: int = 2, *, symmetric: bool = False,
            ) -> tuple[list[MapEvidence], int]:
    """Run all maps in one compiled program; (evidence per map, programs compiled).

    Directions are dense ones through all inputs at once, and one per input leaf; cotangents likewise, for
    each leaf has its own scale and what a small one does is nothing in a sum with a large one. Maps of
    higher order (those with a name) get one dense direction. With `symmetric` (gradients, whose
    derivative is a Hessian) the directions themselves are the cotangents.
    """
    programs: list[Program] = []
    inputs, plans, owners = [], [], []
    for number, one in enumerate(maps):
        rng = np.random.default_rng([seed, number])
        point = to_vector(one.point, np)
        outs = one.primal.program.closed.out_avals
        leaves, results = belongs(one.point), belongs(outs)
        m = len(results)
        room = OWN_SIZE / max(len(LADDER.offsets) * m, 1)
        room = min(room, OWN_WORK / max(len(LADDER.offsets) * one.cost, 1.0))
        v = _directions(one.point, rng, 1 if one.name and not symmetric else directions, room)
        g, weigh = _cotangents(results, rng, OWN_SIZE / max(m, 1))
        if symmetric:
            g, weigh = v, np.zeros(len(v), bool)
        slots = [one.primal, one.tangent, one.reference, one.cotangent, one.reference_pull]
        programs += [t.program for t in slots if t is not None]
        plans.append([t is not None for t in slots])
        owners.append((leaves, results))
        # Made here: the rows are few and small, and arithmetic on them would only be compiled.
        moved = (point + LADDER.offsets[:, None, None] * v).reshape(-1, point.size)
        inputs.append((point, moved, v, g, weigh))
    total = len(LADDER.offsets)

    def build(bound, inputs):
        bound, out = list(bound), []
        for one, present, (_, results), row in zip(maps, plans, owners, inputs, strict=True):
            out.append(_one(one, [bound.pop(0) if p else None for p in present], results, *row))
        return out

    work = sum(one.cost * total * len(i[2]) for one, i in zip(maps, inputs, strict=True))
    with jax.enable_x64(True):
        name = ("maps", tuple(map(tuple, plans)), tuple(rows.chunk_rows(o.cost, total * len(i[2]))
                                                        for o, i in zip(maps, inputs, strict=True)))
        found, compiled = execute(name, build, programs, inputs, work=work)
        found = jax.tree_util.tree_map(np.asarray, found)
    evidence = []
    for one, (_, _, v, *_), owner, (samples, tangent, reference, g, pulled, other) in zip(
            maps, inputs, owners, found, strict=True):
        samples = samples.reshape(total, len(v), -1)
        numeric = slopes(samples, LADDER, one.primal.unit)
        evidence.append(MapEvidence(samples[0, 0], v, numeric, tangent, reference, g, pulled, *owner, other,
                                    one.iterative, bool(one.name)))
    return evidence, compiled


def belongs(arrays: Sequence[Any]) -> np.ndarray:
    """The number of the leaf to which each entry of `to_vector(arrays)` belongs."""
    sizes = [int(np.prod(x.shape)) * (2 if jnp.issubdtype(x.dtype, jnp.complexfloating) else 1) for x in arrays]
    return np.repeat(np.arange(len(sizes)), sizes)


def groups(owner: np.ndarray, room: float) -> list[np.ndarray]:
    """Masks that pick one leaf each, where there are several and `room` is for as many; else several leaves each."""
    leaves = np.unique(owner)
    count = int(min(len(leaves), OWN, room))
    return [np.isin(owner, leaves[k::count]) for k in range(count)] if count > 1 else []


def _directions(point: Sequence[Any], rng: np.random.Generator, count: int, room: float) -> np.ndarray:
    """(D, P) directions: through all inputs at once, each at its own scale, the odd ones component-wise; where a
    leaf mixes units, one that moves every component in proportion; and one per leaf."""
    values = [to_vector([x], np) for x in point]
    mixed = [_is_mixed(x) for x in values]

    def draw(scales):
        signs = [rng.choice([-1.0, 1.0], s.size) * rng.uniform(0.5, 1.5, s.size) for s in scales]
        return np.concatenate([a * b for a, b in zip(signs, scales, strict=True)]) if scales else np.zeros(0)

    out = [draw([component_scale(x, 1.0 if k % 2 == 0 else 1e-2) for x in values]) for k in range(count)]
    own = [component_scale(x, 0.0 if m else 1e-2) for x, m in zip(values, mixed, strict=True)]
    if any(mixed):
        out.append(draw(own))
    return np.stack([*out, *(mask * draw(own) for mask in groups(belongs(point), room))])


def _is_mixed(x: np.ndarray) -> bool:
    size = np.abs(x[(x != 0) & np.isfinite(x)])
    return bool(size.size) and size.max() > MIXED * size.min()


def _cotangents(owner: np.ndarray, rng: np.random.Generator, room: float) -> tuple[np.ndarray, np.ndarray]:
    """((G, m) cotangents, which of them are to be divided by the outputs' own sizes): two dense, one per leaf."""
    g = [rng.standard_normal(len(owner)) for _ in range(2)]
    own = [mask * rng.standard_normal(len(owner)) for mask in groups(owner, room)]
    return np.stack([*g, *own]), np.arange(2 + len(own)) == 1


def _own_size(outputs: Any, owner: np.ndarray) -> Any:
    """(m,) weights, at most 1, that bring every output to one size; zeros count as the RMS of their leaf."""
    count = int(owner.max(initial=0)) + 1
    squares = jnp.zeros(count).at[owner].add(outputs**2)
    rms = jnp.sqrt(squares / np.maximum(np.bincount(owner, minlength=count), 1))[owner]
    size = jnp.where(outputs == 0, rms, jnp.abs(outputs))
    size = jnp.where(jnp.isfinite(size) & (size > 0), size, 1.0)
    return jnp.min(size, initial=1.0) / size


def _each(f: Callable, values: Any) -> Any:
    """f of every row, one after the other: a rule need not bear vmap."""
    return f(values[0])[None] if len(values) == 1 else jax.lax.map(f, values)


def _one(one: Map, bound: Sequence[Any], owner: np.ndarray, point: Any, moved: Any, v: Any, g: Any,
         weigh: Any) -> tuple:
    primal, tangent, reference, cotangent, other = bound
    ins = one.primal.program.closed.in_avals
    chunk = rows.chunk_rows(one.cost, len(v) * len(LADDER.offsets))

    def f(x):
        return to_vector(primal(*from_vector(x, ins)))

    def push(traced: Traced, run: Callable):
        avals = traced.program.closed.in_avals
        half = len(avals) // 2
        xs = from_vector(point, avals[:half])
        return _each(lambda t: to_vector(run(*xs, *from_vector(t, avals[half:]))), v)

    def pull(traced: Traced, run: Callable):
        avals = traced.program.closed.in_avals
        xs = from_vector(point, avals[: len(ins)])
        conj = [jnp.conj] if any(jnp.issubdtype(a.dtype, jnp.complexfloating) for a in ins) else []

        def one_cotangent(ct):
            back = run(*xs, *from_vector(ct, avals[len(ins) :], conjugate=True))
            return to_vector([conj[0](b) if conj else b for b in back])

        return _each(one_cotangent, g)

    samples = rows.evaluate(f, moved, chunk)
    g = jnp.where(weigh[:, None], g * _own_size(samples[0], owner), g)
    return (
        samples,
        None if tangent is None else push(one.tangent, tangent),
        None if reference is None else push(one.reference, reference),
        g,
        None if cotangent is None else pull(one.cotangent, cotangent),
        None if other is None else pull(one.reference_pull, other),
    )
