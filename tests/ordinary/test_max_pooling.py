"""A maximum and the mask of who holds it, as everybody writes them: equal numbers have to stay equal when compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.program.run import products
from jaxcheck.test_util import check_grads

SEEDS = range(4)


def net(seed, dtype):
    """A maxout layer, its inputs and parameters. Sums of products of scalars and columns: XLA fuses them."""
    rng = np.random.default_rng(seed)
    rows, groups, units, width = 5 + seed, 2 + seed % 3, 2 + seed % 2, 2
    x = np.asarray(rng.normal(size=(rows, width)), dtype)
    params = {"w": rng.normal(size=(width, groups * units)), "b": rng.normal(size=groups * units)}

    def hidden(p):
        h = sum(x[:, i : i + 1] * p["w"][i] for i in range(width)) + p["b"]
        return h.reshape(rows, groups, units)

    def loss(p):
        return (hidden(p).max(-1) ** 2).sum()

    def backprop(p, share=1.0):
        h = hidden(p)
        m = h.max(-1, keepdims=True)
        d = (2 * m * (h == m) * share).reshape(rows, -1)
        return {"w": jnp.stack([(d * x[:, i : i + 1]).sum(0) for i in range(width)]), "b": d.sum(0)}

    return loss, backprop, {k: np.asarray(v, dtype) for k, v in params.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_holder_of_a_maximum_is_found(seed, dtype):
    with jax.enable_x64(dtype == np.float64):
        loss, backprop, params = net(seed, dtype)
        for grad in (None, backprop, jax.jit(jax.grad(loss))):
            report = jc.check_grad(loss, params, grad)
            assert report.verdict is jc.Verdict.PASS and report.reason is jc.Reason.AGREE, str(report)
        report = jc.check_grad(loss, params, lambda p: backprop(p, 1.001), where=False)
        assert report.verdict is jc.Verdict.FAIL


@pytest.mark.parametrize("dtype", [np.float32, np.float64, jnp.bfloat16, np.float16])
def test_a_product_and_a_constant_sum(dtype):
    """After which layer, or with what beside, is not to matter."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(dtype == np.float64):
        x, w = (np.asarray(rng.normal(size=shape), dtype) for shape in ((6, 4), (4, 3)))
        report = jc.check_grad(lambda w: jnp.sum(jnp.max(jnp.maximum(x @ w, 0) * 1.5 + 0.1, axis=1)), w)
        assert report.verdict is jc.Verdict.PASS, str(report)


# What XLA makes products of, and what it makes of several.
BENEATH = {
    "mean": lambda x, p: (x * p).mean(1),
    "a part": lambda x, p: jnp.sin(x + p).sum(1) / 7,
    "square": lambda x, p: jnp.power(jnp.sin(x + p).sum(1), 2.0),
    "variance": lambda x, p: jnp.var(x + p, axis=1),
    "complex": lambda x, p: ((jnp.sin(x + p).sum(1) + 1j * p[0]) * (jnp.sin(x + p).sum(1) - 0.3j)).real,
    "lgamma": lambda x, p: jax.lax.lgamma(1 + jnp.sin(x + p).sum(1) ** 2),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BENEATH)
def test_what_a_sum_is_made_of_does_not_matter(name, dtype):
    with jax.enable_x64(dtype == np.float64):
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            x, b, p = (np.asarray(rng.normal(size=shape), dtype) for shape in ((4, 6), (4, 6), 6))

            def loss(p, x=x, b=b):
                return jnp.sum(jnp.max(BENEATH[name](x, p)[:, None] + b * p, axis=1) ** 2)

            report = jc.check_grad(loss, p)
            assert report.verdict is jc.Verdict.PASS, (seed, str(report))


def test_in_the_drop_in_and_in_batches():
    loss, backprop, params = net(0, np.float32)
    check_grads(loss, (params,), 1)
    points = {k: np.stack([v, v + 0.25, v - 0.5]) for k, v in params.items()}
    assert jc.check_batch(loss, points, backprop).verdict is jc.Verdict.PASS


def test_only_what_compares_is_guarded():
    def traced(f):
        return jax.make_jaxpr(f)(np.ones(3, np.float32))

    assert products.compares(traced(lambda x: (x * x == x).sum()))
    assert products.compares(traced(lambda x: jax.lax.map(lambda y: (x * y).max() > y, x)))
    assert not products.compares(traced(lambda x: jnp.where(x * x > 0, x, 0)))  # a sign stays what it is
    assert not products.compares(traced(lambda x: x == 1)) and not products.compares(traced(lambda x: x * x))


@pytest.mark.parametrize("inside", ["plain", "scan", "while", "cond", "jit"])
def test_a_guarded_program_gives_what_the_original_gives(inside):
    def step(x):
        return jnp.where(x * x + x == x, 0, x * 0.5 + x**3 * 0.1)

    wrapped = {
        "plain": step,
        "scan": lambda x: jax.lax.scan(lambda c, _: (step(c), c[0]), x, None, length=3)[0],
        "while": lambda x: jax.lax.fori_loop(0, 2, lambda i, c: step(c), x),
        "cond": lambda x: jax.lax.cond(x[0] > 0, step, lambda x: x, x),
        "jit": jax.jit(step),
    }[inside]
    x = np.asarray([0.0, 0.5, -2.0], np.float32)
    closed = jax.make_jaxpr(wrapped)(x)
    (found,) = jax.jit(products.rounded_once(closed))(products.ZERO, x)
    np.testing.assert_allclose(found, wrapped(x), rtol=3e-7)
    assert "xor" in str(jax.make_jaxpr(products.rounded_once(closed))(products.ZERO, x))


def test_what_is_asked_around_a_function_compares_nothing_to_the_last_bit(monkeypatch):
    """Else every product of every check were guarded: a tenth of the time of a small one."""
    seen = []
    compares = products.compares
    monkeypatch.setattr(products, "compares", lambda program: seen.append(compares(program)) or seen[-1])
    x, w = (np.random.default_rng(3).standard_normal(s).astype(np.float32) for s in ((2, 7), (7, 5)))
    check_grads(lambda x, w: jnp.tanh(x @ w), (x, w), order=1)
    loss = lambda p: jnp.sum(jnp.tanh(p["x"] @ p["w"]))  # noqa: E731
    jc.check_grad(loss, {"x": x, "w": w}, jax.grad(loss))
    assert seen and not any(seen)
    check_grads(lambda x: jnp.where(x * 3.0 == 1.0, 0.0, x), (x,), order=1)
    assert any(seen)
