"""What holds for one call alone (its sizes, the numbers it was handed) is not shown as what the line should be."""

from __future__ import annotations

import numpy as np
import pytest

import jaxcheck as jc
from tests.where import build

pytestmark = pytest.mark.where

HEAD = "import jax\nimport jax.numpy as jnp\n"
DENSE = """
def loss(p, x, y):
    h = jnp.tanh(x @ p["W"] + p["b"])
    return jnp.sum((h - y) ** 2) / x.shape[0]

def grad(p, x, y):
    h = jnp.tanh(x @ p["W"] + p["b"])
    e = 2 * (h - y) / x.shape[0]
    dz = e * (1 - h**2)
    return {"W": x.T @ dz, "b": dz.sum(0)}
"""
DECAY = """
def loss(p, x, dt, lam):
    return dt * jnp.sum((x * p) ** 2) + lam * jnp.sum(p**2)

def grad(p, x, dt, lam):
    g = 2 * dt * x**2 * p
    return g + 2 * lam * p
"""
LOOP = """
def states(p, u):
    def step(h, x):
        h = p["lam"] * h + p["b"] * x
        return h, h
    return jax.lax.scan(step, jnp.zeros(()), u)[1]

def loss(p, u, t):
    return jnp.sum((states(p, u) - t) ** 2)

def grad(p, u, t):
    hs = states(p, u)
    before = jnp.concatenate([jnp.zeros(1), hs[:-1]])
    def back(carry, row):
        d, dlam, db = carry
        e, h, x = row
        d = e + p["lam"] * d
        dlam = dlam + d * h
        db = db + d * x
        return (d, dlam, db), None
    zero = jnp.zeros(())
    (_, dlam, db), _ = jax.lax.scan(back, (zero, zero, zero), (2 * (hs - t), before, u), reverse=True)
    return {"lam": dlam, "b": db}
"""


def named(text, right, wrong, params, *args):
    assert text.count(right) == 1
    found = build.module("this_call", HEAD + text.replace(right, wrong))
    return jc.check_grad(found.loss, params, found.grad, args=args).culprits


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_batch_is_divided_by_its_length_whatever_that_is():
    params = {"W": draw(3, 4), "b": draw(4, seed=1)}
    (culprit,) = named(DENSE, "2 * (h - y) / x.shape[0]", "2 * (h - y)", params, draw(7, 3, seed=2), draw(7, 4, seed=3))
    assert culprit.edit in ("e = 2 * (h - y) / x.shape[0]", "e = (2 * (h - y)) / x.shape[0]")
    # Of a batch as long as the weights are wide nobody knows which of the two is meant.
    (culprit,) = named(DENSE, "2 * (h - y) / x.shape[0]", "2 * (h - y)", params, draw(4, 3, seed=2), draw(4, 4, seed=3))
    assert culprit.line == 10 and culprit.edit == "" and "(4: a size here)" in culprit.what


@pytest.mark.parametrize(("dt", "size"), [(0.5, 4), (0.25, 4), (0.5, 70_000)], ids=["0.5", "0.25", "cut down"])
def test_a_number_that_is_handed_over_is_no_constant(dt, size):
    edits = [c.edit for c in named(DECAY, "g + 2 * lam * p", "g + lam * p", draw(size), draw(size, seed=1), dt, 0.3)]
    assert "return g + 2 * (lam * p)" in edits and not any("/ dt" in edit for edit in edits)


@pytest.mark.slow
def test_of_a_wrong_array_that_a_loop_is_handed_its_lines_are_innocent():
    params = {"lam": 0.7, "b": 0.4}
    for wrong in ("jnp.concatenate([jnp.zeros(1), hs[1:]])", "hs"):
        culprits = named(LOOP, "jnp.concatenate([jnp.zeros(1), hs[:-1]])", wrong, params, draw(6), draw(6, seed=1))
        assert all(c.source.startswith("before") for c in culprits), culprits


def test_a_wrong_value_in_a_loop_is_named_all_the_same():
    (culprit,) = named(LOOP, "db = db + d * x", "db = db + d * h", {"lam": 0.7, "b": 0.4}, draw(6), draw(6, seed=1))
    assert culprit.source == "db = db + d * h"


def test_real_numbers_beside_complex_ones_have_real_cotangents():
    rng = np.random.default_rng(0)
    w, v = (rng.normal(size=(3, 2)) + 1j * rng.normal(size=(3, 2)) for _ in range(2))
    text = """
def loss(q, w, v):
    a = jnp.tanh((q @ w.conj().T).real)
    return jnp.sum(jnp.abs(a @ v) ** 2)

def grad(q, w, v):
    a = jnp.tanh((q @ w.conj().T).real)
    o = a @ v
    da = 2 * (o.conj() @ v.T).real
    ds = da * (1 - a**2)
    return ds @ w.conj()
"""
    q = rng.normal(size=(3, 2)) + 1j * rng.normal(size=(3, 2))
    (culprit,) = named(text, "ds = da * (1 - a**2)", "ds = da * (1 - a)", q, w, v)
    assert culprit.edit == "ds = da * (1 - a**2)"


def test_a_real_part_too_many_breaks_no_search():
    rng = np.random.default_rng(0)
    params = {n: rng.normal(size=s) + 1j * rng.normal(size=s) for n, s in (("B", (3, 2)), ("C", (2, 3)))}
    text = """
def loss(p, u, t):
    return jnp.mean(((jnp.sin(u @ p["B"].T) @ p["C"].T).real - t) ** 2)

def grad(p, u, t):
    z = u @ p["B"].T
    h = jnp.sin(z)
    dy = 2 * ((h @ p["C"].T).real - t) / t.size
    dh = dy @ p["C"]
    return {"B": (dh * jnp.cos(z)).T @ u, "C": dy.T @ h}
"""
    for culprit in named(text, 'dh = dy @ p["C"]', 'dh = dy @ p["C"].real', params, draw(5, 2), draw(5, 2, seed=1)):
        assert culprit.line == 11
