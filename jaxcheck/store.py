"""Chunks of evidence in a file, for the run that goes on where another one was ended.

The file is an SQLite database in WAL mode: what was not written whole is rolled back when it is opened next, and any
tool for SQLite opens it. While a run goes on the file is its own, and no other process may open it. An array is its
bytes, little-endian, beside its dtype and shape, and a checksum is over all of them: what does not fit it is not
believed and measured again. Nothing in it is code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxcheck.store_file import as_bytes, opened, path_of, said, transaction

if TYPE_CHECKING:
    import sqlite3

# What storing may take, as a part of what it stores took; and what it takes: seconds for each chunk, bytes a second.
PART, EACH, RATE = 0.03, 1e-4, 1.5e8


class Chunk(NamedTuple):
    """What was measured, arrays in tuples and lists; and the seconds that it took."""

    value: Any
    seconds: float


def digest(*parts: bytes) -> bytes:
    """Of the parts one by one: to move a byte from one to the next changes it."""
    sink = hashlib.blake2b(digest_size=16)
    for part in parts:
        sink.update(len(part).to_bytes(8, "little"))
        sink.update(part)
    return sink.digest()


class OfAnotherCheck(ValueError):
    """The file `path` holds what was measured of another problem."""

    def __init__(self, said: str, path: str):
        super().__init__(said)
        self.path = path


class Store:
    """An open file. One thread at a time may use it.

    Attributes:
        given: the path as the caller wrote it.
        reused: seconds that what was taken from the file had taken.
        problem: stands for the problem that was claimed.
    """

    def __init__(self, given: str, connection: sqlite3.Connection, read_only: bool = False):
        self.given, self._connection, self._read_only = given, connection, read_only
        self._asked: dict[bytes, int] = {}
        self.reused, self.problem = 0.0, ""

    @staticmethod
    def open(given: Any, more: str = "") -> Store:
        """Open the file, or make it; `more` is added to its name.

        Raises:
            TypeError: no path. ValueError: the file is something else, or damaged.
            FileNotFoundError, PermissionError, BlockingIOError, OSError: it cannot be written; another run has it.
        """
        path = path_of(given, more)
        return Store(os.fspath(given) + more, *opened(path, os.fspath(given) + more))

    def claim(self, problem: dict[str, str]) -> None:
        """Say of what the file holds the evidence, each part by what it is and a text that is its own.

        Raises:
            OfAnotherCheck: it holds that of another problem; the text names what differs.
        """
        self.problem = json.dumps(problem, sort_keys=True)
        with said(self.given):
            rows = self._connection.execute("SELECT what, said, checksum FROM about WHERE what != 'report'").fetchall()
        for what, text, checksum in rows:
            if checksum != _of_row(what, text):  # before it is held against the caller
                raise ValueError(
                    f"resume={self.given!r} is damaged: what it says of its check is not what was written there; "
                    "give another path, or delete it"
                )
        known = {what.removeprefix("problem: "): text for what, text, _ in rows if what.startswith("problem: ")}
        if not known:
            with said(self.given), transaction(self._connection):
                for what, text in problem.items():
                    self._write(f"problem: {what}", text)
            return
        parts = [part for part in {**known, **problem} if known.get(part) != problem.get(part)]
        if parts:
            differing = "; ".join(_difference(part, known.get(part, ""), problem.get(part, "")) for part in parts)
            raise OfAnotherCheck(
                f"resume={self.given!r} holds the evidence of another check: {differing}. "
                "Give another file, or delete this one",
                self.given,
            )

    def finished(self) -> str:
        """The text that `finish` was given, or ""."""
        with said(self.given):
            rows = self._connection.execute("SELECT said, checksum FROM about WHERE what = 'report'").fetchall()
        return rows[0][0] if rows and rows[0][1] == _of_row("report", rows[0][0]) else ""

    def begin(self) -> None:
        """Before what is to be kept is measured. Raises PermissionError where the file can be read alone."""
        if self._read_only:
            raise PermissionError(
                f"resume={self.given!r} cannot be written, and holds no finished check: the file and its folder have "
                "to be writable"
            )

    def finish(self, text: str) -> None:
        with said(self.given):
            self._write("report", text)

    def _write(self, what: str, text: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?, ?)", (what, text, _of_row(what, text)))

    def turn(self, key: bytes) -> bytes:
        """The key for this turn of asking: what is measured twice, to see whether it repeats, is stored twice."""
        self._asked[key] = count = self._asked.get(key, -1) + 1
        return digest(key, count.to_bytes(8, "little"))

    def get(self, key: bytes) -> Chunk | None:
        """What was stored under a key, whole; None where there is nothing, or nothing that can be believed."""
        with said(self.given):
            row = self._connection.execute(
                "SELECT seconds, arrays, data, checksum FROM chunks WHERE key = ?", (key,)
            ).fetchone()
        if row is None:
            return None
        seconds, arrays, data, checksum = row
        if checksum != digest(key, as_bytes(arrays), as_bytes(data)):
            return None
        self.reused += seconds
        return Chunk(_unpacked(json.loads(arrays), data), seconds)

    def put(self, key: bytes, what: str, chunk: Chunk) -> None:
        """Store a chunk, where that takes little beside what it took; when this returns it is whole in the file."""
        if EACH + _bytes(chunk.value) / RATE > PART * chunk.seconds:
            return
        packed = _packed(chunk.value)
        if packed is None:
            return
        form, data = packed
        arrays = json.dumps(form)
        with said(self.given):
            self._connection.execute(
                "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?)",
                (key, what, chunk.seconds, arrays, data, digest(key, arrays.encode(), data)),
            )

    def close(self) -> None:
        with said(self.given):
            self._connection.close()


def _of_row(what: str, text: str) -> bytes:
    return digest(as_bytes(what), as_bytes(text))


def _difference(part: str, there: str, here: str) -> str:
    """Contents, which stand in brackets at the end of a text, are not shown."""
    shown = [re.sub(r" ?\[[0-9a-f]+\]$", "", text) for text in (there, here)]
    if shown[0] == shown[1]:
        return f"{part} is another one there"
    return f"{part} is {shown[0] or 'not given'} there and {shown[1] or 'not given'} here"


def _bytes(value: Any) -> int:
    return sum(map(_bytes, value)) if isinstance(value, (tuple, list)) else int(value.nbytes)


def _packed(value: Any) -> tuple[Any, bytes] | None:
    """(form, bytes) of arrays in tuples and lists; None where a dtype has no bytes of its own that NumPy knows."""
    arrays: list[np.ndarray] = []

    def form(x: Any) -> Any:
        if isinstance(x, (tuple, list)):
            return ["tuple" if isinstance(x, tuple) else "list", *map(form, x)]
        array = np.asarray(x)
        arrays.append(np.ascontiguousarray(array, array.dtype.newbyteorder("<")))
        return {"dtype": arrays[-1].dtype.str, "shape": list(array.shape)}

    shape = form(value)
    if any(x.dtype.kind not in "biufc" for x in arrays):
        return None
    return shape, b"".join(x.tobytes() for x in arrays)


def _unpacked(form: Any, data: bytes) -> Any:
    at = 0

    def value(form: Any) -> Any:
        nonlocal at
        if isinstance(form, list):
            made = map(value, form[1:])
            return tuple(made) if form[0] == "tuple" else list(made)
        dtype = np.dtype(form["dtype"])
        count = int(np.prod(form["shape"], dtype=np.int64))
        found = np.frombuffer(data, dtype, count, at).reshape(form["shape"]).astype(dtype.newbyteorder("="))
        at += count * dtype.itemsize
        return found

    return value(form)


__all__ = ["Chunk", "Store", "digest"]
