"""Branch signatures: no smooth point looks like a kink, no kink looks smooth, and a kink has a line."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import FORWARD, KINKED, SMOOTH, program
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxcheck.program.ways import signed

STEPS = 0.1 / 4.0 ** np.arange(14)
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@pytest.fixture(autouse=True)
def _in_64_bits():
    with jax.enable_x64(True):
        yield


def _rows(run, at, direction):
    """`run(*leaves)` at the point, at all steps to the right, and at all to the left."""
    leaves, moves = jax.tree.leaves(at), jax.tree.leaves(direction)
    row = lambda t: run(*(x + t * v for x, v in zip(leaves, moves, strict=True)))  # noqa: E731
    compiled = jax.jit(jax.vmap(row)).lower(jnp.zeros(2 * len(STEPS) + 1)).compile(compiler_options=QUICK)
    out = np.asarray(compiled(jnp.concatenate([jnp.zeros(1), STEPS, -STEPS])))
    return out[0], out[1 : len(STEPS) + 1], out[len(STEPS) + 1 :]


def signatures(f, at, direction):
    closed = jax.make_jaxpr(f)(*at)
    run = signed.signed(closed)
    return _rows(lambda *leaves: run(*leaves)[1], at, direction)


def differing(f, at, direction):
    """The places whose decisions differ between the left and the right of the point, at the smallest step."""
    closed = jax.make_jaxpr(f)(*at)
    places, run = signed.decisions(closed)
    _, right, left = _rows(lambda *leaves: run(*leaves)[1], at, direction)
    return [str(p) for p, a, b in zip(places, right[-1], left[-1], strict=True) if a != b]


def reach(centre, right, left):
    """The largest step up to which all signatures are the point's; 0 if there is none."""
    same = (right == centre) & (left == centre)
    broken = np.flatnonzero(~same)
    return 0.0 if broken.size and broken[-1] == len(STEPS) - 1 else STEPS[broken[-1] + 1 if broken.size else 0]


# (function, point): a kink, a jump or a tie lies exactly at the point.
AT_A_KINK = {
    "relu": (jax.nn.relu, 0.0),
    "relu of a network": (lambda x: jax.nn.relu(jnp.tanh(x) * jnp.arange(3.0)).sum(), 0.0),
    "abs": (jnp.abs, 0.0),
    "max": (lambda x: jnp.maximum(jnp.sin(x), x**2), 0.0),
    "tied maximum": (lambda x: x.max(), np.ones(3)),
    "tied minimum of rows": (lambda x: x.min(1).sum(), np.ones((2, 3))),
    "argmax": (lambda x: x[jnp.argmax(x)] ** 2, np.ones(2)),
    "clip": (lambda x: jnp.clip(x, 0.0, 1.0), 1.0),
    "clamp": (lambda x: lax.clamp(0.0, x, 1.0), 0.0),
    "sort": (lambda x: (jnp.sort(x) * jnp.arange(3.0)).sum(), np.array([1.0, 1.0, 0.0])),
    "sort with a payload": (lambda x: (lax.sort([x, x**2], num_keys=1)[1] * jnp.arange(3.0)).sum(), np.zeros(3)),
    "median": (jnp.median, np.array([0.0, 1.0, 1.0, 1.0])),
    "top k": (lambda x: lax.top_k(x, 1)[0].sum(), np.ones(3)),
    "cummax": (lambda x: lax.cummax(x).sum(), np.ones(3)),
    "floor": (lambda x: jnp.floor(x), 2.0),
    "round": (lambda x: x * jnp.round(x), 0.5),
    "mod": (lambda x: jnp.mod(x, 1.0), 3.0),
    "to integer": (lambda x: x * x.astype(int), 3.0),
    "to boolean": (lambda x: (x > 0).astype(float), 0.0),
    "sign": (jnp.sign, 0.0),
    "where": (lambda x: jnp.where(x < 1.0, x, 2.0 - x), 1.0),
    "cond": (lambda x: lax.cond(x > 0, jnp.sin, lambda x: x * x, x), 0.0),
    "switch": (lambda x: lax.switch(jnp.floor(x).astype(int), [lambda x: x, lambda x: x * x], x), 1.0),
    "count of a while": (lambda x: lax.while_loop(lambda c: c < 8.0, lambda c: 2.0 * c, x), 1.0),
    "inside a scan": (lambda x: lax.scan(lambda c, y: (jnp.maximum(c, y), c), x, jnp.array([0.0, 0.5]))[0], 0.5),
    "inside a while": (lambda x: lax.fori_loop(0, jnp.int32(3), lambda i, c: jnp.abs(c), x), 0.0),
    "inside jit and remat": (jax.jit(jax.checkpoint(lambda x: jnp.sin(jnp.abs(x)))), 0.0),
    "max pool": (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (1, 1), "VALID").sum(), np.ones((3, 3))),
    "gradient of a max pool": (
        jax.grad(lambda x: (lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "VALID") ** 2).sum()), np.ones(3)),
    "segment max": (lambda x: jax.ops.segment_max(x, np.array([0, 0, 1]), 2).sum(), np.ones(3)),
    "at max": (lambda x: jnp.zeros(1).at[0].max(x), 0.0),
    "angle": (lambda x: jnp.arctan2(x, -1.0), 0.0),
    "cut of a complex root": (lambda x: jnp.sqrt(-1.0 + 1j * x).imag, 0.0),
    "exponent": (lambda x: jnp.frexp(x)[0], 4.0),
    "pole": (lambda x: 1.0 / x, 0.0),
    "interpolation": (lambda x: jnp.interp(x, jnp.arange(5.0), jnp.arange(5.0) ** 2), 2.0),
    "is finite": (lambda x: jnp.isfinite(1e308 * x).astype(float), 1.7976931348623157),
}  # fmt: skip


