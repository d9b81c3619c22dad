"""Devices that multiply float32 in fewer bits (TensorFloat-32): what was computed there is held to that, nothing else.

Played on CPU: the device's name is given, and the gradient's products take factors of ten bits.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcheck as jc
from jaxcheck.program.run import factors

X = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(64, 4)).astype(np.float32)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(factors, "accelerator", lambda: "gpu")


def params(seed):
    rng = np.random.default_rng(seed)
    return {k: jnp.asarray(rng.normal(size=s) * 0.3, jnp.float32) for k, s in (("W", (32, 16)), ("v", (16, 4)))}


def loss(p):
    return jnp.mean((jnp.tanh(X @ p["W"]) @ p["v"] - Y) ** 2)


def backprop(p, k=1.0, bits=10):
    """With factors of so many bits."""

    def times(a, b):
        few = [lax.reduce_precision(jnp.asarray(m, jnp.float32), 8, bits) for m in (a, b)]
        return jnp.matmul(*few, precision="highest")

    h = jnp.tanh(times(X, p["W"]))
    d = 2 * (times(h, p["v"]) - Y) / Y.size
    return {"W": k * times(X.T, times(d, p["v"].T) * (1 - h * h)), "v": times(h.T, d)}


def off(p, g, name):
    exact = backprop(p, bits=23)[name]
    return float(jnp.linalg.norm(g[name] - exact) / jnp.linalg.norm(exact))


@pytest.mark.parametrize("handed_out", [False, True])
@pytest.mark.slow
def test_numbers_of_such_a_device_are_not_accused(gpu, handed_out):
    for seed in range(4):
        p = params(seed)
        g = backprop(p)
        report = jc.check_grad(loss, p, (lambda p, g=g: g) if handed_out else g)
        assert report.verdict is jc.Verdict.INCONCLUSIVE and report.reason is jc.Reason.PRECISION, str(report)
        assert "default_matmul_precision" in str(report)
        assert all(off(p, g, name) > 1e-4 for name in p)
        # Nor is the bar so wide that nothing could be seen.
        g = {**g, "W": 1.05 * g["W"]}
        report = jc.check_grad(loss, p, (lambda p, g=g: g) if handed_out else g, where=False)
        assert [leaf.path for leaf in report.failed] == ["W"], str(report)


@pytest.mark.slow
def test_elsewhere_they_are(seed):
    p = params(seed)
    assert jc.check_grad(loss, p, backprop(p), where=False).verdict is jc.Verdict.FAIL


@pytest.mark.slow
@pytest.mark.parametrize("handed_out", [False, True])
def test_numbers_that_were_computed_with_all_bits_are_held_to_those(gpu, handed_out, seed):
    p = params(seed)
    for k in (1.0, 1.001, 1.1):
        g = backprop(p, k, bits=23)
        report = jc.check_grad(loss, p, (lambda p, g=g: g) if handed_out else g, where=False)
        assert report.ok == (k == 1.0), str(report)
        assert report["v"].ok and report["v"].floor < 1e-3
        assert k < 1.1 or report["W"].verdict is jc.Verdict.FAIL


@pytest.mark.slow
def test_functions_are_judged_in_float64_as_ever(gpu, seed):
    p = params(seed)
    report = jc.check_grad(loss, p, jax.grad(loss))
    assert report.ok and report.floor < 1e-5 and "default_matmul_precision" not in str(report)
    assert not jc.check_grad(loss, p, lambda p: {**jax.grad(loss)(p), "v": 1.0001 * jax.grad(loss)(p)["v"]}).ok


@pytest.mark.parametrize(
    ("device", "precision", "unit"),
    [
        ("gpu", None, 2.0**-11),
        ("gpu", "high", 2.0**-11),
        ("gpu", "highest", 0.0),
        ("tpu", None, 2.0**-8),
        ("tpu", "high", 0.0),
        ("", None, 0.0),
        ("", "TF32_TF32_F32", 2.0**-11),
        ("gpu", "BF16_BF16_F32_X3", 0.0),
    ],
)
@pytest.mark.parametrize("name", ["dot", "conv"])
def test_the_precision_that_was_asked_for(monkeypatch, device, precision, unit, name):
    monkeypatch.setattr(factors, "accelerator", lambda: device)
    if name == "conv" and precision is not None and precision.isupper():
        return  # convolutions have no algorithms
    x = jnp.ones((1, 2, 4, 4)) if name == "conv" else jnp.ones((3, 3))
    preset = precision is not None and precision.startswith(("TF", "BF"))
    asked = getattr(lax.DotAlgorithmPreset, precision) if preset else precision
    f = lax.conv if name == "conv" else jnp.dot
    args = ((1, 1), "SAME") if name == "conv" else ()
    for dtype, wanted in ((jnp.float32, unit), (jnp.bfloat16, 0.0), (jnp.float64, 0.0)):
        if asked is not precision and dtype != jnp.float32:
            continue
        with jax.enable_x64(True):
            one = x.astype(dtype)
            traced = jax.make_jaxpr(lambda a, b: f(a, b, *args, precision=asked))(one, one)
        coarse = factors.unit_of_products(traced)
        assert coarse == (wanted if dtype != jnp.bfloat16 or device != "tpu" else 0.0)


def test_set_for_a_whole_block(gpu):
    with jax.default_matmul_precision("highest"):
        assert not factors.unit_of_products(jax.make_jaxpr(loss)(params(0)))
    assert factors.unit_of_products(jax.make_jaxpr(loss)(params(0)))


class Device(NamedTuple):
    platform: str
    compute_capability: str = ""


@pytest.mark.parametrize(
    ("device", "name"),
    [
        (Device("gpu", "9.0"), "gpu"),
        (Device("gpu", "10.0"), "gpu"),
        (Device("gpu", "7.5"), ""),
        (Device("gpu", "gfx942"), ""),
        (Device("tpu"), "tpu"),
        (Device("cpu"), ""),
    ],
)
def test_which_devices_do(monkeypatch, device, name):
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert factors.accelerator() == name
    with jax.default_device("cpu"):
        assert factors.accelerator() == ""
