"""How much memory a compiled program takes and there is: said before the kernel ends the process.

An operating system that promises more than it has (Linux) never refuses: it ends the process that asked too much.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

# Programs that need less are not held against what is free.
SMALL = 2**28
# What a program that is kept takes where the backend does not tell: 105 small ones took 93 MiB (jaxlib 0.10, CPU).
KEPT = 2**20


class Exhausted(MemoryError):
    """A program needs more memory than there is; the text says how much, where that is known."""

    on_purpose = True  # where the caller's code is asked, this is an answer


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes of a compiled program: its machine code; its temporaries and results; its arguments. 0 if not known."""

    code: int
    made: int
    given: int

    @property
    def total(self) -> int:
        return self.made + self.given

    @staticmethod
    def of(executable: Any) -> Need:
        """Where the backend does not tell, the code is guessed."""
        with contextlib.suppress(AttributeError, NotImplementedError, TypeError, jax.errors.JaxRuntimeError):
            told = executable.memory_analysis()
            code = int(told.generated_code_size_in_bytes) or KEPT
            return Need(
                code, int(told.temp_size_in_bytes + told.output_size_in_bytes), int(told.argument_size_in_bytes)
            )
        return Need(KEPT, 0, 0)


def afford(need: Need) -> None:
    """Raises Exhausted where a program on the host makes more than is free."""
    if need.made < SMALL or jax.default_backend() != "cpu":
        return
    free = available()
    if free is not None and need.made > free:
        raise Exhausted(f"{gib(need.made)} are needed and {gib(free)} are free")


def is_exhausted(error: BaseException) -> bool:
    """Whether memory was what was missing, whoever says so."""
    told = "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, jax.errors.JaxRuntimeError) and told)


@contextlib.contextmanager
def exhausted(need: Callable[[], int]) -> Iterator[None]:
    """What the device, the host or the compiler says of missing memory, as one kind of error.

    Args:
        need: bytes that the program takes, once they are known, else 0.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_exhausted(error):
            raise
        takes = f", of {gib(need())} that this program takes" if need() else ""
        raise Exhausted(str(error).splitlines()[0][:200].rstrip(".") + takes) from error


def available() -> int | None:
    """Bytes that this process may still take on the host; None where the system does not tell."""
    found = [x for x in (_of_machine(), _of_group(), _of_process()) if x is not None]
    return max(0, min(found)) if found else None


def give_back() -> None:
    """Return to the system what the C library keeps of memory that is free: compilers leave a lot (glibc only)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _of_machine() -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for entry in Path("/proc/meminfo").read_text().splitlines():
            if entry.startswith("MemAvailable:"):
                return int(entry.split()[1]) * 1024
    return None


def _of_group() -> int | None:
    """What a container's limit leaves; what its files take in memory is given back when it is needed."""
    root = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        limit, used = (root / name for name in ("memory.max", "memory.current"))
        told = dict(entry.split() for entry in (root / "memory.stat").read_text().splitlines())
        return int(limit.read_text()) - int(used.read_text()) + int(told.get("inactive_file", 0))
    return None


def _of_process() -> int | None:
    if sys.platform != "linux":
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    with contextlib.suppress(OSError, ValueError):
        return limit - int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return None


def gib(count: float) -> str:
    return f"{count / 2**30:.3g} GiB" if count >= 2**28 else f"{count / 2**20:.3g} MiB"
