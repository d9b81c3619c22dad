"""Round-off bars: what the true errors of known cases and of generated programs are worth in them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
import wide
from drawn import KINKED, SMOOTH, program
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxcheck.program import units
from jaxcheck.program.ways import perturbed
from jaxcheck.program.ways.noise import Noise

ROWS = perturbed.signs()
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@pytest.fixture(autouse=True)
def _in_64_bits():
    with jax.enable_x64(True):
        yield


def bars(f, *args, **options):
    """(results, bars) of a function's own program, flat, as NumPy arrays."""
    closed = jax.make_jaxpr(f)(*args)
    flat = jax.tree.leaves(args)
    run = jax.jit(lambda *a: perturbed.scatter(closed, a, ROWS, **options)[:2])
    found = run.lower(*flat).compile(compiler_options=QUICK)(*flat)
    plain = jax.jit(jaxpr_as_fun(closed)).lower(*flat).compile(compiler_options=QUICK)(*flat)
    return [np.asarray(x) for x in plain], [np.asarray(x) for x in found[1]]


def _worth(truth, value, bar):
    """The true error in bars."""
    return float(abs(mp.mpf(truth) - mp.mpf(float(value))) / mp.mpf(float(bar)))


@pytest.mark.parametrize("x", [18.0, 20.0, 30.0])
@pytest.mark.parametrize("form", ["1 - tanh^2", "1 / cosh^2"])
def test_saturated_tanh(x, form):
    f = {"1 - tanh^2": lambda x: 1 - jnp.tanh(x) ** 2, "1 / cosh^2": lambda x: 1 / jnp.cosh(x) ** 2}[form]
    (value,), (bar,) = bars(f, x)
    with mp.workdps(60):
        truth = 1 / mp.cosh(mp.mpf(x)) ** 2
        assert _worth(truth, value, bar) < 2
    if form == "1 - tanh^2":
        assert 1e-16 < bar < 1e-14  # known to be nothing but rounding
    else:
        assert bar < 1e-12 * truth  # and here known to twelve digits


def test_log_of_a_saturated_sigmoid():
    (value,), (bar,) = bars(lambda x: jnp.log(jax.nn.sigmoid(x)), 30.0)
    with mp.workdps(60):
        assert _worth(-mp.log(1 + mp.exp(-30)), value, bar) < 2
    assert bar < 1e-15


def test_a_bias_before_batch_norm_has_no_gradient():
    def loss(b, x):
        h = x + b
        h = (h - h.mean(0)) / jnp.sqrt(h.var(0) + 1e-5)
        return (jnp.tanh(h) @ jnp.arange(1.0, 4.0)).sum()

    (value,), (bar,) = bars(jax.grad(loss), np.ones(3), np.random.default_rng(0).normal(size=(20, 3)))
    assert np.linalg.norm(value) < 2 * np.linalg.norm(bar)
    assert np.all(bar < 1e-12)


def test_entropy_of_a_saturated_softmax():
    z = [40.0, 0.0, 0.0]
    (value,), (bar,) = bars(lambda z: -(jax.nn.softmax(z) * jax.nn.log_softmax(z)).sum(), np.array(z))
    with mp.workdps(60):
        p = [mp.exp(v) for v in z]
        p = [v / sum(p) for v in p]
        assert _worth(-sum(v * mp.log(v) for v in p), value, bar) < 2
    assert bar < 1e-14


@pytest.mark.parametrize(("n", "condition"), [(4, 2e4), (7, 5e8), (10, 2e13)])
def test_solves_with_hilbert_matrices(n, condition):
    hilbert = 1 / (np.arange(n)[:, None] + np.arange(n) + 1.0)
    f = jax.grad(lambda b, a: (jnp.linalg.solve(a, b) ** 2).sum())
    (value,), (bar,) = bars(f, np.ones(n), hilbert)
    with mp.workdps(60):
        inverse = mp.inverse(mp.matrix(hilbert.tolist()))
        truth = 2 * inverse.T * (inverse * mp.ones(n, 1))
        error = float(mp.norm(truth - mp.matrix([float(v) for v in value])))
        size = float(mp.norm(truth))
    assert error < 5 * np.linalg.norm(bar)
    assert np.linalg.norm(bar) / size < 1e-13 * condition


@pytest.mark.parametrize("gap", [1e-2, 1e-6, 1e-10])
def test_an_eigenvector_at_a_gap(gap):
    q = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    matrix = q @ np.diag([1.0, 1.0 + gap, 2.0, 3.0]) @ q.T
    (value,), (bar,) = bars(lambda a: jnp.linalg.eigh(a)[1][:, 0], matrix)
    with mp.workdps(60):
        symmetric = (mp.matrix(matrix.tolist()) + mp.matrix(matrix.T.tolist())) / 2
        vector = np.array([float(v) for v in mp.eigsy(symmetric)[1][:, 0]])
    vector *= np.sign(vector @ value)
    assert np.linalg.norm(vector - value) < 5 * np.linalg.norm(bar)
    assert np.linalg.norm(bar) < 1e-14 / gap


