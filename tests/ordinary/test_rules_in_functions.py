"""A rule that is defined inside a function, as people do who want to close over its other arguments."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.test_util import check_grads

RNG = np.random.default_rng(0)
W, X = RNG.normal(size=(3, 4)).astype(np.float32), RNG.normal(size=4).astype(np.float32)


def layer(w, x, factor):
    y = jnp.tanh(x)  # in a trace a tracer, which the rule below closes over

    @jax.custom_vjp
    def rule(w):
        return jnp.sin(w @ y)

    rule.defvjp(lambda w: (rule(w), w), lambda w, g: (factor * (g * jnp.cos(w @ y))[:, None] * y[None],))
    return rule(w)


def loss(factor):
    return lambda w, x: jnp.sum(layer(w, x, factor) ** 2)


def dropped_in(order):
    def check(factor):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                check_grads(lambda w: layer(w, X, factor), (W,), order, ["rev"])
            except jc.GradientMismatch as error:
                return error.report
        return None

    return check


DOORS = {
    "check_grad": lambda factor: jc.check_grad(loss(factor), W, args=(X,)),
    "check_grad, jitted": lambda factor: jc.check_grad(
        loss(factor), W, args=(X,), grad=jax.jit(jax.grad(loss(factor)))
    ),
    "check_batch": lambda factor: jc.check_batch(loss(factor), np.stack([W, 2 * W]), args=(X,)),
    "check_rule": lambda factor: jc.check_rule(lambda w: layer(w, X, factor), W, transforms=False),
    "drop-in": dropped_in(1),
    "drop-in, second order": dropped_in(2),
}


@pytest.mark.parametrize("factor", [1.0, 1.001])
@pytest.mark.parametrize("door", DOORS)
def test_a_rule_in_a_function_is_judged(door, factor):
    report = DOORS[door](factor)
    if factor == 1:
        assert report is None or report.verdict is jc.Verdict.PASS
        assert report is None or not any("eagerly" in note for note in getattr(report, "notes", ()))
    else:
        assert report.verdict is jc.Verdict.FAIL


def test_where_jax_itself_cannot_go_the_rule_is_told_why():
    """`jax.grad(jax.jit(f))` fails, although `jax.grad(f)` and `jax.jit(jax.grad(f))` do not."""
    report = jc.check_rule(lambda w: layer(w, X, 1.0), W)
    rows = {row.name: row for row in report.rows}
    assert report.reason is jc.Reason.TRANSFORM_WRONG and rows["eager"].status == "OK"
    assert "a value from outside" in rows["jit"].detail


@pytest.mark.parametrize("deep", [1, 2])
@pytest.mark.parametrize("kind", ["jvp", "vjp"])
def test_one_made_for_every_row_of_numpy_data(kind, deep):
    """Its rule closes over a row: what vmap makes of float64 data that JAX rounds."""
    rng = np.random.default_rng(0)
    data, w = rng.normal(size=(3, 2)), rng.normal(size=2)

    def loss(w, factor):
        def row(x):
            if kind == "jvp":
                f = jax.custom_jvp(lambda y: jnp.sin(x * y))
                f.defjvp(lambda p, t: (jnp.sin(x * p[0]), factor * x * jnp.cos(x * p[0]) * t[0]))
            else:
                f = jax.custom_vjp(lambda y: jnp.sin(x * y))
                f.defvjp(lambda y: (jnp.sin(x * y), (x, y)), lambda r, g: (factor * r[0] * jnp.cos(r[0] * r[1]) * g,))
            return f(w).sum()

        for _ in range(deep):
            row = jax.vmap(row)
        return row(data).sum()

    assert jc.check_grad(lambda w: loss(w, 1.0), w).verdict is jc.Verdict.PASS
    assert jc.check_grad(lambda w: loss(w, 1.001), w, where=False).verdict is jc.Verdict.FAIL
    check_grads(lambda w: loss(w, 1.0), (w,), 1, ["rev"])
    with pytest.raises(jc.GradientMismatch):
        check_grads(lambda w: loss(w, 1.001), (w,), 1, ["rev"])
