"""A floor holds however the error is stored; and hints of an index that is held twice say what they know."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc


@pytest.mark.parametrize("times", [2, 4, 6])
def test_an_array_that_is_added_is_no_excuse_for_the_constants_beside_it(times):
    """Where constants cancel, their rounding explains much of what a function does, and nothing of what is added."""
    w = jnp.asarray(np.random.default_rng(0).normal(size=5), jnp.float32)

    def loss(w):
        return jnp.sum((w * 10000.1 - w * 10000.0) ** 2)

    right = jax.grad(loss)
    floor = jc.check_grad(loss, w, right)["params"].floor
    error = jnp.asarray(times * floor * np.linalg.norm(right(w)) * np.eye(5)[1], jnp.float32)
    assert jc.check_grad(loss, w, lambda w: right(w) + error).verdict == "FAIL"


ROWS = jnp.asarray([[1, 2, 3], [4, 5, 1], [0, 6, 7]])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda g: g.at[1, 3].multiply(1.01), "1 of 36 entries is wrong"),
        (lambda g: g.at[1, 3].multiply(-1), "1 of 36 entries is wrong"),
        (lambda g: g.at[1].multiply(1.01), "only row 1 is wrong"),
        (None, "not accumulated"),
    ],
    ids=["one entry", "its sign", "one factor", "overwritten"],
)
def test_what_is_not_accumulated_is_another_number_in_each_entry(change, said):
    rng = np.random.default_rng(4)
    params = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in (("E", (9, 4)), ("W", (4, 2)))}
    y = jnp.asarray(rng.normal(size=(3, 2)), jnp.float32)

    def loss(p):
        return jnp.mean((p["E"][ROWS].sum(1) @ p["W"] - y) ** 2)

    def wrong(p):
        g = jax.grad(loss)(p)
        if change is not None:
            return g | {"E": change(g["E"])}
        each = jax.grad(lambda rows: jnp.mean((rows.sum(1) @ p["W"] - y) ** 2))(p["E"][ROWS])
        return g | {"E": jnp.zeros_like(p["E"]).at[ROWS].set(each)}

    assert said in jc.check_grad(loss, params, wrong)["E"].hint
