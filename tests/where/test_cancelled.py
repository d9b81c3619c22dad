"""A gradient that is zero but for rounding is no reason to look for no line: a bias before batch norm has one."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from tests.where import build

pytestmark = pytest.mark.where

RNG = np.random.default_rng(5)

NORM = """
import jax.numpy as jnp

def loss(p, x, drop):
    z = x @ p["w"] + p["b"]
    zn = (z - z.mean(0)) / jnp.sqrt(z.var(0) + 0.1)
    return jnp.sum(jnp.tanh(p["g"] * zn) * drop)

def back(p, x, drop):
    n = len(x)
    z = x @ p["w"] + p["b"]
    std = jnp.sqrt(z.var(0) + 0.1)
    zn = (z - z.mean(0)) / std
    t = jnp.tanh(p["g"] * zn)
    h = t * drop
    ds = drop * (1 - t**2)
    dg = jnp.sum(ds * zn, axis=0)
    dzn = ds * p["g"]
    dz = (n * dzn - dzn.sum(0) - zn * (dzn * zn).sum(0)) / (n * std)
    return {"w": x.T @ dz, "b": dz.sum(0), "g": dg}
"""


@pytest.mark.parametrize(
    ("right", "wrong"), [("1 - t**2", "1 - h**2"), ("jnp.sum(ds * zn, axis=0)", "jnp.sum(ds * z, axis=0)")]
)
def test_a_bias_before_batch_norm(right, wrong):
    assert NORM.count(right) == 1
    text = NORM.replace(right, wrong)
    found = build.module("cancelled", text)
    params = {"w": RNG.normal(size=(3, 5)), "b": RNG.normal(size=5), "g": 1 + RNG.normal(size=5) / 4}
    drop = jnp.asarray(RNG.integers(0, 2, (7, 5)) / 0.6, jnp.float32)
    params = {k: jnp.asarray(v, jnp.float32) for k, v in params.items()}
    report = jc.check_grad(found.loss, params, found.back, args=(RNG.normal(size=(7, 3)), drop))
    assert report.verdict == "FAIL"
    line = next(n for n, said in enumerate(text.splitlines(), 1) if wrong in said)
    assert [c.line for c in report.culprits] == [line]
