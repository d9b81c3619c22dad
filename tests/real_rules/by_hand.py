"""Rules that people write by hand, and their wrong twins: one planted mistake each, with what must be said of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import custom_jvp, custom_vjp, lax
from jax.custom_derivatives import SymbolicZero

from . import Rule, numbers

V, POS, W, X = numbers(5), numbers(5, seed=1, low=0.5, high=2.0), numbers(3, 2, seed=2), numbers(4, 3)
MIX = 3 * numbers(5, seed=5)


def vjp(
    f: Callable, bwd: Callable, keep: Callable | None = None, fwd: Callable | None = None, **options: Any
) -> Callable:
    """custom_vjp in one line: `bwd(residuals, g)`; what is kept are the arguments unless `keep(*args)` says."""
    rule = custom_vjp(f, **{k: v for k, v in options.items() if k.startswith("nondiff")})
    keep = keep or (lambda *x: x)
    rule.defvjp(fwd or (lambda *x: (f(*x), keep(*x))), bwd,
                **{k: v for k, v in options.items() if not k.startswith("nondiff")})  # fmt: skip
    return rule


def jvp(f: Callable, tangent: Callable) -> Callable:
    """custom_jvp in one line: `tangent(primals, tangents)`."""
    rule = custom_jvp(f)
    rule.defjvp(lambda x, t: (rule(*x), tangent(x, t)))
    return rule


# ---- right ones


def log1pexp(x):
    return jnp.where(x > 20, x, jnp.log1p(jnp.exp(jnp.minimum(x, 20))))


@partial(custom_vjp, nondiff_argnums=(1,))
def power(x, n):
    return x**n


power.defvjp(lambda x, n: (x**n, x), lambda n, x, g: (n * x ** (n - 1) * g,))


@partial(custom_vjp, nondiff_argnames=("scale",))
def scaled(x, scale):
    return jnp.tanh(x) * scale


scaled.defvjp(lambda x, scale: (jnp.tanh(x) * scale, x), lambda scale, x, g: (scale * g / jnp.cosh(x) ** 2,))


@partial(custom_jvp, nondiff_argnums=(0,))
def applied(h, x):
    return h(x)


@applied.defjvp
def _(h, primals, tangents):
    return jax.jvp(h, primals, tangents)


def masked(x, y):
    return jnp.sin(x) * y


masked_rule = custom_vjp(masked)


def _masked_fwd(x, y):
    return jnp.sin(x.value) * y.value, (x.value, y.value if x.perturbed else None, y.perturbed)


def _masked_bwd(kept, g):
    x, y, wanted = kept
    if isinstance(g, SymbolicZero):
        return jnp.zeros_like(x), jnp.zeros_like(x)
    return (jnp.zeros_like(x) if y is None else g * jnp.cos(x) * y), (g * jnp.sin(x) if wanted else jnp.zeros_like(x))


masked_rule.defvjp(_masked_fwd, _masked_bwd, symbolic_zeros=True)


@custom_jvp
def zeros_known(x, y):
    return x * jnp.exp(y)


def _zeros_known(primals, tangents):
    (x, y), (s, t) = primals, tangents
    out = x * jnp.exp(y)
    left = jnp.zeros_like(out) if type(s) is SymbolicZero else s * jnp.exp(y)
    return out, left + (jnp.zeros_like(out) if type(t) is SymbolicZero else t * out)


zeros_known.defjvp(_zeros_known, symbolic_zeros=True)


@custom_jvp
def product(x, y):
    return jnp.sin(x) * jnp.round(y)


product.defjvps(lambda t, out, x, y: jnp.cos(x) * jnp.round(y) * t, None)


@jax.custom_gradient
def cube(x):
    return x**3, lambda g: (3 * x**2 * g,)


@custom_vjp
def norm(x):
    return jnp.sqrt(jnp.sum(x**2))


norm.defvjp(lambda x: (norm(x), (x, norm(x))), lambda r, g: (g * r[0] / jnp.where(r[1] == 0, 1, r[1]),))


def layer_norm(back=lambda dx: dx):
    def f(x):
        d = x - x.mean(-1, keepdims=True)
        return d * lax.rsqrt((d**2).mean(-1, keepdims=True) + 1e-5)

    def bwd(kept, g):
        (x,) = kept
        d = x - x.mean(-1, keepdims=True)
        r = lax.rsqrt((d**2).mean(-1, keepdims=True) + 1e-5)
        y = d * r
        return (back(r * (g - g.mean(-1, keepdims=True) - y * (g * y).mean(-1, keepdims=True))),)

    return vjp(f, bwd)


def fixed_point(scale=1.0, transposed=True):
    """x = tanh(a x + b) and its gradient by the implicit function theorem."""

    def solve(a, b):
        return lax.fori_loop(0, 80, lambda _, x: jnp.tanh(a @ x + b), jnp.zeros_like(b))

    def bwd(kept, g):
        a, _, x = kept
        slope = 1 - x**2
        j = jnp.eye(len(x), dtype=x.dtype) - slope[:, None] * a
        u = jnp.linalg.solve(j.T if transposed else j, g) * slope * scale
        return jnp.outer(u, x), u

    def fwd(a, b):
        x = solve(a, b)
        return x, (a, b, x)

    return vjp(solve, bwd, fwd=fwd)


def ragged(x, labels):
    """Cross entropy with integer labels."""
    return jax.nn.logsumexp(x, -1) - jnp.take_along_axis(x, labels[:, None], -1)[:, 0]


def _ragged_bwd(r, g, scale=1.0):
    x, labels = r
    hot = jax.nn.one_hot(labels, x.shape[-1], dtype=x.dtype)
    return scale * g[:, None] * (jax.nn.softmax(x) - hot), np.zeros(labels.shape, jax.dtypes.float0)


def affine(p, x):
    return {"y": x @ p["w"] + p["b"], "size": (p["w"] ** 2).sum()}


def affine_bwd(r, g, w=1.0, b=1.0, x=1.0, size=1.0):
    p, v = r
    return {"w": w * (v.T @ g["y"]) + size * 2 * g["size"] * p["w"], "b": b * g["y"].sum(0)}, x * (g["y"] @ p["w"].T)


PARAMS = {"w": W, "b": numbers(2, seed=6)}


def clip_gradient():
    return vjp(lambda x: x * 1.0, lambda r, g: (jnp.clip(g, -0.01, 0.01),))


def attention(scale=1.0, transposed=True, lost=False):
    """softmax(q k^T) v."""

    def f(q, k, v):
        return jax.nn.softmax(q @ k.T) @ v

    def bwd(r, g):
        q, k, v = r
        p = jax.nn.softmax(q @ k.T)
        dp = g @ v.T
        ds = p * (dp - (0.0 if lost else (dp * p).sum(-1, keepdims=True)))
        return scale * ds @ k, (ds.T if transposed else ds) @ q, p.T @ g

    return vjp(f, bwd)


QKV = tuple(numbers(3, 3, seed=s) for s in (7, 8, 9))


def key_noise(key, x):
    return x * jax.random.normal(key, x.shape)


RIGHT = [
    Rule("log1pexp", vjp(log1pexp, lambda r, g: (g * jax.nn.sigmoid(r[0]),)), (10 * MIX,), modes=("rev",)),
    Rule("log1pexp jvp", jvp(log1pexp, lambda x, t: jax.nn.sigmoid(x[0]) * t[0]), (10 * MIX,)),
    Rule("safe sqrt", vjp(lambda x: jnp.sqrt(jnp.maximum(x, 0)), lambda r, g: (
        jnp.where(r[0] > 0, 0.5 * g / jnp.sqrt(jnp.where(r[0] > 0, r[0], 1)), 0),)), (POS,), modes=("rev",)),
    Rule("safe norm", norm, (V,), modes=("rev",)),
    Rule("power", lambda x: power(x, 3), (POS,), modes=("rev",)),
    Rule("power, exponent given", power, (POS, 3), order=0),
    Rule("nondiff_argnames", scaled, (V, 1.7), order=0),
    Rule("nondiff_argnums of a custom_jvp", lambda x: applied(jnp.sin, x), (V,)),
    Rule("symbolic zeros vjp", masked_rule, (V, POS), modes=("rev",)),
    Rule("symbolic zeros jvp", zeros_known, (V, POS)),
    Rule("optimize_remat", vjp(lambda x: jnp.sin(x), lambda r, g: (g * jnp.cos(r[0]),), optimize_remat=True), (V,),
         order=1,
         modes=("rev",)),
    Rule("defjvps with None", lambda x: product(x, 3 * POS), (V,)),
    Rule("custom_gradient", cube, (V,), modes=("rev",)),
    Rule("layer norm", layer_norm(), (X,), modes=("rev",)),
    Rule("fixed point", fixed_point(), (0.3 * numbers(3, 3, seed=3), V[:3]), order=1, modes=("rev",)),
    Rule("labels", vjp(ragged, _ragged_bwd), (X, jnp.array([0, 2, 1, 1])), modes=("rev",)),
    Rule("pytrees", vjp(affine, affine_bwd), (PARAMS, X), modes=("rev",)),
    Rule("None cotangent", vjp(lambda x, y: jnp.sin(x) * jnp.sign(y), lambda r,
         g: (g * jnp.cos(r[0]) * jnp.sign(r[1]), None)),
         (V, POS), order=1, modes=("rev",)),
    Rule("key", vjp(key_noise, lambda r, g: (np.zeros(r[0].shape, jax.dtypes.float0), key_noise(r[0], g))),
         (jax.random.key(1), V), order=1, modes=("rev",)),
    Rule("zero size", vjp(jnp.sin, lambda r, g: (g * jnp.cos(r[0]),)), (jnp.zeros((0, 2)),), order=1, modes=("rev",)),
    Rule("one empty, one not", vjp(lambda x, y: (jnp.sin(x), y * 2), lambda r, g: (g[0] * jnp.cos(r[0]), 2 * g[1])),
         (jnp.zeros((0,)), V), order=1, modes=("rev",)),
    Rule("complex square", vjp(lambda z: z * z, lambda r, g: (2 * r[0] * g,)), (numbers(3, dtype=jnp.complex64),),
         modes=("rev",)),
    Rule("complex abs2", vjp(lambda z: jnp.real(z) ** 2 + jnp.imag(z) ** 2, lambda r, g: (2 * jnp.conj(r[0]) * g,)),
         (numbers(3, dtype=jnp.complex64),), modes=("rev",)),
    Rule("real to complex", vjp(lambda x: jnp.exp(1j * x), lambda r, g: (jnp.real(1j * jnp.exp(1j * r[0]) * g),)), (V,),
         modes=("rev",)),
    Rule("bfloat16 pinned", vjp(lambda x: jnp.sin(x.astype(jnp.bfloat16)).astype(x.dtype), lambda r, g: (
        (jnp.cos(r[0].astype(jnp.bfloat16)) * g.astype(jnp.bfloat16)).astype(r[0].dtype),)), (V,), order=1,
             modes=("rev",)),
    Rule("bfloat16 input", vjp(jnp.tanh, lambda r, g: (g * (1 - jnp.tanh(r[0]) ** 2),)), (V.astype(jnp.bfloat16),),
         modes=("rev",)),
    Rule("several outputs", vjp(lambda x: (jnp.sin(x), jnp.cos(x).sum(), jnp.int32(2)), lambda r, g: (
        g[0] * jnp.cos(r[0]) - g[1] * jnp.sin(r[0]),)), (V,), modes=("rev",)),
    Rule("attention", attention(), QKV, modes=("rev",)),
    Rule("rule of a rule", vjp(lambda x: jax.nn.softplus(norm(x) * x), lambda r, g: jax.vjp(
        lambda x: jax.nn.softplus(norm(x) * x), r[0])[1](g)), (V,), modes=("rev",)),
    Rule("inside scan", lambda x: lax.scan(lambda c, _: (cube(c) * 0.5, c), x, None, 3)[0], (V,), modes=("rev",)),
    Rule("under vmap", lambda x: jax.vmap(norm)(x), (X,), modes=("rev",)),
    Rule("expm1 over x", vjp(lambda x: jnp.expm1(x) / x, lambda r,
         g: (g * (jnp.exp(r[0]) / r[0] - jnp.expm1(r[0]) / r[0] ** 2),)),
         (POS,), modes=("rev",)),
    Rule("logdet", vjp(lambda a: jnp.linalg.slogdet(a)[1], lambda r, g: (g * jnp.linalg.inv(r[0]).T,)),
         (numbers(3, 3, seed=3) + 2 * jnp.eye(3),), modes=("rev",)),
    Rule("solve", vjp(jnp.linalg.solve, lambda r, g: (lambda u, x: (-jnp.outer(u, x), u))(
        jnp.linalg.solve(r[0].T, g), jnp.linalg.solve(*r))), (numbers(3, 3, seed=3) + 2 * jnp.eye(3), V[:3]),
             modes=("rev",)),
    Rule("straight-through", vjp(lambda x: jnp.round(x), lambda r, g: (g,)), (MIX,), options=dict(surrogate=True)),
    Rule("straight-through by stop_gradient", lambda x: x + lax.stop_gradient(jnp.round(x) - x), (MIX,),
         options=dict(surrogate=True)),
    Rule("clip_gradient", clip_gradient(), (V,), options=dict(surrogate=True)),
    Rule("gradient reversal", vjp(lambda x: x * 1.0, lambda r, g: (-g,)), (V,), options=dict(surrogate=True)),
]  # fmt: skip


# ---- wrong twins


@dataclasses.dataclass(frozen=True, eq=False)
class Twin:
    """What must be said: a `reason` (by name), the wrong leaves, and names of rows that are WRONG; `order` asked for."""  # noqa: E501

    name: str
    f: Callable
    args: tuple[Any, ...]
    leaves: frozenset[str] = frozenset()
    reason: str = "MANUAL_WRONG"
    rows: frozenset[str] = frozenset()
    order: int = 1
    transforms: bool = False


def bad(name, f, args, leaves=(), reason="MANUAL_WRONG", rows=(), order=1, transforms=False):
    transforms |= reason == "TRANSFORM_WRONG"
    return Twin(name, f, args, frozenset(leaves), reason, frozenset(rows), order, transforms)


def spoiled(back: Callable, **options) -> Callable:
    """sin with a rule, whose cotangent goes through `back`."""
    return vjp(jnp.sin, lambda r, g: (jnp.cos(r[0]) * back(g),), **options)


def only_batched(g):
    """2 g under vmap, g otherwise."""

    @jax.custom_batching.custom_vmap
    def same(g):
        return g * 1.0

    same.def_vmap(lambda size, which, g: (g * 2.0, True))
    return same(g)


def only_traced(g):
    return g * 2.0 if isinstance(g, jax.core.Tracer) else g


NONLINEAR = {"g**2": lambda g: g**2, "|g|": jnp.abs, "relu(g)": jax.nn.relu, "clip(g)": lambda g: jnp.clip(g, -1, 1),
             "sign(g)": jnp.sign, "(g > 0)": lambda g: (g > 0).astype(g.dtype), "g**3": lambda g: g**3,
             "clip by norm": lambda g: g / jnp.maximum(1.0, jnp.linalg.norm(g))}  # fmt: skip


def wrong() -> Iterator[Twin]:
    for name, back in NONLINEAR.items():
        rows = ["scale of the cotangent"]
        yield bad(f"nonlinear: {name}", spoiled(back), (V,), (), "LAW", rows)
    for name, factor in {
        "twice": 2.0,
        "half": 0.5,
        "sign": -1.0,
        "nothing": 0.0,
        "1+1e-3": 1.001,
        "1+1e-5": 1 + 1e-5,
    }.items():
        yield bad(f"sin {name}", spoiled(lambda g, c=factor: c * g), (V,), ["x"])
        yield bad(f"pytree w {name}", vjp(affine, partial(affine_bwd, w=factor)), (PARAMS, X), ["p.w"])
        yield bad(
            f"jvp {name}",
            jvp(jnp.tanh, lambda x, t, c=factor: c * t[0] / jnp.cosh(x[0]) ** 2),
            (V,),
            ["x"],
            rows=["JVP"],
        )
    yield bad("pytree b", vjp(affine, partial(affine_bwd, b=2.0)), (PARAMS, X), ["p.b"])
    yield bad("pytree x", vjp(affine, partial(affine_bwd, x=-1.0)), (PARAMS, X), ["x"])
    yield bad("pytree size lost", vjp(affine, partial(affine_bwd, size=0.0)), (PARAMS, X), ["p.w"])
    yield bad("attention scale", attention(scale=0.5), QKV, ["q"])
    yield bad("attention transpose", attention(transposed=False), QKV, ["k"])
    yield bad("attention sum lost", attention(lost=True), QKV, ["q", "k"])
    yield bad("labels scale", vjp(ragged, partial(_ragged_bwd, scale=0.25)), (X, jnp.array([0, 2, 1, 1])), ["x"])
    yield bad("labels one-hot lost", vjp(ragged, lambda r, g: (
        g[:, None] * jax.nn.softmax(r[0]), np.zeros(4, jax.dtypes.float0))), (X, jnp.array([0, 2, 1, 1])),
             ["x"])  # fmt: skip
    yield bad("layer norm scale", layer_norm(lambda d: d * (1 + 1e-5)), (X,), ["x"])
    yield bad("fixed point transpose", fixed_point(transposed=False), (0.3 * numbers(3, 3, seed=3), V[:3]), ["a", "b"])
    yield bad("fixed point scale", fixed_point(scale=1.001), (0.3 * numbers(3, 3, seed=3), V[:3]), ["a", "b"])
    yield bad("solve sign", vjp(jnp.linalg.solve, lambda r, g: (lambda u, x: (jnp.outer(u, x), u))(
        jnp.linalg.solve(r[0].T, g), jnp.linalg.solve(*r))), (numbers(3, 3, seed=3) + 2 * jnp.eye(3), V[:3]),
             ["a"])  # fmt: skip
    yield bad(
        "logdet transpose",
        vjp(lambda a: jnp.linalg.slogdet(a)[1], lambda r, g: (g * jnp.linalg.inv(r[0]),)),
        (numbers(3, 3, seed=3) + 2 * jnp.eye(3),),
        ["a"],
    )
    yield bad("two arguments swapped", vjp(lambda x, y: x * jnp.exp(y), lambda r, g: (
        g * r[0] * jnp.exp(r[1]), g * jnp.exp(r[1]))), (V, POS), ["x", "y"])  # fmt: skip
    z = numbers(3, dtype=jnp.complex64)
    yield bad("complex conj", vjp(lambda z: z * z, lambda r, g: (2 * jnp.conj(r[0]) * g,)), (z,), ["z"])
    yield bad("complex abs2 conj", vjp(lambda z: jnp.real(z * jnp.conj(z)), lambda r, g: (2 * r[0] * g,)), (z,), ["z"])
    yield bad("imaginary part lost", vjp(jnp.sin, lambda r, g: (jnp.cos(r[0]) * g.real,)), (z,), ["x"])
    yield bad(
        "second output lost", vjp(lambda x: (jnp.sin(x), jnp.cos(x)), lambda r, g: (g[0] * jnp.cos(r[0]),)), (V,), ["x"]
    )
    yield bad("one component", spoiled(lambda g: g.at[3].mul(1.01)), (V,), ["x"])
    yield bad("None of an argument that matters", vjp(lambda x, y: jnp.sin(x) * y, lambda r, g: (
        g * jnp.cos(r[0]) * r[1], None)), (V, POS), ["y"])  # fmt: skip
    yield bad("nondiff argument forgotten", lambda x: vjp(
        lambda x, n: x**n, lambda n, r, g: (r[0] ** (n - 1) * g,), fwd=lambda x, n: (x**n,
             (x,)), nondiff_argnums=(1,))(x, 3),
        (POS,), ["x"])  # fmt: skip
    yield bad("defjvps", _wrong_jvps(), (V, POS), ["y"], rows=["JVP"])
    yield bad("custom_gradient", jax.custom_gradient(lambda x: (x**3, lambda g: (2 * x**2 * g,))), (V,), ["args[0]"])
    yield bad("constant added", spoiled(lambda g: g + 1e-3), (V,), ["x"], "LAW", ["zero cotangent"])
    yield bad(
        "primal of fwd",
        vjp(jnp.sin, lambda r, g: (jnp.cos(r[0]) * g,), fwd=lambda x: (jnp.sin(x) * 1.001, (x,))),
        (V,),
        (),
        "LAW_BROKEN",
        ["primal"],
    )
    yield bad("primal of jvp", _wrong_primal(), (V,), (), "LAW_BROKEN", ["primal"])
    yield bad(
        "under vmap", spoiled(only_batched), (V,), (), "TRANSFORM_WRONG", ["vmap over cotangents", "vmap over both"]
    )
    yield bad("under jit", spoiled(only_traced), (V,), ["x"], transforms=True, rows=["jit"])
    yield bad("second order", vjp(jnp.sin, lambda r, g: (jnp.cos(lax.stop_gradient(r[0])) * g,)), (V,), (),
              "SECOND_ORDER_WRONG", ["reverse over reverse"], 2)  # fmt: skip
    yield bad(
        "second order of a jvp",
        jvp(jnp.sin, lambda x, t: lax.stop_gradient(jnp.cos(x[0])) * t[0]),
        (V,),
        (),
        "SECOND_ORDER_WRONG",
        ["forward over reverse", "reverse over reverse"],
        2,
    )
    yield bad("second order, a detached norm", vjp(lambda x: jnp.sqrt(jnp.sum(x**2)), lambda r, g: (g * r[0] / r[1],),
              fwd=lambda x: (jnp.sqrt(jnp.sum(x**2)), (x, lax.stop_gradient(jnp.sqrt(jnp.sum(x**2)))))), (V,), (),
              "SECOND_ORDER_WRONG", ["reverse over reverse"], 2)  # fmt: skip
    yield bad("tangent nonlinear", jvp(jnp.sin, lambda x, t: jnp.cos(x[0]) * jnp.abs(t[0])), (V,), (), "LAW", ["JVP"])


def _wrong_jvps():
    rule = custom_jvp(lambda x, y: x * jnp.exp(y))
    rule.defjvps(lambda t, out, x, y: jnp.exp(y) * t, lambda t, out, x, y: jnp.exp(y) * t)
    return rule


def _wrong_primal():
    rule = custom_jvp(jnp.sin)
    rule.defjvp(lambda x, t: (jnp.sin(x[0]) * 1.001, jnp.cos(x[0]) * t[0]))
    return rule


RULES = RIGHT
