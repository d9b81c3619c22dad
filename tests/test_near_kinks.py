"""A kink beside the point excuses nobody, and a function that lives below the steps accuses nobody."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.evidence.differences import Ladder, slopes
from jaxcheck.program.custom.census import has_stop_gradient
from jaxcheck.test_util import check_grads


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def f(x):
    return jnp.sum(3 * jnp.abs(x - 1) + x**2)


def taking(slope, within):
    """A gradient of f that takes `slope` for that of the absolute value near its kink."""
    return lambda x: 3 * jnp.where(jnp.abs(x - 1) < within, slope, jnp.sign(x - 1)) + 2 * x


def at(distance):
    return jnp.asarray(1 + np.array([distance, 0.3, -0.7]))


@pytest.mark.parametrize("distance", [1e-7, 1e-9, 1e-12])
def test_the_other_slope_of_a_kink_beside_the_point_is_wrong(distance):
    for slope in (0.0, -1.0):
        report = jc.check_grad(f, at(distance), grad=taking(slope, 2 * distance))
        assert report.verdict == jc.Verdict.FAIL and report.reason == jc.Reason.MANUAL_WRONG
        assert report.leaves[0].worst[0].index == (0,)
    report = jc.check_grad(f, at(distance), grad=taking(1.0, 2 * distance))
    assert report.verdict == jc.Verdict.PASS and report.reason == jc.Reason.AGREE


def test_at_the_kink_every_slope_between_is_right():
    for slope in (-1.0, 0.0, 0.5):
        assert jc.check_grad(f, at(0.0), grad=taking(slope, 1e-9)).reason == jc.Reason.KINK
    assert jc.check_grad(f, at(0.0), grad=taking(1.5, 1e-9)).verdict == jc.Verdict.FAIL


@pytest.mark.parametrize("modes", [["rev"], ["fwd"]])
def test_beside_a_kink_with_the_drop_in(modes):
    def rule(slope, within):
        @jax.custom_vjp if modes == ["rev"] else jax.custom_jvp
        def g(x):
            return 3 * jnp.abs(x - 1) + x**2

        if modes == ["rev"]:
            g.defvjp(lambda x: (g(x), x), lambda x, ct: (ct * taking(slope, within)(x),))
        else:
            g.defjvp(lambda p, t: (g(*p), taking(slope, within)(p[0]) * t[0]))
        return g

    check_grads(rule(1.0, 1e-8), (at(1e-9),), 1, modes)
    with pytest.raises(AssertionError):
        check_grads(rule(0.0, 1e-8), (at(1e-9),), 1, modes)


def test_beside_a_kink_in_a_batch():
    points = jnp.stack([at(1e-9) + s for s in (0.0, 0.3, 0.4)])
    assert jc.check_batch(f, points, grad=taking(0.0, 1e-8)).points_failed == 1
    assert jc.check_batch(f, points, grad=taking(1.0, 1e-8)).points_failed == 0


def matrix(n, condition, seed):
    rng = np.random.RandomState(seed)
    u, v = (np.linalg.qr(rng.randn(n, n))[0] for _ in range(2))
    return (u * np.r_[np.linspace(1, 0.3, n - 1), 1 / condition]) @ v, rng.randn(n), rng.randn(n)


def test_a_truncated_inverse_is_wrong_at_an_invertible_matrix():
    """Its differences see a pole 1e-10 from the point, which looks like a kink."""
    a, b, w = matrix(6, 1e10, 0)

    def truncated(a):
        p = jnp.linalg.pinv(a, rtol=1e-6)
        return -jnp.outer(p.T @ w, p @ b)

    report = jc.check_grad(lambda a: w @ jnp.linalg.solve(a, b), a, grad=truncated)
    assert report.verdict == jc.Verdict.FAIL


@pytest.mark.slow
@pytest.mark.parametrize(("n", "condition", "seed"), [(6, 1e9, 1), (20, 1e8, 0)])
@pytest.mark.parametrize("what", ["solve", "logdet"])
def test_below_the_steps_nobody_is_accused(n, condition, seed, what):
    a, b, w = matrix(n, condition, seed)
    loss, grad = {
        "solve": (
            lambda a: w @ jnp.linalg.solve(a, b),
            lambda a: -jnp.outer(jnp.linalg.solve(a.T, w), jnp.linalg.solve(a, b)),
        ),
        "logdet": (lambda a: jnp.linalg.slogdet(a)[1], lambda a: jnp.linalg.inv(a).T),
    }[what]
    assert jc.check_grad(loss, a, grad=grad).verdict != jc.Verdict.FAIL
    assert jc.check_grad(loss, a).verdict != jc.Verdict.FAIL
    assert jc.check_grad(loss, a, grad=lambda a: 1.01 * grad(a)).verdict != jc.Verdict.PASS


def test_one_side_is_enough_where_the_kink_lies_on_the_other():
    ladder = Ladder()
    t = ladder.offsets
    samples = np.abs(t + 1e-10)[:, None, None] * 3
    own = np.zeros((2, ladder.count, 1), bool)
    own[0] = True
    found = slopes(samples, ladder, own=own, decided=np.array([False]))
    assert not found.kink.any() and abs(found.value[0, 0] - 3) < 1e-5
    assert slopes(samples, ladder, own=own, decided=np.array([True])).kink.all()
    blind = slopes(samples, ladder, own=np.zeros_like(own), decided=np.array([False]))
    assert not blind.kink.any() and np.isinf(blind.error).all()


def test_what_jax_itself_stops_hides_nothing():
    x = jnp.eye(3)
    for g in (lambda x: jnp.linalg.solve(x, x), jax.nn.softmax, jax.nn.logsumexp):
        assert not has_stop_gradient(jax.make_jaxpr(g)(x))
    for g in (jax.lax.stop_gradient, lambda x: jax.tree.map(jax.lax.stop_gradient, [x])):
        assert has_stop_gradient(jax.make_jaxpr(lambda x, g=g: g(x))(x))


@pytest.mark.parametrize("slope", [3.0, 2.0])
def test_a_piece_narrower_than_the_steps_is_not_seen_by_them(slope):
    # Whoever is right there, no difference says so: the gradient of the piece was accused, the neighbour's passed.
    inside = lambda p: (p > 1 - 1e-12) & (p < 1 + 1e-12)  # noqa: E731
    report = jc.check_grad(
        lambda p: jnp.where(inside(p), 3 * p - 1, p * p + 1).sum(),
        jnp.asarray([1.0, 0.5]),
        grad=lambda p: jnp.where(inside(p), slope, 2 * p),
    )
    assert (report.verdict, report.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.NOISE)
    assert "within less than the smallest step" in str(report)


REMOVABLE = {
    "expm1(x) / x": (
        lambda x: jnp.where(x == 0, 1.0, jnp.expm1(jnp.where(x == 0, 1.0, x)) / jnp.where(x == 0, 1.0, x)),
        0.0,
    ),
    "log(x) / (x - 1)": (
        lambda x: jnp.where(x == 1, 1.0, jnp.log(jnp.where(x == 1, 2.0, x)) / (jnp.where(x == 1, 2.0, x) - 1)),
        1.0,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REMOVABLE)
def test_a_removable_singularity_filled_in_is_no_kink(name):
    """Both sides have one slope, 1/2 in size, and autodiff says 0."""
    f, at = REMOVABLE[name]
    x = jnp.array([at, 2.5])

    def loss(x):
        return f(x).sum()

    for report in (jc.check_grad(loss, x), jc.check_grad(loss, x, jax.grad(loss)), jc.check_rule(f, x)):
        assert report.verdict is jc.Verdict.INCONCLUSIVE, str(report)
    with pytest.raises(jc.GradientInconclusive):
        check_grads(f, (x,), 1, ["rev"])
    slope = 0.5 if at == 0 else -0.5
    assert jc.check_grad(loss, x, lambda x: jnp.where(x == at, slope, jax.grad(loss)(x))).verdict is jc.Verdict.PASS


@pytest.mark.parametrize("gap", [1e-7, 1e-8])
@pytest.mark.slow
def test_eigenvalues_that_nearly_meet_are_not_accused(gap):
    """They turn within the gap, which is below the steps: what is in doubt is looked at by finer ones."""
    a = jnp.diag(jnp.array([1.0, 1 + gap, 2.0])) + 0.1 * gap

    def values(a):
        return jnp.linalg.eigh((a + a.T) / 2)[0]

    for report in (jc.check_grad(lambda a: values(a) @ jnp.array([1.0, 2, 3]), a), jc.check_rule(values, a)):
        assert report.verdict is not jc.Verdict.FAIL, str(report)


@pytest.mark.slow
def test_an_order_that_changes_within_every_step_accuses_nobody():
    """The sum over sorted waves is continuous, and its autodiff right: it lives on a smaller scale than any step."""
    x = np.linspace(0.5, 1.5, 3)

    def loss(x):
        waves = jnp.sin(13 * jnp.arange(40_000) * x.sum())
        return jnp.sum(jnp.sort(waves) * jnp.cos(waves)) / 10_000 + jnp.sum(x**2)

    report = jc.check_grad(loss, x, jax.grad(loss), mode=jc.Exhaustive(step=1e-5))
    assert (report.verdict, report.reason) == (jc.Verdict.INCONCLUSIVE, jc.Reason.NOISE), str(report)
    wrong = jc.check_grad(loss, x, lambda x: 1.5 * jax.grad(loss)(x), mode=jc.Exhaustive(step=1e-5))
    assert not wrong.ok
