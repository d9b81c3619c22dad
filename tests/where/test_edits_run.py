"""An edit that is printed runs, and makes the gradient right: what is replaced is the operand that was meant."""

from __future__ import annotations

import ast

import jax
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.program.where import source, syntax
from jaxcheck.program.where.places import Place
from tests.where import build

pytestmark = pytest.mark.where

SPREAD = """import jax.numpy as jnp


def loss(p, x):
    return jnp.sum((x * p["t"] - x.mean(0) * p["s"]) ** 2)


def grad(p, x):
    n, d = x.shape
    e = 2 * (x * p["t"] - x.mean(0) * p["s"])
    dmu = -e.sum(0)
    spread = jnp.ones((n, d)) * dmu
    return {"s": (spread * x).sum(0), "t": (e * x).sum(0)}
"""
POLICY = """import jax
import jax.numpy as jnp


def loss(p, x, act, adv):
    lp = jax.nn.log_softmax(x @ p["w"])
    return -jnp.mean(jnp.exp(lp[jnp.arange(len(x)), act]) * adv)


def grad(p, x, act, adv):
    n = len(x)
    lp = jax.nn.log_softmax(x @ p["w"])
    pi = jnp.exp(lp)
    ratio = jnp.exp(lp[jnp.arange(n), act])
    dlp = -adv / n
    onehot = jax.nn.one_hot(act, pi.shape[1])
    dlogits = dlp[:, None] * (onehot - pi)
    return {"w": x.T @ dlogits}
"""
GATES = """import jax
import jax.numpy as jnp


def loss(p, x):
    return jnp.sum(jax.nn.softmax(x @ p["w"]) ** 3)


def grad(p, x):
    g = jax.nn.softmax(x @ p["w"])
    dg = 3 * g**2
    ds = g * (dg - jnp.einsum("ne->n", dg)[:, None])
    return {"w": x.T @ ds}
"""
# What the wrong line gives is zero at every step, so that `dc` is what is added to it; mended, it is more.
CARRIED = """import jax
import jax.numpy as jnp


def forward(p, xs):
    h, c, saved = 0, 0, []
    for x in xs:
        f, g, ph, pc = jax.nn.sigmoid(x @ p["w"] + h @ p["u"] if saved else x @ p["w"]), jnp.tanh(x @ p["v"]), h, c
        c = f * c + g
        h = jnp.tanh(c)
        saved.append((x, ph, pc, f, g, h))
    return h, saved


def loss(p, xs):
    return jnp.sum(forward(p, xs)[0] ** 2)


def step(p, dh, dnext, kept):
    x, ph, pc, f, g, h = kept
    dc = dnext + dh * (1 - h**2)
    da = dc * pc * f * (1 - f)
    dprev = dnext * f
    return da @ p["u"].T, dprev, {"w": x.T @ da, "u": jnp.transpose(ph + 0 * h) @ da, "v": x.T @ (dc * (1 - g**2))}


def grad(p, xs):
    h, saved = forward(p, xs)
    dh, dc, total = 2 * h, jnp.zeros_like(h), jax.tree.map(jnp.zeros_like, p)
    for kept in reversed(saved):
        dh, dc, found = step(p, dh, dc, kept)
        total = jax.tree.map(jnp.add, total, found)
    return total
"""


def draw(*shape):
    return np.asarray(np.random.default_rng(0).normal(size=shape), np.float32)


GIVEN = {
    "a shape is no value": (SPREAD, {"s": draw(3), "t": draw(3) + 1}, (draw(9, 3),), 12),
    "an axis that is added": (
        POLICY,
        {"w": draw(4, 3)},
        (draw(12, 4), np.arange(12) % 3, draw(12) + 2),
        15,
    ),
    "what is zero as long as it is wrong": (
        CARRIED,
        {"w": draw(2, 4), "u": draw(4, 4), "v": draw(2, 4)},
        (draw(3, 3, 2),),
        23,
    ),
    "a subscript is no value": (GATES, {"w": draw(4, 3)}, (draw(6, 4),), 12),
}


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_printed_runs_and_is_right(name):
    text, params, args, at = GIVEN[name]
    found = build.module("edits", text)
    report = jc.check_grad(found.loss, params, found.grad, args=args)
    assert at in [culprit.line for culprit in report.culprits]
    for culprit in report.culprits:
        if culprit.edit:
            lines = text.split("\n")
            lines[culprit.line - 1] = "    " + culprit.edit
            edited = build.module("edits", "\n".join(lines)).grad(params, *args)
            truth = jax.grad(found.loss)(params, *args)
            assert all(np.allclose(edited[k], truth[k], rtol=1e-4, atol=1e-5) for k in truth)
    assert any(culprit.edit for culprit in report.culprits) or name == "a subscript is no value"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("jnp.ones((n, d))", None),
        ('jnp.einsum("ij->i", x)', "x"),
        ("jnp.sum(x, 0)", "x"),
        ("x.sum(0)", "x"),
        ("jax.tree.map(jnp.exp, x)", None),
        ("jnp.full(n, 2.0)", None),
        ("jnp.stack([x, y])", None),
        ("nn.relu(x)", "x"),
        ("-x", "x"),
    ],
)
def test_the_operand_of_an_expression(text, meant):
    found = syntax.operand(ast.parse(text, mode="eval").body, 0, 1)
    assert (None if found is None else ast.unparse(found)) == meant


@pytest.mark.parametrize(
    ("new", "line"),
    [("a / 9", "y = 2 * (a / 9)"), ("f(a)", "y = 2 * f(a)"), ("(a", ""), ("a -", "")],
    ids=["in parentheses where it needs them", "bare where not", "unclosed", "half"],
)
def test_what_does_not_parse_is_not_printed(tmp_path, new, line):
    file = tmp_path / "short.py"
    file.write_text("y = 2 * x\n", "utf-8")
    target = ast.parse("y = 2 * x").body[0].value.right
    assert source.replaced(Place(str(file), 1, 4, 1, 9, ""), target, new) == line
