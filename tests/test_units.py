"""One flat vector of parameters in mixed units: an error in what the huge or the tiny ones do is an error."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import Verdict
from jaxcheck.evidence import sketch

CURVES = {
    "sin": (np.sin, np.cos, jnp.sin, jnp.cos),
    "square": (np.square, lambda z: 2 * z, jnp.square, lambda z: 2 * z),
    "log": (np.log, lambda z: 1 / z, jnp.log, lambda z: 1 / z),
}
# None is right; the others are what one component of the gradient is multiplied by.
MISTAKES = (None, 1.01, 0.0, -1.0)


def check(rng, witness, mode, dtype, factor, offset=0.0):
    """A loss in which every parameter has its own unit between 1e-8 and 1e8, and does about as much as any other."""
    n = int(rng.choice([2, 3, 8, 30]))
    unit = 10.0 ** rng.uniform(-8, 8, n)
    x = (unit * rng.uniform(0.4, 1.6, n)).astype(dtype)
    c = rng.uniform(0.3, 2, n) * rng.choice([-1, 1], n)
    wrong = np.ones(n)
    if factor is not None:
        wrong[rng.integers(n)] = factor
    curve = str(rng.choice(list(CURVES)))
    on_host, slope_on_host, f, slope = CURVES[curve]

    def grad(x):
        return c / unit * slope(x / unit) * wrong

    with jax.enable_x64(dtype == np.float64):
        if witness == "host":
            with np.errstate(all="ignore"):
                return jc.check_grad(
                    lambda x: float(offset + np.sum(c * on_host(np.asarray(x) / unit))),
                    x,
                    lambda x: c / unit * slope_on_host(np.asarray(x, np.float64) / unit) * wrong,
                    mode=mode,
                )
        if witness == "loop":

            def loss(x):
                z, _ = jax.lax.while_loop(lambda s: s[1] < 1, lambda s: (f(s[0]), s[1] + 1), (x / unit, 0))
                return jnp.sum(c * z)

            return jc.check_grad(loss, jnp.asarray(x), grad, mode=mode)
        return jc.check_grad(lambda x: offset + jnp.sum(c * f(x / unit)), jnp.asarray(x), grad, mode=mode)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("mode", [None, "sketch"])
@pytest.mark.parametrize("witness", ["autodiff", "host", "loop"])
def test_mixed_units(witness, mode, dtype, seed):
    for number, factor in enumerate(MISTAKES):
        report = check(np.random.default_rng([seed, number]), witness, mode, dtype, factor)
        assert report.verdict is (Verdict.PASS if factor is None else Verdict.FAIL), (number, factor, str(report))


@pytest.mark.parametrize("mode", [None, "sketch"])
def test_a_loss_far_from_zero_drowns_no_unit(mode, seed):
    for number, factor in enumerate(MISTAKES):
        report = check(np.random.default_rng([seed, 7, number]), "host", mode, np.float64, factor, offset=1e4)
        assert report.verdict is (Verdict.PASS if factor is None else Verdict.FAIL), (factor, str(report))


@pytest.mark.parametrize("witness", ["autodiff", "host"])
@pytest.mark.parametrize("mode", [None, "sketch"])
@pytest.mark.parametrize("factor", MISTAKES)
def test_a_large_derivative_by_something_small(witness, mode, factor):
    """f = a + b with a of 1e6 and b of 1e-6: equal derivatives, though b does next to nothing."""
    x, wrong = np.array([2e6, 3e-6]), np.array([1.0, 1.0 if factor is None else factor])
    with jax.enable_x64(True):
        if witness == "host":
            report = jc.check_grad(lambda x: float(np.sum(x)), x, lambda x: wrong, mode=mode)
        else:
            report = jc.check_grad(jnp.sum, jnp.asarray(x), lambda x: jnp.asarray(wrong), mode=mode)
    if witness == "host" and mode == "sketch":
        # What b does is 1e-12 of the loss: the differences hardly see it, and that is said.
        assert report.verdict is not (Verdict.FAIL if factor is None else Verdict.PASS), str(report)
    else:
        assert report.verdict is (Verdict.PASS if factor is None else Verdict.FAIL), str(report)


@pytest.mark.parametrize("mode", [None, "sketch"])
def test_a_zero_of_unknown_unit(mode):
    """The zero's unit cannot be seen: its derivative says on what scale to look."""
    unit, x = np.array([1e4, 1e-3]), np.array([1.3e4, 0.0])
    loss = lambda x: float(np.sum(np.sin(np.asarray(x) / unit)))  # noqa: E731
    for factor in (1.0, 1.01, -1.0):
        report = jc.check_grad(loss, x, lambda x: np.cos(x / unit) / unit * [1, factor], mode=mode)  # noqa: B023
        assert report.verdict is (Verdict.PASS if factor == 1 else Verdict.FAIL), str(report)
    # Nothing is claimed and nothing can be seen.
    report = jc.check_grad(loss, x, lambda x: np.cos(x / unit) / unit * [1, 0], mode=mode)
    assert report.verdict is not Verdict.PASS