@pytest.mark.parametrize("name", AT_A_KINK)
def test_no_kink_is_smooth(name):
    f, x = AT_A_KINK[name]
    x = np.asarray(x, float)
    direction = np.cos(1.0 + np.arange(x.size)).reshape(x.shape)
    if name == "is finite":
        direction = direction * 0 + 1.0
    centre, right, left = signatures(f, (x,), (direction,))
    # Rounding hides what a step below the point's own unit would show.
    seen = np.spacing(np.abs(x).max()) < STEPS / 8
    assert np.all(right[seen] != left[seen])
    assert reach(centre, right, left) == 0
    assert differing(f, (x,), (direction,))


def test_the_end_of_a_domain_is_a_tie():
    """sqrt(x^2) decides nothing on either side, and has no slope in between."""
    centre, right, left = signatures(lambda x: jnp.sqrt(x * x), (0.0,), (1.0,))
    assert right[-1] == left[-1] != centre


def _newton(a):
    return lax.while_loop(lambda c: abs(c * c - a) > 1e-10, lambda c: (c + a / c) / 2, a)


SMOOTH_AT = {
    "smooth": (lambda x: jnp.sin(x) * jax.nn.softplus(x) + jnp.tanh(x) ** 3, 0.3),
    "a loop that stops": (_newton, 2.7),
    "max pool": (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "VALID").sum(), np.array([1.0, 3, 2])),
    "solve": (lambda x: jnp.linalg.solve(jnp.eye(3) + 0.1 * x, jnp.ones(3)).sum(), np.cos(np.ones((3, 3)))),
    "dropout": (lambda x: (jax.random.bernoulli(jax.random.key(0), 0.5, (8,)) * x).sum(), 0.3),
    "a fixed mask": (lambda x: jnp.where(jnp.arange(3) < 2, x, -jnp.inf).max(), np.array([1.0, 3.0, 2.0])),
}  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH_AT)
def test_smooth_as_far_as_it_is(name):
    f, x = SMOOTH_AT[name]
    x = np.asarray(x, float)
    assert reach(*signatures(f, (x,), (np.ones_like(x) * 0.5,))) == STEPS[0]


