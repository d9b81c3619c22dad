"""What options of the command line stand for, tried before anything is run. What is no good is a UsageError."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import click


def make(folder: str) -> None:
    """A folder in which files can be written, or UsageError."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"cannot make the folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise click.UsageError(f"cannot write in {folder}: permission denied")


def writable(path: str | None) -> None:
    """Raise UsageError where a file could not be written: before the checks run, not after."""
    if path is None:
        return
    target = Path(path)
    folder = target.absolute().parent
    if not folder.is_dir():
        raise click.UsageError(f"cannot write {path}: there is no folder {folder}")
    if not os.access(target if target.exists() else folder, os.W_OK):
        raise click.UsageError(f"cannot write {path}: permission denied")


@contextlib.contextmanager
def on_device(wanted: str | None) -> Iterator[None]:
    if wanted is None:
        yield
        return
    import jax

    kind, _, index = wanted.partition(":")
    try:
        device = dict(enumerate(jax.devices(kind or "unnamed")))[int(index or 0)]
    except (RuntimeError, KeyError, ValueError) as error:
        known = {f"{device.platform}:{device.id}": None for device in [*jax.devices(), *jax.devices("cpu")]}
        raise click.UsageError(f"no device {wanted!r} here; there is {', '.join(known)}") from error
    with jax.default_device(device):
        yield
