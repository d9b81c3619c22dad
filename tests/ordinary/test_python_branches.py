"""Functions that decide in Python by their values, as JAX's own check_grads takes them: `if`, `while`, an index."""

import warnings

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.program import decided
from jaxcheck.test_util import check_grads


def rule(scale, kind):
    """x -> x**3, its derivative `scale` times what it should be."""
    if kind == "jvp":
        cube = jax.custom_jvp(lambda x: x * x * x)
        cube.defjvp(lambda p, t: (p[0] ** 3, scale * 3 * p[0] ** 2 * t[0]))
    else:
        cube = jax.custom_vjp(lambda x: x * x * x)
        cube.defvjp(lambda x: (x**3, x), lambda x, g: (scale * 3 * x**2 * g,))
    return cube


def branch(x, of=jnp.sin):
    if x[0] > 0:
        return of(x)
    return x**2 * jnp.ones(2)[:, None]


def halved(x):
    while (jnp.abs(x) > 0.3).any():
        x = x / 2
    return x**2


def chosen(x):
    return jnp.cos(x[int(jnp.argmax(x))]) * x


def array(x):
    return jnp.asarray(x)  # NumPy's arrays have no `at`, and JAX's check_grads hands over these


def replaced(x):
    chosen = array(x) > 0.7
    return jnp.where(chosen.all(), 0.0, array(x).at[chosen].set(jnp.asarray(0.0)))


FUNCTIONS = {
    "if": branch,
    "while": halved,
    "index": chosen,
    "under norm": lambda x: branch(x) / jnp.linalg.norm(x),
    "mask": lambda x: array(x)[array(x) > 0.7] ** 2,
    "mask by NumPy": lambda x: array(x)[np.nonzero(np.asarray(x > 0.7))[0]] ** 2,
    "places": lambda x: array(x)[jnp.nonzero(x > 0.7)[0]] ** 2,
    "in place": replaced,
    "biggest": lambda x: max(array(x)) * x,
    "item": lambda x: jnp.sin(x) if jnp.sum(x).item() > 0 else x,
}
POINTS = [np.asarray([0.5, 1.0, 2.0]), np.asarray([-0.5, 1.0, 2.0])]


@pytest.mark.parametrize("make", [np.float32, np.float64, jnp.float32])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_without_a_rule_pass(name, make):
    for order, x in enumerate(POINTS, 1):
        check_grads(FUNCTIONS[name], (make(x),), order)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_so_they_do_in_check_rule(name):
    x = np.float32(POINTS[0])
    jax.test_util.check_grads(FUNCTIONS[name], (x,), 2, atol=0.1, rtol=0.1)
    report = jc.check_rule(FUNCTIONS[name], x, transforms=name in ("if", "mask"))
    assert report.verdict is jc.Verdict.PASS and decided.NOTE in report.notes, str(report)


