"""Loops that stop at a tolerance: nothing is waived, and what is right at the limit is told from what is wrong."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcheck as jc
from jaxcheck import Reason, Verdict
from jaxcheck.check.laws.algebra import laws
from jaxcheck.program.converge import SHORT, is_decided_by, iterates, run_on
from jaxcheck.program.run.compile import Program
from jaxcheck.test_util import check_grads
from tests.solvers import MOST, SOLVERS, WRONG, draws, newton, until_still

TOLERANCES = (1e-3, 1e-6, 1e-12)
SPARSE = {name: getattr(jax.scipy.sparse.linalg, name) for name in ("cg", "bicgstab")}


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


def rule(f, args, **more):
    return jc.check_rule(f, *args, algebra=False, transforms=False, where=False, **more)


# What runs on.


def cosine(a, tol=1e-3):
    return until_still(lambda z: jnp.cos(a * z), a, tol)


def limit(a):
    return until_still(lambda z: jnp.cos(a * z), a, 1e-16)


def _ruled(f):
    found = jax.custom_jvp(f)
    found.defjvp(lambda x, t: (f(x[0]), t[0]))
    return found


NESTED = {
    "plain": lambda f, a: f(a), "jit": lambda f, a: jax.jit(f)(a),
    "vmap": lambda f, a: jax.vmap(f)(a * np.linspace(0.5, 1, 3)).sum(),
    "vmap of vmap": lambda f, a: jax.vmap(jax.vmap(f))(a * np.linspace(0.5, 1, 6).reshape(2, 3)).sum(),
    "scan": lambda f, a: lax.scan(lambda c, x: (f(c * x), c), a, jnp.array([0.9, 1.1]))[0],
    "cond": lambda f, a: lax.cond(a > 0, f, jnp.sin, a), "remat": lambda f, a: jax.checkpoint(f)(a),
    "rule": lambda f, a: _ruled(f)(a), "loop": lambda f, a: lax.fori_loop(0, 3, lambda i, x: f(x), a),
    "tangent": lambda f, a: jax.jvp(f, (a,), (1.0,))[1],
}  # fmt: skip


def on(f, *args, patience=None):
    program = Program.of(jax.make_jaxpr(f)(*args))
    program = run_on(program) if patience is None else run_on(program, patience)
    return np.asarray(jax.jit(program.bind(program.closed.consts))(*args)[0])


@pytest.mark.parametrize("name", NESTED)
def test_a_loop_is_run_on_to_its_limit_wherever_it_stands(name):
    a = jnp.asarray(0.9)
    wanted = NESTED[name](limit, a)
    assert abs(NESTED[name](cosine, a) - wanted) > 1e-5 * abs(wanted)
    np.testing.assert_allclose(on(lambda a: NESTED[name](cosine, a), a), wanted, rtol=1e-13)


def _jump(x):  # past its root a secant method divides 0 by 0
    def body(c):
        old, new = c
        f, g = old**3 - x, new**3 - x
        return new, new - g * (new - old) / (g - f)

    return lax.while_loop(lambda c: jnp.abs(c[1] - c[0]) > 1e-6, body, (x, x + 0.1))[1]


def test_a_method_that_leaves_the_rails_past_its_limit_is_held_there():
    np.testing.assert_allclose(on(_jump, jnp.asarray(2.0)), 2 ** (1 / 3), rtol=1e-14)


COUNTED = {
    "for": lambda x: lax.fori_loop(0, jnp.int32(x * 0) + 5, lambda i, c: jnp.cos(c), x),
    "jitted body": lambda x: lax.while_loop(
        lambda c: c[0] < 5, jax.jit(lambda c: (c[0] + 1, jnp.cos(c[1]))), (0, x))[1],
    "count alone is used": lambda x: x * lax.while_loop(
        lambda c: c[1] > 1e-3, lambda c: (c[0] + 1, c[1] / 2), (0, x))[0],
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTED)
def test_a_loop_that_counts_is_left_alone(name):
    program = jax.make_jaxpr(COUNTED[name])(1.0)
    assert not iterates(program)
    assert on(COUNTED[name], 1.0) == COUNTED[name](1.0)


def test_a_flag_that_floats_set_ends_a_loop_as_well():
    def f(a):
        def body(c):
            z, _ = c
            new = jnp.cos(a * z)
            return new, jnp.abs(new - z) < 1e-3

        return lax.while_loop(lambda c: ~c[1], body, (a, False))[0]

    np.testing.assert_allclose(on(f, jnp.asarray(0.9)), limit(jnp.asarray(0.9)), rtol=1e-13)


# Rules at the limit.


@pytest.mark.parametrize(
    "tol", [pytest.param(t, marks=[] if k == 1 else pytest.mark.slow) for k, t in enumerate(TOLERANCES)]
)
@pytest.mark.parametrize("name", SOLVERS)
def test_an_implicit_rule_is_right_at_the_limit(name, tol):
    f, args = SOLVERS[name](tol, "float64")
    report = rule(f, args)
    assert report.verdict is Verdict.PASS, report
    for leaf in report.leaves:
        assert leaf.reason in (Reason.AGREE, Reason.CONVERGED, Reason.AUTODIFF_DIFFERS)
        assert leaf.floor <= 1e-6  # nothing was waived
        assert (leaf.reason is Reason.CONVERGED) <= ("as stopped it differs by" in leaf.note)


@pytest.mark.parametrize("name", SOLVERS)
def test_and_in_float32(name):
    with jax.enable_x64(False):
        f, args = SOLVERS[name](1e-4, "float32")
        assert rule(f, args).verdict is Verdict.PASS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("equilibrium", wrong) for wrong in WRONG),
        *((name, "5e-6") for name in SOLVERS if name != "equilibrium"),
        ("power", "missing term"),
        ("sinkhorn", "missing term"),
        ("newton", "1e-4"),
        ("conjugate", "missing term"),
    ],
)
def test_a_wrong_rule_is_wrong_at_the_limit_too(name, wrong):
    f, args = SOLVERS[name](1e-3, "float64", wrong)
    report = rule(f, args)
    assert report.verdict is Verdict.FAIL
    assert report.leaves[0].verdict is Verdict.FAIL
    assert all(leaf.verdict is Verdict.PASS for leaf in report.leaves[1:])


@pytest.mark.slow
def test_both_numbers_are_told():
    f, args = SOLVERS["equilibrium"](1e-3, "float64")
    report = rule(f, args)
    assert report.reason is Reason.CONVERGED
    note = report.leaves[0].note
    assert "right at the loop's limit (to " in note
    stopped = float(note.rsplit(" ", 1)[1])
    assert 1e-4 < stopped < 1e-2
    assert report.leaves[0].difference < 1e-9


def test_a_derivative_of_the_loop_as_stopped_agrees():
    """The same number of steps, differentiated one by one."""

    def count(a):
        return lax.while_loop(
            lambda c: jnp.abs(c[1] - c[0]) > 1e-3, lambda c: (c[1], jnp.cos(a * c[1]), c[2] + 1), (a, jnp.cos(a * a), 1)
        )[2]

    f = jax.custom_jvp(lambda a: cosine(a))

    @f.defjvp
    def _(primals, tangents):
        (a,), (t,) = primals, tangents
        steps = lax.fori_loop(0, count(a), lambda i, c: (jnp.cos(a * c[0]), -jnp.sin(a * c[0]) * (
            a * c[1] + c[0] * t)), (a, t))  # fmt: skip
        return cosine(a), steps[1]

    a = jnp.asarray(0.9)
    assert abs(jax.jvp(f, (a,), (1.0,))[1] - jax.jvp(limit, (a,), (1.0,))[1]) > 1e-4
    check_grads(f, (a,), order=1, modes=["fwd"])


@pytest.mark.slow
def test_a_leaf_that_no_loop_feeds_is_not_excused():
    """One float loop in the program, and another leaf off by 5e-6."""

    def loss(p):
        return jnp.sum(jnp.sin(p["x"]) ** 2) + newton(1e-3, "float64")[0](p["a"], 1.3).sum()

    def grad(p):
        g = jax.grad(loss)(p)
        return {"x": g["x"] * (1 + 5e-6), "a": g["a"]}

    p = {"a": draws(1, "float64", 3), "x": draws(2, "float64", 4)}
    report = jc.check_grad(loss, p, grad)
    assert [(leaf.path, leaf.verdict) for leaf in report.leaves] == [
        ("a", Verdict.PASS), ("x", Verdict.FAIL)]  # fmt: skip


def test_a_backward_loop_that_stops_too_early_is_told():
    W, b = 0.5 * draws(3, "float64", 4, 4) / 2, draws(4, "float64", 4)

    @jax.custom_vjp
    def f(b):
        return until_still(lambda z: jnp.tanh(W @ z + b), jnp.zeros_like(b), 1e-12)

    def back(z, g):
        s = 1 - z**2
        return (s * until_still(lambda u: W.T @ (s * u) + g, g, 0.2),)

    f.defvjp(lambda b: (f(b), f(b)), back)
    report = rule(f, (b,))
    assert report.verdict is Verdict.FAIL
    assert "stops too early" in report.leaves[0].note


@pytest.mark.slow
def test_going_on_is_no_excuse_where_there_is_no_limit():
    """A loop over time: run on, it is somewhere else."""

    def end(a):
        return lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 0.1, c[1] * (1 - 0.1 * a)), (0.0, 1.0))[1]

    f = jax.custom_vjp(end)
    for factor, verdict in ((1.0, Verdict.PASS), (1.0001, Verdict.FAIL), (-1.0, Verdict.FAIL)):
        f.defvjp(lambda a: (end(a), a), lambda a, g, factor=factor: (
            factor * g * jax.jvp(end, (a,), (1.0,))[1],))  # fmt: skip
        assert rule(f, (jnp.asarray(0.7),)).verdict is verdict


def test_a_loop_that_creeps_is_known_as_far_as_it_still_moves():
    """Hundreds of steps per digit."""

    @jax.custom_vjp
    def f(a):
        return until_still(lambda z: z - 0.002 * (z * z - a), jnp.ones_like(a), 1e-4)

    f.defvjp(lambda a: (f(a), a), lambda a, g: (g / (2 * jnp.sqrt(a)),))
    report = rule(f, (jnp.asarray(2.0),))
    assert report.verdict is not Verdict.FAIL


# The laws of a rule.


@pytest.mark.parametrize("name", ["equilibrium", "conjugate"])
def test_laws_hold_at_the_limit(name):
    """The backward loop stops elsewhere for another cotangent; the plain loop's derivative is not the rule's."""
    f, args = SOLVERS[name](1e-3, "float64")
    found = {row.name: row for row in laws(f, args, argnums=tuple(range(len(args))))}
    assert {row.status for row in found.values()} <= {"OK", "UNSUPPORTED"}
    assert "as stopped it is off by" in found["adjointness"].detail


@pytest.mark.parametrize(("wrong", "law"), [("1e-4", "adjointness"), ("sign", "adjointness"), ("square", "linear in")])
def test_a_broken_law_is_broken_at_the_limit(wrong, law):
    f, args = SOLVERS["equilibrium"](1e-3, "float64", wrong)
    found = laws(f, args, argnums=(0, 1))
    assert any(row.status == "WRONG" for row in found if row.name.startswith(law))


# JAX's own solvers.


MATRIX = np.cov(np.random.default_rng(0).normal(size=(4, 20))) + 0.3 * np.eye(4)
RIGHT = np.arange(1, 5.0)


def _solved(solver, tol):
    return lambda p: jnp.sum(jnp.sin(solver(lambda v: p["A"] @ v, p["b"], tol=tol)[0]))


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 1.0001])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n == "cg" else pytest.mark.slow) for n in SPARSE])
def test_sparse_solvers_of_jax(name, factor):
    def grad(p):
        x = jnp.linalg.solve(p["A"], p["b"])
        u = jnp.linalg.solve(p["A"].T, jnp.cos(x))
        return {"A": -factor * jnp.outer(u, x), "b": u}

    p = {"A": jnp.asarray(MATRIX), "b": jnp.asarray(RIGHT)}
    report = jc.check_grad(_solved(SPARSE[name], 1e-3), p, grad)
    assert report.verdict is (Verdict.PASS if factor == 1 else Verdict.FAIL)
    if factor == 1:
        assert jc.check_grad(_solved(SPARSE[name], 1e-3), p).verdict is Verdict.PASS


def _root(a, tol=1e-3):
    def solve(f, x):
        def body(c):
            x, _ = c
            d = f(x) / jax.grad(f)(x)
            return x - d, jnp.abs(d)

        return lax.while_loop(lambda c: c[1] > tol, body, (x, jnp.asarray(jnp.inf)))[0]

    return lax.custom_root(lambda x: x**3 + x - a, jnp.asarray(1.0), solve, lambda g, y: y / g(1.0))


def _linear(b, tol=1e-3):
    def solve(matvec, b):
        return until_still(lambda x: x + 0.5 * (b - matvec(x)), jnp.zeros_like(b), tol)

    return lax.custom_linear_solve(lambda x: MATRIX @ x, b * RIGHT, solve, symmetric=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::jaxcheck.GradientCheckWarning")
@pytest.mark.parametrize("f", [_root, pytest.param(_linear, marks=pytest.mark.slow)])
def test_roots_and_linear_solves_of_jax(f):
    check_grads(f, (jnp.asarray(0.7),), order=2)
    assert rule(f, (jnp.asarray(0.7),)).verdict is Verdict.PASS


@pytest.mark.slow
def test_the_drop_in_says_that_it_holds_at_the_limit():
    f, args = SOLVERS["equilibrium"](1e-3, "float64")
    with pytest.warns(jc.GradientCheckWarning, match="right at the loop's limit"):
        check_grads(f, args, order=1, modes=["rev"])
    f, args = SOLVERS["equilibrium"](1e-3, "float64", "5e-6")
    with pytest.raises(AssertionError):
        check_grads(f, args, order=1, modes=["rev"])


@pytest.mark.slow
def test_it_stays_a_warning_where_all_are_errors():
    f, args = SOLVERS["equilibrium"](1e-3, "float64")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="another one")
        check_grads(f, args, order=1, modes=["rev"])
    assert "right at the loop's limit" in str(said[-1].message)


def test_short_and_long_differ_where_a_loop_creeps():
    a = jnp.asarray(2.0)

    def f(a):
        return until_still(lambda z: z - 0.002 * (z * z - a), jnp.ones_like(a), 1e-3)

    ends = [abs(float(x) - 2**0.5) for x in (f(a), on(f, a, patience=SHORT), on(f, a))]
    assert ends[0] > ends[1] > ends[2]


def bisection(shape_of, ends, k=1.0):
    """The root of a, between 0 and 2, whose brackets are dyadic numbers: nothing in them is made from a."""

    def step(c, a):
        low, high = c
        middle = (low + high) / 2
        return jnp.where(middle * middle < a, middle, low), jnp.where(middle * middle < a, high, middle)

    def forward(a):
        low, high = lax.while_loop(
            lambda c: jnp.max(c[1] - c[0]) > 1e-6, lambda c: step(c, a), (jnp.zeros_like(a), 2 + 0 * a)
        )
        return {"low": low, "middle": (low + high) / 2}[ends]

    f = jax.custom_vjp(forward)
    f.defvjp(lambda a: (lambda y: (y, y))(forward(a)), lambda y, g: (k * g / (2 * y),))
    return f, jnp.broadcast_to(jnp.float32(0.5), shape_of) + 0.1 * jnp.arange(
        np.prod(shape_of, dtype=int), dtype=jnp.float32
    ).reshape(shape_of)


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["low", "middle"])
@pytest.mark.parametrize("shape_of", [(), pytest.param((3,), marks=pytest.mark.slow)])
def test_a_bisection_is_judged_at_its_root(shape_of, ends):
    """Autodiff says 0 there, and one end may stand still while the other closes in."""
    f, a = bisection(shape_of, ends)
    report = jc.check_rule(f, a, transforms=False)
    assert report.verdict is Verdict.PASS and report.reason is Reason.CONVERGED
    assert next(r for r in report.rows if r.name == "adjointness").status == "UNSUPPORTED"
    assert rule(bisection(shape_of, ends, 1.01)[0], (a,)).verdict is Verdict.FAIL


def integrated(p, tol=1e-7):
    """y(1) of y' = -p y, y(0) = 1, by Heun's method with steps that adapt: time has no limit to be run on to."""

    def going(c):
        return (c[0] < 1.0) & (c[2] > 0) & (c[3] < MOST)

    def body(c):
        t, y, h, k = c
        h = jnp.minimum(h, 1.0 - t)
        euler = y - h * p * y
        heun = y - h * p * (y + euler) / 2
        error = jnp.max(jnp.abs(heun - euler))
        good = error <= tol**0.5
        wider = h * jnp.clip(0.9 * jnp.sqrt(tol**0.5 / (error + 1e-300)), 0.2, 10.0)
        return jnp.where(good, t + h, t), jnp.where(good, heun, y), wider, k + 1

    return lax.while_loop(going, body, (jnp.zeros(()), jnp.ones_like(p), jnp.asarray(1e-3), 0))[1]


@pytest.mark.slow
def test_a_wrong_gradient_through_an_integrator_is_wrong():
    """Run on past its end, an integrator says anything: that is no excuse, nor a witness."""
    p = jnp.asarray([0.3, 0.7])
    report = jc.check_grad(lambda p: jnp.sum(integrated(p)), p, lambda p: -1.05 * jnp.exp(-p))
    assert report.verdict is Verdict.FAIL
    near = jc.check_grad(lambda p: jnp.sum(integrated(p)), p, jax.jacfwd(lambda p: jnp.sum(integrated(p))))
    assert near.verdict is not Verdict.FAIL


def test_whether_a_loop_is_decided_by_an_input():
    def f(x, g):
        return newton_root(x) * g, lax.while_loop(lambda c: jnp.abs(c) > 1e-3, lambda c: c / 3, g)

    def newton_root(x):
        return lax.while_loop(lambda c: jnp.abs(c * c - x) > 1e-9, lambda c: (c + x / c) / 2, 1.0 + x)

    both = jax.make_jaxpr(jax.jit(f))(2.0, 1.0)
    one = jax.make_jaxpr(jax.jit(lambda x, g: newton_root(x) * g))(2.0, 1.0)
    assert is_decided_by(both, [0]) and is_decided_by(both, [1])
    assert is_decided_by(one, [0]) and not is_decided_by(one, [1])


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_an_implicit_rule_that_solves_on_its_way_back(factor):
    """A linear solve takes more than the one program in it does."""
    m = draws(0, np.float64, 3, 3) / 4

    def forward(a):
        return until_still(lambda x: jnp.tanh(m @ x + a), jnp.zeros_like(a), 1e-10)

    def back(x, g):
        slope = 1 - x**2
        return (factor * slope * jnp.linalg.solve(jnp.eye(3) - (slope[:, None] * m).T, g),)

    f = jax.custom_vjp(forward)
    f.defvjp(lambda a: (lambda x: (x, x))(forward(a)), back)
    report = jc.check_rule(f, draws(1, np.float64, 3), transforms=False)
    assert report.verdict is (Verdict.PASS if factor == 1 else Verdict.FAIL)


@pytest.mark.slow
def test_a_bisection_of_so_many_steps():
    """Autodiff says 0 of it: adjointness to that is no law."""

    def forward(a):
        def step(_, c):
            middle = (c[0] + c[1]) / 2
            return jnp.where(middle**2 < a, middle, c[0]), jnp.where(middle**2 < a, c[1], middle)

        return lax.fori_loop(0, 60, step, (jnp.zeros_like(a), 2 + 0 * a))[0]

    for factor, verdict in ((1.0, Verdict.PASS), (1.01, Verdict.FAIL)):
        f = jax.custom_vjp(forward)
        f.defvjp(lambda a: (lambda y: (y, y))(forward(a)), lambda y, g, k=factor: (k * g / (2 * y),))
        assert jc.check_rule(f, jnp.asarray([0.5, 0.7]), transforms=False).verdict is verdict
