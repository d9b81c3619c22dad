"""Leaves of large problems are looked at side by side, and nothing that is said of them depends on it."""

from __future__ import annotations

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import threads

SIZES = [threads.LONG, 1, 2]


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(threads, "_cores", lambda: 4)


def test_in_order_in_the_callers_context(four_cores):
    def work(k):
        return k, np.geterr()["divide"], threading.current_thread() is threading.main_thread()

    with np.errstate(divide="raise"):
        assert threads.each(work, [3, 1, 2], SIZES) == [(3, "raise", False), (1, "raise", False), (2, "raise", False)]
        assert threads.each(work, [3, 1], [5, 5]) == [(3, "raise", True), (1, "raise", True)]


def test_what_one_raises_is_raised(four_cores):
    with pytest.raises(ZeroDivisionError):
        threads.each(lambda k: 1 / k, [1, 0, 2], SIZES)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_the_report_is_the_same(monkeypatch, factor, seed):
    rng = np.random.default_rng(seed)
    p = {k: jnp.asarray(rng.normal(size=(20, 100)), jnp.float32) for k in "abcdef"}

    def loss(p):
        return sum(jnp.mean(jnp.sin(v[:10]) ** 2) + jnp.mean(v**2) for v in p.values())

    def grad(p):
        g = jax.grad(loss)(p)
        return {**g, "c": factor * g["c"]}

    monkeypatch.setattr(threads, "LONG", 1_000)
    used = []
    each = threads.ThreadPoolExecutor
    monkeypatch.setattr(threads, "ThreadPoolExecutor", lambda n, **more: used.append(n) or each(n, **more))
    reports = []
    for cores in (1, 4):
        monkeypatch.setattr(threads, "_cores", lambda cores=cores: cores)
        reports.append(jc.check_grad(loss, p, grad, seed=seed, where=False))
        assert bool(used) == (cores > 1)
    assert reports[0] == reports[1] and reports[0].ok == (factor == 1.0), str(reports[0])
    assert [leaf.path for leaf in reports[0].failed] == ([] if factor == 1.0 else ["c"])
