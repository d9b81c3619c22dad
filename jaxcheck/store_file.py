"""The file of a `Store`: opened, or refused in one sentence that names `resume` and says what to do."""

from __future__ import annotations

import contextlib
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3

# What marks the file as one of these ("jchk"), and the form of what is in it.
MARK, FORM = 0x6A63686B, 1
# Milliseconds for which whoever has the file waits for others that were refused it to close it; they do so at once.
PATIENCE = 2000

_TABLES = (
    "CREATE TABLE about (what TEXT PRIMARY KEY, said TEXT NOT NULL, checksum BLOB NOT NULL)",
    "CREATE TABLE chunks (key BLOB PRIMARY KEY, what TEXT NOT NULL, seconds REAL NOT NULL, "
    "arrays TEXT NOT NULL, data BLOB NOT NULL, checksum BLOB NOT NULL)",
)


def path_of(given: Any, more: str = "") -> Path:
    """The path of the file, `more` added to its name.

    Raises:
        TypeError, ValueError, FileNotFoundError, IsADirectoryError: there can be no such file.
    """
    path = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(path, str):
        raise TypeError(f"resume={given!r}: the path of a file in which to keep what was measured")
    if not path or "\0" in path:
        raise ValueError(f"resume={path!r} is no path; give that of a file, or leave resume out")
    if path == ":memory:" or path.startswith("file:"):
        what = "would keep nothing when the process ends" if path == ":memory:" else "is a URI"
        raise ValueError(f"resume={path!r} {what}; give the path of a file")
    path += more
    # Absolute, for SQLite knows names that are none of a file's.
    found = Path(path).absolute()
    if found.is_dir():
        raise IsADirectoryError(f"resume={path!r} is a folder; give the path of a file in it")
    if found.exists() and not found.is_file():
        raise ValueError(f"resume={path!r} is a device or a pipe, which keeps nothing; give the path of a file")
    if not found.parent.is_dir():
        raise FileNotFoundError(f"resume={path!r}: there is no folder {found.parent}")
    return found


def opened(path: Path, given: str) -> tuple[sqlite3.Connection, bool]:
    """(the file, made where there is none and taken for this process; whether it can be read alone).

    Raises:
        ValueError, PermissionError, BlockingIOError, OSError: see `said`.
    """
    import sqlite3

    new = _made(path)
    with said(given, new), contextlib.ExitStack() as undo:
        connection = _connected(str(path))
        undo.callback(connection.close)
        try:
            _begin(connection, given)
        except sqlite3.Error as error:
            if new and _code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                undo.callback(_remove, path)  # it cannot be made whole; in use, it is another run's by now
            # A finished check is answered where nobody may write. What lies in a -wal is another run's, or half done.
            denied = _code(error) in _unwritable() or not (_may_write(path) and _may_write(path.parent))
            if new or not denied or path.with_name(path.name + "-wal").exists():
                raise
        else:
            undo.pop_all()
            return connection, False
    return _for_reading(path, given), True


def _made(path: Path) -> bool:
    """Whether there was no such file, and there is one now: of two runs that begin at once, one has made it."""
    with contextlib.suppress(OSError):  # SQLite says what it is that may not be
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666))
        return True
    return not path.exists()


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _for_reading(path: Path, given: str) -> sqlite3.Connection:
    with said(given), contextlib.ExitStack() as undo:
        connection = _connected(f"file:{urllib.parse.quote(str(path))}?mode=ro&immutable=1", uri=True)
        undo.callback(connection.close)
        _whose(connection, given)
        undo.pop_all()
        return connection


def _connected(name: str, uri: bool = False) -> sqlite3.Connection:
    import sqlite3

    connection = sqlite3.connect(name, timeout=0.0, isolation_level=None, check_same_thread=False, uri=uri)
    connection.text_factory = _text
    return connection


def _text(data: bytes) -> str:
    """Damaged text as well, for its checksum to tell."""
    return data.decode("utf-8", "surrogateescape")


def as_bytes(value: Any) -> bytes:
    """The bytes that a text in the file has; none of what is neither, as it may be where it is damaged."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return value if isinstance(value, bytes) else b""


def _whose(connection: sqlite3.Connection, given: str) -> bool:
    """Whether the file is empty. Raises ValueError where it is another program's, or another version's."""
    mark, form = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if mark != MARK and not empty:
        raise ValueError(f"resume={given!r} is a database of something else; give another path")
    if mark == MARK and form != FORM:
        raise ValueError(f"resume={given!r} was written by another version of jaxcheck; give another path")
    return empty


def _begin(connection: sqlite3.Connection, given: str) -> None:
    """Take the file for this process, see whose it is, and make the tables."""
    # Without shared memory, which folders of other machines do not have; the lock ends with the process.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    # The right to write before anything is read: of two that read first neither gets it.
    with transaction(connection):
        connection.execute(f"PRAGMA busy_timeout = {PATIENCE}")  # for those to leave who were too late
        if _whose(connection, given):
            connection.execute(f"PRAGMA application_id = {MARK}")
            connection.execute(f"PRAGMA user_version = {FORM}")
            for table in _TABLES:
                connection.execute(table)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # commits, or rolls back
        yield


@contextlib.contextmanager
def said(given: str, new: bool = False) -> Iterator[None]:
    """What SQLite says of the file, as one error that names the argument and what to do.

    Args:
        new: nothing was stored in it before.
    """
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        kept = "" if new else "; what was stored before is whole: once that is mended the same call goes on from there"
        code = _code(error)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BlockingIOError(
                f"resume={given!r} is in use by another run, or open in a program that looks at "
                "it; wait for its end, or give another path"
            ) from error
        if code == sqlite3.SQLITE_FULL:
            raise OSError(f"resume={given!r}: the disk is full ({error}); make room{kept}") from error
        if code in _unwritable():
            raise PermissionError(
                f"resume={given!r} cannot be written ({error}): the file and its folder have to be writable"
            ) from error
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise ValueError(
                f"resume={given!r} is no results store, or it is damaged ({error}); give another path, or delete it"
            ) from error
        room = " (is there room on the disk, and may a file be as long? ulimit -f)" * (code == sqlite3.SQLITE_IOERR)
        raise OSError(f"resume={given!r} cannot be written: {error}{room}{kept}") from error


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _unwritable() -> tuple[int, ...]:
    import sqlite3

    return sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM


def _remove(path: Path) -> None:
    """Where nobody may write, there is nothing to be removed."""
    for name in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        with contextlib.suppress(OSError):
            name.unlink(missing_ok=True)
