"""Bad input: each has one clear outcome that names the argument or the leaf as the caller wrote it."""

from __future__ import annotations

import copy
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import Reason, Verdict
from jaxcheck.test_util import check_jvp, check_vjp

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
    "nothing returned": (lambda p: None, "the gradient is None; it has to be a tree of leaves `W`, `b`"),
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


NP = jax.tree.map(lambda x: np.asarray(x, np.float64), P)


def np_loss(p):
    return float(np.sum(np.sin(p["W"])) + np.sum(p["b"] ** 3))


def np_grad(p):
    return {"W": np.cos(p["W"]), "b": 3 * p["b"] ** 2}


def np_value_and_grad(p):
    return np_loss(p), np_grad(p)


def emptied(p):
    """Writes into what it is given before it is asked for the loss's value."""
    value, g = np_value_and_grad(p)
    p["W"][:], p["b"][:] = 0, 0
    return value, g


def with_aux(p):
    return loss(p), {"n": 3, "name": "aux"}


PAIRS = {
    "value, grads": (loss, lambda p: (loss(p), grad(p)), {}, "(value, grads)"),
    "value_and_grad": (loss, jax.value_and_grad(loss), {}, "(value, grads)"),
    "jitted": (loss, jax.jit(jax.value_and_grad(loss)), {}, "(value, grads)"),
    "its aux": (loss, jax.value_and_grad(with_aux, has_aux=True), {}, "((value, aux), grads)"),
    "both with aux": (with_aux, jax.value_and_grad(with_aux, has_aux=True), {"has_aux": True}, "((value, aux), grads)"),
    "grads, aux": (with_aux, lambda p: (grad(p), {"n": 3}), {"has_aux": True}, "(grads, aux)"),
    "jax.grad's aux": (with_aux, jax.grad(with_aux, has_aux=True), {"has_aux": True}, "(grads, aux)"),
    "value without aux": (with_aux, lambda p: (loss(p), grad(p)), {"has_aux": True}, "(value, grads)"),
    "NumPy": (np_loss, np_value_and_grad, {}, "(value, grads)"),
    "NumPy backprop": (loss, lambda p: np_value_and_grad(jax.tree.map(np.asarray, p)), {}, "(value, grads)"),
    "NumPy that writes": (np_loss, emptied, {}, "(value, grads)"),
    "as numbers": (loss, jax.value_and_grad(loss)(P), {}, "(value, grads)"),
    "another way to the value": (loss, lambda p: (1 + loss(p) - 1, grad(p)), {}, "(value, grads)"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_looked_through_and_said(name):
    the_loss, given, options, text = PAIRS[name]
    params = NP if "NumPy" in name else P
    report = jc.check_grad(the_loss, params, given, **options).assert_ok()
    assert any(text in note for note in report.notes) or name == "as numbers"


def two(a, b):
    return jnp.sum(jnp.sin(a["x"])) * b + b


A, B = {"x": jnp.arange(1.0, 4.0)}, jnp.float32(0.7)


def first_of_two(a, b):
    """Right in its first half, wrong in its second."""
    return {"x": jnp.cos(a["x"]) * b}, 100 * b


@pytest.mark.parametrize("has_aux", [False, True])
@pytest.mark.parametrize("how", ["function", "jitted", "numbers", "NumPy"])
@pytest.mark.parametrize("argnums", [(0, 1), (1, 0)])
def test_gradients_of_two_arguments_are_no_pair_to_look_through(argnums, how, has_aux):
    if has_aux and argnums == (0, 1):
        pytest.skip("with has_aux=True this is what (grads, aux) looks like, and the caller has said so")
    given = jax.grad(two, argnums)
    given = {
        "function": given,
        "jitted": jax.jit(given),
        "numbers": given(A, B),
        "NumPy": lambda a, b: jax.tree.map(
            np.asarray, jax.grad(two, argnums)({"x": jnp.asarray(np.asarray(a["x"]))}, b)
        ),
    }[how]
    loss_of = (lambda a, b: (two(a, b), None)) if has_aux else two
    report = jc.check_grad(loss_of, A, given, args=(B,), has_aux=has_aux)
    assert (report.verdict, report.reason) == (Verdict.FAIL, Reason.STRUCTURE)
    said = " ".join(report.notes)
    assert "argnums" in said and "params=(a, b)" in said
    assert ("not the loss's value" in said) is (argnums == (1, 0))


def test_a_second_half_that_is_wrong_is_seen_the_way_that_is_advised():
    assert jc.check_grad(two, A, first_of_two, args=(B,)).reason is Reason.STRUCTURE
    report = jc.check_grad(lambda p: two(*p), (A, B), lambda p: first_of_two(*p))
    assert [x.path for x in report.leaves if x.verdict is Verdict.FAIL] == ["[1]"]
    # Scalars: each half fits, and only the loss's value tells a value from a gradient.
    f = lambda x, y: x**3 * y + 1  # noqa: E731
    assert jc.check_grad(f, 1.5, jax.grad(f, (0, 1)), args=(2.0,)).reason is Reason.STRUCTURE
    assert jc.check_grad(f, 1.5, jax.value_and_grad(f), args=(2.0,)).ok


def test_a_pair_of_a_random_loss_is_random_not_of_wrong_structure():
    rng = np.random.default_rng(0)
    noisy = lambda p: loss(p) + rng.normal()  # noqa: E731
    for f in (noisy, lambda p: float(np_loss(p) + rng.normal())):
        report = jc.check_grad(f, NP, lambda p, f=f: (f(p), np_grad(p) if f is not noisy else grad(p)))
        assert report.reason is Reason.NONDETERMINISTIC


def throw(error):
    raise error


RAISES = {
    "vector loss": (
        lambda p: p["b"],
        {},
        TypeError,
        "not an array of shape (3,); sum or average it, or check all outputs of a function with check_rule",
    ),
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
    "tolerance": (loss, {"tolerance": "tight"}, TypeError, "tolerance must be a Tolerance(rtol=..., atol=...) or a"),
    "tolerance negative": (loss, {"tolerance": -1e-3}, ValueError, "tolerance=-0.001: a relative bound"),
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
    [
        ({"n": 3, "ids": np.arange(2)}, "`n` (Python int), `ids` (int"),
        ({}, "nothing"),
        (None, "`params` (None)"),
        ((x for x in [1.0]), "`params` (generator object)"),
        ("abc", "`params` (str object)"),
        (jax.random.key(0), "`params` (PRNG key)"),
        (np.array([None]), "`params` (object array)"),
    ],
    ids=["integers", "empty", "None", "generator", "text", "key", "objects"],
)
def test_params_without_a_differentiable_leaf(params, text):
    with pytest.raises(TypeError, match="params has no differentiable leaf") as caught:
        jc.check_grad(lambda p: 1.0, params, lambda p: p)
    for part in text.split(", "):
        assert part in str(caught.value)


OPTIONS = {
    "step 0": lambda: jc.Exhaustive(step=0),
    "step NaN": lambda: jc.Exhaustive(step=float("nan")),
    "step text": lambda: jc.Exhaustive(step="1e-7"),
    "scheme": lambda: jc.Exhaustive(step=1e-7, scheme="backward"),
    "forward without step": lambda: jc.Exhaustive(scheme="forward"),
    "chunk 0": lambda: jc.Exhaustive(chunk=0),
    "directions 0": lambda: jc.Sketch(0),
    "directions 1.5": lambda: jc.Sketch(1.5),
    "rtol": lambda: jc.Tolerance(rtol=-1),
    "atol": lambda: jc.Tolerance(atol=float("inf")),
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
        return jax.pure_callback(
            lambda x: np.asarray(x) ** 2, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential"
        )

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


def test_a_gradient_that_takes_more_than_the_loss_is_told_apart_from_the_loss():
    with pytest.raises(TypeError, match="grad is called with the arguments of the loss"):
        jc.check_grad(lambda p: jnp.sum(p**2), np.ones(3), lambda p, y: 2 * p)


def test_a_value_alone_is_called_an_array_where_a_pair_is_wanted():
    with pytest.raises(TypeError, match=r"\(value, aux\), not an array"):
        jc.check_grad(lambda p: jnp.sum(p**2), np.ones(3), lambda p: 2 * p, has_aux=True)


def test_keys_that_jax_cannot_sort_are_explained():
    with pytest.raises(ValueError, match="dictionary keys") as told:
        jc.check_grad(lambda p: jnp.sum(p["w"] ** 2) * p[1], {"w": np.ones(3), 1: 2.0})
    assert any("of one kind" in note for note in getattr(told.value, "__notes__", ()))


@pytest.mark.parametrize("size", [1e155, 1e200, 1e300, 1e-160, 1e-300])
@pytest.mark.filterwarnings("error")
def test_gradients_whose_squares_overflow_are_judged(size):
    x = np.array([0.3, -0.7, 1.1])
    for factor in (2, 3):
        report = jc.check_grad(
            lambda p: float(size * np.sum(np.asarray(p) ** 2)), x, lambda p, f=factor: f * size * np.asarray(p)
        )
        assert report.ok == (factor == 2), report
        assert report.leaves[0].norm_manual == pytest.approx(factor * size * np.linalg.norm(x))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: jc.check_grad(lambda p: jnp.sum(p["w"]), {"w": x}), "params holds .* deleted .*`w`"),
        (lambda x: jc.check_grad(lambda p, x: jnp.sum(p * x), np.ones(3), args=(x,)), "args holds .* deleted"),
        (lambda x: jc.check_batch(lambda p: jnp.sum(p), [x, x]), "points holds .* deleted"),
        (lambda x: jc.check_rule(lambda p: jnp.sum(p), x), "args holds .* deleted"),
        (lambda x: jc.check_batch(lambda p: jnp.sum(p), []), "points holds no point"),
    ],
)
def test_arrays_and_points_that_are_not_there(call, said):
    x = jnp.ones(3)
    x.delete()
    with pytest.raises(ValueError, match=said):
        call(x)


