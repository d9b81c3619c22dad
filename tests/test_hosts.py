"""Two real processes on this machine, each with a device of its own, after `jax.distributed.initialize()`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

import jaxcheck as jc
from tests.test_devices import CHECKS, gist, network, spread_always

ROOT = Path(__file__).parent.parent


def together(count: int, what: str, seconds: float = 120.0, kept: str = "") -> list[dict]:
    """What each of `count` processes said last; {} where one died before. `kept`: a path for `resume=`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "PYTEST_CURRENT_TEST": "", "KEPT": kept}
    command = [sys.executable, "-m", "tests.test_hosts", what]
    running = [
        subprocess.Popen(
            [*command, str(p), str(count), str(port)],
            env=env,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for p in range(count)
    ]
    found = []
    try:
        for one in running:
            out, err = one.communicate(timeout=seconds)
            last = [line for line in out.splitlines() if line.startswith("{")][-1:]
            assert last or one.returncode < 0, err
            found.append(json.loads(last[0]) if last else {})
    finally:
        for one in running:
            one.kill()
    return found


def same_checks() -> dict:
    """All checks of `test_devices`, with how many exchanges each took."""
    from jaxcheck.program.run import meeting

    found, before, turns = {}, meeting.Session.exchange, []

    def exchange(self, name, **what):
        turns.append(name)
        return before(self, name, **what)

    meeting.Session.exchange = exchange
    for name, check in CHECKS.items():
        turns.clear()
        found[name] = gist(check()), len(turns)
    meeting.Session.exchange = before
    return found


def problem(number: int):
    """One of several, with parameters of its own."""
    loss, params, grad = network()
    return loss, {**params, "b": params["b"] + number}, grad


def one_alone() -> str:
    """A check that one process makes by itself, while the other one makes none."""
    if jax.process_index():
        return ""
    return str(CHECKS["textbook"](devices=jax.local_devices()).verdict)


def different() -> str:
    """Each process has parameters of its own."""
    loss, params, grad = problem(1 + jax.process_index())
    try:
        jc.check_grad(loss, params, grad, mode=jc.Exhaustive(step=1e-4))
    except RuntimeError as error:
        return str(error)
    return ""


def failing() -> str:
    """The gradient under test cannot be called in one of the processes, long after the first numbers were exchanged."""
    loss, params, _ = problem(3)

    def grad(p):
        if jax.process_index() == 1:
            raise OSError("no file here")
        return jax.grad(loss)(p)

    try:
        return str(jc.check_grad(loss, params, grad, mode=jc.Exhaustive(step=1e-4)).verdict)
    except (RuntimeError, OSError) as error:
        return str(error)


def stopped() -> list[str]:
    """The budget of one process ends before that of the other."""
    loss, params, grad = problem(4)
    seconds = 1e-9 if jax.process_index() else 60
    report = jc.check_grad(loss, params, grad, mode=jc.Exhaustive(step=1e-4), budget=seconds)
    return [str(report.verdict), str(report.reason)]


def kept() -> list:
    """Both are stopped when process 1 has stored three chunks; the next call goes on, and the next is answered."""
    from jaxcheck import budget, store
    from jaxcheck.program.run import kept

    store.PART, put, done = 1e9, kept.Shelf.put, []

    def counted(self, *args):
        put(self, *args)
        done.append(args)
        if len(done) == 3 and jax.process_index():
            budget.current().seconds = 0.0

    loss, params, grad = problem(6)
    kept.Shelf.put = counted
    plain, *found = [
        jc.check_grad(loss, params, grad, mode=jc.Exhaustive(step=1e-4), budget=None, where=False, resume=path)
        for path in (None, *3 * [os.environ["KEPT"]])
    ]
    kept.Shelf.put = put
    return [str(found[0].reason), *(x == plain and x.cost.reused > 0 for x in found[1:]), len(done)]


def dying() -> list:
    """The last one: process 1 is killed in the middle of its rows."""
    from jaxcheck.evidence import exhaustive

    if jax.process_index() == 1:
        exhaustive.execute = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
    start = time.monotonic()
    loss, params, grad = problem(5)
    try:
        jc.check_grad(loss, params, grad, mode=jc.Exhaustive(step=1e-3))
    except RuntimeError as error:
        return [str(error), time.monotonic() - start]
    return ["", 0.0]


def main(what: str, index: int, count: int, port: int) -> None:
    jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
    from jaxcheck.program.run import meeting

    with spread_always() as used:
        if what == "dying":
            found = {"dying": dying()}
        else:
            meeting.BEAT, meeting.SILENT, meeting.COME = 0.2, 2.0, 20.0
            found = {"checks": same_checks(), "devices": max(used)}
        if what == "all":
            print(json.dumps(found), flush=True)
            found |= {f.__name__: f() for f in (one_alone, different, failing, stopped, kept, dying)}
    print(json.dumps(found), flush=True)
    os._exit(0)  # without JAX's own farewell, for which it waits for the dead


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return together(2, "all", kept=str(tmp_path_factory.mktemp("kept") / "run.sqlite"))


@pytest.fixture(scope="module")
def alone():
    with spread_always():
        return {name: gist(check(devices=jax.devices()[:1])) for name, check in CHECKS.items()}


def compare(checks: dict, alone: dict) -> None:
    assert {name: found for name, (found, _) in checks.items()} == json.loads(json.dumps(alone))
    assert all(exchanges for _, exchanges in checks.values())


def test_the_report_of_one_process(two, alone):
    for one in two:
        compare(one["checks"], alone)
        assert one["devices"] == 1


def test_a_process_may_check_by_itself(two):
    assert two[0]["one_alone"] == "PASS"


def test_other_arguments_in_each_process(two):
    assert two[0]["different"] == (
        "process 1 waits in a check of other arguments: with several processes each makes the same call, with the same "
        "arguments; devices=jax.local_devices() keeps a check to its own process"
    )


def test_what_fails_in_one_process_is_said_in_the_others(two):
    assert two[0]["failing"] == "process 1 failed: OSError: no file here"


def test_where_one_process_is_stopped_all_are(two):
    assert two[0]["stopped"] == ["INCONCLUSIVE", "INTERRUPTED"]


def test_each_process_keeps_its_own_part_of_the_evidence(two):
    said, *same, stored = two[0]["kept"]
    assert said == "INTERRUPTED" and same == [True, True] and stored >= 3


def test_a_process_that_was_killed_is_named(two):
    said, seconds = two[0]["dying"]
    assert said == "process 1 gave no sign of life for 2 s: it died, or hangs"
    assert seconds < 15


@pytest.mark.slow
def test_four_processes_give_the_report_of_one(alone):
    for one in together(4, "checks"):
        compare(one["checks"], alone)


@pytest.mark.slow
def test_the_others_hear_of_a_death_within_a_minute():
    first, killed = together(2, "dying")
    assert killed == {}
    assert first["dying"][0] == "process 1 gave no sign of life for 30 s: it died, or hangs"
    assert first["dying"][1] < 60


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
