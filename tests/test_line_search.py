"""Descent with a step that is halved until it is short enough: that search counts, and comes to no limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.program import interpret
from jaxcheck.program.converge import run_on, stops_at_tolerance
from jaxcheck.program.run.compile import Program

RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(12, 3)), RNG.normal(size=12)


def objective(w, weight):
    return jnp.mean((X @ w - Y) ** 2) + weight * jnp.sum(w**2) / 2


def descended(weight, tolerance):
    slope = jax.grad(objective)

    def shortened(w):
        here, g = objective(w, weight), slope(w, weight)

        def too_long(state):
            step, found = state
            return objective(found, weight) > here - step * jnp.sum(g**2) / 2

        return jax.lax.while_loop(too_long, lambda s: (s[0] / 2, w - s[0] / 2 * g), (4.0, w - 4.0 * g))[1]

    def turn(state):
        return shortened(state[0]), state[0]

    start = jnp.zeros(3), jnp.ones(3)
    return jax.lax.while_loop(lambda s: jnp.linalg.norm(s[0] - s[1]) > tolerance, turn, start)[0]


def solver(factor):
    """With the implicit rule, times a factor."""

    @jax.custom_vjp
    def solve(weight):
        return descended(weight, 1e-3)

    def back(kept, ct):
        w, weight = kept
        hessian = jax.hessian(objective)(w, weight)
        return (-factor * jnp.linalg.solve(hessian, ct) @ w,)

    solve.defvjp(lambda weight: (solve(weight), (solve(weight), weight)), back)
    return solve


def test_the_search_for_the_step_is_no_iteration():
    program = jax.make_jaxpr(lambda weight: descended(weight, 1e-3))(0.4)
    loops = [eqn for eqn, _ in interpret.walk(program) if eqn.primitive.name == "while"]
    assert sorted(map(stops_at_tolerance, loops)) == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.0, 1.01, pytest.param(-1.0, marks=pytest.mark.slow)])
def test_the_implicit_rule_is_judged_at_the_limit(factor):
    report = jc.check_grad(lambda weight: jnp.sum(solver(factor)(weight) * jnp.array([1.0, 2.0, 3.0])), 0.4)
    if factor == 1:
        assert report.ok and report.reason is jc.Reason.CONVERGED, report
    else:
        assert report.verdict is jc.Verdict.FAIL, report


def newton(a):
    """(the root of x^3 + x = a to 1e-2, turns left): a step that gains nothing is halved, which at rest has no end."""

    def residual(x):
        return x**3 + x - a

    def turn(carry):
        x, step, _, left = carry
        new = x - step * residual(x) / (3 * x**2 + 1)
        better = jnp.abs(residual(new)) < jnp.abs(residual(x))
        x = jnp.where(better, new, x)
        return x, jnp.where(better, step, step / 2), jnp.abs(residual(x)) > 1e-2, left - 1

    start = jnp.zeros_like(a), jnp.ones_like(a), jnp.array(True), jnp.int32(9)
    x, _, _, left = jax.lax.while_loop(lambda c: c[2], turn, start)
    return x, left


def test_a_step_that_is_halved_at_rest_is_no_lack_of_a_limit():
    with jax.enable_x64(True):
        a = np.float64(0.8)
        closed = jax.make_jaxpr(newton)(a)
        (stopped, left), (x, after) = jax.jit(newton)(a), run_on(Program.of(closed))(a)
        assert abs(stopped**3 + stopped - a) > 1e-8 and abs(x**3 + x - a) < 1e-12
        assert after == left > 0  # turns are counted as the program counts them
