"""Rows over several devices: the same Report as on one, and nothing moved that the caller has put somewhere."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxcheck as jc
from jaxcheck.evidence import blocks, flat
from jaxcheck.program.run import cache, spread


def network(wrong: bool = False):
    rng = np.random.default_rng(3)
    params = {"W": rng.normal(size=(5, 7)), "b": rng.normal(size=7), "w": rng.normal(size=7)}
    x, y = rng.normal(size=(4, 5)), rng.normal(size=4)

    def loss(p):
        return jnp.mean((jnp.tanh(x @ p["W"] + p["b"]) @ p["w"] - y) ** 2)

    def grad(p):
        g = jax.grad(loss)(p)
        return {**g, "W": g["W"].at[2, 3].multiply(1.25)} if wrong else g

    return loss, params, grad


@contextlib.contextmanager
def spread_always():
    """Everything is worth spreading and takes several calls; yields the number of devices of each program run."""
    used, before, place = [], (spread.WORTH, blocks.ONE_CALL), spread.placed

    def placed(args, mesh, split):
        used.append(1 if mesh is None else mesh.size)
        return place(args, mesh, split)

    spread.WORTH, blocks.ONE_CALL, spread.placed = 0.0, 2e3, placed
    try:
        yield used
    finally:
        (spread.WORTH, blocks.ONE_CALL), spread.placed = before, place


def digit(x: float) -> str:
    return f"{x:.0e}" if math.isfinite(x) else str(x)


def gist(report: jc.Report) -> dict:
    """What must not depend on where a check ran: everything but seconds, bytes and last digits."""
    leaves = [
        (x.path, str(x.verdict), str(x.reason), digit(x.floor), f"{x.difference:.6e}" if x.difference > 1e-7 else "")
        for x in report.leaves
    ]
    return {
        "verdict": str(report.verdict),
        "reason": str(report.reason),
        "leaves": leaves,
        "name": report.name,
        "evaluations": report.evaluations,
        "points": [(p.label, str(p.verdict)) for p in report.points],
    }


@jax.custom_vjp
def rule(x):
    return jnp.sin(x) * x[0]


rule.defvjp(lambda x: (rule(x), x), lambda x, g: (1.5 * jax.vjp(lambda x: jnp.sin(x) * x[0], x)[1](g)[0],))


CHECKS = {
    "textbook": lambda **kw: jc.check_grad(*network(), mode=jc.Exhaustive(step=1e-4), **kw),
    "every component": lambda **kw: jc.check_grad(*network(), mode=jc.Exhaustive(), **kw),
    "sketch of a wrong one": lambda **kw: jc.check_grad(*network(wrong=True), mode="sketch", where=False, **kw),
    "points": lambda **kw: batch(**kw),
    "a wrong rule": lambda **kw: jc.check_rule(
        rule, np.linspace(-1.0, 1.0, 9), algebra=False, level="quick", where=False, **kw
    ),
}


def batch(**kw):
    loss, params, _ = network()
    rng = np.random.default_rng(0)
    points = {name: rng.normal(size=(13, *x.shape)) for name, x in params.items()}

    def grad(p):  # wrong where W[0, 0] is above 0.3
        g = jax.grad(loss)(p)
        return {**g, "b": g["b"] * jnp.where(p["W"][0, 0] > 0.3, 1.5, 1.0)}

    return jc.check_batch(loss, points, grad, **kw)


@pytest.mark.parametrize("name", CHECKS)
def test_two_devices_find_what_one_finds(name):
    with spread_always() as used:
        one = CHECKS[name](devices=jax.devices()[:1])
        assert set(used) == {1}
        used.clear()
        two = CHECKS[name](devices=jax.devices()[:2])
        assert 2 in used
    assert gist(one) == gist(two)
    assert one.ok == (name in ("textbook", "every component"))


def main() -> None:
    """In a process of its own: all of them on one of its devices and on all, as JSON."""
    found = {}
    with spread_always() as used:
        for name, check in CHECKS.items():
            one = gist(check(devices=jax.devices()[0]))
            used.clear()
            found[name] = one, gist(check()), max(used)
    print(json.dumps(found))


@pytest.mark.slow
def test_eight_devices_by_default():
    env = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_devices"],
        env=env,
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == list(CHECKS)
    for name, (one, all_of_them, devices) in found.items():
        assert devices == 8, name
        assert one == all_of_them, name


def test_a_small_check_stays_on_one_device(monkeypatch):
    monkeypatch.setattr(spread, "placed", lambda args, mesh, split: pytest.fail("spread") if mesh else tuple(args))
    assert jc.check_grad(*network()).ok


def test_a_callback_stays_on_one_device():
    def loss(x):
        like = jax.ShapeDtypeStruct((), x.dtype)
        return jnp.sum(x**2) + jax.pure_callback(lambda: np.zeros((), x.dtype), like, vmap_method="sequential")

    with spread_always() as used:
        assert jc.check_grad(loss, np.ones(3), lambda x: 2 * x, mode=jc.Exhaustive(step=1e-4)).ok
    assert set(used) == {1}


@pytest.mark.parametrize("where", ["params", "args"])
def test_what_is_committed_to_a_device_is_not_moved(where):
    loss = network()[0]
    params = jax.tree.map(jnp.asarray, network()[1])
    second = jax.devices()[1]
    scale = jnp.float32(2.0)
    if where == "params":
        params = jax.device_put(params, second)
    else:
        scale = jax.device_put(scale, second)

    def grad(p, s):
        return jax.tree.map(lambda g: s * g, jax.grad(loss)(p))

    with spread_always():
        cache.clear()
        report = jc.check_grad(lambda p, s: s * loss(p), params, grad, args=(scale,), mode="sketch")
    assert report.ok, str(report)
    assert on_which() == {second}


def on_which() -> set:
    return {
        d
        for executable, _ in cache._CACHE.values()
        for s in jax.tree.leaves(executable.input_shardings)
        for d in s.device_set
    }


def test_devices_that_are_named_go_before_what_is_committed():
    first, second = jax.devices()[:2]
    loss, params, grad = network()
    params = jax.device_put(jax.tree.map(jnp.asarray, params), second)
    scale = jax.device_put(jnp.float32(1.0), second)
    cache.clear()
    with spread_always():
        report = jc.check_grad(
            lambda p, s: s * loss(p), params, lambda p, s: grad(p), args=(scale,), mode="sketch", devices=first
        )
    assert report.ok, str(report)
    assert on_which() == {first}


def test_copies_on_every_device_are_spread():
    loss, params, grad = network()
    copies = NamedSharding(Mesh(np.array(jax.devices()[:2]), ("data",)), PartitionSpec())
    x = jax.device_put(jnp.float32(1.0), copies)
    with spread_always() as used:
        report = jc.check_grad(
            lambda p, s: s * loss(p),
            jax.device_put(params, copies),
            lambda p, s: grad(p),
            args=(x,),
            mode=jc.Exhaustive(step=1e-4),
        )
    assert report.ok, str(report)
    assert 2 in used


def test_a_program_with_a_layout_of_its_own_is_left_alone():
    mesh = Mesh(np.array(jax.devices()[:2]), ("model",))

    def loss(w):
        w = jax.lax.with_sharding_constraint(w, NamedSharding(mesh, PartitionSpec("model")))
        return jnp.sum(jnp.sin(w) ** 2)

    with spread_always() as used:
        report = jc.check_grad(loss, np.linspace(0.1, 1.0, 6), jax.grad(loss), mode=jc.Exhaustive(step=1e-5))
    assert report.ok, str(report)
    assert 2 not in used


def laid_out(dtype):
    """A loss of parameters that lie over two devices as in tensor-parallel models; their gradient, perhaps wrong."""
    mesh = Mesh(np.array(jax.devices()[:2]), ("model",))
    rng = np.random.default_rng(5)

    def put(x, *spec):
        return jax.device_put(np.asarray(x, dtype), NamedSharding(mesh, PartitionSpec(*spec)))

    params = {
        "in": put(rng.normal(size=(6, 32)) / 3, None, "model"),
        "b": put(rng.normal(size=32), "model"),
        "out": put(rng.normal(size=(32, 4)) / 5, "model", None),
        "scale": np.asarray(0.5, dtype),
    }
    x = rng.normal(size=(3, 6)).astype(dtype)

    def loss(p):
        return p["scale"] * jnp.mean((jnp.tanh(x @ p["in"] + p["b"]) @ p["out"]) ** 2)

    def grad(p, factor):
        g = jax.grad(loss)(p)
        return {**g, "b": factor * g["b"]}

    return loss, params, grad


@pytest.mark.parametrize("shared", [False, True], ids=["each leaf's own directions", "shared directions"])
@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_parameters_that_lie_over_devices_stay_there(monkeypatch, factor, shared):
    monkeypatch.setattr(flat, "WORK", 0.0 if shared else 1e99)
    cache.clear()
    with jax.enable_x64(True):
        loss, params, grad = laid_out(np.float64)
        there = jc.check_grad(loss, params, lambda p: grad(p, factor), mode=None if shared else "sketch", where=False)
        programs = [executable for executable, _ in cache._CACHE.values()]
        here = jc.check_grad(
            loss,
            jax.tree.map(np.asarray, params),
            lambda p: grad(p, factor),
            mode=None if shared else "sketch",
            where=False,
        )
    assert gist(there) == gist(here)
    assert there.ok == (factor == 1.0)
    assert programs
    for one in programs:
        split = [s for s in jax.tree.leaves(one.input_shardings) if not s.is_fully_replicated]
        assert len(split) >= 3  # each of the three leaves, and their directions where there are any
        assert "all-gather" not in one.as_text()


@pytest.mark.slow
def test_complex_parameters_that_lie_over_devices():
    mesh = Mesh(np.array(jax.devices()[:2]), ("model",))
    rng = np.random.default_rng(6)
    z = (rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4))).astype(np.complex64)
    z = jax.device_put(z, NamedSharding(mesh, PartitionSpec("model")))

    def f(z):
        return jnp.sum(jnp.abs(jnp.exp(0.1 * z @ z)) ** 2)

    assert jc.check_grad(f, z, jax.grad(f), mode="sketch").ok
    report = jc.check_grad(f, z, lambda z: jnp.conj(jax.grad(f)(z)), mode="sketch", where=False)
    assert report.verdict is jc.Verdict.FAIL


BAD = {
    "cpu": (TypeError, "devices='cpu': a device of jax.devices(), or a sequence of several"),
    2: (TypeError, "devices=2: a device of jax.devices(), or a sequence of several"),
    (): (ValueError, "devices=(): a device of jax.devices(), or a sequence of several"),
    (0, 1): (TypeError, "devices=(0, 1): a device of jax.devices(), or a sequence of several; it holds int"),
}


@pytest.mark.parametrize("given", BAD)
def test_devices_that_are_none(given):
    kind, said = BAD[given]
    for check in (CHECKS["textbook"], CHECKS["points"], lambda **kw: jc.check_rule(jnp.sin, np.ones(2), **kw)):
        with pytest.raises(kind) as error:
            check(devices=given)
        assert str(error.value).startswith(said)


def test_a_device_twice():
    with pytest.raises(ValueError, match="each device once, and all of one kind"):
        CHECKS["textbook"](devices=[jax.devices()[0]] * 2)


if __name__ == "__main__":
    main()
