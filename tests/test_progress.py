"""One line while a check takes long, where somebody looks; nothing else anywhere."""

from __future__ import annotations

import fcntl
import io
import math
import os
import pty
import struct
import sys
import termios
import time
import types

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import progress
from jaxcheck.progress import Moment


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def loss(x):
    return jnp.sum(jnp.sin(x))


def test_nobody_looks_at_pipes_or_tests(monkeypatch):
    assert not progress.watched(Terminal())  # a test is running
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    assert progress.watched(Terminal())
    notebook = types.new_class(
        "OutStream", (io.StringIO,), exec_body=lambda body: body.update({"__module__": "ipykernel.iostream"})
    )
    assert progress.watched(notebook())
    assert not progress.watched(io.StringIO()) and not progress.watched(None)


@pytest.mark.parametrize("wanted", [None, True, False])
def test_a_line_after_a_while_that_goes_away(monkeypatch, wanted):
    shown = Terminal()
    monkeypatch.setattr(progress, "watched", lambda stream: True)
    monkeypatch.setattr(progress, "FIRST", 0.05)
    monkeypatch.setattr(progress, "AGAIN", 0.02)
    monkeypatch.setattr(sys, "stderr", shown)

    def slow(x):
        time.sleep(0.005)
        return float(np.sum(np.sin(np.asarray(x))))

    assert jc.check_grad(slow, np.ones(2), lambda x: np.cos(np.asarray(x)), progress=wanted).ok
    said = shown.getvalue()
    if wanted is False:
        assert said == ""
        return
    lines = said.split("\r")
    assert any("rows" in text and " of 50 (at most 60 s)" in text and "a second, about" in text for text in lines)
    assert "\n" not in said and lines[-1] == "" and not lines[-2].strip()


def test_the_line_is_cut_where_a_terminal_would_break_it():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    with open(theirs, "w", closefd=True) as stream:
        progress._Screen(stream).show("x" * 100)
        assert os.read(ours, 1000) == b"\r" + b"x" * 59
    os.close(ours)


def test_a_short_check_shows_nothing(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(progress, "watched", lambda stream: True)
    monkeypatch.setattr(progress, "FIRST", 60.0)
    monkeypatch.setattr(sys, "stderr", shown)
    assert jc.check_grad(loss, jnp.ones(2)).ok and shown.getvalue() == ""


@pytest.mark.parametrize(
    "check",
    [
        lambda **more: jc.check_grad(loss, jnp.ones(3), jnp.cos, **more),
        lambda **more: jc.check_rule(jnp.sin, jnp.ones(3), level="quick", **more),
        lambda **more: jc.check_batch(loss, jnp.ones((3, 3)), jnp.cos, **more),
    ],
    ids=["grad", "rule", "batch"],
)
def test_a_function_is_told(check):
    told: list[Moment] = []
    assert check(progress=told.append, budget=None).ok
    assert told and all(isinstance(x, Moment) and x.budget == math.inf for x in told)
    assert [x.seconds for x in told] == sorted(x.seconds for x in told)
    assert {"running"} <= {x.doing for x in told} and all(0 <= x.done <= x.total for x in told)


def test_what_a_function_raises_comes_out_at_the_end():
    calls = []

    def broken(moment):
        calls.append(moment)
        raise OSError("the pipe is gone")

    with pytest.raises(OSError, match="the pipe is gone"):
        jc.check_rule(jnp.sin, jnp.ones(3), level="quick", progress=broken)
    assert len(calls) == 1
