"""Code that donates, calls back, logs, keeps state: what people's losses do beside computing."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback
from jax.experimental.sparse.linalg import spsolve

import jaxcheck as jc
from jaxcheck.program.run.batching import calls_back, sequential
from jaxcheck.result import Reason, Verdict

W = jnp.asarray(np.random.default_rng(0).standard_normal(3))
LOG: list[float] = []


def base(w):
    return jnp.sum(jnp.sin(w) * w)


def slope(w, k=1.0):
    return k * (jnp.sin(w) + w * jnp.cos(w))


def told(ordered, used):
    """The loss through an io_callback: a log, or (`used`) something that hands out a factor 2."""

    def hear(x):
        LOG.append(float(x))
        return np.asarray(2.0, np.float32)

    def loss(w):
        value = base(w)
        heard = jnp.zeros(()) if used else value
        factor = io_callback(hear, jax.ShapeDtypeStruct((), jnp.float32), heard, ordered=ordered)
        return value * factor if used else value

    return loss


def asked(dtype=None, returns=None, **options):
    """sum(sin(w) w), the sine by a callback declared and returned in some dtype."""

    def loss(w):
        spec = jax.ShapeDtypeStruct(w.shape, dtype or w.dtype)
        found = jax.pure_callback(lambda x: np.sin(x).astype(returns or x.dtype), spec, w, **options)
        return jnp.sum(found * w)

    return loss


def printed(w):
    jax.debug.print("w0 = {}", w[0])
    return base(w)


@pytest.mark.parametrize(("loss", "factor"), [
    (jax.jit(base, donate_argnums=0), 1.0), (told(False, False), 1.0), (told(True, False), 1.0),
    (told(False, True), 2.0), (told(True, True), 2.0), (asked(), 1.0), (asked(vmap_method="sequential"), 1.0),
    (asked(vmap_method="expand_dims"), 1.0), (asked(jnp.float32), 1.0), (asked(returns=np.float32), 1.0),
    (printed, 1.0),
], ids=["donating", "log", "ordered log", "io", "ordered io", "callback", "sequential", "batched", "declared float32",
        "returns float32", "print"])  # fmt: skip
def test_a_loss_that_does_more_than_compute(loss, factor, capfd):
    w = W + 0
    assert jc.check_grad(loss, w, lambda w: slope(w, factor)).verdict is Verdict.PASS
    wrong = jc.check_grad(loss, w, lambda w: slope(w, factor * 1.01))
    assert wrong.verdict is Verdict.FAIL
    assert np.isfinite(w + 1).all()  # the caller's array lives on


@pytest.mark.parametrize("ordered", [False, True])
def test_a_log_does_not_stand_in_the_way_of_autodiff(ordered):
    report = jc.check_grad(told(ordered, False), W, slope)
    assert report.witnesses[2].how == "float64" and report.difference < 1e-12
    assert "side effects" in report.notes[0]
    assert jc.check_grad(told(ordered, False), W).verdict is Verdict.PASS


@pytest.mark.filterwarnings("ignore:Some donated buffers")
def test_donation_on_the_host():
    w, key = W + 0, jax.random.key(0)
    step = jax.jit(lambda p: base(p["w"]), donate_argnums=0)
    tree = {"w": w, "n": jnp.arange(2), "key": key}
    backprop = lambda p: {"w": np.asarray(slope(p["w"])), "n": None, "key": None}  # noqa: E731
    report = jc.check_grad(lambda p: float(step(p)), tree, backprop)
    assert report.verdict is Verdict.PASS
    assert np.isfinite(w + 1).all() and int(tree["n"].sum()) == 1
    jax.random.normal(key)


def test_a_gradient_that_donates():
    w = W + 0
    assert jc.check_grad(base, w, jax.jit(slope, donate_argnums=0)).ok
    assert np.isfinite(w + 1).all()


def test_a_primitive_without_a_batching_rule():
    data, at, rows = jnp.asarray([4.0, 1, 1, 3, 1, 2]), jnp.asarray([0, 1, 0, 1, 2, 2]), jnp.asarray([0, 2, 5, 6])
    assert jc.check_grad(lambda b: jnp.sum(jnp.sin(spsolve(data, at, rows, b))), jnp.ones(3)).verdict is Verdict.PASS


def test_a_residual_kept_outside_the_rule():
    kept = {}

    def make(k):
        f = jax.custom_vjp(base)

        def fwd(w):
            kept["w"] = w
            return base(w), None

        f.defvjp(fwd, lambda _, g: (g * slope(kept["w"], k),))
        return f

    assert jc.check_grad(make(1.0), W).verdict is Verdict.PASS
    assert jc.check_grad(make(1.01), W).verdict is Verdict.FAIL


def keeps_a_tracer():
    kept = []

    def loss(w):
        kept.append(w)
        return base(kept[0])

    return loss


def counts():
    calls = [0]

    def loss(w):
        calls[0] += 1
        return base(w) * calls[0]

    return loss


def splits_a_global_key():
    key = [jax.random.key(0)]

    def loss(w):
        key[0], mine = jax.random.split(key[0])
        return jnp.sum(w * jax.random.normal(mine, w.shape))

    return loss


@pytest.mark.parametrize(("make", "leak"), [(keeps_a_tracer, True), (counts, False), (splits_a_global_key, True)])
def test_state_between_calls_is_named(make, leak):
    report = jc.check_grad(make(), W, slope)
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.NONDETERMINISTIC)
    assert any("leaked tracer" in note for note in report.notes) is leak


def test_a_gradient_with_numpy_randomness():
    def grad(w):
        return slope(w) * (1 + 1e-3 * np.random.default_rng().standard_normal())

    assert jc.check_grad(base, W, grad).reason is Reason.NONDETERMINISTIC


@pytest.mark.parametrize("params", [
    [0.3, 0.7], (np.array(0.3), np.float32(0.7)), (jnp.asarray(0.3), 0.7), [np.float64(0.3), np.float16(0.7)],
    {"a": np.asfortranarray(np.arange(1.0, 7.0).reshape(2, 3)), "b": 0.5},
], ids=["floats", "0-d", "weak", "scalars", "fortran"])  # fmt: skip
def test_numbers_as_they_come(params):
    def loss(p):
        a, b = jax.tree.leaves(p)
        return jnp.sum(a * b**2)

    def grad(p, k=1.0):
        a, b = jax.tree.leaves(p)
        return jax.tree.unflatten(jax.tree.structure(p), [b**2 * jnp.ones_like(a), k * jnp.sum(2 * a * b)])

    right = jc.check_grad(loss, params, grad)
    assert right.verdict is Verdict.PASS and right.difference < 1e-9
    assert jc.check_grad(loss, params, lambda p: grad(p, 1.001)).verdict is Verdict.FAIL


def test_arrays_on_disk_and_read_only(tmp_path):
    mapped = np.memmap(tmp_path / "a", dtype=np.float64, mode="w+", shape=(5,))
    mapped[:] = np.arange(1.0, 6.0)
    frozen = np.arange(1.0, 6.0)
    frozen.flags.writeable = False
    for a in (mapped, frozen):
        assert jc.check_grad(lambda p: jnp.sum(p**3), a, lambda p: 3 * p**2).difference < 1e-12
        assert jc.check_grad(lambda p: jnp.sum(p**3), a, lambda p: 3.003 * p**2).verdict is Verdict.FAIL


def test_what_the_users_code_raises_reaches_the_user():
    def loss(w):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        jc.check_grad(loss, W, slope)


MODE = """
import jax, jax.numpy as jnp, numpy as np, jaxcheck as jc
jax.config.update("jax_enable_x64", {wide})