def test_a_batch_says_what_is_wrong_with_points():
    with pytest.raises(TypeError, match=r"points has no differentiable leaf .* make them floats"):
        jc.check_batch(lambda p: p**2.0, np.arange(1, 4), lambda p: 2 * p)
    with pytest.raises(TypeError, match="while JAX is tracing"):
        jax.jit(lambda x: jc.check_batch(lambda p: jnp.sum(p**2), x))(np.ones((3, 2)))


@pytest.mark.parametrize(("given", "said"), [(None, "None"), ("rev", "a str"), ((x for x in (1,)), "a generator")])
def test_a_gradient_that_is_no_tree_is_told_what_it_is(given, said):
    params = {"a": np.ones(2), "b": np.ones(2)}
    report = jc.check_grad(lambda p: jnp.sum(p["a"] * p["b"]), params, grad=lambda p: given)
    assert report.reason is jc.Reason.STRUCTURE and f"the gradient is {said}; it has to be a tree of leaves" in str(
        report
    )


def test_what_is_no_derivative_is_refused():
    for check, name in ((check_jvp, "f_jvp"), (check_vjp, "f_vjp")):
        with pytest.raises(TypeError, match=f"{name} is of type NoneType, not a function"):
            check(jnp.sin, None, (np.ones(2),))


