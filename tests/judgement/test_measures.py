"""How far a gradient is off, as a number: of what the differences know."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jaxcheck as jc
from jaxcheck.formula import formula2
from jaxcheck.judgement.measures import by_column


def test_a_column_of_which_no_digit_is_known_is_off_by_nothing():
    rule = jax.custom_vjp(lambda x: x * jnp.abs(x))
    rule.defvjp(lambda x: (x * jnp.abs(x), x), lambda x, ct: (2 * jnp.abs(x) * ct,))
    report = jc.check_rule(rule, np.array([0.7, 0.0, -0.4, 1.1]), transforms=False)
    assert report.difference < 1e-7 and report.leaves[0].difference < 1e-7, report
    a, b, error = (
        np.array([[1.0, 2.0], [0.0, 0.0]]),
        np.array([[1.0, 2.1], [1e-9, 0.0]]),
        np.array([[0.0, 0.0], [2e-9, 0.0]]),
    )
    assert by_column(a, b) == 1 and by_column(a, b, error) == formula2(a[0], b[0])
