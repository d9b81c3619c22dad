"""A line that makes a value for one use alone is named beside that use, be its value right as something else."""

from __future__ import annotations

import numpy as np
import pytest

import jaxcheck as jc
from tests.where import build

pytestmark = pytest.mark.where

SLOPE = """import jax
import jax.numpy as jnp


def loss(p, x, y):
    z = 0.7 * (x @ p["W"] + p["b"])
    h = jax.nn.softplus(z)
    return jnp.sum((h @ p["V"] - y) ** 2)


def grad(p, x, y):
    h = jax.nn.softplus(0.7 * (x @ p["W"] + p["b"]))
    z = VALUE
    dh = 2 * (h @ p["V"] - y) @ p["V"].T
    s = jax.nn.sigmoid(z)
    dz = 0.7 * dh * s
    return {"W": x.T @ dz, "b": dz.sum(0), "V": h.T @ (2 * (h @ p["V"] - y))}
"""
FORCES = """import jax.numpy as jnp


def loss(p, m):
    r = p["pos"][:, None, :] - p["pos"][None, :, :]
    d2 = jnp.sum(r**2, -1) + 0.1
    return -0.5 * jnp.sum(m[:, None] * m[None, :] / jnp.sqrt(d2))


def grad(p, m):
    r = p["pos"][:, None, :] - p["pos"][None, :, :]
    d2 = (r**2).sum(-1) + 0.1
    inv3 = d2**-0.5
    w = m[:, None] * m[None, :] * inv3
    return {"pos": jnp.einsum("ij,ijk->ik", w, r)}
"""
PAIRS = """import jax
import jax.numpy as jnp


def loss(p, x):
    s = x @ p["W"]
    return -jnp.mean(jnp.diag(jax.nn.log_softmax(s, 0))) - jnp.mean(jnp.diag(jax.nn.log_softmax(s, 1)))


def grad(p, x):
    s = x @ p["W"]
    n = len(s)
    rows = jax.nn.softmax(s, axis=1)
    columns = jax.nn.softmax(s, axis=0)
    G = (rows + columns.T - 2 * jnp.eye(n)) / n
    return {"W": x.T @ G}
"""
TURNS = """import jax.numpy as jnp


def step(u, k):
    return u + 0.1 * k * jnp.sin(u)


def loss(p, y):
    u = p["u0"]
    for _ in range(4):
        u = step(u, p["k"])
    return jnp.sum((u - y) ** 2)


def grad(p, y):
    kept = [p["u0"]]
    for _ in range(4):
        kept.append(step(kept[-1], p["k"]))
    lam, gk = 2 * (kept[4] - y), jnp.zeros(5)
    for i in range(4):
        u = kept[3 - i]
        v = kept[4 - i]
        gk = gk + 0.1 * lam * jnp.sin(v)
        lam = lam * (1 + 0.1 * p["k"] * jnp.cos(u))
    return {"u0": lam, "k": gk}
"""


def draw(*shape, seed=0):
    return np.asarray(np.random.default_rng(seed).normal(size=shape), np.float32)


NET = {"W": draw(4, 3), "b": draw(3), "V": draw(3, 2)}, (draw(6, 4), draw(6, 2))
CASES = {
    "a value of the loss": (SLOPE.replace("VALUE", 'x @ p["W"]'), *NET, {"z = ", "s = "}),
    "another name": (SLOPE.replace("VALUE", "h"), *NET, {"z = ", "s = "}),
    "a power": (FORCES, {"pos": draw(6, 3)}, (np.abs(draw(6)) + 0.5,), {"inv3 = ", "w = ", "return "}),
    "transposed once too often": (PAIRS, {"W": draw(4, 6)}, (draw(6, 4, seed=1),), {"columns = ", "G = "}),
    "of a list": (TURNS, {"u0": draw(5), "k": draw(5, seed=1)}, (draw(5, seed=2),), {"v = ", "gk = "}),
}


@pytest.mark.parametrize("name", CASES)
def test_both_lines_are_named(name):
    text, params, args, lines = CASES[name]
    found = build.module("made_for", text)
    report = jc.check_grad(found.loss, params, found.grad, args=args)
    assert {culprit.kind for culprit in report.culprits} == {"one of"}
    assert {start for start in lines for c in report.culprits if c.source.startswith(start)} == lines
    assert len(report.culprits) == len(lines)
