"""What rounding does to a rule is measured before it is called wrong: right rules that cancel, and wrong ones there."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.scipy.special as special
import numpy as np
import pytest

from jaxcheck.check.laws.algebra import laws
from jaxcheck.check.laws.site import worst
from jaxcheck.check.transforms.compared import transformations

HILBERT = 1 / (1 + jnp.arange(8.0)[:, None] + jnp.arange(8.0))


def sinc(factor=1.0):
    """Of two terms that are far larger than what is left of them next to zero."""
    f = jax.custom_jvp(lambda x: jnp.sin(x) / x)
    f.defjvp(
        lambda x, t: (f(*x), factor * (jnp.cos(x[0]) / x[0] * t[0] - jnp.sin(x[0]) / x[0] ** 2 * t[0])),
    )
    return f


def losing(derivative):
    f = jax.custom_vjp(jnp.log1p)
    f.defvjp(lambda x: (jnp.log1p(x), x), lambda x, g: (g * derivative(x),))
    return f


def by_status(rows):
    return {status: [r.name for r in rows if r.status == status] for status in ("OK", "WRONG")}


@pytest.mark.parametrize(("f", "at"), [(jnp.sinc, [0.0, 1e-9, 0.5, 20.0]), (sinc(), [1e-6, 1.0])])
def test_right_rules_that_cancel_break_no_law(f, at):
    assert by_status(laws(f, (np.asarray(at),)))["WRONG"] == []


def test_a_wrong_one_does():
    assert "adjointness" in by_status(laws(sinc(1.01), (np.asarray([1e-4, 1.0]),)))["WRONG"]


@pytest.mark.parametrize(
    ("f", "x", "row"),
    [
        (sinc(), np.float32([1e-4, 1]), "float32"),
        (lambda b: jnp.linalg.solve(HILBERT, b), np.random.default_rng(0).normal(size=8), "bfloat16"),
    ],
)
def test_in_the_dtype_it_is_the_rounding(f, x, row):
    (found,) = [r for r in transformations(f, (x,)) if r.name == row]
    assert found.status == "OK" and "by rounding" in found.detail


def test_also_where_autodiff_keeps_what_the_rule_loses():
    """So does y (1 - y) of a sigmoid that is nearly 1: that a formula cancels makes it no wrong one."""
    f = losing(lambda x: ((1 + x) ** 2 - 1) / x / (2 + x) / (1 + x))
    (row,) = [r for r in transformations(f, (np.float32([1e-4, 1]),)) if r.name == "float32"]
    assert row.status == "OK" and "by rounding" in row.detail


def test_next_to_the_edge_of_a_domain():
    """No neighbour of 0.9999999 is within it, so that nobody knows how the gradient moves beside it."""
    f = jax.custom_vjp(special.erfinv)
    back = lambda y, g: (g * np.sqrt(np.pi) / 2 * jnp.exp(y * y),)  # noqa: E731
    f.defvjp(lambda x: (special.erfinv(x), special.erfinv(x)), back)
    assert by_status(transformations(f, (np.float32([0.999999, -0.9999999, 1e-8, 0.5]),)))["WRONG"] == []
    f.defvjp(
        lambda x: (special.erfinv(x), special.erfinv(x)),
        lambda y, g: (back(y, g)[0] * (1 + isinstance(g, jax.core.Tracer)),),
    )
    assert "jit" in by_status(transformations(f, (np.float32([0.9999, 0.5]),)))["WRONG"]


def test_what_is_the_same_does_not_differ():
    same = np.ones(2)
    assert worst([same], [same], [float("nan")], [1.0]) == (0.0, -1)
    assert worst([same], [same + 1], [float("nan")], [1.0])[1] == 0
    assert worst([same * np.nan], [same * np.nan], [1.0], [1.0])[1] == 0
