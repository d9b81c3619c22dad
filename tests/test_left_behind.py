"""What two hostile readings found at the edges: caps of loops, data made inside, kinks that cancel, caches, shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.evidence import roundoff
from jaxcheck.problem.of_loss import prepare
from jaxcheck.test_util import check_jvp, check_vjp


@pytest.mark.slow
@pytest.mark.parametrize("cap", [2, 3, 200])
def test_beyond_its_cap_no_loop_is_run_on(cap):
    """The implicit gradient is that of a limit, which a loop of two iterations does not have."""

    def loss(p):
        def going_on(s):
            return (jnp.abs(s[0] - s[1]) > 1e-6) & (s[2] < cap)

        def body(s):
            return s[1], s[1] - 0.3 * (s[1] - jnp.sin(p)), s[2] + 1

        return jax.lax.while_loop(going_on, body, (jnp.float32(5.0), jnp.float32(3.0), 0))[1]

    report = jc.check_grad(loss, 0.7, jnp.cos)
    as_written = jc.check_grad(loss, 0.7, lambda p: jnp.cos(p) * (1 - 0.7 ** min(cap, 60)))
    if cap == 200:
        assert report.verdict is jc.Verdict.PASS and report.reason is jc.Reason.CONVERGED
    else:
        assert report.verdict is jc.Verdict.FAIL and as_written.verdict is jc.Verdict.PASS


def test_kinks_that_cancel_leave_one_slope_and_autodiffs_choice():
    def loss(p):
        return jnp.sum(jax.nn.relu(p) - jax.nn.relu(-p))

    at = jnp.zeros(3)
    for slope, verdict in ((1.0, "PASS"), (0.0, "INCONCLUSIVE"), (0.5, "FAIL"), (0.98, "FAIL"), (1.02, "FAIL")):
        assert jc.check_grad(loss, at, lambda p, s=slope: s * jnp.ones_like(p)).verdict == verdict, slope


@pytest.mark.slow
def test_data_that_a_loss_makes_is_in_no_bar():
    """A float32 draw is the same for M, for A and for every sample, whatever rounding did to it."""

    def inside(p):
        return gp(p, jax.random.normal(jax.random.key(1), (8,)))

    def gp(p, y):
        x = jnp.linspace(0, 3, 8)
        k = jnp.exp(-0.5 * (x[:, None] - x) ** 2 * jnp.exp(-2 * p)) + jnp.exp(-8.0) * jnp.eye(8)
        return y @ jnp.linalg.solve(k, y)

    bars = []
    data = np.asarray(jax.random.normal(jax.random.key(1), (8,)))
    for loss in (inside, lambda p: gp(p, data)):
        problem = prepare(loss, 0.3, jax.grad(loss), (), False, "float64")[0]
        bars.append(float(roundoff.measure(problem, problem.theta.ravel())[0].m[0, 0]))
    assert bars[0] < 10 * bars[1]
    wrong = jc.check_grad(inside, 0.3, lambda p: (1 + 3e-5) * jax.grad(inside)(p))
    assert wrong.verdict is jc.Verdict.FAIL


@pytest.mark.parametrize("xp", [np, jnp])
def test_a_backward_pass_that_reads_what_the_forward_pass_left(xp):
    kept = {}

    def loss(p):
        kept["h"] = xp.tanh(xp.asarray(p))
        total = xp.sum(kept["h"] ** 2)
        return float(total) if xp is np else total

    def grad(p):
        return 2 * kept["h"] * (1 - kept["h"] ** 2)

    p = xp.asarray([0.3, 0.4, 1.0])
    loss(p)
    assert jc.check_grad(loss, p, grad).verdict is jc.Verdict.PASS
    assert jc.check_grad(loss, p, lambda p: 1.01 * grad(p)).verdict is jc.Verdict.FAIL


def test_a_forward_value_of_another_shape():
    x = jnp.arange(1.0, 4.0)
    with pytest.raises(jc.GradientMismatch, match="1 numbers for 3"):
        check_vjp(jnp.sin, lambda x: (jnp.sin(x)[:1], jax.vjp(jnp.sin, x)[1]), (x,))
    with pytest.raises(jc.GradientMismatch, match="1 numbers for 3"):
        check_jvp(jnp.sin, lambda p, t: (jnp.sin(*p)[:1], jnp.cos(*p) * t[0]), (x,))


def test_autodiff_that_is_wrong_on_smooth_ground_is_said_to_be():
    """A user's transpose of a linear solve is no rule that is stripped, no noise of the function, and not JAX's to be
    believed."""
    a = jnp.asarray(np.random.RandomState(0).randn(3, 3) + 4 * np.eye(3), jnp.float32)

    def loss(a):
        return jnp.sum(
            jax.lax.custom_linear_solve(
                lambda x: a @ x, jnp.ones(3), lambda _, b: jnp.linalg.solve(a, b), lambda _, b: jnp.linalg.solve(a, b)
            )
        )

    report = jc.check_grad(loss, a)
    assert report.verdict is jc.Verdict.FAIL and report.reason is jc.Reason.MANUAL_WRONG
