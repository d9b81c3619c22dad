"""Checks from several threads, and from processes that were started in several ways."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from tests.test_devices import gist

SIZES = (3, 4, 5, 6)


def check(size: int, wide: bool = False) -> dict:
    x = np.linspace(0.1, 1.0, size)

    def loss(x):
        return jnp.sum(jnp.sin(x) ** 2)

    def grad(x):
        return jax.grad(loss)(x) * (1.5 if size % 2 else 1.0)

    with jax.enable_x64(wide):
        found = gist(jc.check_grad(loss, x, grad, where=False, seed=size))
        return {**found, "mode": jax.config.jax_enable_x64, "dtype": str(jnp.ones(1).dtype)}


def test_checks_at_once_in_threads_of_both_modes():
    calls = [(size, wide) for size in SIZES for wide in (False, True)]
    alone = [check(*call) for call in calls]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(check, *zip(*calls, strict=True)))
    assert at_once == alone
    assert [x["verdict"] for x in alone] == ["FAIL" if size % 2 else "PASS" for size, _ in calls]
    assert [x["mode"] for x in alone] == [wide for _, wide in calls]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_forked_from_one_that_uses_jax_is_told_so():
    jnp.ones(1).block_until_ready()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(20)  # rather than to wait for ever
        try:
            check(3)
            said = "nothing"
        except RuntimeError as error:
            said = str(error)
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    assert said.startswith("check_grad was called in a process that was forked after JAX had started")
    assert check(4)["verdict"] == "PASS"  # the parent goes on


@pytest.mark.slow
def test_spawned_processes_check():
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(check, SIZES) == [check(size) for size in SIZES]
