"""What a hostile reader found, as small families: wrong ones that passed, right ones accused, words that were off."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.result import Reason, Verdict


@pytest.mark.parametrize(("size", "factor"), [(1e-8, 1.01), (1e-8, 1.003), (1e-10, -1.0), (1e-6, 0.0)])
def test_components_worth_little_that_autodiff_shows(size, factor):
    def loss(p):
        return jnp.sum(p[:3] ** 2) + size * jnp.sum(jnp.sin(p[3:]))

    def backprop(p, k=1.0):
        return jnp.concatenate([2 * p[:3], k * size * jnp.cos(p[3:])])

    assert jc.check_grad(loss, np.ones(6), backprop).verdict is Verdict.PASS
    assert jc.check_grad(loss, np.ones(6), lambda p: backprop(p, factor)).verdict is Verdict.FAIL


@pytest.mark.parametrize("sign", [1, -1])
def test_small_outputs_of_the_leaf_of_large_ones(sign):
    f = jax.custom_vjp(lambda x: jnp.concatenate([jnp.full(30, jnp.exp(x) * 1e6), jnp.full(30, jnp.sin(x) * 1e-6)]))
    f.defvjp(
        lambda x: (f(x), x), lambda x, g: (g[:30].sum() * jnp.exp(x) * 1e6 + sign * g[30:].sum() * jnp.cos(x) * 1e-6,)
    )
    report = jc.check_rule(f, 1.0, algebra=False, transforms=False)
    assert report.verdict is (Verdict.PASS if sign > 0 else Verdict.FAIL)


def test_a_scale_below_the_steps_is_not_the_edge_of_a_domain():
    with jax.enable_x64(True):
        report = jc.check_grad(lambda x: jnp.sin(1e8 * x), jnp.asarray(0.3), lambda x: 1e8 * jnp.cos(1e8 * x))
    assert report.verdict is not Verdict.FAIL and report.reason is not Reason.DOMAIN


@pytest.mark.slow
def test_a_fixed_point_in_coarse_dtypes_ends():
    """The loop's tolerance is below the unit of bfloat16: run in it, it would never stop."""

    def limit(a):
        return jax.lax.while_loop(
            lambda c: jnp.abs(c[0] - c[1]) > 1e-6, lambda c: (c[1], jnp.cos(a * c[1])), (jnp.ones_like(a), jnp.cos(a))
        )[1]

    def slope(a, x):
        return -x * jnp.sin(a * x) / (1 + a * jnp.sin(a * x))

    for k, verdict in ((1.0, Verdict.PASS), (1.01, Verdict.FAIL)):
        f = jax.custom_vjp(limit)
        f.defvjp(lambda a: (limit(a), (a, limit(a))), lambda r, g, k=k: (k * g * slope(*r),))
        report = jc.check_rule(f, jnp.float32(0.7), level="full")  # whatever a busy machine would leave out
        assert report.verdict is verdict
        assert next(r for r in report.rows if r.name == "bfloat16").status == "UNSUPPORTED"


