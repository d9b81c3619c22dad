"""Rows in another order, of another place or from the wrong end, another axis of a softmax, a mask of rows: the line is
named; and with it the one that may as well be the wrong one."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.program.where import kernels
from tests.where import build

pytestmark = pytest.mark.where

HEAD = "import jax\nimport jax.numpy as jnp\n"

# Differences of neighbours, and what stands beside it in a ring.
RING = """
def loss(p, x):
    s = jnp.tanh(x @ p["w"]) * p["d"]
    t = s[:, 1:] - s[:, :-1]
    return jnp.sum(t**2) + jnp.sum(jnp.roll(s, 3, axis=1) * s**2)

def back(p, x):
    h = jnp.tanh(x @ p["w"])
    s = h * p["d"]
    t = s[:, 1:] - s[:, :-1]
    ds = 2 * s * jnp.roll(s, 3, axis=1)
    ds = ds.at[:, 1:].add(2 * t)
    ds = ds.at[:, :-1].add(-2 * t)
    ds = ds + jnp.roll(s**2, -3, axis=1)
    dh = ds * p["d"]
    return {"w": x.T @ (dh * (1 - h**2)), "d": jnp.sum(ds * h, axis=0)}
"""
SOFTMAX = """
def loss(p, x, y):
    z = jnp.tanh(x @ p["w"]) @ p["v"]
    return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(z, axis=1), axis=1))

def back(p, x, y):
    h = jnp.tanh(x @ p["w"])
    q = jax.nn.softmax(h @ p["v"], axis=1)
    dz = (q * y.sum(1, keepdims=True) - y) / len(x)
    dh = dz @ p["v"].T
    return {"w": x.T @ (dh * (1 - h**2)), "v": h.T @ dz}
"""
ROWS = """
def loss(p, x, keep, y):
    o = jnp.tanh(x @ p["w"]) @ p["v"]
    return jnp.sum(jnp.sum((o - y) ** 2, axis=-1) * keep) / jnp.sum(keep)

def back(p, x, keep, y):
    h = jnp.tanh(x @ p["w"])
    do = 2 * (h @ p["v"] - y) * keep[..., None] / jnp.sum(keep)
    dz = do @ p["v"].T * (1 - h**2)
    return {"w": jnp.einsum("bti,bto->io", x, dz), "v": jnp.einsum("bti,bto->io", h, do)}
"""
SCAN = """
def loss(p, xs, y):
    def step(h, x):
        return jnp.tanh(x @ p["U"] + h @ p["W"]), None
    h, _ = jax.lax.scan(step, jnp.zeros((3, 4)), xs)
    return jnp.sum((h - y) ** 2)

def back(p, xs, y):
    def step(h, x):
        new = jnp.tanh(x @ p["U"] + h @ p["W"])
        return new, (h, new)
    h, (before, after) = jax.lax.scan(step, jnp.zeros((3, 4)), xs)
    def turn(carry, row):
        dh, dU, dW = carry
        x, h0, h1 = row
        dz = dh * (1 - h1**2)
        return (dz @ p["W"].T, dU + x.T @ dz, dW + h0.T @ dz), None
    zero = (2 * (h - y), jnp.zeros((2, 4)), jnp.zeros((4, 4)))
    (_, dU, dW), _ = jax.lax.scan(turn, zero, (xs, before, after), reverse=True)
    return {"U": dU, "W": dW}
"""
# A mask that is decided on one line and made use of on the next; a sum that the next line divides by nothing.
POOL = """
def loss(p, x):
    h = jnp.sin(x @ p["w"]).reshape(4, 3, 2)
    return jnp.sum(h.max(axis=2) @ p["v"])

def back(p, x):
    z = x @ p["w"]
    h = jnp.sin(z).reshape(4, 3, 2)
    top = h.max(axis=2)
    won = h == top[:, :, None]
    dtop = jnp.ones((4, 1)) * p["v"]
    dh = won * dtop[:, :, None]
    return {"w": x.T @ (dh.reshape(4, 6) * jnp.cos(z)), "v": top.sum(axis=0)}
"""
RMS = """
def loss(p, x):
    h = x @ p["w"]
    r = jax.lax.rsqrt(jnp.mean(h**2, axis=-1, keepdims=True) + 0.01)
    return jnp.sum(jnp.sin(h * r))

def back(p, x):
    h = x @ p["w"]
    r = jax.lax.rsqrt(jnp.mean(h**2, axis=-1, keepdims=True) + 0.01)
    dn = jnp.cos(h * r)
    dot = jnp.mean(dn * h, axis=-1, keepdims=True)
    dh = r * dn - r**3 * h * dot
    return {"w": x.T @ dh}
"""
LISTED = """
def block(q, h):
    u = jnp.tanh(h @ q["A"])
    return h + u @ q["B"], u

def block_back(q, h, u, d):
    dz = d @ q["B"].T * (1 - u**2)
    return {"A": h.T @ dz, "B": u.T @ d}, d + dz @ q["A"].T

def loss(p, x):
    h = x @ p["in"]
    for q in p["blocks"]:
        h, _ = block(q, h)
    return jnp.sum(jnp.sin(h))

