"""Whether two programs are one formula: nothing is said of one that lacks its constants."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcheck.program import alike as alike_module
from jaxcheck.program.alike import alike


def traced(values):
    return jax.make_jaxpr(lambda x: jnp.sin(x) * values)(np.ones(3, np.float32))


def test_constants_tell_formulas_apart():
    one, other = traced(np.arange(3.0)), traced(np.arange(3.0) + 1)
    assert alike(one, traced(np.arange(3.0))) and not alike(one, other)


def test_an_open_program_without_its_constants_is_nobodys_like():
    # As foreign primitives keep them among their parameters: a Jaxpr, and its constants somewhere else.
    one = traced(np.arange(3.0))
    if hasattr(one.jaxpr, "consts"):
        pytest.skip("since JAX 0.11 a Jaxpr has its constants with it")
    assert one.jaxpr.constvars
    assert not alike(one.jaxpr, one.jaxpr) and not alike(one, one.jaxpr)


def nested_scans(depth):
    def body(carry):
        return jnp.sin(carry[0]) + carry[1], carry[1] * 2, carry[2] + carry[0]

    for _ in range(depth):
        body = lambda carry, inner=body: jax.lax.scan(lambda c, _: (inner(c), None), carry, None, length=2)[0]  # noqa: E731
    return jax.make_jaxpr(body)((np.float32(1), np.float32(2), np.float32(3)))


def test_loops_in_loops_are_compared_once_each(monkeypatch):
    """Each has several results, and each result asks for its equation: 3 to the power of the depth, before."""
    depth, asked, compare = 9, [], alike_module._alike
    monkeypatch.setattr(alike_module, "_alike", lambda *given: asked.append(0) or compare(*given))
    assert alike(nested_scans(depth), nested_scans(depth))
    assert len(asked) == depth + 1
