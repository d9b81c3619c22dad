"""Complex numbers in a backward pass: FFTs, complex parameters, states that turn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.program.where import syntax, tape
from tests.where.cases import Case
from tests.where.rates import as_edited, outcome, report

NAMED = [
    Case(
        "filter", "dh = jnp.fft.irfft(jnp.conj(response) * g, 8, axis=1)", "dh = jnp.fft.irfft(response * g, 8, axis=1)"
    ),
    Case("filter", 'ds = e[..., None] * p["v"]', "ds = e[..., None]"),  # a factor that spreads what it is of
    Case("phases", "dW = x.T @ dz", "dW = x.conj().T @ dz"),
    Case("phases", "e = 2 * (scale * power - y) / y.shape[0]", "e = (scale * power - y) / y.shape[0]"),
    Case("waves", "dlam = dlam + ds * s", "dlam = dlam + ds * jnp.conj(s)"),
    Case(
        "rule_carrier", "dphase = jnp.sum(jnp.real(1j * u * du), axis=0)", "dphase = jnp.sum(jnp.real(u * du), axis=0)"
    ),
]


@pytest.mark.slow
@pytest.mark.where
@pytest.mark.parametrize("case", NAMED, ids=lambda case: case.wrong)
def test_the_line_is_named_and_the_edit_is_right(case):
    checked, line = report(case)
    assert outcome(checked, line) == "line right"
    assert as_edited(case, checked)


@pytest.mark.where
def test_of_a_conjugate_that_is_one_too_many_nothing_is_left():
    case = Case("phases", "dW = x.T @ dz", "dW = x.conj().T @ dz")
    assert report(case)[0].culprits[0].edit == "dW = x.T @ dz"


PROGRAMS = {
    "fft": lambda z: jnp.abs(jnp.fft.fft(z)) ** 2,
    "ifft of a matrix": lambda z: jnp.fft.ifft2(z.reshape(2, 3)),
    "real": lambda z: jnp.fft.irfft(jnp.fft.rfft(jnp.real(z)) * jnp.conj(z)[:4], 6) * jnp.imag(z),
    "made of parts": lambda z: jax.lax.complex(jnp.sin(jnp.imag(z)), jnp.real(z) ** 3) ** 3 / (2 + z),
    "converted": lambda z: jnp.exp(1j * jnp.real(z)) * jnp.abs(z),
    "scan": lambda z: jax.lax.scan(lambda c, x: (c * x + z[0], jnp.real(c * jnp.conj(x))), z[1], z),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_cotangents_are_those_of_jax(name):
    rng = np.random.default_rng(3)
    z = rng.normal(size=6) + 1j * rng.normal(size=6)
    with jax.enable_x64(True):
        out, pull = jax.vjp(PROGRAMS[name], z)
        seeds = [
            rng.normal(size=x.shape) + (1j * rng.normal() if np.iscomplexobj(x) else 0) for x in jax.tree.leaves(out)
        ]
        seeds = [np.asarray(s, x.dtype) for s, x in zip(seeds, jax.tree.leaves(out), strict=True)]
        (truth,) = pull(jax.tree.unflatten(jax.tree.structure(out), list(map(jnp.asarray, seeds))))
        closed = jax.make_jaxpr(PROGRAMS[name])(z)
    made = tape.record(closed, [z])
    total, _ = made.back(made.values, dict(zip(made.outputs, seeds, strict=True)))
    np.testing.assert_allclose(total[made.inputs[0]], truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("text", "inner"), [("jnp.conj(a)", "a"), ("(a + b).conj()", "a + b"), ("a.T", None)])
def test_what_an_expression_is_the_conjugate_of(text, inner):
    import ast

    found = syntax.conjugated(ast.parse(text, mode="eval").body)
    assert (ast.unparse(found) if found is not None else None) == inner


@pytest.mark.where
def test_a_textbook_gradient_of_complex_parameters():
    """The conjugate of JAX's: told as such, and where the other one is to be taken."""
    x = np.random.default_rng(5).normal(size=(4, 3)) * (1 + 0.5j)

    def loss(p):
        return jnp.sum(jnp.abs(x @ p["w"]) ** 2)

    def grad(p):
        return {"w": 2 * x.conj().T @ (x @ p["w"])}

    checked = jc.check_grad(loss, {"w": np.array([1 + 1j, 0.5, 2j])}, grad)
    assert checked.verdict is jc.Verdict.FAIL
    assert "conj" in checked.leaves[0].hint
    (culprit,) = checked.culprits
    assert culprit.edit == 'return {"w": jnp.conj(2 * x.conj().T @ (x @ p["w"]))}'
