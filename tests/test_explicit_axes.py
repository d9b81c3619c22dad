"""Rules on arrays whose layout is a part of their type: what is made beside them lies as they do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc


@pytest.mark.slow
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
    # JAX 0.10 does not lay such arguments out once more, 0.11 does.
    assert [r.name for r in report.rows if r.status == "UNSUPPORTED"] in (["JVP", "sharded"], ["JVP"])


@pytest.mark.parametrize("factor", [1.0, 1.001])
@pytest.mark.parametrize("spec", [(), (None,), (None, None)], ids=len)
def test_a_placement_that_is_shorter_than_its_array(spec, factor):
    """JAX 0.10 does not batch such a product, and what is checked is batched."""
    mesh = jax.make_mesh((2,), ("d",), devices=jax.devices()[:2])
    rng = np.random.default_rng(0)
    with jax.set_mesh(mesh):
        x = jax.device_put(jnp.asarray(rng.normal(size=(8, 4)), jnp.float32), jax.P("d"))
        w = jax.device_put(jnp.asarray(rng.normal(size=(4, 3)), jnp.float32), jax.P())

        def loss(w, x):
            return jnp.mean((x @ w) ** 2)

        def back(w, x):
            return jnp.einsum("nd,no->do", x, factor * 2 * (x @ w) / 24, out_sharding=jax.P(*spec))

        assert jc.check_grad(loss, w, back, args=(x,)).verdict == ("PASS" if factor == 1 else "FAIL")
        points = jnp.stack([w, w + 1])
        assert jc.check_batch(loss, points, back, args=(x,)).verdict == ("PASS" if factor == 1 else "FAIL")
