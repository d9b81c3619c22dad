"""What a handler of a signal raises is meant for whoever installed it, and no answer of what was running."""

from __future__ import annotations

import contextlib
import functools
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import budget, tracebacks
from jaxcheck.check import where
from jaxcheck.program.ask import Refused, ask
from jaxcheck.program.run import cache, memory
from jaxcheck.program.where.nonsense import tried

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no SIGALRM")
W = np.linspace(-1, 1, 4)


class TimeIsUp(Exception):
    pass


class Handler:
    def __call__(self, *_):
        raise TimeIsUp

    def method(self, *_):
        raise TimeIsUp


def plain(*_):
    raise TimeIsUp


@contextlib.contextmanager
def installed(handler=plain):
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


def ring(*_):
    signal.raise_signal(signal.SIGALRM)


HANDLERS = {"function": plain, "object": Handler(), "method": Handler().method,
            "partial": functools.partial(plain, 1), "partial of an object": functools.partial(Handler())}  # fmt: skip


@pytest.mark.parametrize("name", HANDLERS)
def test_the_gate_lets_it_pass(name):
    with installed(HANDLERS[name]), pytest.raises(TimeIsUp):
        ask(ring)


def test_what_the_function_made_of_it_passes_as_well():
    def wrapped():
        try:
            ring()
        except TimeIsUp as error:
            raise RuntimeError("in a layer") from error

    with installed(), pytest.raises(RuntimeError, match="in a layer"):
        ask(wrapped)


def test_an_alarm_of_the_functions_own_is_its_refusal():
    def impatient():
        with installed():
            ring()

    with pytest.raises(Refused):
        ask(impatient)
    with installed(Handler()), pytest.raises(Refused):
        ask(impatient)


def test_and_so_is_what_it_raises_while_an_alarm_is_told_of():
    def bad():
        raise ValueError("its own")

    with installed():
        try:
            ring()
        except TimeIsUp:
            with pytest.raises(Refused, match="its own"):
                ask(bad)


def test_without_a_handler_of_python_nothing_is_one():
    with installed(signal.SIG_IGN):
        assert {tracebacks._code(signal.getsignal(n)) for n in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM)} == {
            None
        }


@pytest.mark.parametrize("at", [1, 2, 4, 8, 16])
def test_a_rule_whose_time_is_up(at):
    calls = []

    @jax.custom_vjp
    def rule(x):
        calls.append(x)
        if len(calls) == at:
            ring()
        return jnp.sin(x)

    rule.defvjp(lambda x: (rule(x), x), lambda x, g: (g * jnp.cos(x),))
    with installed(), pytest.raises(TimeIsUp):
        jc.check_rule(rule, W)


def test_whoever_watches_is_no_ear_for_it():
    watched = budget.Budget(watch=ring)
    with installed(), pytest.raises(TimeIsUp):
        watched.tell("rows")


def test_the_search_for_the_line_is_left(monkeypatch):
    monkeypatch.setattr(where, "STRICT", False)
    monkeypatch.setattr(where, "_problems", ring)
    with installed(), pytest.raises(TimeIsUp):
        jc.check_grad(lambda w: jnp.sum(w**3), W, lambda w: 2 * w**2, where=True)


def test_nor_is_it_nonsense_of_a_change():
    def late(*_):
        raise ValueError("time is up")

    with installed(late), pytest.raises(ValueError, match="time is up"):
        tried(ring)
    assert tried(lambda: [][1:] + 3) is None


def test_a_failing_check_is_made_no_smaller():
    calls = []

    def grad(w):
        calls.append(w)
        if smaller:
            ring()
        return 2 * w**2

    smaller = False
    report = jc.check_grad(lambda w: jnp.sum(w**3), W, grad, where=False)
    smaller = True
    with installed(), pytest.raises(TimeIsUp):
        report.minimise()


class Key:
    """Compared by Python, which is where a signal's handler may come in: at which time of asking, 0 for never."""

    ringing = 0

    def __init__(self, number):
        self.number = number

    def __hash__(self):
        Key.ringing -= 1
        if not Key.ringing:
            ring()
        return self.number


@pytest.mark.parametrize("time", [1, 2, 3])
def test_the_programs_that_are_kept_survive_it(time, monkeypatch):
    monkeypatch.setattr(cache, "_CACHE", type(cache._CACHE)())
    need = memory.Need(0, 0, 0)
    keys = [Key(n) for n in range(4)]
    for key in keys[:2]:
        cache._keep(key, None, need)
    for work in (lambda: cache.find(keys[0]), lambda: cache._keep(keys[2], None, need)):
        Key.ringing = time
        with installed(), contextlib.suppress(TimeIsUp):
            work()
        Key.ringing = 0
    monkeypatch.setattr(cache, "_CACHE_SIZE", 1)
    cache._keep(keys[3], None, need)
    assert [key.number for key in cache._CACHE] == [3]