def called(x):
    return jax.pure_callback(lambda x: np.sin(x), jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")

def loss(a):
    return jnp.sum(jnp.log(jnp.diag(jnp.linalg.cholesky(a + a.T)))) + jnp.sum(jax.scipy.linalg.expm(a / 9))

rule = jax.custom_vjp(lambda x: jnp.sum(called(x)))
rule.defvjp(lambda x: (rule(x), x), lambda x, g: (g * jnp.cos(x),))
a, x = 3 * jnp.eye(3), jnp.linspace(0.1, 1, 3)
jc.check_grad(loss, a)
jc.check_grad(lambda x: jnp.sum(called(x)), x, jnp.cos)
jc.check_rule(rule, x)
jc.check_rule(jnp.linalg.inv, a, level="quick")
jc.check_batch(lambda a: jnp.sum(called(a) ** 2), [a, a + 1], lambda a: 2 * jnp.sin(a) * jnp.cos(a))
assert jax.config.jax_enable_x64 is {wide}, "the mode"
assert jnp.ones(2).dtype == {dtype!r}, jnp.ones(2).dtype
"""


@pytest.mark.parametrize(("wide", "dtype"), [(True, "float64"), (False, "float32")])
@pytest.mark.slow
def test_the_mode_that_was_set_for_the_whole_process_stays(wide, dtype):
    done = subprocess.run(
        [sys.executable, "-c", MODE.format(wide=wide, dtype=dtype)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_takes_nothing_in_is_no_callback():
    closed = jax.make_jaxpr(lambda a: jnp.linalg.cholesky(a) @ jnp.arange(3.0))(jnp.eye(3))
    assert not calls_back(closed) and not sequential(closed)
