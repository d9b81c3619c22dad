"""Programs whose rows run better one after the other: convolutions above all, in a few seconds each."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcheck as jc
from jaxcheck.program.run.batching import sequential
from jaxcheck.result import Verdict

RNG = np.random.default_rng(0)


def conv(dimensions, **options):
    spatial = "HWD"[:dimensions]
    numbers = (f"NC{spatial}", f"OI{spatial}", f"NC{spatial}")

    def f(p):
        out = lax.conv_general_dilated(
            p["x"],
            p["k"],
            options.get("strides", (1,) * dimensions),
            [(1, 1)] * dimensions,
            lhs_dilation=options.get("lhs_dilation"),
            rhs_dilation=options.get("rhs_dilation"),
            dimension_numbers=numbers,
            feature_group_count=options.get("groups", 1),
        )
        return jnp.sum(jnp.sin(out))

    channels = 2
    x = RNG.standard_normal((2, channels, *(5, 4, 3)[:dimensions])).astype(np.float32)
    k = RNG.standard_normal((2, channels // options.get("groups", 1), *(3, 3, 2)[:dimensions])).astype(np.float32)
    return f, {"x": x, "k": k}


CASES = {
    "1-d": conv(1), "2-d": conv(2), "3-d": conv(3), "strided": conv(2, strides=(2, 1)),
    "dilated": conv(2, rhs_dilation=(2, 1)), "depthwise": conv(2, groups=2), "transposed": conv(2, lhs_dilation=(2, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_convolution_ends(name):
    f, params = CASES[name]
    assert jc.check_grad(f, params).verdict is Verdict.PASS

    def off(p):
        g = jax.grad(f)(p)
        return {"x": g["x"], "k": g["k"].at[0, 0].multiply(1.01)}

    report = jc.check_grad(f, params, off, where=False)
    assert report.verdict is Verdict.FAIL and report.leaf("x").verdict is Verdict.PASS


def test_why_rows_run_one_by_one():
    f, params = CASES["2-d"]
    program = jax.make_jaxpr(lambda x, k: f({"x": x, "k": k}))(params["x"], params["k"])
    assert "convolution" in sequential(program)
    assert not sequential(program, 0) and not sequential(program, 1)
    assert not sequential(jax.make_jaxpr(lambda x: f({"x": x, "k": params["k"]}))(params["x"]))

    def step(c, x, k):
        return f({"x": x * c, "k": k}), None

    looped = jax.make_jaxpr(lambda x, k: lax.scan(lambda c, _: step(c, x, k), 1.0, None, 2)[0])(*params.values())
    assert "convolution" in sequential(looped)
    assert not sequential(jax.make_jaxpr(lambda x: jnp.sort(x) @ x)(np.ones(3)))
