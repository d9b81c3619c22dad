"""What a comparison should be is told only where many points tell it; and an edit is printed so that it runs."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import jaxcheck as jc
from tests.where import build

pytestmark = pytest.mark.where

HUBER = """import jax.numpy as jnp


def loss(p, x, y):
    r = x @ p["w"] - y
    q = jnp.abs(r)
    return jnp.sum(jnp.where(q < 0.8, 0.5 * r**2, 0.8 * (q - 0.4)))


def grad(p, x, y):
    r = x @ p["w"] - y
    q = jnp.abs(r)
    d = jnp.where(MASK, r, 0.8 * jnp.sign(r))
    return {"w": x.T @ d}
"""
TRIPLET = """import jax.numpy as jnp


def loss(p, xa, xp, xn, margin):
    a, p, n = xa @ p["w"], xp @ p["w"], xn @ p["w"]
    dp, dn = jnp.sum((a - p) ** 2, 1), jnp.sum((a - n) ** 2, 1)
    return jnp.mean(jnp.maximum(dp - dn + margin, 0.0))


def grad(p, xa, xp, xn, margin):
    w = p["w"]
    a, p, n = xa @ w, xp @ w, xn @ w
    dp, dn = jnp.sum((a - p) ** 2, 1), jnp.sum((a - n) ** 2, 1)
    active = (MASK).astype(w.dtype)[:, None] / len(xa)
    return {"w": xa.T @ (active * 2 * (n - p)) + xp.T @ (active * 2 * (p - a)) + xn.T @ (active * 2 * (a - n))}
"""


def huber(seed):
    draw = np.random.default_rng(seed).normal
    return [np.asarray(draw(size=size), np.float32) for size in (4, (12, 4), 12)]


def triplet(seed):
    draw = np.random.default_rng(seed).normal
    return [*(np.asarray(draw(size=size), np.float32) for size in ((5, 3), (8, 5), (8, 5), (8, 5))), 0.3]


def named(source, mask, point):
    """(the report, the mask's line), the line being the one that is named."""
    found = build.module("decisions", source.replace("MASK", mask))
    w, *args = point
    report = jc.check_grad(found.loss, {"w": w}, found.grad, args=args)
    (culprit,) = report.culprits
    assert mask in culprit.source
    return culprit


def is_right(source, mask, culprit, points):
    lines = source.replace("MASK", mask).split("\n")
    lines[culprit.line - 1] = "    " + culprit.edit
    found = build.module("decisions", "\n".join(lines))
    pairs = [(found.grad({"w": w}, *args), jax.grad(found.loss)({"w": w}, *args)) for w, *args in points]
    return all(np.allclose(x["w"], y["w"], rtol=1e-3, atol=1e-3) for x, y in pairs)


@pytest.mark.parametrize(
    ("mask", "edit"),
    [("q < 1.6", "q < 0.8"), ("r < 0.8", "q < 0.8"), ("q < r", "")],
    ids=["of two numbers the one that more points bear out", "another value", "none of those that fit two points"],
)
def test_a_comparison_is_told_as_it_should_be_or_not_at_all(mask, edit):
    culprit = named(HUBER, mask, huber(1))
    assert culprit.edit == (f"d = jnp.where({edit}, r, 0.8 * jnp.sign(r))" if edit else "")
    assert edit or culprit.what.startswith("another outcome of `lt`")


@pytest.mark.parametrize("seed", range(6))
def test_a_mask_that_is_inverted_at_two_points_only_is_not_told_to_be_inverted(seed):
    culprit = named(TRIPLET, "dn - dp + margin > 0", triplet(seed))
    assert culprit.edit == ""
    assert "one minus" not in culprit.what
    assert "inverted" not in culprit.what


def test_a_mask_of_ones_and_zeros_is_inverted_so_that_it_runs():
    mask = "dp - dn + margin <= 0"
    culprit = named(TRIPLET, mask, triplet(0))
    assert culprit.edit
    assert is_right(TRIPLET, mask, culprit, map(triplet, range(20)))
