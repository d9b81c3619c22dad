"""Losses that JAX differentiates by forward mode alone: autodiff is asked for so, one component after the other."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc


def loss(p):
    def step(state):
        i, y = state
        return i + 1, y * (1 - 0.1 * p["a"]) + 0.01 * jnp.sin(y) * p["b"]

    _, y = jax.lax.while_loop(lambda state: state[0] < 20, step, (0, p["a"] + jnp.ones((2, 3))))
    return jnp.sum(y**2)


POINT = {"a": np.array([0.5, 2.0, 1.0], np.float32), "b": np.array([[0.3], [0.7]], np.float32)}


@pytest.mark.parametrize("leaf", ["a", "b"])
@pytest.mark.parametrize("factor", [1.0, 1.0001])
def test_a_loop_without_reverse_mode(leaf, factor):
    def grad(p):
        g = jax.jacfwd(loss)(p)
        return {**g, leaf: factor * g[leaf]}

    report = jc.check_grad(loss, POINT, grad)
    assert report.ok == (factor == 1), str(report)
    assert [x.path for x in report.failed] == ([] if factor == 1 else [leaf])
    autodiff = report.witnesses[2]
    assert autodiff.how == "float64" and "forward mode" in autodiff.note


def test_too_many_components_are_left_to_the_differences():
    p = {"a": POINT["a"], "b": np.ones((2, 2000), np.float32)}

    def wide(p):
        return loss({"a": p["a"], "b": p["b"].mean(1, keepdims=True)})

    report = jc.check_grad(wide, p, jax.jacfwd(wide))
    assert report.witnesses[2].how == "absent" and report.verdict is not jc.Verdict.FAIL, str(report)
