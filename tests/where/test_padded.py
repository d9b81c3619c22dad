"""Padding and its way back, on the host as in JAX: inside, outside, less than nothing."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxcheck.program.where import padded

CASES = {
    "around": ((3, 2), ((1, 2, 0), (0, 1, 0))),
    "between": ((3, 2), ((0, 0, 2), (1, 0, 1))),
    "cut": ((5, 4), ((-1, -2, 0), (2, -3, 0))),
    "cut between": ((4, 3), ((-2, 1, 1), (-1, -1, 2))),
    "nothing left": ((2, 3), ((-1, -1, 0), (0, 0, 0))),
    "nothing there": ((0, 3), ((1, 2, 1), (0, 0, 0))),
    "a number": ((), ()),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_jaxs(case):
    shape, config = CASES[case]
    rng = np.random.default_rng(0)
    x, value = rng.normal(size=shape), np.float64(0.7)
    with jax.enable_x64(True):
        y, pull = jax.vjp(lambda x, v: jax.lax.pad(x, v, config), x, value)
        g = rng.normal(size=y.shape)
        wanted = pull(g)
    found = padded.pad({"padding_config": config})(x, np.asarray(value))
    np.testing.assert_array_equal(found, y)
    for a, b in zip(padded.back({"padding_config": config}, [x, value], found, g), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14, atol=1e-15)
