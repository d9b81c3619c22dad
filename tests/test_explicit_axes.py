"""Rules on arrays whose layout is a part of their type: what is made beside them lies as they do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc


@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_a_rule_inside_shard_map(factor):
    sine = jax.custom_vjp(jnp.sin)
    sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (factor * g * jnp.cos(x),))
    mesh = jax.make_mesh((1,), ("i",), devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        x = np.random.default_rng(0).normal(size=4).astype(np.float32)
        x = jax.device_put(x, jax.NamedSharding(mesh, jax.P("i")))
        split = jax.shard_map(lambda x: sine(x), mesh=mesh, in_specs=jax.P("i"), out_specs=jax.P("i"))
        report = jc.check_rule(split, x, where=False)
    assert report.verdict is (jc.Verdict.PASS if factor == 1 else jc.Verdict.FAIL)
    assert [r.name for r in report.rows if r.status == "WRONG"] == ["adjointness"] * (factor != 1)
    assert [r.name for r in report.rows if r.status == "UNSUPPORTED"] == ["JVP", "sharded"]
