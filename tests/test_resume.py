"""A check that was ended goes on where it was, from a file that nobody has to trust."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import Reason, Verdict, budget, store, store_file
from jaxcheck.evidence import blocks
from jaxcheck.program.run import kept, portable
from jaxcheck.store import Chunk, Store
from tests import resumed

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def short_calls(monkeypatch):
    """Many short calls, each worth storing."""
    monkeypatch.setattr(blocks, "ONE_CALL", 2e5)
    monkeypatch.setattr(store, "PART", 1e9)


@pytest.fixture(scope="module")
def plain():
    """The uninterrupted report, and how many chunks one run stores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "ONE_CALL", 2e5)
        patch.setattr(store, "PART", 1e9)
        return resumed.check(None)


@pytest.fixture
def stop_after(monkeypatch):
    """The time is over once so many chunks are stored: `stop_after(3)`; `stop_after(None)` lets it end."""
    put, state = kept.Shelf.put, {"left": None, "stored": 0, "taken": 0}
    take = kept.Shelf.take

    def counted(self, *args):
        put(self, *args)
        state["stored"] += 1
        if state["stored"] == state["left"]:
            budget.current().seconds = 0.0

    def taken(self, *args):
        found = take(self, *args)
        state["taken"] += found is not None
        return found

    monkeypatch.setattr(kept.Shelf, "put", counted)
    monkeypatch.setattr(kept.Shelf, "take", taken)

    def after(count):
        state.update(left=count, stored=0, taken=0)
        return state

    return after


def keys(path) -> dict[bytes, int]:
    with contextlib.closing(sqlite3.connect(path)) as found:
        return dict(found.execute("SELECT key, rowid FROM chunks"))


def killed(path, *when: str) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "tests.resumed", str(path), *when],
        cwd=ROOT,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL


def test_kill_9_loses_no_whole_chunk_and_leaves_no_half_one(tmp_path, plain, stop_after):
    path = tmp_path / "run.sqlite"
    killed(path, "within", "4")
    first = keys(path)
    assert len(first) == 3  # the fourth was written, and not whole
    killed(path, "after", "2")
    second = keys(path)
    assert len(second) == 5 and first.items() <= second.items()  # no row was written anew
    count = stop_after(None)
    report = resumed.check(path)
    assert report == plain and report.verdict is Verdict.FAIL
    assert count["taken"] == 5 and len(keys(path)) == 5 + count["stored"]
    assert report.cost.reused > 0
    assert [x.name for x in tmp_path.iterdir()] == ["run.sqlite"]


@pytest.mark.slow
def test_kill_9_at_twenty_random_moments(tmp_path, plain, seed):
    rng, stored = np.random.default_rng(seed), []
    start = time.perf_counter()
    command = [sys.executable, "-m", "tests.resumed"]
    subprocess.run([*command, str(tmp_path / "whole"), "slowly", "0"], cwd=ROOT, check=True)
    alone = time.perf_counter() - start
    while len(stored) < 20:
        path = tmp_path / f"{len(stored)}.sqlite"
        child = subprocess.Popen([*command, str(path), "slowly", "0"], cwd=ROOT)
        time.sleep(rng.uniform(0.3, 1.0) * alone)
        child.kill()
        if child.wait() == 0 or not path.exists():
            path.unlink(missing_ok=True)
            continue
        for left in tmp_path.glob(f"{path.name}*"):  # looked at in a copy, so that the next run finds it as it was left
            shutil.copy(left, tmp_path / f"copy of {left.name}")
        stored.append(len(keys(tmp_path / f"copy of {path.name}")))
        assert resumed.check(path) == plain
        assert len(keys(path)) == len(keys(tmp_path / "whole"))
    assert len({0, *stored, len(keys(tmp_path / "whole"))}) > 5  # some in the midst of it


def test_a_finished_check_is_answered_at_once(tmp_path, plain, stop_after):
    path = tmp_path / "run.sqlite"
    resumed.check(path)
    count, start = stop_after(None), time.perf_counter()
    report = resumed.check(path)
    assert time.perf_counter() - start < 2
    assert report == plain and report.cost.reused > 0 and report.cost.running == 0
    assert "s of an earlier run's taken over" in " ".join(str(report).split())
    assert count["stored"] == count["taken"] == 0


def test_a_spent_budget_goes_on_as_well(tmp_path, plain, stop_after):
    path = tmp_path / "run.sqlite"
    stop_after(3)
    first = resumed.check(path)
    assert first.cost.stopped == "time" and first.inconclusive
    count = stop_after(None)
    assert resumed.check(path) == plain
    assert count["taken"] == 3


