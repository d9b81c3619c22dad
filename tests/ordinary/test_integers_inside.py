"""NumPy's default integers (lengths, indices, labels) inside loops and branches, in JAX's default mode: JAX keeps what
it made of such an array in the 32-bit mode, and a trace of the 64-bit mode finds it there, too narrow for its types."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcheck as jc
from jaxcheck.test_util import check_grads

W = jnp.array([0.3, 0.5], jnp.float32)

# How the integers `i` are used beside a traced one, `t`: a weight of w's two components.
USES = {
    "less": lambda t, i: jnp.where(t < i, 1.0, 0.5),
    "equal": lambda t, i: jnp.where(t == i, 1.0, 0.5),
    "sum": lambda t, i: (t + i) * 0.25,
    "maximum": lambda t, i: jnp.maximum(t, i) * 0.25,
    "remainder": lambda t, i: (t % i) * 0.25 + 1.0,
    "index": lambda t, i: jnp.array([0.5, 2.0])[(t + i) % 2],
    "clip": lambda t, i: jnp.clip(t, 0, i) * 0.25 + 0.1,
    "negative": lambda t, i: -i * 0.25 + t,
    "one_hot": lambda t, i: jax.nn.one_hot(i, 4, dtype=jnp.float32)[:, 1] + t,
    "gather": lambda t, i: jnp.arange(5.0)[i] + t,
    "segments": lambda t, i: jax.ops.segment_sum(jnp.ones(2), i, 4)[:2] + 0.5 + t,
    "scatter": lambda t, i: jnp.zeros(5).at[i].add(1.0)[:2] + 0.5 + t,
    "cumulative": lambda t, i: jnp.cumsum(i) * 0.25 + t,
    "product": lambda t, i: (i @ i) * 0.1 + t * jnp.ones(2),
    "sorted": lambda t, i: jnp.sort(i)[::-1] * 0.25 + t,
    "power": lambda t, i: jnp.float32(0.7) ** (i + t),
    "bits": lambda t, i: ((t ^ i) & 3) * 0.25 + 0.1,
    "shift": lambda t, i: (i << t) * 0.25,
    "take": lambda t, i: jnp.take(jnp.arange(6.0), i + t, mode="clip"),
    "slice": lambda t, i: lax.dynamic_slice(jnp.arange(6.0), (i[1] + t,), (2,)) + 0.5,
}

# Where: a scalar of w and a function (w, t) -> weights.
PLACES = {
    "scan": lambda w, f: lax.scan(lambda h, t: (jnp.tanh(w * h + f(t)), None), w, jnp.arange(3))[0].sum(),
    "fori_loop": lambda w, f: lax.fori_loop(0, 3, lambda t, h: jnp.tanh(w * h + f(t)), w).sum(),
    "while_loop": lambda w, f: jnp.sum(
        w * lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] + f(c[0])), (0, jnp.zeros(2)))[1]
    ),
    "cond": lambda w, f: lax.cond(jnp.sum(w) > 0, lambda w: w * f(jnp.int32(1)), lambda w: w, w).sum(),
    "map": lambda w, f: lax.map(lambda t: jnp.sum(jnp.sin(w) * f(t)), jnp.arange(3)).sum(),
    "checkpoint": lambda w, f: jax.checkpoint(lambda w, t: jnp.sum(jnp.sin(w) * f(t)))(w, jnp.int32(1)),
    "scan_in_jit": lambda w, f: jax.jit(
        lambda w: lax.scan(lambda h, t: (jnp.tanh(w * h + f(t)), None), w, jnp.arange(3))[0].sum()
    )(w),
    "jit_in_scan": lambda w, f: lax.scan(
        lambda h, t: (jax.jit(lambda h, t: jnp.tanh(w * h + f(t)))(h, t), None), w, jnp.arange(3)
    )[0].sum(),
    "scan_in_scan": lambda w, f: lax.scan(
        lambda h, t: (lax.scan(lambda h, s: (jnp.tanh(w * h + f(s)), None), h, jnp.arange(2))[0], None),
        w,
        jnp.arange(2),
    )[0].sum(),
    "vmap_of_scan": lambda w, f: jax.vmap(
        lambda v: lax.scan(lambda h, t: (jnp.tanh(v * h + f(t)), None), w, jnp.arange(3))[0].sum()
    )(w).sum(),
}
# How the array is there, and its type.
HELD = ("closed over", "in args", "inside jit")
TYPES = (np.int64, np.int32, np.uint8, np.uint32, np.uint64)
CASES = list(itertools.product(USES, PLACES, HELD, TYPES))
# Every pair of a use and a place, with NumPy's default; the rest by a stride that shares no factor with the others.
SOME = [c for k, c in enumerate(CASES) if k % 37 == 0 or (c[2:] == ("closed over", np.int64))]


def made(use: str, place: str, held: str, kind: type):
    """(loss, args), the array a new one: JAX remembers what it made of it."""
    i = np.array([3, 1], kind)
    at = PLACES[place]

    def loss(w, *rest):
        return at(w, lambda t: USES[use](t, *(rest or (i,))))

    return (jax.jit(loss) if held == "inside jit" else loss), ((i,) if held == "in args" else ())


@pytest.mark.parametrize(
    ("use", "place", "held", "kind"), [pytest.param(*c, id=f"{c[0]}-{c[1]}-{c[2]}-{c[3].__name__}") for c in SOME]
)
def test_what_jax_differentiates_is_checked(use, place, held, kind):
    loss, args = made(use, place, held, kind)
    try:
        value, slope = loss(W, *args), jax.grad(loss)(W, *args)
    except (TypeError, ValueError):
        pytest.skip("JAX refuses it")
    if not np.any(slope) or not np.isfinite(value):
        pytest.skip("saturated: unsigned integers are large where they are negative")
    right = jc.check_grad(loss, W, jax.grad(loss), args=args, where=False)
    assert right.ok, right
    assert right.difference < 1e-9
    if use == "less":
        wrong = jc.check_grad(loss, W, lambda w, *rest: jax.grad(loss)(w, *rest) * 1.01, args=args, where=False)
        assert wrong.verdict is jc.Verdict.FAIL, wrong


@pytest.mark.parametrize("door", ["none", "rule", "batch", "drop-in", "second call"])
@pytest.mark.parametrize("place", ["scan", "cond", "jit_in_scan"])
def test_in_every_door(place, door):
    loss, _ = made("less", place, "closed over", np.int64)
    if door == "none":
        assert jc.check_grad(loss, W).ok
    elif door == "batch":
        assert jc.check_batch(loss, jnp.stack([W, W + 0.1, W - 0.1]), jax.grad(loss)).ok
    elif door == "drop-in":
        check_grads(loss, (W,), order=2)
    elif door == "second call":
        assert all(jc.check_grad(loss, W, jax.grad(loss)).ok for _ in range(2))
    else:
        rule = jax.custom_vjp(loss)
        rule.defvjp(lambda w: (loss(w), w), lambda w, g: (g * jax.grad(loss)(w),))
        report = jc.check_rule(rule, W)
        assert report.ok, report
