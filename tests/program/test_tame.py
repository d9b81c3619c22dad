"""Which programs are known to overflow nowhere in float32 without being run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcheck.program.tame import stays_within

X = np.ones(3, np.float32)
TAME = {
    "sums and products": lambda x: jnp.sum(jnp.tanh(x @ x) * x) / 3,
    "a complex constant": lambda x: jnp.real(jnp.sum((x + 1j) / (2 + 1j))),
    "a small power": lambda x: x**3,
    "a loop": lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c), c), x, None, 5)[0],
}
WILD = {
    "an exponential": jnp.exp,
    "a quotient": lambda x: x / (1 + x),
    "a large constant": lambda x: x * 1e30 * 1e30,
    "a large array": lambda x: x * np.full(3, 1e30, np.float32),
    "a division by little": lambda x: x / 1e-30,
    "half precision inside": lambda x: jnp.sum((x.astype(jnp.float16) * 300) ** 2).astype(jnp.float32),
    "a large power": lambda x: x**40,
}


@pytest.mark.parametrize("name", TAME)
def test_tame(name):
    assert stays_within(jax.make_jaxpr(TAME[name])(X), [X])
    assert not stays_within(jax.make_jaxpr(TAME[name])(X), [1e30 * X])


@pytest.mark.parametrize("name", WILD)
def test_not_known_to_be_tame(name):
    assert not stays_within(jax.make_jaxpr(WILD[name])(X), [X])
