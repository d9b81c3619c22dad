"""Bad input: each has one clear outcome that names the argument or the leaf as the caller wrote it."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import Reason, Verdict

P = {"W": jnp.ones((2, 3)) / 2, "b": jnp.arange(1.0, 4.0)}


def loss(p):
    return jnp.sum(jnp.sin(p["W"])) + jnp.sum(p["b"] ** 3)


def grad(p):
    return {"W": jnp.cos(p["W"]), "b": 3 * p["b"] ** 2}


STRUCTURES = {
    "missing leaf": (lambda p: {"W": grad(p)["W"]}, "no leaf `b`"),
    "extra leaf": (lambda p: {**grad(p), "c": 1.0}, "leaf `c`"),
    "shape": (lambda p: {**grad(p), "b": p["b"][:2]}, "`b` has shape (2,), the parameter (3,)"),
    "dtype": (lambda p: {**grad(p), "b": p["b"].astype(int)}, "`b` has dtype int"),
    "complex": (lambda p: {**grad(p), "b": p["b"] + 0j}, "`b` is complex"),
    "None": (lambda p: {**grad(p), "b": None}, "`b` is None"),
    "nothing returned": (lambda p: None, "no leaf `W`, `b`"),
    "text": (lambda p: {**grad(p), "b": "x"}, "`b` is a str"),
    "bare array": (lambda p: p["W"], "no leaf `W`, `b`"),
    "numbers of another tree": ([1.0, 2.0], "no leaf `W`, `b`"),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structure(name):
    given, text = STRUCTURES[name]
    report = jc.check_grad(loss, P, given)
    assert (report.verdict, report.reason) == (Verdict.FAIL, Reason.STRUCTURE)
    assert text in " ".join(report.notes)
    with pytest.raises(jc.GradientMismatch):
        report.assert_ok()


@pytest.mark.parametrize(
    ("given", "text"),
    [(lambda p: (loss(p), grad(p)), "(value, grads)"), (lambda p: (grad(p), {"n": 3}), "(grads, aux)"),
     (jax.value_and_grad(loss), "(value, grads)"),
     (jax.value_and_grad(lambda p: (loss(p), "aux"), has_aux=True), "(value, grads)")],
    ids=["value, grads", "grads, aux", "value_and_grad", "value_and_grad with aux"],
)
def test_a_pair_is_looked_through_and_said(given, text):
    report = jc.check_grad(loss, P, given).assert_ok()
    assert any(text in note for note in report.notes)


def throw(error):
    raise error


RAISES = {
    "vector loss": (lambda p: p["b"], {}, TypeError, "not an array of shape (3,)"),
    "tuple loss": (lambda p: (loss(p), 1), {}, TypeError, "has_aux=True"),
    "no aux": (loss, {"has_aux": True}, TypeError, "must return (value, aux)"),
    "complex loss": (lambda p: loss(p) + 0j, {}, TypeError, "loss must be real"),
    "integer loss": (lambda p: jnp.int32(3), {}, TypeError, "loss must return a float, not int32"),
    "text loss": (lambda p: "x", {}, TypeError, "loss must return a scalar, not str"),
    "no loss": (lambda p: None, {}, TypeError, "loss must return a scalar, not NoneType"),
    "loss raises": (lambda p: throw(OSError("mine")), {}, OSError, "mine"),
    "loss is no function": (3.0, {}, TypeError, "loss must be a function"),
    "args no tuple": (loss, {"args": jnp.ones(3)}, TypeError, "write args=(x,)"),
    "seed": (loss, {"seed": -1}, ValueError, "seed=-1"),
    "must_catch 0": (loss, {"must_catch": 0}, ValueError, "must_catch=0"),
    "must_catch NaN": (loss, {"must_catch": float("nan")}, ValueError, "must_catch=nan"),
    "mode": (loss, {"mode": "all"}, ValueError, "mode='all'"),
    "mode type": (loss, {"mode": 3}, TypeError, "mode must be"),
    "tolerance": (loss, {"tolerance": 1e-3}, TypeError, "tolerance must be a Tolerance"),
    "precision": (loss, {"precision": "float16"}, ValueError, "precision='float16'"),
    "surrogate": (loss, {"surrogate": "b"}, TypeError, "surrogate must be"),
}


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("name", RAISES)
def test_what_raises_names_the_argument_and_leaves_jax_as_it_was(name, x64):
    bad_loss, options, kind, text = RAISES[name]
    with jax.enable_x64(x64):
        with pytest.raises(kind) as caught:
            jc.check_grad(bad_loss, P, grad, **options)
        assert text in str(caught.value)
        assert jax.config.jax_enable_x64 is x64 and jnp.zeros(()).dtype == ("float64" if x64 else "float32")


def test_what_the_users_function_raised_says_where():
    with pytest.raises(OSError, match="mine") as caught:
        jc.check_grad(loss, P, lambda p: throw(OSError("mine")))
    assert "grad(params, *args)" in "".join(caught.value.__notes__)
    with pytest.raises(OSError, match="mine") as caught:
        jc.check_grad(lambda p: throw(OSError("mine")), P, grad)
    assert "loss(params, *args)" in "".join(caught.value.__notes__)


@pytest.mark.parametrize(
    ("params", "text"),
    [({"n": 3, "ids": np.arange(2)}, "`n` (Python int), `ids` (int"), ({}, "nothing"), (None, "`params` (None)"),
     ((x for x in [1.0]), "`params` (generator object)"), ("abc", "`params` (str object)"),
     (jax.random.key(0), "`params` (PRNG key)"), (np.array([None]), "`params` (object array)")],
    ids=["integers", "empty", "None", "generator", "text", "key", "objects"],
)
def test_params_without_a_differentiable_leaf(params, text):
    with pytest.raises(TypeError, match="params has no differentiable leaf") as caught:
        jc.check_grad(lambda p: 1.0, params, lambda p: p)
    for part in text.split(", "):
        assert part in str(caught.value)


OPTIONS = {
    "step 0": lambda: jc.Exhaustive(step=0), "step NaN": lambda: jc.Exhaustive(step=float("nan")),
    "step text": lambda: jc.Exhaustive(step="1e-7"), "scheme": lambda: jc.Exhaustive(step=1e-7, scheme="backward"),
    "forward without step": lambda: jc.Exhaustive(scheme="forward"), "chunk 0": lambda: jc.Exhaustive(chunk=0),
    "directions 0": lambda: jc.Sketch(0), "directions 1.5": lambda: jc.Sketch(1.5),
    "rtol": lambda: jc.Tolerance(rtol=-1), "atol": lambda: jc.Tolerance(atol=float("inf")),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_out_of_range(name):
    with pytest.raises(ValueError, match=name.split()[0].replace("forward", "step")):
        OPTIONS[name]()


def check(p):
    return jc.check_grad(loss, p, grad).difference


TRACED = {
    "jit": lambda: jax.jit(check)(P),
    "jit closed over": lambda: jax.jit(lambda: check(P))(),
    "grad": lambda: jax.grad(check)(P),
    "vmap": lambda: jax.vmap(check)(jax.tree.map(lambda x: x[None], P)),
    "scan": lambda: jax.lax.scan(lambda carry, _: (check(P), None), 0.0, None, length=2),
}


@pytest.mark.parametrize("transform", TRACED)
def test_called_while_jax_traces(transform):
    with pytest.raises(TypeError, match="for debugging, not for the training step"):
        TRACED[transform]()


NP = jax.tree.map(lambda x: np.asarray(x, np.float64), P)


def np_loss(p):
    return float(np.sum(np.sin(p["W"])) + np.sum(p["b"] ** 3))


def np_grad(p):
    return {"W": np.cos(p["W"]), "b": 3 * p["b"] ** 2}


def twice_b(p):
    return {**np_grad(p), "b": 6 * p["b"] ** 2}


@pytest.mark.parametrize(
    ("the_loss", "right", "wrong"),
    [(np_loss, np_grad, twice_b), (loss, np_grad, twice_b), (np_loss, grad, lambda p: {**grad(p), "b": 0 * p["b"]})],
    ids=["both", "backprop only", "loss only"],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_numpy_only(the_loss, right, wrong, dtype):
    params = jax.tree.map(lambda x: x.astype(dtype), NP)
    report = jc.check_grad(the_loss, params, right).assert_ok()
    assert report.difference < 1e-9
    if the_loss is np_loss:
        assert any("cannot be traced" in note for note in report.notes)
        assert {w.name: w.how for w in report.witnesses}["autodiff"] == "absent"
    report = jc.check_grad(the_loss, params, wrong)
    assert [x.path for x in report.leaves if x.verdict is Verdict.FAIL] == ["b"]


def test_numpy_only_without_grad():
    with pytest.raises(TypeError, match="pass grad="):
        jc.check_grad(np_loss, NP)


def test_functions_that_write_into_their_inputs():
    x = np.array([1.0, 2.0, 3.0])
    params, before, x_before = copy.deepcopy(NP), copy.deepcopy(NP), x.copy()

    def messy_loss(p, x):
        p["W"] -= 0.1
        x *= 2
        return float(np.sum(np.sin(p["W"])) + np.sum(p["b"] ** 2 * x))

    def messy_grad(p, x):
        g = {"W": np.cos(p["W"] - 0.1), "b": 4 * p["b"] * x}
        p["W"][:], p["b"][:], x[:] = 0, 0, 0
        return g

    jc.check_grad(messy_loss, params, messy_grad, args=(x,)).assert_ok()
    jax.tree.map(np.testing.assert_array_equal, params, before)
    np.testing.assert_array_equal(x, x_before)
    # A dict that is emptied on the way is the function's own copy as well.
    jc.check_grad(lambda p: jnp.sum(p.pop("b") ** 3) + jnp.sum(jnp.sin(p["W"])), P, grad).assert_ok()
    assert list(P) == ["W", "b"]


def test_prints_do_not_flood(capfd):
    def chatty(p):
        jax.debug.print("b0 = {}", p["b"][0])
        return loss(p)

    report = jc.check_grad(chatty, P, grad).assert_ok()
    assert any("side effects" in note for note in report.notes)
    assert capfd.readouterr().out.count("b0 =") <= 4


def test_a_callback_is_called_and_wrong_gradients_are_seen_through_it():
    def squares(x):
        return jax.pure_callback(lambda x: np.asarray(x) ** 2, jax.ShapeDtypeStruct(x.shape, x.dtype), x,
                                 vmap_method="sequential")

    def with_callback(p):
        return loss(p) + jnp.sum(squares(p["b"]))

    def right(p):
        return {"W": jnp.cos(p["W"]), "b": 3 * p["b"] ** 2 + 2 * p["b"]}

    with jax.enable_x64(True):  # a callback runs in its own dtype: here float64
        wide = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), P)
        jc.check_grad(with_callback, wide, right).assert_ok()
        report = jc.check_grad(with_callback, wide, lambda p: {**right(p), "b": 3 * p["b"] ** 2})
    assert [x.path for x in report.leaves if x.verdict is Verdict.FAIL] == ["b"]


def test_overflow_at_the_large_steps():
    x = jnp.asarray([85.0, 84.0])
    jc.check_grad(lambda x: jnp.sum(jnp.exp(x)), x, jnp.exp).assert_ok()
    report = jc.check_grad(lambda x: jnp.sum(jnp.exp(x)), x, lambda x: jnp.exp(x) * jnp.array([1.0, 1.0001]))
    assert report.verdict is Verdict.FAIL and report.leaves[0].worst[0].index == (1,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_point_or_loss_that_is_not_finite(bad):
    report = jc.check_grad(lambda p: loss(p) + bad, P, grad)
    assert (report.verdict, report.reason) == (Verdict.INCONCLUSIVE, Reason.NONFINITE)
    with pytest.raises(jc.GradientInconclusive):
        report.assert_ok()
    point = {**P, "b": P["b"].at[1].set(bad)}
    assert jc.check_grad(loss, point, grad).reason is Reason.NONFINITE


def test_only_empty_leaves():
    report = jc.check_grad(lambda x: jnp.sum(x) + 1.0, jnp.zeros((0, 3)), lambda x: x)
    assert report.verdict is Verdict.INCONCLUSIVE


def test_a_python_float_and_numpy_scalars_are_parameters():
    for x in (2.0, np.float32(2), np.float64(2), jnp.float32(2)):
        jc.check_grad(lambda x: x**3, x, lambda x: 3 * x**2).assert_ok()
        assert jc.check_grad(lambda x: x**3, x, lambda x: 2 * x**2).verdict is Verdict.FAIL
