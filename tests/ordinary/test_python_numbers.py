"""Python numbers are weakly typed: what they meet in the caller's program keeps its dtype, in a check as well."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.test_util import check_grads

LARGE = jnp.full(4, 300.0, jnp.float16)  # (2 x 300)^2 is more than a float16 holds


def loss(p, x):
    return jnp.sum(jnp.square(p["s"] * x)).astype(jnp.float32)


def test_a_parameter_that_overflows_what_it_meets():
    for s in (2.0, np.float16(2.0), jnp.asarray(2.0)):
        report = jc.check_grad(loss, {"s": s}, args=(LARGE,))
        assert report.verdict is jc.Verdict.INCONCLUSIVE and report.reason is jc.Reason.NONFINITE, report
    assert jc.check_grad(loss, {"s": 2.0}, args=(LARGE / 100,)).ok


@pytest.mark.parametrize("hand", [False, True])
def test_an_argument_that_is_zero_in_what_it_meets(hand):
    x = jnp.asarray([[1.0, 1.0, 1.0], [0.5, -0.25, 1.0]], jnp.float16)

    def normed(x, eps):
        centred = x - jnp.mean(x, -1, keepdims=True)
        return centred / jnp.sqrt(jnp.mean(centred**2, -1, keepdims=True) + eps)

    def f(gain, eps):
        return jnp.mean((normed(x, eps) * gain).astype(jnp.float32) ** 2)

    def backprop(gain, eps):
        n = normed(x, eps)
        return (2 * n**2 * gain / x.size).sum(0)

    gain = jnp.asarray([1.0, 2.0, 0.5], jnp.float16)
    report = jc.check_grad(f, gain, grad=backprop if hand else None, args=(1e-8,))
    assert report.verdict is jc.Verdict.INCONCLUSIVE and report.reason is jc.Reason.NONFINITE, report
    assert jc.check_grad(f, gain, grad=backprop if hand else None, args=(1e-2,)).ok
    with pytest.raises(jc.GradientInconclusive, match="as run"):
        check_grads(f, (gain, 1e-8), 1, ["rev"])


OVERFLOWS = {
    "exp": (lambda x: jnp.log(jnp.sum(jnp.exp(x))), jnp.asarray([100.0, 0.0])),
    "float16": (lambda x: jnp.sum(jnp.square(2 * x)), LARGE),
    "0 / 0": (lambda x: jnp.sum(x / (x + 1e30) * 1e-30 / (x * 1e-30 * 1e-30)), jnp.asarray([1.0, 2.0])),
}


@pytest.mark.parametrize("modes", [["rev"], ["fwd"]])
@pytest.mark.parametrize("name", OVERFLOWS)
def test_what_is_no_number_as_run_does_not_pass_the_drop_in(name, modes):
    f, x = OVERFLOWS[name]
    with pytest.raises(jc.GradientInconclusive, match="as run"):
        check_grads(f, (x,), 1, modes)
    check_grads(OVERFLOWS["exp"][0], (x / 1000,), 1, modes)


# The gradient as run is zero, and as finite as it is wrong.
@pytest.mark.slow
@pytest.mark.parametrize("x", [LARGE, jnp.full(3, 1e25)], ids=lambda x: str(x.dtype))
def test_where_the_value_as_run_is_infinite_nothing_passes(x):
    def f(x):
        return jnp.sqrt(jnp.sum(jnp.square(2 * x)))

    def hand(x):
        return 4 * x / f(x)

    for report in (
        jc.check_grad(f, x),
        jc.check_grad(f, x, grad=hand),
        jc.check_rule(f, x),
        jc.check_batch(f, x[None]),
    ):
        assert report.verdict is jc.Verdict.INCONCLUSIVE and report.reason is jc.Reason.NONFINITE, report
    with pytest.raises(jc.GradientInconclusive, match="as run"):
        check_grads(f, (x,), 1, ["rev"])
