"""A layer at zero over symmetric data: kinks cancel along each weight, and the usual choice at a kink is right."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.program.run import compile as compiling

X = np.linspace(-1, 1, 9)[:, None]
PARAMS = {
    "W": np.zeros((1, 4)),
    "b": np.zeros(4),
    "V": np.random.default_rng(1).normal(size=(4, 1)),
    "c": np.zeros(1),
}
JAX, NUMPY, BOTH = (jnp, jnp), (np, np), (jnp, np)


def loss_in(xp):
    return lambda p: xp.mean((xp.maximum(X @ p["W"] + p["b"], 0) @ p["V"] + p["c"] - X) ** 2)


def backprop_in(xp, change=lambda dW: dW):
    def backprop(p):
        z = X @ p["W"] + p["b"]
        h = xp.maximum(z, 0)
        d = 2 * (h @ p["V"] + p["c"] - X) / X.size
        dh = (d @ p["V"].T) * (z > 0)
        return {"W": change(X.T @ dh), "b": dh.sum(0), "V": h.T @ d, "c": d.sum(0)}

    return backprop


@pytest.mark.parametrize("kinds", [JAX, NUMPY, BOTH], ids=["jnp", "NumPy", "jnp and NumPy"])
def test_kinks_that_cancel_accuse_nobody(kinds):
    report = jc.check_grad(loss_in(kinds[0]), PARAMS, grad=backprop_in(kinds[1]))
    assert report.ok and report["W"].reason is jc.Reason.KINK
    # The sums are zero but for their rounding, which is no mistake.
    assert 0 <= report["c"].norm_manual < 1e-15


WRONG = {"sign": lambda dW: -dW, "doubled": lambda dW: 2 * dW, "shifted": lambda dW: dW + 0.01}


@pytest.mark.parametrize(
    ("kinds", "change"),
    [(*pair,) for pair in itertools.product([JAX, NUMPY], WRONG)],
    ids=lambda x: x if isinstance(x, str) else x[0].__name__,
)
def test_a_wrong_gradient_is_not_excused_by_them(kinds, change):
    report = jc.check_grad(loss_in(kinds[0]), PARAMS, grad=backprop_in(kinds[1], WRONG[change]))
    assert report.verdict is jc.Verdict.FAIL and [leaf.path for leaf in report.failed] == ["W"]


def test_a_smooth_failure_compiles_nothing_more(monkeypatch):
    built = []
    execute = compiling.execute
    monkeypatch.setattr("jaxcheck.evidence.sides.execute", lambda *a, **k: built.append(a) or execute(*a, **k))
    report = jc.check_grad(lambda w: jnp.sum(jnp.tanh(w) ** 2), jnp.ones(3), grad=lambda w: jnp.tanh(w))
    assert report.verdict is jc.Verdict.FAIL and not built
