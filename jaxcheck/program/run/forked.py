"""A process that was forked after JAX had started has JAX's memory and none of its threads: it would wait for ever."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from jax._src import xla_bridge


def _started() -> bool:
    return bool(getattr(xla_bridge, "backends_are_initialized", lambda: False)())


def _lost_its_threads() -> bool:
    """Whether JAX has started, and yet this process has no thread but Python's own; known on Linux."""
    tasks = Path("/proc/self/task")
    return _started() and tasks.is_dir() and len(list(tasks.iterdir())) <= threading.active_count()


# Forked before this was imported, or after.
_STATE = {"dead": _lost_its_threads()}


def _in_child() -> None:
    _STATE["dead"] = _STATE["dead"] or _started()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def refuse(name: str) -> None:
    """Raise RuntimeError in such a process, on behalf of the front door of this name."""
    if _STATE["dead"]:
        raise RuntimeError(
            f"{name} was called in a process that was forked after JAX had started, where JAX's threads are missing; "
            'start it anew with multiprocessing.get_context("spawn") (or "forkserver"), or fork before JAX is used'
        )
