"""A rule on arguments that lie on two devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxcheck.check.laws.site import pull
from jaxcheck.program.ask import ask
from jaxcheck.program.interpret import walk
from jaxcheck.program.mode import is_laid_out
from jaxcheck.program.run import spread
from jaxcheck.program.run.batching import CALLBACKS


def sharded(call: Callable, x: Sequence[Any], g: Sequence[Any]) -> tuple[Any, Any]:
    """(the cotangents of x, x as it lies there), or (None, why there are none).

    Raises:
        Refused: by the rule, or by JAX.
    """
    devices = spread.of_this_process()
    if len(devices) < 2:
        return None, "one device"
    if any(map(is_laid_out, x)):
        return None, "it lies on axes of its own"
    mesh = jax.sharding.Mesh(np.array(devices[:2]), ("rows",))
    specs = [_split(v) for v in x]
    if not any(any(s) for s in specs):
        return None, "no axis of even length to split"
    x = [jax.device_put(v, jax.sharding.NamedSharding(mesh, s)) for v, s in zip(x, specs, strict=True)]
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    g = [jax.device_put(v, everywhere) for v in g]
    run = jax.jit(pull(call))
    names = {eqn.primitive.name for eqn, _ in walk(ask(run.trace, x, g).jaxpr)}
    if not names.isdisjoint(CALLBACKS):
        # The host is called for one device, while the other waits for it in a collective: XLA ends the process.
        return None, "it calls back into Python"
    return ask(run, x, g), x


def _split(value: Any) -> jax.sharding.PartitionSpec:
    axis = next((i for i, n in enumerate(value.shape) if n and n % 2 == 0), None)
    return jax.sharding.PartitionSpec(*([None] * axis + ["rows"] if axis is not None else []))
