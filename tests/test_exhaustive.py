"""Every component: the textbook's own procedure to the letter, and the two-step scheme with bars."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxcheck as jc
from jaxcheck import Verdict


def test_the_textbooks_cube():
    """J = theta^3 at 1 with eps = 0.01: 3.0001 central (error 1e-4), 3.0301 forward."""
    cube = lambda t: t**3  # noqa: E731
    for scheme, approx in (("central", 3.0001), ("forward", 3.0301)):
        report = jc.check_grad(cube, np.float64(1.0), lambda t: 3 * t**2, mode=jc.Exhaustive(step=0.01, scheme=scheme))
        assert report.difference == pytest.approx((approx - 3) / (approx + 3), rel=1e-9)
        assert report.leaves[0].norm_numeric == pytest.approx(approx, rel=1e-12)


def layers(seed):
    rng = np.random.default_rng(seed)
    p = {"W": rng.normal(size=(5, 3)), "b": rng.normal(size=3), "c": rng.normal(size=2) + 1j * rng.normal(size=2)}
    x = rng.normal(size=(6, 5))

    def loss(p):
        return jnp.mean(jnp.tanh(x @ p["W"] + p["b"]) ** 2) + jnp.sum(jnp.abs(p["c"]) ** 4)

    return loss, p


@pytest.mark.parametrize("step", [1e-7, 1e-4])
@pytest.mark.parametrize("scheme", ["central", "forward"])
def test_formula_1_and_2_to_the_letter(step, scheme, seed):
    loss, p = layers(seed)
    p = {"W": p["W"], "b": p["b"]}
    real = lambda p: loss({**p, "c": np.zeros(2)})  # noqa: E731
    report = jc.check_grad(real, p, jax.grad(real), mode=jc.Exhaustive(step=step, scheme=scheme))
    with jax.enable_x64(True):
        flat, back = ravel_pytree(jax.tree.map(jnp.asarray, p))
        at = jax.jit(lambda v: loss({**back(v), "c": jnp.zeros(2)}))
        grad = np.asarray(jax.grad(at)(flat))
        approx = []
        for i in range(flat.size):
            up = at(flat.at[i].add(step))
            down = at(flat.at[i].add(-step)) if scheme == "central" else at(flat)
            approx.append((up - down) / (step * (2 if scheme == "central" else 1)))
    approx = np.array(approx)
    loop = np.linalg.norm(grad - approx) / (np.linalg.norm(grad) + np.linalg.norm(approx))
    # Rounding of J is not reproduced to the bit by another compilation: eps / step of it.
    assert report.difference == pytest.approx(loop, rel=1e-3, abs=1e-16 / step * 20)
    assert report.ok


def test_forward_is_worse_than_central(seed):
    loss, p = layers(seed)
    central, forward = (
        jc.check_grad(loss, p, jax.grad(loss), mode=jc.Exhaustive(step=1e-4, scheme=scheme)).difference
        for scheme in ("central", "forward")
    )
    assert central < 1e-7 < forward < 1e-3


def test_two_steps_with_bars_and_any_chunk(seed):
    loss, p = layers(seed)
    reports = [jc.check_grad(loss, p, jax.grad(loss), mode=jc.Exhaustive(chunk=chunk)) for chunk in (None, 1, 4)]
    for report in reports:
        assert report.ok and report.mode == "exhaustive" and report.difference < 1e-9
        assert {leaf.path: leaf.probes for leaf in report.leaves}["W"] >= 15


def test_a_wrong_component_among_many_is_found_and_named(seed):
    n = 3000
    x = np.random.default_rng(seed).normal(size=n)
    report = jc.check_grad(lambda x: jnp.sum(jnp.sin(x)), x, lambda x: jnp.cos(x).at[1234].add(1e-4), mode="exhaustive")
    assert report.verdict is Verdict.FAIL
    worst = report.leaves[0].worst[0]
    assert worst.index == (1234,) and worst.name == "params[1234]"
    assert worst.manual - worst.numeric == pytest.approx(1e-4, rel=1e-3)
    assert worst.autodiff == pytest.approx(np.cos(x[1234]), rel=1e-6)
    assert "1 of 3000 entries" in report.leaves[0].hint


def test_a_wrong_component_among_many_without_autodiff(seed):
    """Only the components themselves can tell: two steps each, then the ladder on the suspect."""
    x = np.random.default_rng(seed).normal(size=400)

    def wrong(x):
        g = np.cos(x)
        g[77] += 1e-5
        return g

    report = jc.check_grad(lambda x: float(np.sum(np.sin(x))), x, wrong, mode="exhaustive")
    assert report.verdict is Verdict.FAIL and report.leaves[0].worst[0].index == (77,)
    assert jc.check_grad(lambda x: float(np.sum(np.sin(x))), x, np.cos, mode="exhaustive").ok


@pytest.mark.slow
def test_an_empty_leaf_and_a_complex_one(seed):
    loss, p = layers(seed)
    p = {**p, "empty": np.zeros((0, 3))}
    with_empty = lambda p: loss(p) + jnp.sum(p["empty"])  # noqa: E731
    for mode in (jc.Exhaustive(step=1e-7), jc.Exhaustive(), jc.Sketch()):
        report = jc.check_grad(with_empty, p, jax.grad(with_empty), mode=mode).assert_ok()
        assert report.leaf("empty").shape == (0, 3) and report.leaf("c").difference < 1e-6


def test_a_step_below_the_spacing_of_the_parameters_is_not_a_pass_of_the_differences():
    """1e9 + 1e-9 is 1e9: nothing moves, and the differences must not be said to agree."""
    report = jc.check_grad(
        lambda x: jnp.sum(x) * 1e-9, np.array([1e9]), lambda x: np.full(1, 1e-9), mode=jc.Exhaustive(step=1e-9)
    )
    assert report.difference == pytest.approx(1.0)
