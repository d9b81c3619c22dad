"""Whether two programs are one formula: nothing is said of one that lacks its constants."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcheck.program.alike import alike


def traced(values):
    return jax.make_jaxpr(lambda x: jnp.sin(x) * values)(np.ones(3, np.float32))


def test_constants_tell_formulas_apart():
    one, other = traced(np.arange(3.0)), traced(np.arange(3.0) + 1)
    assert alike(one, traced(np.arange(3.0))) and not alike(one, other)


def test_an_open_program_without_its_constants_is_nobodys_like():
    # As foreign primitives keep them among their parameters: a Jaxpr, and its constants somewhere else.
    one = traced(np.arange(3.0))
    assert one.jaxpr.constvars
    assert not alike(one.jaxpr, one.jaxpr) and not alike(one, one.jaxpr)