@pytest.mark.parametrize("factor", MISTAKES)
def test_mixed_units_at_many_points(factor):
    unit, wrong = np.array([1e6, 1.0, 1e-6]), np.array([1.0 if factor is None else factor, 1.0, 1.0])
    points = unit * np.random.default_rng(0).uniform(0.4, 1.6, (4, 3))
    with jax.enable_x64(True):
        report = jc.check_batch(
            lambda x: jnp.sum(jnp.sin(x / unit)), jnp.asarray(points), lambda x: jnp.cos(x / unit) / unit * wrong
        )
    assert report.verdict is (Verdict.PASS if factor is None else Verdict.FAIL), str(report)
    assert len(report.points) == (0 if factor is None else 4)


def test_an_ordinary_leaf_has_one_unit():
    """What is moved, and what an error is relative to, is as in a leaf without units."""
    x = np.random.default_rng(0).normal(size=300)
    assert len(np.unique(sketch.units(x).sizes)) == 1
    assert (sketch.own_scale(x, 1e-2) == sketch.component_scale(x, 1e-2)).all()
    values = np.array([2e6, 0.0, 1e6, 3e-6])
    sizes = sketch.units(values).sizes
    assert sizes[0] == sizes[2] > 1e6 and sizes[1] == sizes[3] == 3e-6
    assert sketch.units(values, zero="largest").sizes[1] > 1e6
    assert (sketch.own_scale(np.zeros(3), 1.0) == 1).all() and sketch.units(np.zeros(0)).sizes.size == 0


def _by_the_word(values, zero):
    """The unit of each component, found one unit after the other."""
    size, out = np.abs(values), np.ones(len(values))
    rest = (size > 0) & np.isfinite(size)
    while rest.any():
        rms = np.sqrt(np.mean(size[rest] ** 2))
        mine = rest & (size >= sketch.SPAN * rms)
        out[mine] = rms
        rest &= ~mine
    shown = out[(size > 0) & np.isfinite(size)]
    if shown.size:
        out[size == 0] = shown.min() if zero == "smallest" else shown.max()
    return out


@pytest.mark.parametrize("zero", ["smallest", "largest"])
@pytest.mark.parametrize("length", [7, 3000, 1 << 17])
def test_what_rounding_is_relative_to_is_as_defined(length, zero, seed):
    """Of many units as of one, of long leaves as of short ones; and where the smallest unit has most of the squares."""
    rng = np.random.default_rng(seed)
    for spread, holes, steep in ((0, 0.0, 0.0), (1, 0.0, 1.0), (6, 0.2, 1.0), (6, 0.1, -1.0), (12, 0.3, 2.0)):
        values = rng.normal(size=length) * 10.0 ** -rng.integers(0, spread + 1, length).astype(float)
        values[rng.random(length) < holes] = 0.0
        sizes, found = _by_the_word(values, zero), sketch.units(values, zero)
        np.testing.assert_allclose(found.sizes, sizes, rtol=1e-12)
        g = rng.normal(size=(2, length)) / np.maximum(sizes, 1e-300) ** steep
        rms = np.sqrt(np.mean(g**2, axis=1))
        by_unit = np.array([s * np.sqrt(np.mean(g[:, sizes == s] ** 2, axis=1)) for s in np.unique(sizes)])
        wanted = np.minimum(rms[:, None], by_unit.max(axis=0)[:, None] / sizes)
        np.testing.assert_allclose(sketch.typical(g, found), wanted, rtol=1e-9)


def test_units_do_not_change_the_verdict():
    """The same loss in other units: powers of two leave every digit as it is."""
    rng = np.random.default_rng(3)
    x, factor = rng.normal(size=6), 2.0 ** np.array([-20, 20, 0, 13, -26, 3])
    for wrong in (1.0, 1 + 1e-4):
        verdicts = set()
        for unit in (np.ones(6), factor):
            report = jc.check_grad(
                lambda x, u: float(np.sum(np.sin(np.asarray(x) / u))),
                x * unit,
                lambda x, u: np.cos(x / u) / u * np.array([wrong, 1, 1, 1, 1, 1]),  # noqa: B023
                args=(unit,),
            )
            verdicts.add(report.verdict)
        assert verdicts == {Verdict.PASS if wrong == 1 else Verdict.FAIL}


def test_many_points_at_once_are_as_each_alone(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(40, 6)) * 10.0 ** rng.choice([-8, 0, 6], (40, 1))
    points[5:10, :3] *= 1e-9  # two units
    points[10:15, 2] = 0.0
    points[15], points[16, 0], points[17, 0] = 0.0, np.nan, np.inf
    points[18, 1:] = 0.0
    scales, mixed = sketch.own_scales(points)
    for x, scale, several in zip(points, scales, mixed, strict=True):
        np.testing.assert_allclose(scale, sketch.own_scale(x, 1.0), rtol=1e-14)
        assert several == (len(sketch.units(x).levels) > 1)
    assert mixed.any() and not mixed.all()