@pytest.mark.parametrize("n", [1000, 100_000])
def test_sums_and_variances(n):
    x = np.random.default_rng(2).normal(size=n)
    values, found = bars(lambda x: (x.sum() / n, x.var()), x)
    exact = x.astype(np.longdouble)
    for value, bar, truth in zip(values, found, (exact.mean(), exact.var()), strict=True):
        assert abs(value - truth) < 5 * bar
        assert bar < 1e-14


def _layers(leaves, x):
    for w in leaves:
        x = jnp.tanh(x @ w)
    return (x**2).mean()


def test_ten_layers_in_float32():
    rng = np.random.default_rng(3)
    leaves = [rng.normal(size=(64, 64)).astype(np.float32) / 8 for _ in range(10)]
    x = rng.normal(size=(32, 64)).astype(np.float32)
    values, found = bars(jax.grad(_layers), leaves, x)
    exact = jax.jit(jax.grad(_layers))([w.astype(float) for w in leaves], x.astype(float))
    for value, bar, truth in zip(values, found, exact, strict=True):
        error = np.linalg.norm(value - truth)
        assert 0.05 * np.linalg.norm(bar) < error < 5 * np.linalg.norm(bar)
        assert np.linalg.norm(bar) < 5e-6 * np.linalg.norm(truth)


def test_a_lifted_program_with_the_units_of_its_origin():
    rng = np.random.default_rng(3)
    leaves = [rng.normal(size=(16, 16)) / 4 for _ in range(3)]
    x = rng.normal(size=(8, 16))
    _, wide_bars = bars(jax.grad(_layers), leaves, x)
    _, coarse = bars(jax.grad(_layers), leaves, x, unit_of=lambda eqn, dtype: units.unit(np.float32))
    narrow = [w.astype(np.float32) for w in leaves]
    _, native = bars(jax.grad(_layers), narrow, x.astype(np.float32))
    for fine, lifted, own in zip(wide_bars, coarse, native, strict=True):
        assert 0.2 < np.linalg.norm(lifted) / np.linalg.norm(own) < 5
        assert np.linalg.norm(lifted) > 1e7 * np.linalg.norm(fine)


