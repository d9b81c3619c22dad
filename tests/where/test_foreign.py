"""Kernels and host functions in a backward pass: the rest of it is searched, and nobody is named for what they do."""

from __future__ import annotations

import ast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl

import jaxcheck as jc
from tests.where import build, rates
from tests.where.cases import CASES

pytestmark = pytest.mark.where

# What a line gives, through a host function that hands it on, or does not.
HOST = """
import jax as _jax
import numpy as _np


def _through_host(x, f=lambda v: v):
    if not _jax.numpy.issubdtype(x.dtype, _jax.numpy.inexact):
        return x
    like = _jax.ShapeDtypeStruct(x.shape, x.dtype)
    return _jax.pure_callback(lambda v: f(_np.asarray(v)), like, x, vmap_method="sequential")
"""


def through_host(net: str, source: str, assigned: str, f: str = "") -> object:
    """The module with the right side of the last `assigned = ...` in it computed by way of the host."""
    those = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assign)]
    value = max((n for n in those if ast.unparse(n.targets[0]) == assigned), key=lambda n: n.lineno).value
    lines = source.split("\n")
    line, first, last = lines[value.lineno - 1], value.col_offset, value.end_col_offset
    lines[value.lineno - 1] = f"{line[:first]}_through_host({line[first:last]}{f}){line[last:]}"
    return build.module(net, "\n".join(lines) + HOST)


def checked(found: object) -> jc.Report:
    params, args = build.point(found, np.float32)
    return jc.check_grad(found.loss, params, found.grad, args=args)


@pytest.mark.parametrize(
    ("net", "assigned", "wrong"),
    [
        ("dense", "h1", "dz1 = dh1 * (1 - h1)"),
        ("dense", "dW2", "dz1 = dh1 * (1 - h1)"),
        ("dense", "e", "dz3 = q - y"),
        ("attention", "a", "dk = ds @ q"),
        ("layernorm", "xhat", "dg = (dh * xc).sum(0)"),
    ],
)
def test_the_rest_is_searched(net, assigned, wrong):
    case = next(c for c in CASES if (c.net, c.wrong) == (net, wrong))
    source, line = build._changed((build.NETS / f"{net}.py").read_text(encoding="utf-8"), case)
    report = checked(through_host(net, source, assigned))
    assert rates.outcome(report, line) == "line right"


@pytest.mark.parametrize("f", ["-v", "2 * v", "v * v"])
@pytest.mark.parametrize(
    ("net", "assigned"),
    [("renamed", "dpre1"), ("unet", "dboth"), ("mixture", "sd"), ("poisson", "deta"), ("attention", "out")],
)
def test_nobody_is_named_for_what_a_host_function_does(net, assigned, f):
    source = (build.NETS / f"{net}.py").read_text(encoding="utf-8")
    report = checked(through_host(net, source, assigned, f", lambda v: {f}"))
    assert rates.outcome(report, 0) in ("silent", "PASS")


def test_a_square_that_comes_back_transposed_is_not_known():
    def loss(w):
        return jnp.sum(jnp.sin(w @ w) ** 2)

    def grad(w):
        m = w @ w
        like = jax.ShapeDtypeStruct(m.shape, m.dtype)
        dm = jax.pure_callback(lambda v: np.sin(2 * np.asarray(v)).T, like, m)
        return dm @ w.T + w.T @ dm

    report = jc.check_grad(loss, np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32), grad)
    assert report.verdict is jc.Verdict.FAIL and report.culprits == ()


def kernel_of(f):
    """An elementwise kernel that is run in blocks of rows."""

    def body(x_ref, o_ref):
        o_ref[...] = f(x_ref[...])

    def run(x):
        block = pl.BlockSpec((2, x.shape[1]), lambda i: (i, 0))
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return pl.pallas_call(
            body, grid=(x.shape[0] // 2,), in_specs=[block], out_specs=block, out_shape=like, interpret=True
        )(x)

    return run


def kernel_rule(slope, last):
    """x w through a kernel, with a rule that has a kernel of its own."""
    act, act_slope = kernel_of(jnp.tanh), kernel_of(slope)

    @jax.custom_vjp
    def f(x, w):
        return act(x @ w)

    def fwd(x, w):
        z = x @ w
        return act(z), (x, w, act_slope(z))

    def bwd(kept, g):
        x, w, s = kept
        dz = g * s
        return dz @ w.T, last(x, dz)

    f.defvjp(fwd, bwd)
    return f


def right_last(x, dz):
    return x.T @ dz


def wrong_last(x, dz):
    return x.T @ dz / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slope", "last", "named"),
    [
        (lambda z: 1 - jnp.tanh(z) ** 2, wrong_last, ["return x.T @ dz / 2"]),
        (lambda z: 1 + jnp.tanh(z) ** 2, right_last, []),
        (lambda z: jnp.tanh(z) ** 2 - 1, right_last, []),
    ],
    ids=["beside a kernel", "a kernel", "a kernel's sign"],
)
def test_kernels(slope, last, named):
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 3), (3, 3)))
    report = jc.check_rule(kernel_rule(slope, last), x, w, level="quick")
    assert report.verdict is jc.Verdict.FAIL
    assert [culprit.source for culprit in report.culprits] == named
    assert not any("did not end" in note for note in report.notes)


def test_a_host_function_in_the_loss_keeps_the_search_silent():
    @jax.custom_jvp
    def doubled(x):
        return jax.pure_callback(lambda v: 2 * np.asarray(v), jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    doubled.defjvp(lambda xs, ts: (doubled(*xs), 2 * ts[0]))

    def grad(x):
        return 4 * x

    report = jc.check_grad(lambda x: jnp.sum(doubled(x) ** 2), np.arange(1.0, 4, dtype=np.float32), grad)
    assert report.verdict is jc.Verdict.FAIL and report.culprits == ()


@pytest.mark.parametrize("loss", [lambda x: jnp.sum(x**2), lambda x: float(np.sum(np.asarray(x) ** 2))])
def test_that_pythons_own_code_is_not_searched_is_said(loss):
    report = jc.check_grad(loss, np.arange(3.0) + 1, lambda x: np.array([2.2 * float(v) for v in x]))
    assert not report.culprits and any(note.startswith("The line was not looked for") for note in report.notes)
    assert not any("not looked for" in note for note in jc.check_grad(loss, np.arange(3.0) + 1, np.ones(3)).notes)
