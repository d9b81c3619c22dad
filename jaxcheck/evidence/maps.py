"""Witnesses for a function of any pytrees: its JVP and VJP along random directions, at any order.

A `Map` is one function to differentiate: f itself, or (at second order) the JVP or VJP of f as a
function of its own inputs. Its tangents are checked against the ladder, elementwise; its cotangents by
adjointness, <g, J v> = <J^T g, v>, against tangents that the ladder has confirmed.

Real view as in `witnesses`: complex numbers are pairs, and a cotangent g in the real view stands for
JAX's g_re - i g_im.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxcheck.evidence import rows
from jaxcheck.evidence.differences import Ladder, Slopes, slopes
from jaxcheck.evidence.sketch import component_scale
from jaxcheck.program.compile import Program, execute
from jaxcheck.program.objective import Traced, as_function, derived, own_values, plain, refuse_reverse_only
from jaxcheck.program.strip import count_rules, strip

# Values up to this size are sampled with every direction in one batch.
LADDER = Ladder(first=0.1, ratio=5.0, count=10)


@dataclasses.dataclass(frozen=True, eq=False)
class Map:
    """One function on flat inexact inputs, with its derivatives traced as programs.

    `tangent` and `cotangent` are under test (None where not asked for); `reference` is the tangent of
    the program without the user's rules (None without such rules, or where JAX has no forward mode).
    """

    name: str
    primal: Traced
    point: tuple[np.ndarray, ...]
    tangent: Traced | None
    cotangent: Traced | None
    reference: Traced | None
    why_no_reference: str = ""

    @property
    def cost(self) -> float:
        return self.primal.program.cost


@dataclasses.dataclass(frozen=True, eq=False)
class MapEvidence:
    """What was measured of one map; D directions, m real outputs, G cotangents.

    Attributes:
        outputs: (m,) at the point. directions: (D, P). numeric: `Slopes` (D, m).
        tangent, reference: (D, m) or None. cotangents: (G, m) and their pull-backs (G, P) or None.
    """

    outputs: np.ndarray
    directions: np.ndarray
    numeric: Slopes
    tangent: np.ndarray | None
    reference: np.ndarray | None
    cotangents: np.ndarray
    pulled: np.ndarray | None


def make(name: str, primal: Traced, point: Sequence[Any], modes: Sequence[str], first_order: bool) -> Map:
    """Trace the derivatives of `primal` that `modes` asks for ("fwd", "rev", "lin").

    Raises:
        Whatever JAX raises when it differentiates (forward mode of a custom_vjp: TypeError).
    """
    closed = primal.closed
    values = own_values(closed, point)
    tangents = [np.zeros_like(x) for x in values]
    f = as_function(closed)

    def push(xs, ts):
        return jax.jvp(lambda *a: f(*a), xs, ts)[1]

    def linear(xs, ts):
        return jax.linearize(lambda *a: f(*a), *xs)[1](*ts)

    def pull(xs, cts):
        return jax.vjp(lambda *a: f(*a), *xs)[1](list(cts))

    tangent = cotangent = reference = None
    why = ""
    if "fwd" in modes or "lin" in modes:
        tangent = derived(primal, push if "fwd" in modes else linear, [values, tangents])
        refuse_reverse_only(tangent)
    if "rev" in modes:
        cts = [np.zeros(a.shape, a.dtype) for a in closed.out_avals]
        cotangent = derived(primal, pull, [values, cts])
    has_rules = first_order and count_rules(closed, "user") > 0
    if has_rules or tangent is None:
        stripped = as_function(strip(closed, "user")) if has_rules else f
        try:
            reference = derived(primal, lambda xs, ts: jax.jvp(lambda *a: stripped(*a), xs, ts)[1], [values, tangents])
            refuse_reverse_only(reference)
        except Exception as error:
            reference = None
            why = f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
    runnable = dataclasses.replace(primal, program=plain(primal))
    return Map(name, runnable, tuple(np.asarray(x) for x in point), tangent, cotangent, reference, why)


def jvp_map(primal: Traced, point: Sequence[Any]) -> tuple[Traced, tuple[Any, ...]]:
    """(x, t) -> (f(x), J t) as a traced function, at t = x, as jax.test_util does."""
    f = as_function(primal.closed)
    values = own_values(primal.closed, point)

    def both(xs, ts):
        out, tangent = jax.jvp(lambda *a: f(*a), xs, ts)
        return [*out, *tangent]

    return derived(primal, both, [values, values]), (*point, *point)


def vjp_map(primal: Traced, point: Sequence[Any]) -> tuple[Traced, tuple[Any, ...]]:
    """x -> J(x)^T f(x) as a traced function, as jax.test_util does."""
    f = as_function(primal.closed)
    values = own_values(primal.closed, point)

    def pulled(xs):
        out, pull = jax.vjp(lambda *a: f(*a), *xs)
        return list(pull(list(out)))

    return derived(primal, pulled, [values]), tuple(point)


def gradient_map(primal: Traced, point: Sequence[Any]) -> tuple[Traced, tuple[Any, ...]]:
    """x -> gradient of sum_j c_j f_j(x) (real view, c fixed): its derivative is a Hessian.

    For real inputs only the Hessian is symmetric as it stands; complex inputs follow JAX's convention.
    """
    f = as_function(primal.closed)
    values = own_values(primal.closed, point)

    def scalar(xs):
        total = 0.0
        for k, y in enumerate(f(*xs)):
            for part in (y.real, y.imag) if jnp.iscomplexobj(y) else (y,):
                flat = part.reshape(-1)
                weight = jnp.cos(1.0 + k + jnp.arange(flat.size)).astype(flat.dtype)
                total = total + jnp.sum(weight * flat)
        return total

    def pulled(xs):
        return list(jax.grad(scalar)(xs))

    return derived(primal, pulled, [values]), tuple(point)


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


def orders(name: str, primal: Traced, point: Sequence[Any], order: int, modes: Sequence[str]) -> Iterator[Map]:
    """The maps of all orders, nested as in jax.test_util: f, the JVP of f, the VJP of f, and theirs."""
    suffix = f" of {name}" if name else ""
    yield make(name, primal, point, modes, first_order=not name)
    if order == 1:
        return
    if "fwd" in modes or "lin" in modes:
        yield from orders(f"JVP{suffix}", *jvp_map(primal, point), order - 1, modes)
    if "rev" in modes:
        yield from orders(f"VJP{suffix}", *vjp_map(primal, point), order - 1, modes)


def measure(maps: Sequence[Map], seed: int, directions: int = 2, cotangents: int = 2) -> tuple[list[MapEvidence], int]:
    """Run all maps in one compiled program; (evidence per map, programs compiled)."""
    programs: list[Program] = []
    inputs, plans = [], []
    for number, one in enumerate(maps):
        rng = np.random.default_rng([seed, number])
        point = to_vector(one.point, np)
        v = _directions(one.point, rng, directions)
        outs = one.primal.program.closed.out_avals
        m = sum(int(np.prod(a.shape)) * (2 if jnp.issubdtype(a.dtype, jnp.complexfloating) else 1) for a in outs)
        g = rng.standard_normal((cotangents, m))
        slots = [one.primal, one.tangent, one.reference, one.cotangent]
        programs += [t.program for t in slots if t is not None]
        plans.append([t is not None for t in slots])
        inputs.append((point, v, g))
    total = len(LADDER.offsets)

    def build(bound, inputs):
        bound, out = list(bound), []
        for one, present, (point, v, g) in zip(maps, plans, inputs, strict=True):
            out.append(_one(one, [bound.pop(0) if p else None for p in present], point, v, g))
        return out

    work = sum(one.cost * total * len(i[1]) for one, i in zip(maps, inputs, strict=True))
    with jax.enable_x64(True):
        name = ("maps", tuple(map(tuple, plans)), tuple(rows.chunk_rows(o.cost, total * len(i[1]))
                                                        for o, i in zip(maps, inputs, strict=True)))
        found, compiled = execute(name, build, programs, inputs, work=work)
        found = jax.tree_util.tree_map(np.asarray, found)
    evidence = []
    for one, (_, v, g), (samples, tangent, reference, pulled) in zip(maps, inputs, found, strict=True):
        evidence.append(MapEvidence(samples[0, 0], v, slopes(samples, LADDER, one.primal.unit), tangent, reference, g,
                                    pulled))
    return evidence, compiled


def _directions(point: Sequence[Any], rng: np.random.Generator, count: int) -> np.ndarray:
    """(D, P) directions through all inputs at once, each at its own scale; the odd ones component-wise."""
    out = []
    for k in range(count):
        parts = []
        for x in point:
            x = to_vector([x], np)
            signs = rng.choice([-1.0, 1.0], x.size) * rng.uniform(0.5, 1.5, x.size)
            parts.append(signs * component_scale(x, 1.0 if k % 2 == 0 else 1e-2))
        out.append(np.concatenate(parts) if parts else np.zeros(0))
    return np.stack(out)


def _one(one: Map, bound: Sequence[Any], point: Any, v: Any, g: Any) -> tuple:
    primal, tangent, reference, cotangent = bound
    ins = one.primal.program.closed.in_avals
    outs = one.primal.program.closed.out_avals
    chunk = rows.chunk_rows(one.cost, len(v) * len(LADDER.offsets))

    def f(x):
        return to_vector(primal(*from_vector(x, ins)))

    def push(traced: Traced, run: Callable):
        avals = traced.program.closed.in_avals
        half = len(avals) // 2
        xs = from_vector(point, avals[:half])
        return jax.lax.map(lambda t: to_vector(run(*xs, *from_vector(t, avals[half:]))), v)

    def pull(traced: Traced, run: Callable):
        avals = traced.program.closed.in_avals
        xs = from_vector(point, avals[: len(ins)])
        conj = [jnp.conj] if any(jnp.issubdtype(a.dtype, jnp.complexfloating) for a in ins) else []

        def one_cotangent(ct):
            back = run(*xs, *from_vector(ct, avals[len(ins) :], conjugate=True))
            return to_vector([conj[0](b) if conj else b for b in back])

        return jax.lax.map(one_cotangent, g)

    del outs
    samples = rows.sample(f, point, v, jnp.asarray(LADDER.offsets), chunk)
    return (
        samples,
        None if tangent is None else push(one.tangent, tangent),
        None if reference is None else push(one.reference, reference),
        None if cotangent is None else pull(one.cotangent, cotangent),
    )


def given(theta: Any, primal: Traced, point: Sequence[Any], f_jvp: Callable | None, f_vjp: Callable | None) -> Map:
    """A map whose derivative is a function of the caller's: `f_jvp(args, tangents)` or `f_vjp(*args)`."""
    from jaxcheck.program.objective import trace

    def zero(leaf):
        dtype = getattr(leaf, "dtype", None)
        if dtype is None:
            return leaf if leaf is None else np.zeros((), jax.dtypes.float0)
        return np.zeros(np.shape(leaf), jax.dtypes.float0)

    blanks = dataclasses.replace(theta, values=tuple(map(zero, theta.values)))

    def push(leaves, extras):
        half = len(leaves) // 2
        out = f_jvp(theta.rebuild(leaves[:half]), blanks.rebuild(leaves[half:]))[1]
        return [x for x in jax.tree_util.tree_leaves(out) if x.dtype != jax.dtypes.float0]

    def pull(leaves, extras):
        xs, cts = leaves[: len(point)], list(leaves[len(point) :])
        out, back = f_vjp(*theta.rebuild(xs))
        flat, tree = jax.tree_util.tree_flatten(out)
        full = [cts.pop(0) if jnp.issubdtype(x.dtype, jnp.inexact) else np.zeros(x.shape, jax.dtypes.float0) for x in flat]
        found = jax.tree_util.tree_leaves(back(jax.tree_util.tree_unflatten(tree, full)), is_leaf=lambda x: x is None)
        return [found[leaf.position] for leaf in theta.leaves]

    tangent = cotangent = None
    if f_jvp is not None:
        tangent = trace(push, [*point, *map(np.zeros_like, point)], [])
    if f_vjp is not None:
        cotangent = trace(pull, [*point, *(np.zeros(a.shape, a.dtype) for a in primal.closed.out_avals)], [])
    return Map("", dataclasses.replace(primal, program=plain(primal)), tuple(map(np.asarray, point)), tangent, cotangent,
               None)
