"""What the factors of a product of matrices are rounded to before they are multiplied.

Where nothing else is asked for, accelerators multiply float32 in fewer bits: ten of TensorFloat-32 on GPUs of compute
capability 8.0 and later, seven of bfloat16 on TPUs (`jax.lax.Precision`). Sums are in float32 all the same.
"""

from __future__ import annotations

import functools
from typing import Any

import jax

from jaxcheck.program import interpret, units

TENSOR_FLOAT, BRAIN_FLOAT, FLOAT32 = 2.0**-11, 2.0**-8, 2.0**-24
PRODUCTS = frozenset(("dot_general", "conv_general_dilated"))
# By what `precision` of an equation says; other algorithms take three or more products and lose nothing to speak of.
_ASKED = {"TF32_TF32_F32": TENSOR_FLOAT, "BF16_BF16_F32": BRAIN_FLOAT}
_BY_DEFAULT = {"gpu": TENSOR_FLOAT, "tpu": BRAIN_FLOAT}
_UNASKED = {"gpu": ("None", "DEFAULT", "HIGH"), "tpu": ("None", "DEFAULT")}


def factor_unit(eqn: Any, own: float) -> float:
    """The unit round-off of an equation's factors where one rounding is else worth `own`; 0: they are taken as they
    are, or in what is no finer than their own."""
    if eqn.primitive.name not in PRODUCTS or own < FLOAT32:
        return 0.0
    asked = eqn.params.get("precision")
    names = {getattr(p, "name", str(p)) for p in (asked if isinstance(asked, tuple) else (asked,))}
    known = [_ASKED[n] for n in names if n in _ASKED]
    device = accelerator()
    if not known and names <= set(_UNASKED.get(device, ())):
        known = [_BY_DEFAULT[device]]
    return max((u for u in known if u > own), default=0.0)


def accelerator() -> str:
    """'gpu' or 'tpu' where JAX's default device multiplies float32 in fewer bits, else ''."""
    chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    return _coarse(jax.devices()[0] if chosen is None else chosen)


@functools.cache
def _coarse(device: Any) -> str:
    platform = device if isinstance(device, str) else device.platform
    if platform == "tpu":
        return "tpu"
    capability = str(getattr(device, "compute_capability", "")).partition(".")[0]
    return "gpu" if capability.isdecimal() and int(capability) >= 8 else ""


def unit_of_products(program: Any) -> float:
    """The coarsest unit of factors in a program, 0 where all are taken as they are."""
    products = (eqn for eqn, _ in interpret.walk(program) if eqn.primitive.name in PRODUCTS)
    return max((factor_unit(eqn, units.unit(eqn.invars[0].aval.dtype)) for eqn in products), default=0.0)
