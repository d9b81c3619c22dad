"""JAX's mode, and its tracers: the two questions that everybody asks of the session."""

from __future__ import annotations

from typing import Any

import jax
from jax.core import Tracer


def is_wide() -> bool:
    """Whether the 64-bit mode is on, here and now."""
    return bool(jax.config.read("jax_enable_x64"))


def is_traced(x: Any) -> bool:
    """Whether a value belongs to a trace that is under way."""
    return isinstance(x, Tracer)


__all__ = ["is_traced", "is_wide"]
