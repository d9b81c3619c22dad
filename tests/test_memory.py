"""Where memory ends, a chunk is halved and the check goes on; what does not fit at all is said, not died of."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import pytest

import jaxcheck as jc
from jaxcheck.evidence import blocks
from jaxcheck.program.run import memory

# The address space is limited to what is in use and a little more; blocks of memory go back to the system at once.
CHILD = """
import resource, jax, jax.numpy as jnp, jaxcheck as jc
from jaxcheck.evidence import witnesses

def loss(x, n):
    wave = jnp.sin(jnp.arange(n, dtype=x.dtype) * jnp.sum(x) / n)
    return jnp.sum(jnp.abs(jnp.fft.fft(wave)) ** 2) / n + jnp.sum(x**2)

def check(n, more=None):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (-1 if more is None else used + more * 2**20, -1))
    chunks.clear()
    f = lambda x: loss(x, n)
    return jc.check_grad(f, jnp.linspace(0.1, 1.0, 2), jax.grad(f), mode=jc.Sketch(1))

chunks, run = [], witnesses._at_once
witnesses._at_once = lambda *a: (chunks.append(a[-1]), run(*a))[1]
free = check(300_000)
assert free.ok and chunks == [8], (free, chunks)
short = check(300_000, 50)
assert short.ok and chunks[:2] == [8, 4], (short, chunks)
assert [x.floor for x in short.leaves] == [x.floor for x in free.leaves]
none = check(8_000_000, 40)
assert (none.verdict, none.reason, none.cost.stopped) == ("INCONCLUSIVE", "INTERRUPTED", "memory"), none
assert "of memory" in none.notes[0] and "MiB that this program takes" in none.notes[0], none.notes
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own address space")
def test_little_memory_costs_time_and_no_verdict():
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "MALLOC_MMAP_THRESHOLD_": "1000000"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD)], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_chunk_is_halved_to_one_row():
    tried = []

    def run(chunk):
        tried.append(chunk)
        raise MemoryError("no more")

    with pytest.raises(memory.Exhausted, match=r"not even one row at a time fits into memory \(no more\)"):
        blocks.within_memory(11, run)
    assert tried == [11, 5, 2, 1]


def test_what_is_not_free_is_not_asked_for(monkeypatch):
    """Linux promises more than it has, and ends whoever uses it."""
    monkeypatch.setattr(memory, "available", lambda: 10)
    monkeypatch.setattr(memory, "SMALL", 0)
    report = jc.check_grad(lambda x: jnp.sum(jnp.sin(x)), jnp.ones(3), jax.grad(lambda x: jnp.sum(jnp.sin(x))))
    assert (report.reason, report.cost.stopped) == (jc.Reason.INTERRUPTED, "memory")
    assert "are needed and 9.54e-06 MiB are free" in report.notes[0]


def test_free_memory_is_known():
    free = memory.available()
    assert free is None or 2**20 < free < 2**50
