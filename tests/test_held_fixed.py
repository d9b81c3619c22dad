"""Python numbers among the arrays of a module: the rate of a dropout layer is no parameter."""

import jax
import jax.numpy as jnp
import pytest

import jaxcheck as jc

eqx = pytest.importorskip("equinox")


class Net(eqx.Module):
    first: eqx.nn.Linear
    drop: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __call__(self, x, key):
        return self.last(self.drop(jnp.tanh(self.first(x)), key=key))


KEY = jax.random.key
NET = Net(eqx.nn.Linear(3, 8, key=KEY(0)), eqx.nn.Dropout(0.3), eqx.nn.Linear(8, 2, key=KEY(1)))
X, Y = jax.random.normal(KEY(2), (8, 3)), jax.random.normal(KEY(3), (8, 2))


def loss(net):
    return jnp.mean((jax.vmap(net)(X, jax.random.split(KEY(4), 8)) - Y) ** 2)


def test_a_network_with_dropout_passes():
    report = jc.check_grad(loss, NET)
    assert report.verdict is jc.Verdict.PASS and report["drop.p"].reason is jc.Reason.SURROGATE
    assert report["first.weight"].reason is jc.Reason.AGREE


def test_what_the_gradient_leaves_out_as_it_is_called_is_no_parameter():
    """Traced, the rate is an array, of which `filter_grad` makes a gradient; called, it is a Python number."""
    report = jc.check_grad(loss, NET, eqx.filter_grad(loss))
    assert (report.verdict, report.reason) == (jc.Verdict.PASS, jc.Reason.AGREE), report
    assert "drop.p" not in [leaf.path for leaf in report] and "`drop.p` (Python float" in str(report)


def test_a_derivative_that_is_hidden_of_an_array_is_not_excused():
    params = {"w": jnp.arange(3.0), "scale": jnp.float32(2.0)}
    report = jc.check_grad(lambda p: jnp.sum(p["w"] ** 2) * jax.lax.stop_gradient(p["scale"]), params)
    assert report["scale"].reason is jc.Reason.NUMERIC_SUSPECT


def test_a_forgotten_gradient_of_a_number_fails():
    params = {"w": jnp.arange(3.0), "scale": 2.0}
    report = jc.check_grad(
        lambda p: jnp.sum(p["w"] ** 2) * p["scale"],
        params,
        lambda p: {"w": 2 * p["w"] * p["scale"], "scale": 0.0},
        where=False,
    )
    assert [leaf.path for leaf in report.failed] == ["scale"]