def _plain(x):
    return jnp.mean(x**2) - jnp.mean(x) ** 2


def _cast(of):
    """A mixed-precision program: what is cast inside stays so in float64."""
    return lambda x: of(x.astype(jnp.float32))


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize(
    ("loss", "value"),
    [(_plain, jnp.var), (jnp.var, _plain), (_cast(_plain), _cast(jnp.var)), (_cast(jnp.var), _cast(_plain))],
)
def test_a_value_that_rounding_alone_takes_from_the_losses_is_the_losses(loss, value, jitted):
    x = (1000 + np.random.default_rng(0).normal(size=100)).astype(np.float32)
    x = jnp.asarray(x)
    pair = lambda x: (value(x), 2 * (x - jnp.mean(x)) / x.size)  # noqa: E731
    pair = jax.jit(pair) if jitted else pair
    assert float(loss(x)) != pytest.approx(float(value(x)), rel=1e-2)
    assert jc.check_grad(loss, x, grad=pair)
    off = jc.check_grad(loss, x, grad=lambda x: (4 * pair(x)[0], pair(x)[1]))
    assert off.reason is Reason.STRUCTURE, off


WRONG_CALLS = {
    "find_rules": (
        lambda w: jc.find_rules(3),
        TypeError,
        "find_rules takes a function and gives one; it was given int",
    ),
    "strip_rules": (lambda w: jc.strip_rules("x"), TypeError, "strip_rules takes a function"),
    "in_float64": (lambda w: jc.in_float64(3), TypeError, "in_float64 takes a function"),
    "steps": (
        lambda w: jc.check_batch(jnp.sum, w, train_step=lambda p: p, steps=[0, 0, 1]),
        ValueError,
        "names a count twice",
    ),
    "order": (lambda w: jc.check_rule(jnp.sin, w, order=True), ValueError, "order=True: use 1 or 2"),
    "filter": (lambda w: jc.check_grad(jnp.sum, w).filter(3), TypeError, "path=3: a pattern"),
    "surrogate": (
        lambda w: jc.check_grad(jnp.sum, w, grad=jnp.ones_like, surrogate=lambda path: "no"),
        TypeError,
        "returned 'no'; it has to say True or False",
    ),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_a_wrong_call_is_told_what_it_takes(name):
    call, error, said = WRONG_CALLS[name]
    with pytest.raises(error, match=re.escape(said)):
        call(np.ones(3))
