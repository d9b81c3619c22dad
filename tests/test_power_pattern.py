"""What a PASS would have caught is true when tried; and each classic mistake is named with its evidence."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import Reason, Verdict
from jaxcheck.evidence.differences import Slopes
from jaxcheck.evidence.measured import LeafEvidence, Probes
from jaxcheck.judgement.pattern import hint
from jaxcheck.theta import Leaf

RNG = np.random.default_rng(5)
X = jnp.asarray(RNG.normal(size=(7, 4)), jnp.float32)
P = {
    "W": jnp.asarray(RNG.normal(size=(4, 4)), jnp.float32),
    "V": jnp.asarray(RNG.normal(size=(4, 4)), jnp.float32),
    "b": jnp.asarray(RNG.normal(size=4), jnp.float32),
}


def loss(p, x=X):
    return jnp.mean(jnp.tanh(jnp.tanh(x @ p["W"] + p["b"]) @ p["V"]) ** 2) + 0.01 * jnp.sum(p["W"] ** 2)


def wrong(leaf, how):
    """The right gradient with `how` done to one leaf."""

    def grad(p, x=X):
        g = jax.grad(loss)(p, x)
        return {**g, leaf: how(g)}

    return grad


MISTAKES = {
    "doubled": ("W", lambda g: 2 * g["W"], "ratio 2.000 on all 16 entries"),
    "halved": ("W", lambda g: g["W"] / 2, "ratio 0.5"),
    "sign": ("b", lambda g: -g["b"], "sign flipped"),
    "not averaged": ("V", lambda g: 7 * g["V"], "size 7"),
    "averaged twice": ("V", lambda g: g["V"] / 7, "1/7"),
    "attention's scale": ("V", lambda g: g["V"] * 7**0.5, "sqrt(7)"),
    "zero": ("b", lambda g: 0 * g["b"], "exactly zero"),
    "transposed": ("W", lambda g: g["W"].T, "transposed"),
    "swapped": ("W", lambda g: g["V"], "gradient of leaf `V`"),
    "no regularisation": ("W", lambda g: g["W"] - 0.02 * P["W"], "missing term 0.02 x parameter"),
    "too much regularisation": ("W", lambda g: g["W"] + 0.3 * P["W"], "extra term 0.3 x parameter"),
    "one row": ("W", lambda g: g["W"].at[2].mul(3), "only row 2 is wrong (4 of 16 entries); ratio 3.000 there"),
    "one column": ("V", lambda g: g["V"].at[:, 1].set(0), "only column 1 is wrong (4 of 16 entries); they are zero"),
    "some entries": ("V", lambda g: g["V"].at[0, 1].set(0).at[3, 2].set(0), "2 of 16 entries are wrong"),
    "negative ones only": ("V", lambda g: jnp.where(g["V"] < 0, 2, 1) * g["V"], "negative gradient"),
    "rolled": ("b", lambda g: jnp.roll(g["b"], 1), "rolled by 1"),
    "reversed": ("b", lambda g: g["b"][::-1], "reversed"),
    "permuted": ("b", lambda g: g["b"][jnp.array([1, 0, 3, 2])], "permutation"),
    "summed over an axis": ("W", lambda g: jnp.broadcast_to(g["W"].sum(0), (4, 4)), "summed over axis 0"),
    "averaged over an axis": ("W", lambda g: jnp.broadcast_to(g["W"].mean(1)[:, None], (4, 4)), "averaged over axis 1"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_mistake_is_named(name):
    leaf, how, text = MISTAKES[name]
    report = jc.check_grad(loss, P, wrong(leaf, how), args=(X,))
    assert [x.path for x in report.leaves if x.verdict is Verdict.FAIL] == [leaf]
    assert text in report.leaf(leaf).hint
    assert all(not x.hint for x in report.leaves if x.path != leaf)


def test_a_small_error_is_not_a_ratio_of_one():
    report = jc.check_grad(loss, P, wrong("W", lambda g: g["W"].at[1, 2].add(1e-6)))
    assert "1 of 16 entries is wrong" in report.leaf("W").hint
    report = jc.check_grad(loss, P, wrong("W", lambda g: g["W"] * (1 + 1e-5)))
    assert "ratio 1+1e-05 on all 16 entries" in report.leaf("W").hint


def test_a_conjugated_gradient_is_named():
    z = jnp.asarray(RNG.normal(size=4) + 1j * RNG.normal(size=4))
    report = jc.check_grad(lambda z: jnp.sum(jnp.abs(z) ** 4), z, lambda z: 4 * jnp.abs(z) ** 2 * z)
    assert report.verdict is Verdict.FAIL and "conjugated" in report.leaves[0].hint


@pytest.mark.parametrize(("factor", "said"), [(1j, "times 1i"), (2 - 3j, "times 2 -3i")])
def test_a_complex_factor_is_named(factor, said):
    z = jnp.asarray(RNG.normal(size=4) + 1j * RNG.normal(size=4))
    loss = lambda z: jnp.sum(jnp.abs(z) ** 4)  # noqa: E731
    report = jc.check_grad(loss, z, lambda z: factor * jax.grad(loss)(z), where=False)
    assert report.leaves[0].hint == said


def test_the_output_whose_cotangent_is_pulled_back_wrong_is_named():
    f = jax.custom_vjp(lambda a: (jnp.sin(a), {"k": jnp.cos(a)}))
    f.defvjp(lambda a: (f(a), a), lambda a, ct: (ct[0] * jnp.cos(a) - 2 * ct[1]["k"] * jnp.sin(a),))
    report = jc.check_rule(f, X.ravel()[:7], level="quick", algebra=False, where=False)
    assert report.leaves[0].hint == (
        "only for the cotangent of output 1 (they count from 0): ratio 2.000 on all 7 entries"
    )


def test_no_hint_is_invented_for_noise():
    noise = jnp.asarray(np.random.default_rng(1).normal(size=(4, 4)), jnp.float32)
    report = jc.check_grad(loss, P, wrong("W", lambda g: noise))
    assert report.leaf("W").verdict is Verdict.FAIL and report.leaf("W").hint == ""


@pytest.mark.parametrize("options", [{}, {"mode": "sketch"}], ids=["default", "sketch"])
@pytest.mark.parametrize("leaf", ["W", "V", "b"])
def test_the_floor_is_true(leaf, options):
    """An error at the printed floor is caught; the floor is far below what anyone would call an error."""
    right = jc.check_grad(loss, P, jax.grad(loss), **options).assert_ok().leaf(leaf)
    assert right.floor < 1e-5 and right.floor_component < 1e-5
    # A factor two: the floor is printed to half a decade.
    whole = jc.check_grad(loss, P, wrong(leaf, lambda g: g[leaf] * (1 + 2 * right.floor)), **options)
    assert whole.leaf(leaf).verdict is Verdict.FAIL
    at = (1,) * P[leaf].ndim
    size = 2 * right.floor_component
    one = jc.check_grad(loss, P, wrong(leaf, lambda g: g[leaf].at[at].add(size * jnp.linalg.norm(g[leaf]))), **options)
    assert one.leaf(leaf).verdict is Verdict.FAIL


def test_the_floor_without_autodiff_is_true():
    values = np.asarray(RNG.normal(size=5))

    def host_loss(x):
        return float(np.sum(np.sin(x)))

    right = jc.check_grad(host_loss, values, np.cos).assert_ok().leaves[0]
    assert right.floor < 1e-5
    report = jc.check_grad(host_loss, values, lambda x: np.cos(x) * (1 + 3 * right.floor))
    assert report.verdict is Verdict.FAIL


def test_must_catch_below_what_can_be_caught_is_vacuous():
    report = jc.check_grad(loss, P, jax.grad(loss), must_catch=1e-14)
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.VACUOUS)
    assert "the smallest error that would have been caught" in str(report)


def test_an_error_in_a_leaf_without_influence():
    """Its gradient is zero: any number there is wrong, measured by what the other leaves do."""
    params = {"live": X[0], "dead": X[1]}

    def only_live(p):
        return jnp.sum(jnp.sin(p["live"]))

    right = jc.check_grad(only_live, params, lambda p: {"live": jnp.cos(p["live"]), "dead": 0 * p["dead"]})
    assert right.ok and right.leaf("dead").floor < 1e-6
    report = jc.check_grad(only_live, params, lambda p: {"live": jnp.cos(p["live"]), "dead": 1e-6 * p["dead"]})
    assert [x.path for x in report.leaves if x.verdict is Verdict.FAIL] == ["dead"]


def test_the_tolerance_is_the_callers():
    grad = wrong("W", lambda g: g["W"] * (1 + 1e-5))
    assert jc.check_grad(loss, P, grad).verdict is Verdict.FAIL
    assert jc.check_grad(loss, P, grad, tolerance=jc.Tolerance(rtol=1e-4)).ok
    wide = jc.Tolerance(rtol=0, atol=1.0)
    assert jc.check_grad(loss, P, grad, tolerance=wide, must_catch=1).verdict is not Verdict.FAIL


def sine_of(shape, spoil):
    f = jax.custom_vjp(lambda x: jnp.sin(x).ravel()[:3])
    right = lambda x: jnp.sin(x).ravel()[:3]  # noqa: E731
    f.defvjp(lambda x: (right(x), x), lambda x, g: (spoil(jax.vjp(right, x)[1](g)[0]),))
    return f, jnp.asarray(np.random.default_rng(3).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((), "on its one entry"),
        ((1,), "on its one entry"),
        ((3,), "on all 3 entries"),
        ((5, 4), "on all 3 entries that are not near zero, of 20"),
    ],
)
def test_entries_are_those_of_the_leaf_not_of_its_cotangents(shape, said):
    """Several outputs, so several cotangents, each with a gradient of its own."""
    f, x = sine_of(shape, lambda g: 2 * g)
    report = jc.check_rule(f, x, algebra=False, transforms=False)
    assert report.leaves[0].hint == f"ratio 2.000 {said}"


def test_entries_of_a_complex_leaf_are_counted_once():
    z = jnp.asarray(RNG.normal(size=4) + 1j * RNG.normal(size=4))
    report = jc.check_grad(lambda z: jnp.sum(jnp.abs(z) ** 4), z, lambda z: 8 * jnp.abs(z) ** 2 * jnp.conj(z))
    assert report.leaves[0].hint == "ratio 2.000 on all 4 entries"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda g: g.at[1, 2].multiply(1.5), "1 of 12 entries is wrong, the others are right; ratio 1.5 there"),
        (lambda g: g.at[1, 2].add(3.0), "1 of 12 entries is wrong, the others are right"),
        (lambda g: g.at[1].multiply(2), "only row 1 is wrong (4 of 12 entries); ratio 2.000 there"),
        (lambda g: g.at[:, 3].set(0), "only column 3 is wrong (3 of 12 entries); they are zero"),
        (lambda g: jnp.roll(g, 1, 1), "rolled by 1 along axis 1"),
    ],
)
def test_entries_of_a_complex_leaf_that_are_wrong(wrong, said):
    rng = np.random.default_rng(4)
    w, x = (rng.normal(size=s) + 1j * rng.normal(size=s) for s in ((3, 4), (5, 3)))
    report = jc.check_grad(
        lambda w: jnp.sum(jnp.abs(x @ w) ** 2), w, lambda w: wrong(2 * x.T @ jnp.conj(x @ w)), where=False
    )
    assert report.leaves[0].hint == said


def evidence(m, a=None, n=None, error=0.0):
    """A leaf as measured: M, A and N per component, N with a bar."""
    m = np.atleast_2d(np.asarray(m, float))
    leaf = Leaf("w", (m.shape[1],), "float64", "float64", False, 0, 0, m.shape[1])
    probes = ()
    if n is not None:
        value, no = np.asarray(n, float)[:, None], np.zeros((len(n), 1), bool)
        bar, nan = np.full_like(value, error), np.full_like(value, np.nan)
        s = Slopes(
            value,
            bar,
            nan,
            nan,
            nan,
            nan,
            no,
            no,
            no,
            bar,
            no,
            value,
            value[..., None],
            value,
            bar,
            np.full_like(value, np.inf),
            value,
            no,
        )
        probes = (Probes(s, indices=np.arange(len(n))),)
    none = np.zeros_like(m)
    a = None if a is None else np.atleast_2d(np.asarray(a, float))
    return LeafEvidence(leaf, np.ones(m.shape[1]), m, none, a, none, probes, none)


T = np.array([1.0, -2.0, 3.0, 0.5])


@pytest.mark.parametrize(
    ("ev", "said"),
    [
        (evidence(2 * T, a=T), "ratio 2.000 on all 4 entries"),
        (evidence(2 * T, n=T, error=1e-12), "ratio 2.000 on all 4 entries"),
        (evidence(2 * T, n=T, error=1e-2), ""),  # N's bar does not carry three digits
        (evidence(2 * T, a=T, n=3 * T, error=1e-12), "ratio 0.6667 on all 4 entries"),  # A is wrong as well
        (evidence(2 * T, a=T, n=3 * T, error=0.1), ""),
        (evidence(2 * T * [1, 1, 1, 1 + 3e-6], a=T), "ratio 2.000 on all 4 entries"),
        (
            evidence([2e6, 4e6, 1.0], a=[1e6, 2e6, 1.0 + 1e-9]),
            "ratio 2.000 on all 2 entries that are not near zero, of 3",
        ),
        (evidence([2e6, 4e6, 3.0], a=[1e6, 2e6, 4.0]), "ratio 2.000 on 2 of 3 entries"),
    ],
    ids=["A", "N", "a blunt N", "A against N", "A against a blunt N", "a little off", "one near zero", "one not"],
)
def test_a_hint_says_what_the_numbers_carry(ev, said):
    assert hint(ev) == said