EXACT = {
    "moved about": lambda x: jnp.concatenate([x[::-1], x.T[:1]])[jnp.array([2, 0])].reshape(1, -1),
    "powers of two": lambda x: -4.0 * x / 8.0,
    "chosen": lambda x: jnp.where(x > 0, jnp.maximum(x, 0.3), jnp.abs(x)),
    "sorted": lambda x: jnp.sort(x, axis=0),
    "decided": lambda x: jnp.where(x > 0, jnp.sign(x), jnp.floor(8 * x)),
    "counted": lambda x: jnp.argmax(x).astype(float),
    "largest": lambda x: x.max(0) + 0.0,
    "scattered": lambda x: jnp.zeros((4, 4)).at[1:3, :2].set(x[:2, :2]),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_operations_have_no_bar(name):
    _, (bar,) = bars(EXACT[name], np.random.default_rng(0).normal(size=(3, 3)))
    assert np.all(bar == 0)


def test_a_wider_type_loses_nothing():
    _, (bar,) = bars(lambda x: x.astype(float) * 2.0, np.ones(3, np.float32) / 3)
    assert not bar.any()
    _, (bar,) = bars(lambda x: x.astype(np.float32), np.ones(3) / 3)
    assert np.all((1e-8 < bar) & (bar < 1e-7))


def _tied(x):
    third = x / 3.0 + x / 3.0 + x / 3.0
    return (
        jnp.where(third > x, 5.0, jnp.where(third < x, -5.0, 0.0)),
        jnp.argmax(jnp.stack([third, x])),
        x * (third == x),
    )


DECIDED = {
    "comparison": lambda x: _tied(x)[0],
    "count": lambda x: lax.while_loop(lambda c: c[0] < 1.0, lambda c: (c[0] + x / 10.0, c[1] + 1.0), (0.0 * x, 0.0))[1],
    "branch": lambda x: lax.cond(x / 3.0 * 3.0 > x, lambda: 1.0, lambda: 2.0),
    "round": lambda x: jnp.round(x / 3.0 * 1.5),
    "remainder": lambda x: jnp.mod(3.0 * (x / 3.0), 1.0),
    "order": lambda x: jnp.argsort(jnp.stack([x / 3.0 * 3.0, x]))[0] * 1.0,
    "payload": lambda x: lax.sort([jnp.stack([x / 3.0 * 3.0, x]), jnp.array([1.0, 2.0])], num_keys=1)[1],
}


@pytest.mark.parametrize("name", DECIDED)
def test_decisions_follow_the_plain_run(name):
    """At ties that any rounding breaks: a result that jumped would have a bar of its own size."""
    _, (bar,) = bars(DECIDED[name], 1.0)
    assert np.all(bar < 1e-12)


def test_lu_keeps_its_pivots():
    ties = np.array([[1.0, 1, 1], [1, -1, 1], [-1, 1, 1]]) / 3.0
    values, found = bars(lambda a: lax.linalg.lu(a * 1.1), ties)
    assert np.all(found[0] < 1e-14) and not found[1].any() and not found[2].any()
    assert np.isfinite(values[0]).all()


def test_what_is_not_finite_has_no_bar_and_poisons_nothing():
    def f(x):
        masked = jnp.where(x > 0, x, -jnp.inf) * 0.3 - 1.0
        return masked, jax.nn.softmax(masked)

    _, (masked, weights) = bars(f, np.array([1.0, -1.0, 2.0]))
    assert np.isnan(masked).tolist() == [False, True, False]
    assert np.all(weights < 1e-15)


def test_loops_use_other_signs_in_each_iteration():
    """Equal signs would let the errors of a running product grow like n, not like its root."""
    n = 10_000
    _, (bar,) = bars(lambda x: lax.scan(lambda c, _: (c * 1.0001, None), x, None, length=n)[0], 1.0)
    size = np.exp(n * 1e-4) * 2 * units.unit(np.float64)
    assert 0.3 * np.sqrt(n) < bar / size < 4 * np.sqrt(n)


@pytest.mark.parametrize("shape", [(7,), (300, 400), (40_000,), (3, 20_000)])
def test_signs_are_balanced_and_even(shape):
    values = []
    for row in ROWS:
        noise = Noise(jnp.asarray(row), [np.dtype(float)])
        moved = noise.move(jnp.ones(shape), 1.0, units.unit(float), 0)
        values.append(np.sign(np.asarray(moved) - 1.0))
    values = np.stack(values)
    assert np.all(abs(values) == 1)
    assert abs(values.mean()) < 5 / np.sqrt(min(values.size, 4 * sum(shape)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, np.complex64, np.complex128])
def test_other_dtypes(dtype):
    x = np.random.default_rng(5).normal(size=200).astype(np.float32)
    x = (x + (1j * x[::-1] if np.issubdtype(dtype, np.complexfloating) else 0)).astype(dtype)
    (value,), (bar,) = bars(lambda x: x * x / (x + x.dtype.type(3)), x)
    exact = x.astype(np.clongdouble if np.iscomplexobj(x) else np.longdouble)
    error = np.linalg.norm((value.astype(exact.dtype) - exact * exact / (exact + 3)).astype(complex))
    assert 0.05 < error / np.linalg.norm(bar.astype(float)) < 2


def test_what_acts_on_the_world_is_run_once_and_named():
    seen = []

    def f(x):
        y = jax.experimental.io_callback(lambda v: seen.append(v) or v, jax.ShapeDtypeStruct((), x.dtype), x / 3.0)
        return y * 0.1 + jax.pure_callback(np.sin, jax.ShapeDtypeStruct((), x.dtype), x / 3.0)

    closed = jax.make_jaxpr(f)(1.0)
    found = perturbed.scatter(closed, [1.0], ROWS[:1])
    assert found.unseen == ("io_callback",) and len(seen) == 1
    assert 0 < found.bars[0] < 1e-15


def _calibration(count, dtype):
    ratios = []
    pieces = {**SMOOTH, **KINKED}
    for seed in range(count):
        with jax.enable_x64(dtype == np.float64):
            name, loss, leaves = program(seed, dtype, pieces)
            gradient = jax.value_and_grad(loss, argnums=tuple(range(len(leaves))))
            values, found = bars(gradient, *leaves)
            truth = wide.evaluate(jax.make_jaxpr(gradient)(*leaves), leaves)
        for i, (value, bar, exact) in enumerate(zip(values, found, truth, strict=True)):
            error, size = (np.linalg.norm(np.asarray(a, float)) for a in (value - exact, bar))
            ratios.append((error / size if size else np.inf * error if error else 0.0, f"{name}, leaf {i}"))
    return ratios


@pytest.mark.slow
@pytest.mark.skipif(not wide.IS_WIDE, reason="long double is no wider than double here")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_bars_are_true(count, dtype):
    ratios = _calibration(count, dtype)
    values = np.array([r for r, _ in ratios])
    worst = ", ".join(f"{r:.2g} at {where}" for r, where in sorted(ratios)[-3:])
    print(f"{dtype.__name__}, {len(values)} leaves, error / bar: median {np.median(values):.2f}, "
          f"99 % below {np.quantile(values, 0.99):.2f}; worst {worst}")  # fmt: skip
    assert np.quantile(values, 0.99) < 5, worst
    assert np.median(values) > 0.05


@pytest.mark.parametrize("name", ["cosh", "sinh", "tanh", "erfc", "lgamma", "erf_inv", "logistic", "expm1", "log1p"])
def test_library_functions_take_the_units_that_they_are_given(name):
    from measure_units import BINARY, UNARY, measure

    case = next(c for c in (*UNARY, *BINARY) if c.name == name)
    for dtype in (np.float64, np.float32):
        assert 0.2 < measure(case, 24, dtype)[2] < 2
