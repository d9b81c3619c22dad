"""The JAX settings under which jaxcheck's own code runs, whatever the caller's are.

Differences step out of domains on purpose, so NaN debugging must not stop them; strict promotion is a
rule for the caller's code, not for ours. Context managers: nothing global changes, and all is as
before on return and on error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def calm() -> Iterator[None]:
    """Standard promotion, no NaN or rank complaints, transfers allowed, jit on."""
    with contextlib.ExitStack() as stack:
        for enter in (
            lambda: jax.numpy_dtype_promotion("standard"),
            lambda: jax.numpy_rank_promotion("allow"),
            lambda: jax.debug_nans(False),
            lambda: jax.debug_infs(False),
            lambda: jax.transfer_guard("allow"),
            lambda: jax.disable_jit(False),
            # Internal checks of JAX do not know closed_call equations made outside it (0.10).
            lambda: jax.enable_checks(False),
        ):
            stack.enter_context(enter())
        yield
