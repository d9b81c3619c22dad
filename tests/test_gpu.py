"""On an accelerator: the same verdicts as on CPU, in float64, and the batch that the accelerator is for."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.evidence import rows
from jaxcheck.program.run import spread
from jaxcheck.test_util import check_grads

SHAPES = {"W1": (5, 4), "b1": (5, 1), "W2": (3, 5), "b2": (3, 1), "W3": (1, 3), "b3": (1, 1)}


def init(key):
    keys = jax.random.split(key, len(SHAPES))
    return {name: jax.random.normal(k, shape) for k, (name, shape) in zip(keys, SHAPES.items(), strict=True)}


def loss(p, x, y):
    h = jnp.tanh(p["W1"] @ x + p["b1"])
    h = jnp.tanh(p["W2"] @ h + p["b2"])
    return jnp.mean((p["W3"] @ h + p["b3"] - y) ** 2)


def backprop(p, x, y, factor=1.0):
    g = jax.grad(loss)(p, x, y)
    return {**g, "W2": factor * g["W2"]}


def data(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, 7)).astype(np.float32), rng.normal(size=(1, 7)).astype(np.float32)


@pytest.mark.gpu
@pytest.mark.parametrize("factor", [1.0, 2.0, 1.00001])
def test_the_verdict_of_one_point(factor, seed):
    report = jc.check_grad(loss, init(jax.random.key(seed)), lambda p, x, y: backprop(p, x, y, factor), args=data(seed))
    assert report.ok == (factor == 1.0), str(report)
    assert [leaf.path for leaf in report.leaves if leaf.verdict is jc.Verdict.FAIL] == (["W2"] if factor != 1 else [])


@pytest.mark.gpu
def test_ten_thousand_points(seed):
    report = jc.check_batch(loss, init=init, n=10_000, grad=backprop, args=data(seed), seed=seed)
    assert report.ok and report.notes[0].startswith("10000 points: 10000 pass"), str(report)


@pytest.mark.gpu
def test_every_component(seed):
    p = init(jax.random.key(seed))
    report = jc.check_grad(loss, p, backprop, args=data(seed), mode=jc.Exhaustive())
    assert report.ok and report.difference < 1e-9, str(report)


@jax.custom_vjp
def soft(x, factor):
    return jnp.log1p(jnp.exp(x))


soft.defvjp(
    lambda x, factor: (soft(x, factor), (x, factor)),
    lambda kept, g: (g * kept[1] * jax.nn.sigmoid(kept[0]), jnp.zeros_like(kept[1])),
)


@pytest.mark.gpu
@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_a_rule_with_its_laws_and_transformations(factor, seed):
    x = np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)
    report = jc.check_rule(lambda x: soft(x, np.float32(factor)), x, level="full", budget=None)
    assert report.ok == (factor == 1.0), str(report)


@pytest.mark.gpu
def test_the_drop_in(seed):
    x = np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)
    check_grads(lambda x: soft(x, np.float32(1.0)), (x,), order=1, modes=["rev"])
    with pytest.raises(AssertionError):
        check_grads(lambda x: soft(x, np.float32(1.1)), (x,), order=1, modes=["rev"])


@pytest.mark.gpu
def test_in_the_precision_of_the_caller_with_path_integrals(seed):
    """Without float64, as on accelerators that have none: sharpened by the integral of the gradient along a path."""
    p, args = init(jax.random.key(seed)), data(seed)
    with jax.default_matmul_precision("highest"):
        assert jc.check_grad(loss, p, backprop, args=args, precision="native").ok
    wrong = jc.check_grad(loss, p, lambda p, x, y: backprop(p, x, y, 1.1), args=args, precision="native", where=False)
    assert wrong.verdict is jc.Verdict.FAIL, str(wrong)


def wide_loss(w):
    return jnp.mean(jnp.tanh(jnp.asarray(np.random.default_rng(0).normal(size=(256, 128)), jnp.float32) @ w) ** 2)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["default", "highest"])
def test_numbers_have_the_bits_that_this_device_multiplies_with(precision, seed):
    """Products of float32 keep ten bits on GPUs that have TensorFloat-32, where nothing else is asked for."""
    w = jnp.asarray(np.random.default_rng(seed).normal(size=(128, 64)) * 0.1, jnp.float32)
    with jax.default_matmul_precision(precision):
        right, wrong = (jc.check_grad(wide_loss, w, k * jax.grad(wide_loss)(w), where=False) for k in (1.0, 1.1))
    assert wrong.verdict is jc.Verdict.FAIL, str(wrong)
    assert right.ok or (right.reason is jc.Reason.PRECISION and precision == "default"), str(right)


@pytest.mark.gpu
def test_chunks_are_large_where_the_device_is():
    small, accelerated = 2e6, jax.default_backend() != "cpu"
    assert (rows.chunk_rows(1e3, 10**6) > 10_000) == accelerated
    assert rows.chunk_rows(small, 10**6) >= (100 if accelerated else 1)


@pytest.mark.gpu
def test_two_devices_find_what_one_finds(monkeypatch, seed):
    if len(jax.devices()) < 2:
        pytest.skip("one device")
    monkeypatch.setattr(spread, "WORTH", 0.0)
    p, args = init(jax.random.key(seed)), data(seed)
    one, two = (
        jc.check_grad(loss, p, backprop, args=args, mode=jc.Exhaustive(step=1e-5), devices=jax.devices()[:n])
        for n in (1, 2)
    )
    assert one.ok and two.ok
    assert two.difference == pytest.approx(one.difference, rel=0.5)


# A row needs 32 MiB and more; the chunk that the cost model chooses for an accelerator needs gigabytes.
HUNGRY = """
import json, jax, jax.numpy as jnp, numpy as np, jaxcheck as jc
from jaxcheck.evidence import blocks
chunks, within = [], blocks.within_memory
blocks.within_memory = lambda chunk, run: within(chunk, lambda c: (chunks.append(c), run(c))[1])
x = np.linspace(0.5, 1.5, 40)
def loss(x):
    big = jnp.sin(jnp.arange(4_000_000) * x.sum())
    return jnp.sum(jnp.sort(big) * jnp.cos(big)) / 1e6 + jnp.sum(x ** 2)
report = jc.check_grad(loss, x, jax.grad(loss), mode=jc.Exhaustive(step=1e-5), budget=None)
print(json.dumps([str(report.verdict), chunks]))
"""


@pytest.mark.gpu
@pytest.mark.slow
def test_with_little_memory_the_chunk_is_halved():
    env = {**os.environ, "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.015"}
    done = subprocess.run([sys.executable, "-c", HUNGRY], env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    verdict, chunks = json.loads(done.stdout)
    assert verdict in ("PASS", "INCONCLUSIVE")
    assert len(set(chunks)) > 1 or jax.default_backend() == "cpu", chunks


def test_the_same_checks_find_the_same_on_this_machine(seed):
    """So that the tests above are known to be able to fail where no accelerator is."""
    p, args = init(jax.random.key(seed)), data(seed)
    assert jc.check_grad(loss, p, backprop, args=args).ok
    wrong = jc.check_grad(loss, p, lambda p, x, y: backprop(p, x, y, 1.00001), args=args)
    assert [leaf.path for leaf in wrong.leaves if leaf.verdict is jc.Verdict.FAIL] == ["W2"]
    assert jc.check_batch(loss, init=init, n=20, grad=backprop, args=args, seed=seed).ok
