"""Exhaustive mode computes for each component only what it moves: the same values, and fewer of them."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import Verdict
from jaxcheck.evidence import exhaustive, rows
from jaxcheck.program.run import columns, pinned
from jaxcheck.program.run.compile import Program

N, D, H = 6, 5, 7


def draw(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s) for s in shapes]


@jax.custom_vjp
def swish(x):
    return x * jax.nn.sigmoid(x)


swish.defvjp(lambda x: (swish(x), x), lambda x, g: (g,))
X = np.random.default_rng(3).normal(size=(N, D))
ONE = np.where(np.arange(N * H).reshape(N, H) == 1, -np.inf, 0.0)
MASK = np.where(np.tri(N, dtype=bool), 0.0, -np.inf)


def attention(q, k, v):
    Q, K, V = X @ q, X @ k, X @ v
    return jnp.sum(jnp.tanh(jax.nn.softmax(Q @ K.T / math.sqrt(D) + MASK, axis=-1) @ V))


def convolution(k, w):
    out = jax.lax.conv_general_dilated(X[:, :, None], k, (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC"))
    return jnp.sum(jnp.tanh(out.reshape(N, -1) @ w))


def looped(W, V):
    out, _ = jax.lax.scan(lambda h, x: (jnp.tanh(h @ V + x), None), jnp.zeros(H), X @ W)
    return jnp.sum(out**2)


# name: (function, shapes of its leaves, which of them have equations that run on a slice)
PROGRAMS = {
    "mlp": (lambda W, b, V, c: jnp.mean((jnp.tanh(X @ W + b) @ V + c) ** 2), [(D, H), (H,), (H, 4), (4,)], "1111"),
    "deep": (lambda W, V, U: jnp.sum(jnp.sin(jnp.tanh(jnp.tanh(X @ W) @ V) @ U)), [(D, H), (H, H), (H, 3)], "111"),
    "left": (lambda W, b, V: jnp.sum(jnp.tanh(V @ jnp.tanh(W @ X.T + b))), [(H, D), (H, 1), (3, H)], "111"),
    "transposed": (lambda W, V: jnp.sum(jnp.exp(jnp.tanh(X @ W.T) @ V.T)), [(H, D), (4, H)], "11"),
    "jit inside": (lambda W, V: jnp.sum(jax.jit(lambda h: jnp.tanh(h) @ V)(X @ W) ** 3), [(D, H), (H, 4)], "11"),
    "custom_vjp inside": (lambda W, V: jnp.sum(swish(X @ W) @ V), [(D, H), (H, 4)], "11"),
    "relu, remat": (
        lambda W, V: jnp.sum(jax.checkpoint(lambda h: jax.nn.relu(h) @ V)(X @ W) ** 2),
        [(D, H), (H, 4)],
        "11",
    ),
    "tied": (lambda W: jnp.sum(jnp.tanh(jnp.tanh(X @ W) @ W.T) ** 2), [(D, H)], "1"),
    "tied in one sum": (lambda W: jnp.sum(jnp.tanh(X @ W + X[:, ::-1] @ jnp.sin(W))), [(D, H)], "1"),
    "decay": (lambda W: jnp.sum(jnp.tanh(X @ W)) + 0.1 * jnp.sum(W**2), [(D, H)], "1"),
    "gram": (lambda W: jnp.sum(jnp.cos((X @ W) @ (X @ W).T)), [(D, H)], "1"),
    "attention": (attention, [(D, D), (D, D), (D, D)], "111"),
    "infinite": (lambda W: jnp.sum(jnp.tanh((X @ W + ONE) @ jnp.ones((H, 4)))), [(D, H)], "1"),
    "norm": (lambda W, V: jnp.sum(jnp.tanh(jax.nn.standardize(X @ W)) @ V), [(D, H), (H, 4)], "11"),
    "stacked": (lambda W, V: jnp.sum(jnp.tanh(jnp.einsum("nd,kdh->knh", X, W)) @ V), [(3, D, H), (H, 2)], "11"),
    "experts": (
        lambda W, V: jnp.sum(jnp.tanh(jnp.einsum("knh,khd->knd", jnp.tanh(jnp.einsum("nd,kdh->knh", X, W)), V))),
        [(3, D, H), (3, H, 2)],
        "11",
    ),
    "outputs": (lambda W, V: jnp.tanh(jnp.tanh(X @ W) @ V).ravel(), [(D, H), (H, 4)], "11"),
    "max": (lambda W: jnp.sum(jnp.max(X @ W, axis=1)) + jnp.sum(jnp.max(X @ W, axis=0)), [(D, H)], "1"),
    "reshaped": (lambda w: jnp.sum(jnp.tanh(X @ w.reshape(D, H))), [(D * H,)], "0"),
    "convolution": (convolution, [(3, 1, 2), (2 * D, 3)], "01"),
    "scan": (looped, [(D, H), (H, H)], "10"),
    "cond": (
        lambda W, V: jax.lax.cond(jnp.sum(X @ W) > 0, lambda h: jnp.sum(h @ V), lambda h: jnp.sum(h), X @ W),
        [(D, H), (H, 4)],
        "10",
    ),
}


def traced(f, leaves):
    with jax.enable_x64(True):
        return Program(jax.make_jaxpr(lambda *v: [jnp.ravel(f(*v))])(*map(jnp.asarray, leaves)))


def both(f, leaves, which):
    """(plan, outputs by the plan, outputs of the moved program), every component by four steps."""
    program = traced(f, leaves)
    plan = columns.plan(program, which)
    with jax.enable_x64(True):
        values = [jnp.asarray(v) for v in leaves]
        steps = jnp.asarray(np.array([0.5, -0.5, 1e-3, -1e-3])[:, None] * np.ones(values[which].size))

        @jax.jit
        def outs():
            moved = plan.evaluator(program.closed.consts, values)
            plain = rows.one_hot(lambda v: program(*v)[0], values, which)
            every = jnp.arange(steps.shape[1])
            found = [rows.components(row, every, 1, steps) for row in (lambda i, h: moved(i, h)[0], plain)]
            return [jnp.swapaxes(x, 0, 1) for x in found]

        return plan, *map(np.asarray, outs())


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_values_as_the_whole_program(monkeypatch, name, seed):
    monkeypatch.setattr(columns, "_GAIN", math.inf)  # also where it does not pay
    f, shapes, sliced = PROGRAMS[name]
    leaves = draw(seed, *shapes)
    for which, expected in enumerate(sliced):
        plan, fast, plain = both(f, leaves, which)
        assert any(line.step for line in plan.lines) == (expected == "1"), (which, plan.cost)
        # Most components move something: equal because nothing happened would show.
        assert np.isfinite(plain).all()
        assert (np.abs(plain[0] - plain[1]).max(axis=-1) > 0).mean() > 0.4
        np.testing.assert_allclose(fast, plain, rtol=1e-12, atol=1e-12 * np.abs(plain).max())


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_plan_only_where_it_pays(name, seed):
    f, shapes, sliced = PROGRAMS[name]
    program = traced(f, draw(seed, *shapes))
    for which, expected in enumerate(sliced):
        assert expected == "1" or columns.plan(program, which) is None


def test_the_plan_is_what_makes_it_fast(seed):
    """Elements per component of the network of the textbook, 128-128-128-10 with a batch of 128."""
    W, b, V, c, U, d = draw(seed, (128, 128), (128,), (128, 128), (128,), (128, 10), (10,))
    x, y = draw(seed, (128, 128), (128, 10))
    program = traced(
        lambda W, b, V, c, U, d: jnp.mean((jnp.tanh(jnp.tanh(x @ W + b) @ V + c) @ U + d - y) ** 2), (W, b, V, c, U, d)
    )
    whole = program.cost
    costs = [columns.plan(program, which).cost for which in range(6)]
    assert max(costs[:2]) < 0.55 * whole and max(costs[2:]) < 0.08 * whole


@pytest.mark.parametrize("broken", ["_change", "_fill", "outer product", "pins"])
def test_a_broken_plan_would_be_seen(monkeypatch, broken, seed):
    f, shapes, _ = PROGRAMS["tied in one sum" if broken == "_fill" else "experts" if broken == "pins" else "tied"]
    if broken == "_change":
        monkeypatch.setattr(columns, "_change", lambda new, old: (new - old) * (1 + 1e-9))
    elif broken == "_fill":
        monkeypatch.setattr(columns, "_fill", lambda value, *rest: value)
        f, shapes = (lambda W: jnp.sum(jnp.tanh(jnp.cumsum(X @ W, axis=1)))), [(D, H)]
    elif broken == "outer product":
        real = pinned._bind_product
        monkeypatch.setattr(pinned, "_bind_product", lambda eqn, args: [-real(eqn, args)[0]])
    else:
        real_slice = columns._slice
        monkeypatch.setattr(columns, "_slice", lambda v, pins, where: real_slice(v, pins, where[::-1]))
    monkeypatch.setattr(columns, "_GAIN", 10.0)
    plan, fast, plain = both(f, draw(seed, *shapes), 0)
    assert plan and np.abs(fast - plain).max() > 1e-12 * np.abs(plain).max()


def with_and_without(monkeypatch, loss, params, grad, mode):
    """Reports and what `samples` gave, by the plan and without one."""
    real, results = exhaustive.samples, []
    for plan in (columns.plan, lambda *_: None):
        found = []

        def samples(*args, found=found):
            found.append(real(*args)[0])
            return found[-1], 0

        with monkeypatch.context() as patch:
            patch.setattr(exhaustive, "samples", samples)
            patch.setattr(exhaustive, "COLUMNS_FROM", 0)
            patch.setattr(columns, "plan", plan)
            results.append((jc.check_grad(loss, params, grad, mode=mode), found))
        assert sum(out.shape[1] for out in found) == sum(np.size(leaf) for leaf in params)
    return results


@pytest.mark.parametrize("mode", [jc.Exhaustive(), jc.Exhaustive(step=1e-6), jc.Exhaustive(chunk=7)], ids=str)
@pytest.mark.slow
def test_checks_agree_with_and_without_the_plan(monkeypatch, mode, seed):
    f = lambda p: PROGRAMS["mlp"][0](*p)  # noqa: E731
    params = draw(seed, (D, 50), (50,), (50, 20), (20,))
    (fast, by_plan), (plain, whole) = with_and_without(monkeypatch, f, params, jax.grad(f), mode)
    assert fast.ok and plain.ok and fast.difference < 1e-8 and len(by_plan) == 4
    for one, other in zip(by_plan, whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.slow
def test_where_a_change_is_not_finite_the_whole_program_is_run(monkeypatch, seed):
    """One column is log 0 = -inf at the point and a number beside it: -inf plus inf is NaN, and not the sum."""
    W, V = draw(seed, (D, H), (H, 4))
    base = np.abs(X @ W)

    def loss(p):
        hidden = jnp.log(jnp.maximum(jnp.abs(X @ p[0]) - base, 0.0))
        return jnp.sum(jnp.tanh(jnp.maximum(hidden @ jnp.abs(p[1]), -1e3))) + jnp.sum(p[0])

    grad = lambda p: [np.ones_like(p[0]), np.zeros_like(p[1])]  # noqa: E731
    (_, by_plan), (_, whole) = with_and_without(monkeypatch, loss, [W, V], grad, jc.Exhaustive(step=1e-3))
    for one, other in zip(by_plan, whole, strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.slow
def test_a_wrong_component_is_found_and_named(seed):
    f, shapes, _ = PROGRAMS["mlp"]
    W, b, V, c = draw(seed, *shapes)
    params = {"W": W, "b": b, "V": V, "c": c}
    loss = lambda p: f(p["W"], p["b"], p["V"], p["c"])  # noqa: E731

    def wrong(p):
        g = jax.grad(loss)(p)
        return {**g, "W": g["W"].at[3, 2].multiply(1.01)}

    for mode in (jc.Exhaustive(), jc.Exhaustive(step=1e-6)):
        report = jc.check_grad(loss, params, wrong, mode=mode)
        assert report.verdict is Verdict.FAIL and report.leaf("W").worst[0].index == (3, 2)
        assert report.leaf("V").difference < 1e-7


@pytest.mark.slow
def test_a_rule_of_many_outputs(seed):
    def layer(W, V):
        return jnp.tanh(jnp.tanh(X @ W) @ V)

    right, wrong = jax.custom_vjp(layer), jax.custom_vjp(layer)
    for rule, factor in ((right, 1.0), (wrong, 1.001)):
        rule.defvjp(
            lambda W, V: (layer(W, V), (W, V)), lambda r, g, k=factor: tuple(k * x for x in jax.vjp(layer, *r)[1](g))
        )
    args = draw(seed, (D, 3), (3, 2))
    assert jc.check_rule(right, *args, mode=jc.Exhaustive()).ok
    assert jc.check_rule(wrong, *args, mode=jc.Exhaustive()).verdict is Verdict.FAIL


def test_rows_at_once():
    if jax.default_backend() == "cpu":
        assert rows.chunk_rows(1e5, 10**6) == 17
        assert rows.chunk_rows(1e7, 10**6) == 8 and rows.chunk_rows(1e8, 10**6) == 1
    assert rows.chunk_rows(1.0, 5) == 5 and rows.chunk_rows(1e12, 5) == 1
