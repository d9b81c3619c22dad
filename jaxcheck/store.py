"""Chunks of evidence in a file, for the run that goes on where another one was ended.

The file is an SQLite database in WAL mode: what was not written whole is rolled back when it is opened next, and any
tool for SQLite opens it. While a run goes on the file is its own, and no other process may open it. An array is its
bytes, little-endian, beside its dtype and shape, and a checksum is over all of them: what does not fit it is not
believed and measured again. Nothing in it is code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import sqlite3

# What marks the file as one of these ("jchk"), and the form of what is in it.
MARK, FORM = 0x6A63686B, 1
# What storing may take, as a part of what it stores took; and what it takes: seconds for each chunk, bytes a second.
PART, EACH, RATE = 0.03, 1e-4, 1.5e8

_TABLES = (
    "CREATE TABLE about (what TEXT PRIMARY KEY, said TEXT NOT NULL, checksum BLOB NOT NULL)",
    "CREATE TABLE chunks (key BLOB PRIMARY KEY, what TEXT NOT NULL, seconds REAL NOT NULL, "
    "arrays TEXT NOT NULL, data BLOB NOT NULL, checksum BLOB NOT NULL)",
)


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


class Store:
    """An open file. One thread at a time may use it.

    Attributes:
        given: the path as the caller wrote it.
        reused: seconds that what was taken from the file had taken.
        problem: stands for the problem that was claimed.
    """

    def __init__(self, given: str, connection: sqlite3.Connection):
        self.given, self._connection = given, connection
        self._asked: dict[bytes, int] = {}
        self.reused, self.problem = 0.0, ""

    @staticmethod
    def open(given: Any, more: str = "") -> Store:
        """Open the file, or make it; `more` is added to its name.

        Raises:
            TypeError: no path. ValueError: the file is something else, or damaged.
            FileNotFoundError, PermissionError, BlockingIOError, OSError: it cannot be written; another run has it.
        """
        if isinstance(given, bool) or not isinstance(given, (str, os.PathLike)):
            raise TypeError(f"resume={given!r}: the path of a file in which to keep what was measured")
        given = os.fspath(given) + more
        path = Path(given)
        if path.is_dir():
            raise IsADirectoryError(f"resume={given!r} is a folder; give the path of a file in it")
        if not path.absolute().parent.is_dir():
            raise FileNotFoundError(f"resume={given!r}: there is no folder {path.absolute().parent}")
        import sqlite3

        with _said(given), contextlib.ExitStack() as undo:
            if not path.exists():
                undo.callback(_remove, path)  # where it cannot be made whole
            connection = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
            undo.callback(connection.close)
            _begin(connection, given)
            undo.pop_all()
        return Store(given, connection)

    def claim(self, problem: dict[str, str]) -> None:
        """Say of what the file holds the evidence, each part by what it is and a text that is its own.

        Raises:
            ValueError: it holds that of another problem; the text names what differs.
        """
        self.problem = json.dumps(problem, sort_keys=True)
        with _said(self.given):
            known = {
                what.removeprefix("problem: "): said
                for what, said in self._connection.execute("SELECT what, said FROM about WHERE what LIKE 'problem: %'")
            }
            if not known:
                with _transaction(self._connection):
                    for what, said in problem.items():
                        self._write(f"problem: {what}", said)
                return
        parts = [part for part in {**known, **problem} if known.get(part) != problem.get(part)]
        if parts:
            said = "; ".join(_difference(part, known.get(part, ""), problem.get(part, "")) for part in parts)
            raise ValueError(
                f"resume={self.given!r} holds the evidence of another check: {said}. "
                "Give another file, or delete this one"
            )

    def finished(self) -> str:
        """The text that `finish` was given, or ""."""
        with _said(self.given):
            rows = self._connection.execute("SELECT said, checksum FROM about WHERE what = 'report'").fetchall()
        return rows[0][0] if rows and rows[0][1] == digest(b"report", rows[0][0].encode()) else ""

    def finish(self, text: str) -> None:
        with _said(self.given):
            self._write("report", text)

    def _write(self, what: str, said: str) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO about VALUES (?, ?, ?)", (what, said, digest(what.encode(), said.encode()))
        )

    def turn(self, key: bytes) -> bytes:
        """The key for this turn of asking: what is measured twice, to see whether it repeats, is stored twice."""
        self._asked[key] = count = self._asked.get(key, -1) + 1
        return digest(key, count.to_bytes(8, "little"))

    def get(self, key: bytes) -> Chunk | None:
        """What was stored under a key, whole; None where there is nothing, or nothing that can be believed."""
        with _said(self.given):
            row = self._connection.execute(
                "SELECT seconds, arrays, data, checksum FROM chunks WHERE key = ?", (key,)
            ).fetchone()
        if row is None:
            return None
        seconds, arrays, data, checksum = row
        if checksum != digest(key, arrays.encode(), data):
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
        with _said(self.given):
            self._connection.execute(
                "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?)",
                (key, what, chunk.seconds, arrays, data, digest(key, arrays.encode(), data)),
            )

    def close(self) -> None:
        with _said(self.given):
            self._connection.close()


def _begin(connection: sqlite3.Connection, given: str) -> None:
    """Take the file for this process, see whose it is, and make the tables."""
    # Without shared memory, which folders of other machines do not have; the lock ends with the process.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    mark, form = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if mark != MARK and not empty:
        raise ValueError(f"resume={given!r} is a database of something else; give another path")
    if mark == MARK and form != FORM:
        raise ValueError(f"resume={given!r} was written by another version of jaxcheck; give another path")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    if not empty:
        return
    with _transaction(connection):
        connection.execute(f"PRAGMA application_id = {MARK}")
        connection.execute(f"PRAGMA user_version = {FORM}")
        for table in _TABLES:
            connection.execute(table)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # commits, or rolls back
        yield


@contextlib.contextmanager
def _said(given: str) -> Iterator[None]:
    """What SQLite says of the file, as one error that names the argument and what to do."""
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        kept = "what was stored before is whole: the same call goes on from there"
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BlockingIOError(
                f"resume={given!r} is in use by another run, or open in a program that looks at "
                "it; wait for its end, or give another path"
            ) from error
        if code == sqlite3.SQLITE_FULL:
            raise OSError(f"resume={given!r}: the disk is full ({error}). Make room; {kept}") from error
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            raise PermissionError(
                f"resume={given!r} cannot be written ({error}): the file and its folder have to be writable"
            ) from error
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise ValueError(
                f"resume={given!r} is no results store, or it is damaged ({error}); give another path, or delete it"
            ) from error
        raise OSError(f"resume={given!r} cannot be written: {error}; {kept}") from error


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


def _remove(path: Path) -> None:
    for name in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        name.unlink(missing_ok=True)


__all__ = ["Chunk", "Store", "digest"]
