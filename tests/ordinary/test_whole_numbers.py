"""Labels and indices as people hold them: NumPy's int64, which JAX takes for int32, and others, jitted or not."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.result import Verdict
from jaxcheck.test_util import check_grads

RNG = np.random.default_rng(0)
W, X = RNG.normal(size=(4, 3)), RNG.normal(size=(5, 4))
DRAWN = RNG.integers(0, 3, 5)
KINDS = {
    "int64": lambda: DRAWN.copy(),
    "uint64": lambda: DRAWN.astype(np.uint64),
    "int32": lambda: DRAWN.astype(np.int32),
    "uint8": lambda: DRAWN.astype(np.uint8),
    "jnp": lambda: jnp.asarray(DRAWN),
    "list": DRAWN.tolist,
}
USES = {
    "indexed": lambda z, y: jax.nn.log_softmax(z)[jnp.arange(5), jnp.asarray(y)],
    "one hot": lambda z, y: (jax.nn.log_softmax(z) * jax.nn.one_hot(jnp.asarray(y), 3)).sum(1),
    "along an axis": lambda z, y: jnp.take_along_axis(jax.nn.log_softmax(z), jnp.asarray(y)[:, None], 1),
    "compared": lambda z, y: jnp.where(jnp.asarray(y)[:, None] == jnp.arange(3), z**2, jnp.sin(z)),
    "summed by": lambda z, y: jax.ops.segment_sum(z, jnp.asarray(y), 3) ** 2,
}
FAMILY = list(itertools.product(KINDS, USES, (False, True)))


def use(name, jitted):
    def f(w, y):
        return USES[name](jnp.asarray(X) @ w, y)

    return jax.jit(f) if jitted else f


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "jitted"),
    [
        pytest.param(*one, marks=[] if one[0] == "int64" or k % 5 == 0 else pytest.mark.slow)
        for k, one in enumerate(FAMILY)
    ],
)
def test_in_every_door(kind, name, jitted):
    f, y = use(name, jitted), KINDS[kind]()

    def loss(w, y):
        return f(w, y).sum()

    outer = jax.jit(loss) if jitted else loss
    for factor in (1.0, 1.001):
        wanted = Verdict.PASS if factor == 1 else Verdict.FAIL
        given = jc.check_grad(outer, W, lambda w, y, k=factor: k * jax.grad(loss)(w, y), args=(y,))
        closed = jc.check_grad(lambda w: outer(w, y), W, lambda w, k=factor: k * jax.grad(loss)(w, y))
        assert (given.verdict, closed.verdict) == (wanted, wanted), (str(given), str(closed))
    assert jc.check_rule(f, jnp.asarray(W), y, transforms=False).verdict is not Verdict.FAIL
    if kind != "list":
        check_grads(f, (W, y), 1)
