"""Low precision: the formula is judged in float64, what the caller's own dtype loses is told beside it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import Verdict


def network(dtype, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *s: jnp.asarray(rng.normal(size=s), dtype)  # noqa: E731
    return {"W": draw(5, 4), "b": draw(4), "V": draw(4, 2)}, draw(6, 5)


def loss(p, x):
    return jnp.mean(jnp.tanh(x @ p["W"] + p["b"]) @ p["V"] @ jnp.ones((2, 1), x.dtype)).astype(x.dtype)


def grad(p, x):
    h = jnp.tanh(x @ p["W"] + p["b"])
    d = jnp.ones((6, 2), x.dtype) / 6
    da = (d @ p["V"].T) * (1 - h * h)
    return {"W": x.T @ da, "b": da.sum(0), "V": h.T @ d}


def wrong(p, x):
    return {**grad(p, x), "b": grad(p, x)["b"] * (1 + 2.0**-7)}  # the smallest factor that bfloat16 can hold


LOSSES = {"float32": 1e-5, "bfloat16": 0.1, "float16": 0.02}


@pytest.mark.parametrize("dtype", LOSSES)
@pytest.mark.parametrize("x64", [False, True])
def test_low_precision_parameters(dtype, x64):
    p, x = network(dtype)
    with jax.enable_x64(x64):
        report = jc.check_grad(loss, p, grad, args=(x,)).assert_ok()
        bad = jc.check_grad(loss, p, wrong, args=(x,))
    assert report.difference < 1e-9 and report.difference_autodiff < 1e-9
    for leaf in report.leaves:
        assert leaf.dtype == dtype and leaf.difference < 1e-9
        assert 0 < leaf.precision < LOSSES[dtype]
    assert [leaf.path for leaf in bad.leaves if leaf.verdict is Verdict.FAIL] == ["b"]


@pytest.mark.slow
def test_complex64(seed):
    rng = np.random.default_rng(seed)
    z = jnp.asarray(rng.normal(size=4) + 1j * rng.normal(size=4), jnp.complex64)
    f = lambda z: jnp.sum(jnp.abs(jnp.fft.fft(z)) ** 2 * jnp.arange(4.0))  # noqa: E731
    report = jc.check_grad(f, z, jax.grad(f)).assert_ok()
    assert report.difference < 1e-9 and report.leaves[0].dtype == "complex64"
    for how in (jnp.conj, lambda g: g.real + 0j, lambda g: 1.0001 * g, lambda g: g.at[2].add(1e-3j)):
        assert jc.check_grad(f, z, lambda z, how=how: how(jax.grad(f)(z)), where=False).verdict is Verdict.FAIL


PINNED = {
    "astype(bfloat16)": lambda p, x: jnp.sum(
        jnp.tanh(x.astype(jnp.bfloat16) @ p["W"].astype(jnp.bfloat16)) ** 2
    ).astype(jnp.float32),
    "preferred_element_type": lambda p, x: jnp.sum(jax.lax.dot(x, p["W"], preferred_element_type=jnp.float32) ** 2),
    "float32 constant": lambda p, x: jnp.sum((x @ p["W"] * jnp.float32(0.1)).astype(jnp.float32) ** 2),
    "inside scan": lambda p, x: (
        jax.lax.scan(
            lambda h, r: (jnp.tanh(h + r.astype(jnp.float16) @ p["W"].astype(jnp.float16)), 0.0),
            jnp.zeros(4, jnp.float16),
            x,
        )[0]
        .astype(jnp.float32)
        .sum()
    ),
}


@pytest.mark.parametrize("name", PINNED)
def test_precisions_pinned_inside(name):
    p, x = network("float32")
    p, pinned = {"W": p["W"]}, PINNED[name]
    report = jc.check_grad(pinned, p, jax.grad(pinned), args=(x,)).assert_ok()
    assert report.difference < 1e-9
    bad = jc.check_grad(pinned, p, lambda p, x: {"W": jax.grad(pinned)(p, x)["W"] * 1.01}, args=(x,), where=False)
    assert bad.verdict is Verdict.FAIL


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_native_precision_does_not_accuse_round_off(dtype, number):
    """M and A are two programs in the same coarse arithmetic: they differ by their round-off."""
    p, x = network(dtype, seed=number)
    report = jc.check_grad(loss, p, grad, args=(x,), precision="native")
    assert report.verdict is not Verdict.FAIL, str(report)
    assert {w.how for w in report.witnesses} == {"native"}
    assert (
        jc.check_grad(
            loss, p, lambda p, x: jax.tree.map(lambda g: 2 * g, grad(p, x)), args=(x,), precision="native"
        ).verdict
        is not Verdict.PASS
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gradient_given_as_coarse_numbers_is_not_accused_of_its_round_off(dtype):
    rng = np.random.default_rng(0)
    weights = [jnp.asarray(0.3 * rng.normal(size=(8, 8)), dtype) for _ in range(6)]
    x = jnp.asarray(rng.normal(size=(4, 8)), dtype)

    def deep(weights):
        h = x
        for w in weights:
            h = jnp.tanh(h @ w)
        return jnp.sum(h**2)

    numbers = jax.grad(deep)(weights)
    assert jc.check_grad(deep, weights, numbers).verdict is not Verdict.FAIL
    assert jc.check_grad(deep, weights, [2 * g for g in numbers], where=False).verdict is Verdict.FAIL


def test_a_gradient_that_overflows_in_its_own_dtype():
    """Right as a formula, infinite in float16: told, not passed."""
    x = jnp.asarray([100.0, 3.0], jnp.float16)
    report = jc.check_grad(lambda x: jnp.sum(jnp.log1p(x)), x, lambda x: x * 1e4 / (x * 1e4) / (1 + x))
    assert report.verdict is Verdict.FAIL and report.reason is jc.Reason.NONFINITE
    assert "float16" in str(report)


def test_dropout_with_a_fixed_key_sees_the_same_mask():
    p, x = network("float32")
    key = jax.random.key(3)

    def dropped(p):
        keep = jax.random.bernoulli(key, 0.5, (6, 4))
        return jnp.sum(jnp.where(keep, x @ p["W"], 0) ** 2)

    def by_hand(p):
        keep = jax.random.bernoulli(key, 0.5, (6, 4))
        return {"W": x.T @ (2 * jnp.where(keep, x @ p["W"], 0))}

    p = {"W": p["W"]}
    assert jc.check_grad(dropped, p, by_hand).assert_ok().difference < 1e-9
    other = jax.random.bernoulli(jax.random.key(4), 0.5, (6, 4))
    report = jc.check_grad(dropped, p, lambda p: {"W": x.T @ (2 * jnp.where(other, x @ p["W"], 0))})
    assert report.verdict is Verdict.FAIL


@pytest.mark.parametrize("seed_of_net", [5, 7])
def test_a_bias_before_a_normalisation_may_be_zero_as_run(seed_of_net):
    """Its gradient is rounding alone, here 0 and there 1e-9, and a maximum decides otherwise as rounding will."""
    rng = np.random.default_rng(seed_of_net)
    x, y = rng.normal(size=(8, 4)).astype(np.float32), rng.integers(0, 5, 8)
    sizes = {"w": (4, 6), "b": (6,), "v": (6, 5)}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in sizes.items()}

    def forward(p):
        h = x @ p["w"] + p["b"]
        off = h - h.mean(0)
        inverse = (jnp.mean(off**2, axis=0) + 1e-5) ** -0.5
        a = jnp.tanh(off * inverse)
        z = a @ p["v"]
        z = z - z.max(1, keepdims=True)
        return off, inverse, a, jnp.exp(z) / jnp.exp(z).sum(1, keepdims=True)

    def loss(p):
        return -jnp.log(forward(p)[-1][jnp.arange(8), y]).mean()

    def backprop(p):
        off, inverse, a, s = forward(p)
        dz = (s - jax.nn.one_hot(y, 5)) / 8
        dn = (dz @ p["v"].T) * (1 - a**2)
        dh = (dn - dn.mean(0) - off * inverse**2 * (dn * off).mean(0)) * inverse
        return {"w": x.T @ dh, "b": dh.sum(0), "v": a.T @ dz}

    report = jc.check_grad(loss, params, backprop)
    assert report, report
