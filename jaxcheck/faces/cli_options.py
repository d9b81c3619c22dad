"""What options of the command line stand for, tried before anything is run. What is no good is a UsageError."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem


def make(folder: str) -> None:
    """A folder in which files can be written, or UsageError."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"cannot make the folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise click.UsageError(f"cannot write in {folder}: permission denied")


def writable(path: str) -> None:
    """Raise UsageError where a file could not be written: before the checks run, not after."""
    target = Path(path)
    folder = target.absolute().parent
    if not folder.is_dir():
        raise click.UsageError(f"cannot write {path}: there is no folder {folder}")
    if not os.access(target if target.exists() else folder, os.W_OK):
        raise click.UsageError(f"cannot write {path}: permission denied")


def file_names(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The shell completes names of files by itself, where it is told to."""
    return [CompletionItem(begun, type="file")]


def words(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The words that `jaxcheck explain` explains, and files."""
    from jaxcheck.report.terms import TERMS

    names = [term.name for term in TERMS.values() if term.name.casefold().startswith(begun.casefold())]
    return [CompletionItem(name) for name in names] or file_names(context, parameter, begun)


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