def test_a_chunk_that_is_not_what_was_stored_is_measured_again(tmp_path, plain, stop_after):
    path = tmp_path / "run.sqlite"
    stop_after(3)
    resumed.check(path)
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        key, data = file.execute("SELECT key, data FROM chunks ORDER BY length(data) DESC").fetchone()
        bent = np.frombuffer(data, "<f8") * 1.5
        file.execute("UPDATE chunks SET data = ? WHERE key = ?", (bent.tobytes(), key))
    count = stop_after(None)
    assert resumed.check(path) == plain
    assert count["taken"] == 2


def square(p, c=1.0):
    return c * jnp.sum(p["w"] ** 2)


BASE = dict(loss=square, params={"w": np.arange(1.0, 4.0)}, grad=jax.grad(square), args=(2.0,), seed=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(seed=2), "seed is 1 there and 2 here"),
        (dict(params={"w": np.arange(2.0, 5.0)}), "params is another one there"),
        (dict(params={"w": np.arange(4.0)}), "params is 3 numbers in 1 arrays there and 4 numbers in 1 arrays here"),
        (dict(args=(3.0,)), "args is another one there"),
        (dict(loss=lambda p, c: 3 * square(p, c), name="square"), "loss is square there and <lambda> here"),
        (dict(grad=lambda p, c: jax.tree.map(lambda w: 2 * w, p)), "grad is square there and <lambda> here"),
        (dict(tolerance=1e-3), "tolerance is Tolerance(rtol=None, atol=0.0) there and Tolerance(rtol=0.001"),
        (dict(mode="sketch"), "mode is None there and Sketch(directions=3) here"),
        (dict(surrogate=True), "surrogate is False there and True here"),
    ],
)
def test_another_problems_file_is_refused_by_name(tmp_path, change, said):
    path = tmp_path / "run.sqlite"
    jc.check_grad(**BASE, resume=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="holds the evidence of another check") as refused:
        jc.check_grad(**BASE | change, resume=path)
    assert said in str(refused.value) and str(path) in str(refused.value)
    assert path.read_bytes() == before