def back(p, x):
    h = x @ p["in"]
    kept, out = [], []
    for q in p["blocks"]:
        new, u = block(q, h)
        kept.append((h, u))
        h = new
    d = jnp.cos(h)
    for q, (h_in, u) in zip(reversed(p["blocks"]), reversed(kept)):
        g, d = block_back(q, h_in, u, d)
        out.append(g)
    return {"in": x.T @ d, "blocks": out[::-1]}
"""
# The body of a scan that only renames what it is given: `d = g` is no operation of its own.
RENAMED = """
@jax.custom_vjp
def f(x, a):
    def step(h, x):
        h = a * h + 2 * x
        return h, h
    return jax.lax.scan(step, jnp.zeros(3), x)[1]

def fwd(x, a):
    hs = f(x, a)
    return hs, (a, jnp.concatenate([jnp.zeros((1, 3)), hs[:-1]]))

def bwd(kept, ct):
    a, before = kept
    def step(carry, row):
        d, da = carry
        g, h = row
        d = d + g
        da = da + d * h
        return (d * a, da), 2 * d
    (_, da), dx = jax.lax.scan(step, (jnp.zeros(3), jnp.zeros(3)), (ct, before), reverse=True)
    return dx, da

f.defvjp(fwd, bwd)
"""


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


P = {"w": draw(3, 7), "d": draw(7)}
MASK = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1.0]])
GIVEN = {
    RING: ({"w": draw(3, 7), "d": draw(7)}, draw(4, 3)),
    SOFTMAX: ({"w": draw(3, 4), "v": draw(4, 5)}, draw(6, 3), np.abs(draw(6, 5))),
    ROWS: ({"w": draw(3, 4), "v": draw(4, 2)}, draw(2, 5, 3), MASK, draw(2, 5, 2)),
    SCAN: ({"U": draw(2, 4), "W": draw(4, 4)}, draw(5, 3, 2), draw(3, 4)),
    POOL: ({"w": draw(5, 6), "v": draw(3)}, draw(4, 5)),
    RMS: ({"w": draw(4, 7)}, draw(5, 4)),
    LISTED: (
        {"in": draw(3, 4), "blocks": [{"A": draw(4, 5, seed=n), "B": draw(5, 4, seed=n)} for n in (1, 2, 3)]},
        draw(6, 3),
    ),
}


def named(source, right, wrong):
    """(the lines that are named with one mistake planted, that of the mistake, what is said first)."""
    assert source.count(right) == 1
    text = HEAD + source.replace(right, wrong)
    found = build.module("order", text)
    if source is RENAMED:
        report = jc.check_rule(found.f, draw(5, 3), draw(3), algebra=False, level="quick")
    else:
        params, *args = GIVEN[source]
        report = jc.check_grad(found.loss, params, found.back, args=args)
    assert report.verdict == "FAIL"
    line = next(n for n, said in enumerate(text.splitlines(), 1) if wrong in said)
    return [c.line for c in report.culprits], line, [c.edit or c.what for c in report.culprits]


@pytest.mark.parametrize(
    ("source", "right", "wrong", "said"),
    [
        (RING, "at[:, 1:].add", "at[:, :-1].add", "an index higher by 1"),
        (RING, "roll(s**2, -3", "roll(s**2, 3", "rolled by -3"),
        (SOFTMAX, 'softmax(h @ p["v"], axis=1)', 'softmax(h @ p["v"], axis=0)', "axis=1"),
        (ROWS, "- y) * keep[..., None]", "- y) * 1", "keep[:, :, None]"),
        (SCAN, "after), reverse=True)", "after))", "`scan` in the other direction"),
        (RENAMED, "d = d + g", "d = g", "plus"),
    ],
    ids=range(6),
)  # fmt: skip
def test_the_line_alone(source, right, wrong, said):
    lines, line, edits = named(source, right, wrong)
    assert lines == [line]
    assert said in edits[0]


@pytest.mark.parametrize(
    ("source", "right", "wrong"),
    [
        (POOL, "h == top[:, :, None]", "h < top[:, :, None]"),
        (RMS, "jnp.mean(dn * h", "jnp.sum(dn * h"),
    ],
    ids=range(2),
)
def test_with_the_next_line_which_may_be_it_as_well(source, right, wrong):
    lines, line, _ = named(source, right, wrong)
    assert line in lines and len(lines) == 2


def test_nobody_where_a_loop_may_have_been_handed_the_wrong_things():
    _, _, edits = named(LISTED, "kept.append((h, u))", "kept.append((new, u))")
    assert not edits


def test_a_mask_in_the_place_of_numbers_is_told_by_nobodys_log(capfd):
    """JAX hands a jitted function's program what it is given; XLA writes an error of operands that do not fit."""
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(jax.jit(lambda x, y: x @ y))(np.ones((3, 3)), np.ones(3))
    (found,) = kernels.bound(closed.jaxpr.eqns[0], [np.ones((3, 3)), np.array([True, False, True])])
    assert found.tolist() == [2, 2, 2] and "E0102" not in capfd.readouterr().err
