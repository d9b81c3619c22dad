"""Ties in arrays too large to be taken one by one: right choices pass, and a wrong gradient among them fails."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import Reason, Verdict

SHAPE = (32, 64)


def after_relu(*shape, seed=0):
    """An activation: about half of it zero."""
    return np.maximum(np.random.default_rng(seed).standard_normal(shape), 0).astype(np.float32)


X, C = after_relu(*SHAPE), np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
LIVE = np.unravel_index(np.argmax(np.abs(C) * (X > 0)), SHAPE)
DEAD = np.unravel_index(np.argmax(np.abs(C) * (X == 0)), SHAPE)


def at(where, factor=1.0, plus=0.0):
    """Changes one component of a gradient."""
    return lambda g: g.at[where].set(g[where] * factor + plus)


def lasso(w):
    return jnp.sum(jnp.abs(w)) + jnp.sum(w**2)


def pool(x):
    return jnp.sum(C[:16, :32] * x.reshape(16, 2, 32, 2).max((1, 3)))


def pool_grad(shared):
    """The first of equal ones gets all; or each of them, as if the tie counted that often."""

    def grad(x):
        a = np.asarray(x).reshape(16, 2, 32, 2).transpose(0, 2, 1, 3).reshape(16, 32, 4)
        chosen = a == a.max(-1, keepdims=True) if shared else np.eye(4)[a.argmax(-1)]
        g = chosen * C[:16, :32, None]
        return jnp.asarray(g.reshape(16, 32, 2, 2).transpose(0, 2, 1, 3).reshape(SHAPE))

    return grad


def relu(x):
    return jnp.sum(C * jnp.maximum(x, 0))


def relu_grad(x):
    return jnp.asarray(C) * (x > 0)


def with_lasso(w):
    return jnp.sign(w) + 2 * w


# (loss, gradient, point, changes to it that make it wrong)
CASES = {
    "relu, 0 at 0": (
        relu,
        relu_grad,
        X,
        {
            "a smooth component doubled": at(LIVE, 2),
            "outside of a kink's slopes": at(DEAD, plus=-C[DEAD]),
            "the same everywhere": lambda g: g + 1e-3,
        },
    ),
    "relu, 1 at 0": (
        relu,
        lambda x: jnp.asarray(C) * (x >= 0),
        X,
        {"a smooth component doubled": at(LIVE, 2), "beyond a kink's slopes": at(DEAD, 2)},
    ),
    "sparse lasso": (
        lasso,
        with_lasso,
        X,
        {
            "a smooth component doubled": at(LIVE, 2),
            "outside of a kink's slopes": at(DEAD, plus=1.2),
            "no regularisation": lambda g: g - jnp.asarray(2 * X),
        },
    ),
    "max pooling": (
        pool,
        pool_grad(shared=False),
        X,
        {
            "a smooth component doubled": at(
                np.unravel_index(np.argmax(np.abs(pool_grad(False)(X)) * (X > 0)), SHAPE), 2
            )
        },
    ),
}


def check(loss, grad, point, change=lambda g: g):
    return jc.check_grad(loss, point, lambda x: change(jnp.asarray(grad(x))))


@pytest.mark.parametrize("name", CASES)
def test_right_choices(name):
    loss, grad, point, _ = CASES[name]
    report = check(loss, grad, point)
    assert report.mode == "sketch"
    assert (report.verdict, report.reason) == (Verdict.PASS, Reason.KINK), str(report)


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name, case in CASES.items() for wrong in case[3]])
def test_a_wrong_gradient_among_them(name, wrong):
    loss, grad, point, changes = CASES[name]
    report = check(loss, grad, point, changes[wrong])
    assert report.verdict is Verdict.FAIL, str(report)


def test_ties_counted_more_than_once():
    """Each component lies between its slopes; moved together they do not."""
    assert check(pool, pool_grad(shared=True), X).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("at_zero", "factor", "verdict"),
    [(0.0, 1, Verdict.PASS), (0.0, 1.01, Verdict.FAIL), (1.3, 1, Verdict.FAIL), (1.0, 1, Verdict.PASS)],
)
def test_a_rule(at_zero, factor, verdict):
    @jax.custom_vjp
    def f(x):
        return jnp.maximum(x, 0)

    f.defvjp(lambda x: (f(x), x), lambda x, g: (g * jnp.where(x == 0, at_zero, jnp.where(x > 0, factor, 0.0)),))
    assert jc.check_rule(f, X, algebra=False, transforms=False).verdict is verdict


def network(rows, live, inputs, hidden, zero=False):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((rows, inputs)).astype(np.float32), rng.standard_normal(rows).astype(np.float32)
    x[live:] = 0  # padding: with the biases zero, as at initialisation, it lies on the kink
    p = {
        "W1": 0.1 * rng.standard_normal((inputs, hidden)).astype(np.float32) * (not zero),
        "b1": np.zeros(hidden, np.float32),
        "W2": 0.1 * rng.standard_normal(hidden).astype(np.float32),
    }

    def loss(p):
        return jnp.mean((jnp.maximum(x @ p["W1"] + p["b1"], 0) @ p["W2"] - y) ** 2)

    def grad(p):
        z = x @ p["W1"] + p["b1"]
        d = 2 * (jnp.maximum(z, 0) @ p["W2"] - y) / rows
        dz = d[:, None] * p["W2"] * (z > 0)
        return {"W1": x.T @ dz, "b1": dz.sum(0), "W2": jnp.maximum(z, 0).T @ d}

    return loss, grad, p


WRONG = {"W1": at((3, 5), 1.5), "b1": lambda g: g * 2, "W2": at(7, 1.01)}


@pytest.mark.slow
@pytest.mark.parametrize("zero", [False, True])
def test_a_network_at_its_initialisation(zero):
    loss, grad, p = network(32, 20, 40, 60, zero)
    report = jc.check_grad(loss, p, grad)
    assert report.mode == "sketch" and report.verdict is Verdict.PASS, str(report)


@pytest.mark.parametrize("leaf", WRONG)
@pytest.mark.slow
def test_a_network_with_one_leaf_wrong(leaf):
    loss, grad, p = network(32, 20, 40, 60)
    report = jc.check_grad(loss, p, lambda p: {k: WRONG[k](g) if k == leaf else g for k, g in grad(p).items()})
    assert [x.path for x in report.leaves if x.verdict is Verdict.FAIL] == [leaf], str(report)


@pytest.mark.slow
def test_the_cost_does_not_grow_with_the_ties():
    few, many = (
        jc.check_grad(*(lambda t: (t[0], t[2], t[1]))(network(32, 20, 40, hidden))).evaluations for hidden in (60, 600)
    )
    assert many <= 1.2 * few and many < 3000


@pytest.mark.parametrize("off", [0.0, 0.3, 0.01])
def test_numbers_that_only_lie_within_wide_ranges_do_not_pass(off):
    """A lasso in NumPy at a sparse point: of a component at zero that is off by a part of the gradient's norm, 3,000
    kinks at once show nothing but that it is not in the middle."""
    rng = np.random.default_rng(1)
    a, b, x = rng.normal(size=(20, 4000)) / 60, rng.normal(size=20), rng.normal(size=4000)
    x[rng.random(4000) < 0.7] = 0

    def loss(x):
        return 0.5 * np.sum((a @ x - b) ** 2) + 0.01 * np.sum(np.abs(x))

    given = a.T @ (a @ x - b) + 0.01 * np.sign(x)
    given[np.flatnonzero(x == 0)[3]] += off * np.linalg.norm(given)
    report = jc.check_grad(loss, x, given)
    assert (report.verdict, report.reason) == (
        (jc.Verdict.INCONCLUSIVE, jc.Reason.VACUOUS) if off else (jc.Verdict.PASS, jc.Reason.KINK)
    ), report