def test_what_cannot_be_a_file_is_said_before_anything_is_run(tmp_path):
    (tmp_path / "text").write_text("not a database, and longer than the header of one would be " * 20)
    with contextlib.closing(sqlite3.connect(tmp_path / "other")) as other:
        other.execute("CREATE TABLE mine (x)")
    for given, kind, said in (
        (3, TypeError, "resume=3"),
        (tmp_path, IsADirectoryError, "is a folder"),
        (tmp_path / "no" / "x", FileNotFoundError, "there is no folder"),
        (tmp_path / "text", ValueError, "is no results store"),
        (tmp_path / "other", ValueError, "something else"),
        (":memory:", ValueError, "would keep nothing"),
        ("", ValueError, "leave resume out"),
        ("a\0b", ValueError, "no path"),
        ("file:run.sqlite?mode=memory", ValueError, "is a URI"),
        (os.devnull, ValueError, "a device or a pipe"),
    ):
        with pytest.raises(kind, match="resume=") as refused:
            jc.check_grad(**BASE, resume=given)
        assert said in str(refused.value)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["other", "text"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder in which nobody may write is known here")
def test_a_folder_that_cannot_be_written():
    with pytest.raises(PermissionError, match=r"resume='/proc/run\.sqlite' cannot be written"):
        jc.check_grad(**BASE, resume="/proc/run.sqlite")


@contextlib.contextmanager
def nobody_may_write(path):
    """The file and its folder can be read alone; whoever may write everywhere is somebody else meanwhile."""
    for one, mode in ((path, 0o444), (path.parent, 0o555)):
        one.chmod(mode)
    me = os.geteuid()
    os.seteuid(me or 65534)
    try:
        yield
    finally:
        os.seteuid(me)
        path.parent.chmod(0o755)


@pytest.fixture
def open_folder():
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no users")
def test_where_nobody_may_write_a_finished_check_is_answered(open_folder):
    path = open_folder / "run.sqlite"
    first = jc.check_grad(**BASE, resume=path)
    with nobody_may_write(path):
        assert jc.check_grad(**BASE, resume=path) == first
        with pytest.raises(ValueError, match="another check: seed"):
            jc.check_grad(**BASE | dict(seed=3), resume=path)
        with pytest.raises(PermissionError, match=r"new\.sqlite' cannot be written"):
            jc.check_grad(**BASE, resume=open_folder / "new.sqlite")
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("DELETE FROM about WHERE what = 'report'")
        file.commit()
    with nobody_may_write(path), pytest.raises(PermissionError, match="holds no finished check"):
        jc.check_grad(**BASE, resume=path)
    assert [x.name for x in open_folder.iterdir()] == ["run.sqlite"]


def test_nothing_is_removed_where_that_is_refused(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    monkeypatch.setattr(store_file, "_begin", lambda *_: throw(error))
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(PermissionError, match="resume="):
        Store.open(tmp_path / "run.sqlite")


def throw(error):
    raise error


@pytest.mark.parametrize("column", ["said", "what", "checksum"])
@pytest.mark.parametrize("damage", [b"\xff", b"0"], ids=["no text", "other text"])
def test_a_file_that_is_damaged_is_not_held_against_the_caller(tmp_path, column, damage):
    path = tmp_path / "run.sqlite"
    jc.check_grad(**BASE, resume=path)
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.text_factory = bytes
        (old,) = file.execute(f"SELECT {column} FROM about WHERE what = 'problem: grad'").fetchone()
        kind = "BLOB" if column == "checksum" else "TEXT"
        changed = old[:12] + damage + old[13:]
        file.execute(f"UPDATE about SET {column} = CAST(? AS {kind}) WHERE what = 'problem: grad'", (changed,))
        file.commit()
    for _ in range(2):
        with pytest.raises(ValueError, match="is damaged") as refused:
            jc.check_grad(**BASE, resume=path)
        assert "another check" not in str(refused.value)


@pytest.mark.parametrize("change", ["UPDATE about SET said = CAST(x'ff' AS TEXT) WHERE what = 'report'",
                                    "UPDATE chunks SET arrays = CAST(x'ff' AS TEXT)"])  # fmt: skip
def test_damaged_evidence_is_measured_again(tmp_path, plain, change):
    path = tmp_path / "run.sqlite"
    resumed.check(path)
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute(change)
        if "chunks" in change:
            file.execute("DELETE FROM about WHERE what = 'report'")
        file.commit()
    assert resumed.check(path) == plain


def test_two_runs_on_one_file(tmp_path):
    path = tmp_path / "run.sqlite"
    first = Store.open(path)
    with pytest.raises(BlockingIOError, match="in use by another run"):
        jc.check_grad(**BASE, resume=path)
    first.close()
    assert jc.check_grad(**BASE, resume=path).ok


def test_a_full_disk_ends_the_check_and_what_was_stored_stays(tmp_path, plain, stop_after, monkeypatch):
    path = tmp_path / "run.sqlite"
    begin = store_file._begin

    def small(connection, given):
        begin(connection, given)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    with monkeypatch.context() as patch:
        patch.setattr(store_file, "_begin", small)
        with pytest.raises(OSError, match="the disk is full") as said:
            resumed.check(path)
        assert "goes on from there" in str(said.value)
    whole = len(keys(path))
    assert whole >= 1
    count = stop_after(None)
    assert resumed.check(path) == plain
    assert count["taken"] == whole


def test_rows_of_python_are_not_run_twice(tmp_path, stop_after, monkeypatch):
    monkeypatch.setattr(kept, "SPAN", 0.0)
    calls = []

    def loss(p):
        calls.append(0)
        return float(np.sum(np.tanh(np.asarray(p)) ** 2))

    def grad(p):
        t = np.tanh(np.asarray(p))
        return 2 * t * (1 - t**2)

    p = np.linspace(-1, 1, 12)
    want = jc.check_grad(loss, p, grad, budget=None)
    alone = len(calls)
    calls.clear()
    stop_after(5)
    assert jc.check_grad(loss, p, grad, budget=None, resume=tmp_path / "run").cost.stopped == "time"
    first = len(calls)
    calls.clear()
    count = stop_after(None)
    report = jc.check_grad(loss, p, grad, budget=None, resume=tmp_path / "run")
    assert report == want and report.ok
    assert count["taken"] >= 4 and len(calls) + first < alone + 40  # the point is looked at anew, and each row once


def test_a_host_loss_that_gives_another_value_is_another_problem(tmp_path):
    data = tmp_path / "data.txt"

    def loss(p):
        return float(np.sum(np.asarray(p) ** 2)) * float(data.read_text())

    def grad(p):
        return 2 * np.asarray(p) * float(data.read_text())

    data.write_text("1")
    assert jc.check_grad(loss, np.ones(3), grad, resume=tmp_path / "run").ok
    data.write_text("2")
    with pytest.raises(ValueError, match="loss is another one there"):
        jc.check_grad(loss, np.ones(3), grad, resume=tmp_path / "run")


def test_a_random_loss_keeps_nothing_and_is_not_refused(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(2):
        report = jc.check_grad(lambda p: jnp.sum(p * rng.normal()), np.ones(3), resume=tmp_path / "run")
        assert report.reason is Reason.NONDETERMINISTIC
    assert not keys(tmp_path / "run")


def test_a_batch_goes_on(tmp_path, stop_after, monkeypatch):
    monkeypatch.setattr(blocks, "ONE_CALL", 1e4)
    points = {"w": np.random.default_rng(0).normal(size=(40, 30))}

    def loss(p):
        return jnp.sum(jnp.sin(p["w"]) ** 2)

    def grad(p):
        return {"w": 2 * jnp.sin(p["w"]) * jnp.cos(p["w"])}

    want = jc.check_batch(loss, points, grad, budget=None)
    stop_after(2)
    first = jc.check_batch(loss, points, grad, budget=None, resume=tmp_path / "run")
    assert first.cost.stopped == "time" and 0 < first.points_inconclusive < 40
    count = stop_after(None)
    report = jc.check_batch(loss, points, grad, budget=None, resume=tmp_path / "run")
    assert report == want and report.points_passed == 40
    assert count["taken"] >= 2
    points["w"][7, 7] += 1
    with pytest.raises(ValueError, match="points is another one there"):
        jc.check_batch(loss, points, grad, budget=None, resume=tmp_path / "run")


def test_a_chunk_comes_back_as_it_was(tmp_path):
    file = Store.open(tmp_path / "run")
    value = (np.arange(3, dtype=np.uint64), [np.array([[True, False]]), np.array(np.nan)], np.zeros((0, 2), complex))
    one, two = file.turn(b"key"), file.turn(b"key")
    assert one != two  # what is measured twice is stored twice
    file.put(one, "rows", Chunk(value, 1.0))
    file.close()
    file = Store.open(tmp_path / "run")
    found = file.get(file.turn(b"key"))
    file_again = file.get(file.turn(b"key"))
    file.close()
    assert found is not None and file_again is None
    assert jax.tree.structure(found.value) == jax.tree.structure(value)
    for x, y in zip(jax.tree.leaves(found.value), jax.tree.leaves(value), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape and np.array_equal(x, y, equal_nan=True)


def test_what_takes_longer_to_store_than_to_measure_is_not_stored(tmp_path, monkeypatch):
    monkeypatch.undo()
    file = Store.open(tmp_path / "run")
    file.put(b"large", "rows", Chunk(np.zeros(10**6), 0.1))
    file.put(b"small", "rows", Chunk(np.zeros(10**3), 0.1))
    found = [file.get(key) is not None for key in (b"large", b"small")]
    file.close()
    assert found == [False, True]


def test_large_arrays_are_read_to_the_last_byte():
    large = np.zeros(3 * portable.BLOCK // 8 + 5)
    found = {portable.digest(large)}
    for place in (0, -1, portable.BLOCK // 8, 2 * portable.BLOCK // 8):
        other = large.copy()
        other[place] = 1.0
        found.add(portable.digest(other))
    found |= {portable.digest(large[:-1]), portable.digest(large.astype(np.float32))}
    assert len(found) == 7


def made(factor, data, default=1):
    def f(x, y=default):
        return factor * x + np.sum(data) + y

    return f


def test_functions_are_known_by_what_they_do():
    data = np.arange(3.0)
    one = portable.digest(made(2, data))
    assert one == portable.digest(made(2, data.copy()))
    others = [made(3, data), made(2, data + 1), made(2, data, 4), lambda x: x, jax.jit(made(2, data))]
    assert len({one, *map(portable.digest, others)}) == len(others) + 1
    assert portable.digest(jax.jit(made(2, data))) == portable.digest(jax.jit(made(2, data)))


class Setting:
    factor = 2.0


@pytest.mark.parametrize("which", ["loss", "grad"])
def test_what_a_callback_reads_elsewhere_is_known_by_the_value_at_the_point(tmp_path, monkeypatch, which):
    x = jnp.array([0.3, -0.7])

    def called(f, x):
        return jax.pure_callback(lambda a: np.asarray(f(a), a.dtype), jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    def loss(p):
        if which == "grad":
            return jnp.sum(p**2)
        return jnp.sum(called(lambda a: Setting.factor / 2 * a**2, p))

    def grad(p):
        return called(lambda a: Setting.factor * a, p) if which == "grad" else 2 * p

    assert jc.check_grad(loss, x, grad, resume=tmp_path / "run")
    assert jc.check_grad(loss, x, grad, resume=tmp_path / "run")
    monkeypatch.setattr(Setting, "factor", 3.0)
    with pytest.raises(ValueError, match=f"another check(.|\n)*{which}"):
        jc.check_grad(loss, x, grad, resume=tmp_path / "run")


def test_of_checks_that_begin_at_once_on_one_new_file_one_has_it(tmp_path):
    def check(path):
        try:
            return jc.check_grad(lambda w: np.sum(np.asarray(w) ** 2), np.ones(5), lambda w: 2 * w, resume=path).verdict
        except BlockingIOError as error:
            return str(error)

    for turn in range(10):
        path = str(tmp_path / f"{turn}.sqlite")
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            told = list(pool.map(check, [path] * 3))
        assert jc.Verdict.PASS in told and all(x is jc.Verdict.PASS or "in use" in x for x in told), told
        assert check(path) is jc.Verdict.PASS