def test_a_kink_at_a_distance_bounds_the_steps():
    centre, right, left = signatures(lambda x: jnp.sum(jax.nn.relu(x)), (np.array([1e-4, 1.0]),), (np.ones(2),))
    assert reach(centre, right, left) == max(s for s in STEPS if s < 1e-4)
    assert np.all(right == centre)


def test_what_does_not_move_is_left_out():
    def f(x, mask):
        return jnp.where(mask > 0.5, x, 0.0).sum() + jnp.sort(mask)[0]

    closed = jax.make_jaxpr(f)(np.ones(3), np.ones(3))
    assert signed.decisions(closed, moving=[True, False])[0] == ()
    assert len(signed.decisions(closed)[0]) == 2
    plain, marked = (len(jax.make_jaxpr(g)(np.ones(3), np.ones(3)).eqns) for g in
                     (jaxpr_as_fun(closed), signed.signed(closed, moving=[True, False])))  # fmt: skip
    assert marked <= plain + 2


def _model(x):
    h = jnp.maximum(x, 0.0)  # the line of the kink
    return jnp.sum(jnp.tanh(h) + jnp.abs(x + 1.0))


def test_a_kink_is_named_by_its_line():
    line = _model.__code__.co_firstlineno + 1
    (name,) = differing(_model, (np.zeros(2),), (np.ones(2),))
    assert name.startswith("`max` at ") and f"test_signed.py:{line}" in name


def test_a_kink_inside_a_library_function_is_named_by_the_call():
    def f(x):
        return jax.nn.relu(x).sum()

    jax.make_jaxpr(f)(np.zeros(2))  # traced before, and somewhere else: the library's own jit knows that line only
    (name,) = differing(lambda x: jnp.sum(jnp.clip(f(x), -1.0, 5.0)), (np.zeros(2),), (np.ones(2),))
    assert "test_signed.py:" in name


def test_signatures_tell_positions_and_order():
    run = jax.jit(signed.signed(jax.make_jaxpr(lambda x: jax.nn.relu(x))(np.ones(64))))
    seen = {int(run(np.where(np.arange(64) == i, -1.0, 1.0))[1]) for i in range(64)}
    seen |= {int(run(np.where(np.arange(64) < i, -1.0, 1.0))[1]) for i in range(64)}
    assert len(seen) == 127  # all distinct but the first negative alone, which is in both
    loop = jax.make_jaxpr(lambda x: lax.scan(lambda c, y: (c + jnp.abs(y), None), 0.0, x)[0])(np.ones(3))
    two = [int(signed.signed(loop)(np.array(x))[1]) for x in ([-1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [1.0, 1.0, -1.0])]
    assert len(set(two)) == 3


def _generated(count):
    """Rates over generated programs: at random points nothing decides at small steps; moved onto a kink it does."""
    reaches, blind, alarms = [], [], []
    for seed in range(count):
        pieces = SMOOTH if seed % 3 == 0 else {**SMOOTH, **KINKED, **FORWARD}
        name, loss, leaves = program(seed, np.float64, pieces)
        rng = np.random.default_rng(1000 + seed)
        direction = [rng.normal(size=x.shape) for x in leaves]
        found = reach(*signatures(loss, leaves, direction))
        reaches.append(found)
        if found == 0:
            alarms.append(name)

        start = sum(float(jnp.sum(x)) for x in leaves)

        def kinked(*leaves, loss=loss, start=start):
            return loss(*leaves) + 0.3 * jnp.abs(sum(jnp.sum(x) for x in leaves) - start)

        # The same program with a kink put where it stands: however small the step, the sides differ.
        _, right, left = signatures(kinked, leaves, direction)
        if np.any((right == left)[:-2]):
            blind.append(name)
    return np.array(reaches), alarms, blind


@pytest.mark.parametrize("count", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_generated_programs(count):
    reaches, alarms, blind = _generated(count)
    print(f"{count} programs: smooth up to {np.median(reaches):.1g} (median), {reaches.min():.1g} (least); "
          f"{len(alarms)} called kinked that are smooth, {len(blind)} the other way round")  # fmt: skip
    assert alarms == [] and blind == []
