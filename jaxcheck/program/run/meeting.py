"""How the processes of one check find each other: what each says, its signs of life, and the numbers of all.

Words go through the key-value store of JAX's coordination service; so nobody enters a collective that another one will
not enter, and a process that died, failed, or does something else is named after seconds instead of being waited for.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

from jaxcheck import budget

# Seconds between two signs of life; without one for so long, a process counts as dead.
BEAT, SILENT = 3.0, 30.0
# Seconds within which a process that shows no sign of life, or one that does, has to make the same call.
COME, COME_ALIVE = 60.0, 600.0
# Seconds of one look at the store.
LOOK = 1.0
# What is said last, with the report.
REPORT = "report"

SAME = (
    "with several processes each makes the same call, with the same arguments; devices=jax.local_devices() keeps a "
    "check to its own process"
)

_LOCK = threading.Lock()
_SEEN: dict[int, Iterator[int]] = {}  # how often a check of the same arguments was made before
_MINE: set[str] = set()  # the checks that this process took part in, or knows to be others
_HEART: list[threading.Thread] = []


class Lost(RuntimeError):
    """Another process died, failed, or makes another call."""


class Gone(Exception):
    """Another process ended this check before; the text is its number."""


def can_talk() -> bool:
    """Whether there is a coordination service."""
    return distributed.global_state.client is not None


class _Store:
    """The coordination service's key-value store."""

    def __init__(self) -> None:
        self._client: Any = distributed.global_state.client

    def set(self, key: str, value: str) -> None:
        with self._speaking():
            self._client.key_value_set(f"jaxcheck/{key}", value, allow_overwrite=True)

    def get(self, key: str, seconds: float = 0.0) -> str | None:
        """The value, waited for at most so long; None without."""
        with self._speaking():
            try:
                if seconds:
                    return self._client.blocking_key_value_get(f"jaxcheck/{key}", int(1000 * seconds))
                return self._client.key_value_try_get(f"jaxcheck/{key}")
            except jax.errors.JaxRuntimeError as error:
                if "NOT_FOUND" in str(error) or "DEADLINE_EXCEEDED" in str(error):
                    return None
                raise

    def delete(self, key: str) -> None:
        with self._speaking():
            self._client.key_value_delete(f"jaxcheck/{key}")

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            said = str(error).splitlines()[0][:200]
            raise Lost(f"the coordinator of the processes does not answer: {said}") from error


class Session:
    """One check that this process takes part in. `turn` counts its exchanges, `lost` is why there can be no more."""

    def __init__(self, fingerprint: int):
        with _LOCK:
            number = next(_SEEN.setdefault(fingerprint, itertools.count()))
        self.id = f"{fingerprint:08x}.{number}"
        _MINE.add(self.id)
        self.index, self.count = jax.process_index(), jax.process_count()
        self.store, self.turn, self.lost = _Store(), 0, None
        _beat(self.store, self.index)

    def say(self, key: str, **what: Any) -> None:
        self.store.set(f"{self.id}/{key}/{self.index}", json.dumps(what))

    def meet(self, key: str, **what: Any) -> list[dict[str, Any]]:
        """What every process says under this key.

        Raises:
            Gone, Lost.
        """
        if self.lost is not None:
            raise self.lost
        try:
            self.say(key, **what)
            self.store.set(f"at/{self.index}", self.id)
            said = [self._wait(key, p) for p in range(self.count)]
        except Lost as error:  # where it was stands, for others to see
            self.lost = error
            raise
        except Gone:
            self.store.set(f"at/{self.index}", "")
            raise
        self.store.set(f"at/{self.index}", "")
        return said

    def exchange(self, name: str, **what: Any) -> list[dict[str, Any]]:
        """`meet`, the next time. Whoever is there has read what was said before, which is forgotten."""
        turn, self.turn = self.turn, self.turn + 1
        said = self.meet(str(turn), name=name, **what)
        if turn:
            self.store.delete(f"{self.id}/{turn - 1}/{self.index}")
        other = next((p for p, x in enumerate(said) if x["name"] != name), None)
        if other is not None:
            if any(x.get("stopped") for x in said):  # by its own clock, a little before the others
                raise Gone(other)
            self.lost = Lost(f"process {other} is at {said[other]['name']}, process {self.index} at {name}: {SAME}")
            raise self.lost
        return said

    def gathered(self, data: bytes, sizes: list[int]) -> list[bytes]:
        """The data of every process, of so many bytes each, by a collective."""
        room = 1 << max(sizes).bit_length()  # of few different lengths, so that few programs are compiled
        mine = np.zeros(room, np.uint8)
        mine[: len(data)] = np.frombuffer(data, np.uint8)
        try:
            found = multihost_utils.process_allgather(mine)
        except jax.errors.JaxRuntimeError as error:
            self.lost = Lost(f"a process was lost while numbers were exchanged: {str(error).splitlines()[0][:200]}")
            raise self.lost from error
        return [found[p, :size].tobytes() for p, size in enumerate(sizes)]

    def _wait(self, key: str, p: int) -> dict[str, Any]:
        start = heard = time.monotonic()
        last, look = None, 0.0
        while True:
            at = self.store.get(f"at/{p}")  # asked first: it may have been here, and gone on
            found = self.store.get(f"{self.id}/{key}/{p}", look)
            look = LOOK
            if found is not None:
                return json.loads(found)
            end = self.store.get(f"{self.id}/end/{p}")
            if end is not None and json.loads(end)["error"]:
                raise Lost(f"process {p} failed: {json.loads(end)['error']}")
            if end is not None or (key != REPORT and self.store.get(f"{self.id}/{REPORT}/{p}") is not None):
                raise Gone(p)
            now, beat = time.monotonic(), self.store.get(f"beat/{p}")
            if beat != last:
                last, heard = beat, now
            if at and at not in _MINE:
                _MINE.add(at)
                raise Lost(f"process {p} waits in a check of other arguments: {SAME}")
            if last is not None and now - heard > SILENT:
                raise Lost(f"process {p} gave no sign of life for {SILENT:.0f} s: it died, or hangs")
            if now - start > (COME if last is None else COME_ALIVE):
                raise Lost(f"process {p} did not make this call within {now - start:.0f} s: {SAME}")
            budget.current().tell(f"waiting for process {p}")


def _beat(store: _Store, index: int) -> None:
    """Signs of life, from now on for as long as the process lives."""

    def beat() -> None:
        with contextlib.suppress(Lost):
            for number in itertools.count():
                store.set(f"beat/{index}", str(number))
                time.sleep(BEAT)

    with _LOCK:
        if _HEART and _HEART[0].is_alive():
            return
        _HEART[:] = [threading.Thread(target=beat, name="jaxcheck beat", daemon=True)]
    store.set(f"beat/{index}", "first")
    _HEART[0].start()
