"""How carefully a program is compiled."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxcheck.program.run import batching, cache


def convolution(x, w, groups=1):
    return jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )


@pytest.mark.parametrize(("groups", "products"), [(1, 2 * 8 * 8 * 6 * 9 * 4), (2, 2 * 8 * 8 * 6 * 9 * 2)])
def test_products_of_convolutions_are_counted(groups, products):
    x, w = np.ones((2, 8, 8, 4)), np.ones((3, 3, 4 // groups, 6))
    closed = jax.make_jaxpr(lambda x, w: convolution(x, w, groups))(x, w)
    assert batching.convolved(closed) == products
    if groups > 1:
        return
    looped = jax.make_jaxpr(lambda xs, w: jax.lax.map(lambda x: jax.jit(convolution)(x, w), xs))(np.stack([x] * 5), w)
    assert batching.convolved(looped) == 5 * products


def test_large_convolutions_are_compiled_carefully(monkeypatch):
    """Without the compiler's care their products take some twenty times as long."""
    said = []
    whole = cache._compile

    def compiled(lowered, small, careful):
        said.append(small)
        return whole(lowered, small, careful)

    monkeypatch.setattr(cache, "_compile", compiled)
    for size in (4, 40):
        x, w = np.ones((4, size, size, 16), np.float32), np.ones((3, 3, 16, 16), np.float32)
        cache.make(("a test of compiling", size), convolution, (x, w), True)
    assert said == [True, False]