@pytest.mark.parametrize("kind", ["jvp", "vjp"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_rule_in_the_branch_that_is_taken_is_judged(kind, dtype):
    taken, other = (np.asarray(x, dtype) for x in POINTS)
    modes = ["rev"] if kind == "vjp" else ["fwd", "rev"]
    for scale in (1.0, 1.001):
        cube = rule(scale, kind)

        def f(x, of=cube):
            return branch(x, of)

        if scale == 1.0:
            check_grads(f, (taken,), 1, modes)
            assert jc.check_rule(f, taken, transforms=False).verdict is jc.Verdict.PASS
        else:
            with pytest.raises(jc.GradientMismatch):
                check_grads(f, (taken,), 1, modes)
            assert jc.check_rule(f, taken, transforms=False).verdict is jc.Verdict.FAIL
        check_grads(f, (other,), 1, modes)  # there the rule is not called


def test_it_decides_by_the_numbers_that_it_is_given_and_by_no_others():
    def f(x, scale, n):
        return x * scale if x > 0 and n == 2 else -x

    for x in (1.0, -1.0):
        along = decided.of(f, (x, 3.0), {"n": 2})
        assert along is not f
        assert jax.grad(along)(x, 3.0, n=2) == jax.grad(f)(x, 3.0, n=2) == (3.0 if x > 0 else -1.0)


def test_a_loop_that_ends_by_its_values_with_a_rule_is_refused():
    cube = rule(1.0, "jvp")

    def f(x):
        while (jnp.abs(x) > 1e-3).any():
            x = cube(x) / 2
        return x

    with pytest.raises(jax.errors.TracerBoolConversionError) as caught:
        check_grads(f, (np.asarray([0.5, 0.6], np.float32),), 1)
    assert any("jnp.where" in note for note in caught.value.__notes__)


ITEMS = {
    "biggest": lambda cube: lambda x: cube(x) * max(x),
    "mask": lambda cube: lambda x: cube(x)[x > 0.7],
    "places": lambda cube: lambda x: cube(x[jnp.nonzero(x > 0.7)[0]]),
    "item by item": lambda cube: lambda x: sum(cube(v) for v in x if v > 0.7),
    "sorted": lambda cube: lambda x: cube(jnp.stack(sorted(x))),
}


@pytest.mark.parametrize("kind", ["jvp", "vjp"])
@pytest.mark.parametrize("name", ITEMS)
def test_asking_item_by_item_is_no_loop(name, kind):
    x = jnp.asarray([0.5, 1.0, 2.0, 0.9])
    assert jc.check_rule(ITEMS[name](rule(1.0, kind)), x, transforms=False).verdict is jc.Verdict.PASS
    assert jc.check_rule(ITEMS[name](rule(1.001, kind)), x, transforms=False).verdict is jc.Verdict.FAIL
    with pytest.raises(AssertionError):
        check_grads(ITEMS[name](rule(1.001, kind)), (x,), 1, modes=["rev"])


def test_a_mask_that_lets_other_entries_through_next_to_these_is_said_to():
    report = jc.check_rule(lambda x: x[x >= 0.75] ** 2, jnp.asarray([0.5, 0.75, 2.0]), transforms=False)
    assert decided.ONE_SIDE in report.notes


LEAVING = {
    "item": lambda x: x / jnp.linalg.norm(x).item(),
    "of a branch": lambda x: x * x.max().item() if x[0] > 0 else x,
    "unique": lambda x: jnp.unique(x) ** 2,
}


@pytest.mark.parametrize("name", LEAVING)
def test_a_float_that_goes_through_python_has_no_derivative(name):
    """JAX takes it for a constant, and so does every trace: nothing but the function itself knows better."""
    for check in (jc.check_rule, lambda f, x: check_grads(f, (x,), 1)):
        with pytest.raises(jax.errors.ConcretizationTypeError):
            check(LEAVING[name], jnp.asarray([0.5, 1.0, 2.0]))


def test_what_draws_numbers_of_its_own_is_not_taken_for_what_it_drew():
    rng = np.random.default_rng(0)

    def dropout(x):
        return x * rng.binomial(1, 0.5, x.shape) if x[0] > 0 else x

    x = jnp.linspace(0.5, 2.0, 40)
    report = jc.check_rule(dropout, x, transforms=False)
    assert (report.verdict, report.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.NONDETERMINISTIC)
    with pytest.raises(jc.GradientInconclusive):
        check_grads(dropout, (x,), 1)


def test_what_goes_to_numpy_is_refused():
    with pytest.raises(jax.errors.TracerArrayConversionError):
        check_grads(lambda x: jnp.sum(np.sin(x) * x), (jnp.ones(2),), 1)


@pytest.mark.parametrize("x", [0.0, 0.5])
@pytest.mark.parametrize("make", [np.float32, np.float64, float])
def test_one_side_of_a_kink_is_said_to_be_one(x, make):
    def f(x):
        return x if x > 0 else 3 * x

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        check_grads(f, (make(x),), 1)
    assert [decided.ONE_SIDE in str(w.message) for w in told] == ([True] if x == 0.0 else [])
    notes = jc.check_rule(f, make(x), transforms=False).notes
    assert (decided.ONE_SIDE if x == 0.0 else decided.NOTE) in notes