def test_numpy_data_in_an_inner_jit_leaves_stderr_clean():
    script = """
        import jax, jax.numpy as jnp, numpy as np, jaxcheck as jc
        A = np.random.RandomState(0).randn(4, 5)
        f = jax.custom_vjp(lambda w: jax.jit(lambda w: jnp.sum((A @ w) ** 2))(w))
        f.defvjp(lambda w: (f(w), w), lambda w, g: (g * 2 * A.T @ (A @ w),))
        assert jc.check_rule(f, np.ones(5)).ok
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "RuntimeProgramInputMismatch" not in done.stderr


X = jnp.ones((3, 2))
ON_A_KINK = {
    "relu layer": (lambda p: jnp.sum(jax.nn.relu(X @ p["w"] + p["b"])), {"w": jnp.zeros((2, 2)), "b": jnp.zeros(2)}),
    "hinge": (lambda p: jnp.mean(jnp.maximum(0, 1 - X @ p)), jnp.full(2, 0.5)),
    "L1": (lambda p: jnp.mean(jnp.abs(X @ p - 2.0)), jnp.ones((2, 2))),
}


@pytest.mark.parametrize("name", ON_A_KINK)
def test_kinks_behind_a_product_with_float32_data(name):
    loss, params = ON_A_KINK[name]
    report = jc.check_grad(loss, params)
    assert report.verdict is Verdict.PASS and "decided by" in report.leaves[0].note


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_a_jax_loss_that_ends_in_a_float_over_numpy_data(kind):
    data = np.random.default_rng(0).standard_normal((4, 4))
    own = jax.jit(lambda p, w: jnp.sum(jnp.sin(p @ w)))

    def loss(p):
        return float(own(p, data))

    def grad(p, k=1.0):
        return k * (np.cos(np.asarray(p) @ data) @ data.T)

    assert loss(kind(np.ones(4)))  # what the caller ran before
    assert jc.check_grad(loss, kind(np.ones(4)), grad).verdict is not Verdict.FAIL
    assert jc.check_grad(loss, kind(np.ones(4)), lambda p: grad(p, 1.1)).verdict is Verdict.FAIL


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("size", [1e-13, 1e-14])
def test_a_forgotten_gradient_that_moves_a_host_loss_by_rounding_only(size, flat):
    """Whether the 0 is right cannot be known; a parameter that does not move the loss at all is one whose 0 is."""
    if flat:
        point, grad = np.array([1.0, 2.0]), lambda p: np.array([np.exp(p[0]), 0.0])
        loss = {s: lambda p, s=s: float(np.exp(p[0]) + s * p[1]) for s in (size, 0.0)}
    else:
        point, grad = {"a": 1.0, "b": 2.0}, lambda p: {"a": np.exp(p["a"]), "b": 0.0}
        loss = {s: lambda p, s=s: float(np.exp(p["a"]) + s * p["b"]) for s in (size, 0.0)}
    assert jc.check_grad(loss[size], point, grad).verdict is Verdict.INCONCLUSIVE
    assert jc.check_grad(loss[0.0], point, grad).verdict is Verdict.PASS


LIMITED = {
    "flushed": lambda g: jnp.where(jnp.abs(g) < 1e-5, 0, g),
    "flushed low": lambda g: jnp.where(jnp.abs(g) < 1e-11, 0, g),
    "clipped": lambda g: jnp.clip(g, -1e6, 1e6),
    "clipped high": lambda g: jnp.clip(g, -1e10, 1e10),
}


@pytest.mark.parametrize("name", [*LIMITED, "right"])
def test_rules_that_are_linear_in_the_middle_only(name):
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (LIMITED.get(name, lambda g: g)(g) * jnp.cos(x),))
    report = jc.check_rule(f, jnp.ones(3))
    assert report.verdict is (Verdict.PASS if name == "right" else Verdict.FAIL)
    if name != "right":
        said = next(r.detail for r in report.rows if r.status == "WRONG" and r.name.startswith("scale"))
        assert ("saturates" if "clipped" in name else "flushed") in said


def test_a_backprop_of_which_its_own_narrow_dtype_leaves_too_little():
    """Half a float16 unit is less than must be caught, half a bfloat16 unit is more; and 1e-9 is no float16."""
    p = jnp.linspace(0.1, 1, 3)

    def check(size, dtype):
        return jc.check_grad(
            lambda p: size * jnp.sum(jnp.sin(p)), p, lambda p: (size * jnp.cos(p)).astype(dtype).astype(p.dtype)
        )

    assert check(1e-9, jnp.float16).reason is Reason.PRECISION_WRONG
    assert check(1.0, jnp.float16).verdict is Verdict.PASS
    assert check(1e-9, jnp.bfloat16).reason is Reason.PRECISION_WRONG
