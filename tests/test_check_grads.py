"""The drop-in: what jax.test_util does, with its errors, but for what it lets through."""

from __future__ import annotations

import itertools
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import jax.test_util as theirs
import numpy as np
import pytest
from jax import lax

import jaxcheck as jc
from jaxcheck.check import derivative, drop_in
from jaxcheck.judgement.maps import Finding
from jaxcheck.test_util import check_grads, check_jvp, check_vjp

V = jnp.asarray(np.random.default_rng(0).standard_normal(5), jnp.float32)
ALL = ("fwd", "rev", "lin")


@pytest.fixture(autouse=True)
def _no_second_look(monkeypatch):
    """What is found wrong is not looked at leaf by leaf here, for the time it takes: see `test_by_leaf`."""
    monkeypatch.setattr(derivative, "by_leaf", lambda *args: None)


def sine(spoil=lambda g: g):
    f = jax.custom_vjp(jnp.sin)
    f.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (jnp.cos(x) * spoil(g),))
    return f


def sine_forward(spoil=lambda t: t):
    f = jax.custom_jvp(jnp.sin)
    f.defjvp(lambda x, t: (f(x[0]), jnp.cos(x[0]) * spoil(t[0])))
    return f


def detached():
    f = jax.custom_jvp(jnp.sin)
    f.defjvp(lambda x, t: (f(x[0]), jnp.cos(lax.stop_gradient(x[0])) * t[0]))
    return f


def looped(x):
    return lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, x))[1]


@pytest.mark.parametrize("modes", [("fwd",), ("rev",), ("lin",), ALL, ["fwd", "rev"]], ids=str)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_right_in_all_modes_and_orders(modes, order):
    assert check_grads(lambda x, y: jnp.sin(x) * y, (V[:2], 1.5), order, modes) is None


RIGHT = {
    "numpy": (lambda x: x**2, (np.arange(1.0, 4.0),)),
    "numpy scalar": (jnp.exp, (np.float32(0.3),)),
    "Python float": (jnp.exp, (0.3,)),
    "Python int beside it": (lambda x, n: x**n, (0.3, 3)),
    "list of arguments": (jnp.multiply, [V, V]),
    "pytrees": (lambda p: {"y": p["a"] * p["b"][0]}, ({"a": V, "b": [V, None]},)),
    "int array": (lambda x, i: x[i] ** 2, (V, jnp.arange(3))),
    "bool": (lambda x, m: jnp.where(m, x, 2 * x), (V, V > 0)),
    "key": (lambda k, x: x * jax.random.normal(k, x.shape), (jax.random.key(0), V)),
    "int result beside it": (lambda x: (x**2, jnp.argmax(x)), (V,)),
    "complex": (lambda z: z**2 * 1j, (jnp.array([1 + 2j, -0.3j], jnp.complex64),)),
    "complex to real": (lambda z: jnp.abs(z), (jnp.array([1 + 2j, -0.3j], jnp.complex64),)),
    "bfloat16": (jnp.tanh, (V.astype(jnp.bfloat16),)),
    "float16": (jnp.tanh, (V.astype(jnp.float16),)),
    "mixed dtypes": (lambda x, y: x.astype(jnp.float32) * y, (V.astype(jnp.bfloat16), V)),
    "zero size": (jnp.sin, (jnp.zeros((0, 2)),)),
    "empty output": (lambda x: x[:0], (V,)),
    "empty output beside another": (lambda x: (x[:0], jnp.sin(x)), (V,)),
    "empty input beside another": (lambda x, y: jnp.sum(x) + y**2, (V[:0], V)),
    "large": (lambda x: jnp.sum(x**2) + 1e6, (V,)),
    "keyword default": (lambda x, k=2.0: x * k, (V,)),
    "jitted": (jax.jit(jnp.tanh), (V,)),
    "partial": (partial(jnp.power, 2.0), (V,)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_arguments_of_every_kind(name):
    f, args = RIGHT[name]
    check_grads(f, args, order=2, modes=ALL)


NOTHING = {
    "no output": (lambda x: (), (V,), "f returned no float or complex output"),
    "int output": (lambda x: jnp.argmax(x), (V,), "f returned no float or complex output"),
    "only int arguments": (lambda i: i + 1.0, (3,), r"`\[0\]` \(Python int\)"),
    "only an int array": (lambda i: i + 1.0, (jnp.arange(3),), r"`\[0\]` \(int32 array\)"),
    "only a key": (lambda k: jax.random.normal(k, (2,)), (jax.random.key(0),), "PRNG key"),
    "no argument": (lambda: jnp.float32(1.0), (), "it holds nothing"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_to_differentiate_is_an_error_as_in_jax(name):
    f, args, text = NOTHING[name]
    for door in (
        lambda: check_grads(f, args, 1),
        lambda: check_vjp(f, partial(jax.vjp, f), args),
        lambda: check_jvp(f, partial(jax.jvp, f), args),
    ):
        with pytest.raises(TypeError, match=text):
            door()


@pytest.mark.parametrize("name", ["numpy", "complex", "bfloat16", "pytrees"])
@pytest.mark.parametrize("mode", ["fwd", "rev", "lin"])
def test_and_a_mistake_in_each_of_them(name, mode):
    f, args = RIGHT[name]
    wrong = jax.custom_jvp(f)
    wrong.defjvp(lambda x, t: (f(*x), jax.tree.map(lambda t: t * t.dtype.type(1.02), jax.jvp(f, x, t)[1])))
    args = jax.tree.map(jnp.asarray, args)
    with pytest.raises(jc.GradientMismatch, match="VJP" if mode == "rev" else "JVP"):
        check_grads(wrong, args, 1, (mode,))


@pytest.mark.parametrize("mode", ["fwd", "lin", "rev"])
def test_an_order_at_a_time(mode):
    check_grads(detached(), (V,), 1, ALL)
    with pytest.raises(jc.GradientMismatch) as caught:
        check_grads(detached(), (V,), 2, (mode,))
    assert caught.value.report.reason is jc.Reason.SECOND_ORDER_WRONG


@pytest.mark.parametrize("mode", ["fwd", "lin", "rev"])
def test_a_derivative_hidden_without_a_rule(mode):
    with pytest.raises(jc.GradientMismatch):
        check_grads(lambda x: x * lax.stop_gradient(x), (V,), 1, (mode,))


@pytest.mark.slow
def test_third_order():
    f = jax.custom_jvp(jnp.sin)
    f.defjvp(lambda x, t: (f(x[0]), g(x[0]) * t[0]))
    g = jax.custom_jvp(jnp.cos)
    g.defjvp(lambda x, t: (g(x[0]), -lax.stop_gradient(jnp.sin(x[0])) * t[0]))
    check_grads(f, (V[:2],), 2, ("fwd",))
    with pytest.raises(jc.GradientMismatch, match=r"JVP of JVP of JVP|JVP of JVP"):
        check_grads(f, (V[:2],), 3, ("fwd",))


@pytest.mark.parametrize("spoil", [lambda g: -g, lambda g: 1.00001 * g, lambda g: g.at[3].mul(2.0), lambda g: 0 * g,
                                   jnp.abs, lambda g: g * jnp.nan])  # fmt: skip
def test_mistakes(spoil):
    with pytest.raises(AssertionError) as caught:
        check_grads(sine(spoil), (V,), 1, ["rev"])
    assert isinstance(caught.value, jc.GradientMismatch) and caught.value.report.verdict is jc.Verdict.FAIL
    with pytest.raises(AssertionError):
        check_grads(sine_forward(spoil), (V,), 1, ["fwd"])


def test_what_jax_lets_through():
    x = jnp.linspace(-1.0, 1.0, 600)
    theirs.check_grads(sine_forward(lambda t: 0 * t), (x,), 1, ["fwd"])  # or this test has lost its point
    with pytest.raises(AssertionError):
        check_grads(sine_forward(lambda t: 0 * t), (x,), 1, ["fwd"])
    with pytest.raises(AssertionError):  # NaN is no agreement
        check_grads(jnp.sqrt, (-1.0,), 1)


def test_bounds_of_the_caller():
    off = sine(lambda g: 1.001 * g)
    for bound in (dict(rtol=1e-2), dict(atol=1e-1), dict(rtol={np.float32: 1e-2, np.float64: 1e-4}), dict(rtol=1e-2,
         eps=1e-3),
                  dict(atol={jnp.dtype("float32"): 0.1}, rtol=0.0)):  # fmt: skip
        check_grads(off, (V,), 1, ["rev"], **bound)
    for bound in (
        dict(rtol=1e-4),
        dict(atol=1e-6, rtol=1e-6),
        dict(rtol={np.float32: 1e-4, np.float64: 1e-6}),
        dict(eps=1e-2),
    ):
        with pytest.raises(AssertionError):
            check_grads(off, (V,), 1, ["rev"], **bound)
    with pytest.raises(AssertionError):  # never scaled by size
        check_grads(off, (jnp.linspace(-1, 1, 2000),), 1, ["rev"], rtol=1e-4)
    check_grads(sine(), (V,), 1, ["rev"], 1e-3, 1e-3, 1e-3)  # as positions


@pytest.mark.parametrize(
    "bad", [-1, -1e-9, float("nan"), np.float32("nan"), float("inf"), {np.float32: -1.0}, "small"], ids=str
)
@pytest.mark.parametrize("which", ["rtol", "atol"])
def test_bounds_that_are_none(which, bad):
    for door in (
        lambda **o: check_grads(jnp.sin, (V,), 1, **o),
        lambda **o: check_jvp(jnp.sin, partial(jax.jvp, jnp.sin), (V,), **o),
        lambda **o: check_vjp(jnp.sin, partial(jax.vjp, jnp.sin), (V,), **o),
    ):
        with pytest.raises(ValueError, match=f"{which}="):
            door(**{which: bad})


@pytest.mark.parametrize("modes", ["fwd", "rev", "lin", "fwd,rev", "fwd rev lin"])
def test_modes_as_one_string(modes):
    check_grads(jnp.sin, (V,), 1, modes)
    with pytest.raises(jc.GradientMismatch):
        check_grads(sine_forward(lambda t: 1.01 * t), (V,), 1, modes)


@pytest.mark.parametrize("modes", ["fwd", "rev", "lin", ALL], ids=str)
@pytest.mark.parametrize(
    ("f", "x"),
    [
        (jnp.abs, jnp.zeros(3)),
        (jax.nn.relu, jnp.array([1.0, 0.0, -2.0])),
        (jnp.max, jnp.ones(2)),
        (lambda x: jnp.sum(jnp.abs(x)), jnp.zeros(2)),
    ],
    ids=["abs", "relu", "max", "sum of abs"],
)
def test_a_kink_is_told_once(f, x, modes):
    with pytest.warns(jc.GradientCheckWarning, match=r"subgradient, KINK") as caught:
        check_grads(f, (x,), 1, modes)
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():  # and nothing is told beside it
        warnings.simplefilter("error")
        check_grads(f, (x + 1e-2 * jnp.arange(1.0, 1 + x.size),), 1, modes)


def test_the_warning_is_of_the_caller_in_all_doors():
    x = jnp.zeros(3)
    for door in (
        lambda: check_jvp(jnp.abs, partial(jax.jvp, jnp.abs), (x,), err_msg="here"),
        lambda: check_vjp(jnp.abs, partial(jax.vjp, jnp.abs), (x,), err_msg="here"),
    ):
        with pytest.warns(jc.GradientCheckWarning, match="here: .*KINK") as caught:
            door()
        assert len(caught) == 1 and caught[0].filename == __file__


def test_a_mistake_at_a_kink_is_no_warning():
    wrong = jax.custom_jvp(jnp.abs)
    wrong.defjvp(lambda x, t: (jnp.abs(x[0]), 3.0 * t[0]))
    with pytest.raises(jc.GradientMismatch):
        check_grads(wrong, (jnp.zeros(3),), 1)


def findings(*verdicts):
    return [("" if i == 0 else "JVP", Finding("JVP", v, r)) for i, (v, r) in enumerate(verdicts)]


YES = (jc.Verdict.PASS, jc.Reason.AGREE)
NO = (jc.Verdict.FAIL, jc.Reason.MANUAL_WRONG)
UNSURE = (jc.Verdict.INCONCLUSIVE, jc.Reason.DOMAIN)


@pytest.mark.parametrize("made", itertools.product([YES, NO, UNSURE], repeat=2), ids=str)
def test_what_was_not_judged_is_told(made):
    """Wrong is an error; not judged at all, one too; not judged in part, a warning with the reason."""
    head = {"kind": "check_grads", "name": "f"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            drop_in.tell(findings(*made), head, "")
            raised = None
        except AssertionError as error:
            raised = error
    expected = jc.GradientMismatch if NO in made else jc.GradientInconclusive if YES not in made else type(None)
    assert type(raised) is expected
    partly = UNSURE in made and expected is type(None)
    assert [w.category for w in caught] == [jc.GradientCheckWarning] * partly
    assert all("was not judged, DOMAIN" in str(w.message) for w in caught)
    if NO in made:  # "right at first order" is only said where it is known
        assert (raised.report.reason is jc.Reason.SECOND_ORDER_WRONG) is (made == (YES, NO))


def test_nothing_judged_raises():
    with pytest.raises(jc.GradientInconclusive, match="DOMAIN"):
        check_grads(lambda x: jnp.where(x == 1, x, jnp.nan), (jnp.float32(1.0),), 1, "fwd")


def once():
    """A function of another constant every time it is called."""
    rng = np.random.default_rng(0)
    return lambda x: jnp.sin(x) * rng.normal()


def callback():
    rng = np.random.default_rng(0)

    def f(x):
        noise = jax.pure_callback(
            lambda x: rng.normal(size=x.shape).astype(x.dtype),
            jax.ShapeDtypeStruct(x.shape, x.dtype),
            lax.stop_gradient(x),
            vmap_method="sequential",
        )
        return x**2 + noise

    return f


def leak():
    kept = []

    def f(x):
        y = sum(kept, jnp.zeros(())) + x
        kept.append(x)
        return y

    return f


@pytest.mark.parametrize("make", [once, callback, leak])
def test_what_is_random_is_not_judged(make):
    for door in (lambda f: check_grads(f, (V,), 1), lambda f: check_vjp(f, partial(jax.vjp, jnp.sin), (V,))):
        with pytest.raises(jc.GradientInconclusive) as caught:
            door(make())
        assert caught.value.report.reason is jc.Reason.NONDETERMINISTIC


@pytest.mark.parametrize("order", [1, 2])
def test_the_evaluations_are_those_that_were_made(order):
    """Counted where they happen, in the function itself; derivatives call it now and then as well, and a look at what
    the program decides runs all but the call."""
    calls = []

    def f(x):
        count = jax.pure_callback(
            lambda x: (calls.append(1), np.zeros_like(x))[1],
            jax.ShapeDtypeStruct(x.shape, x.dtype),
            lax.stop_gradient(x),
            vmap_method="sequential",
        )
        return 2 * x**2 + x * lax.stop_gradient(x) + count

    with pytest.raises(jc.GradientMismatch) as caught:
        check_grads(f, (V,), order, "fwd")
    report = caught.value.report
    assert report.evaluations and "0 evaluations" not in str(report)
    assert len(calls) - 8 <= report.evaluations <= 1.5 * len(calls)


def same_error(f, args, **options):
    raised = []
    for check in (theirs.check_grads, check_grads):
        with pytest.raises(Exception) as caught:  # noqa: PT011 the type is what is compared
            check(f, args, **options)
        raised.append(caught)
    assert type(raised[0].value) is type(raised[1].value)
    return str(raised[0].value), str(raised[1].value)


def test_only_one_mode():
    check_grads(sine(), (V,), 2, ["rev"])
    check_grads(looped, (V,), 2, ["fwd"])
    a, b = same_error(sine(), (V,), order=1)
    assert "forward-mode" in a and "forward-mode" in b
    a, b = same_error(looped, (V,), order=1)
    assert "everse-mode differentiation does not work" in a and "everse-mode differentiation does not work" in b


def test_errors_of_the_function_are_its_own():
    def broken(x):
        raise ZeroDivisionError("mine")

    assert same_error(broken, (V,), order=1) == ("mine", "mine")
    raising = jax.custom_vjp(jnp.sin)

    def bwd(x, g):
        raise KeyError("in the backward pass")

    raising.defvjp(lambda x: (jnp.sin(x), x), bwd)
    same_error(raising, (V,), order=1, modes=["rev"])
    same_error(jnp.dot, (V, V[:3]), order=1)


@pytest.mark.parametrize(("order", "modes"), [(0, ["fwd"]), (-1, ["rev"]), (1.5, ["rev"]), (True, ["rev"]), (1, []),
                                              (1, ["backward"])])  # fmt: skip
def test_bad_options(order, modes):
    with pytest.raises(ValueError, match=r"order|modes"):
        check_grads(jnp.sin, (V,), order, modes)


def test_inside_a_trace():
    with pytest.raises(Exception, match=r"trac|jit"):
        jax.jit(lambda x: check_grads(jnp.sin, (x,), 1))(V)


def test_check_jvp_and_check_vjp():
    check_jvp(jnp.sin, partial(jax.jvp, jnp.sin), (V,))
    check_vjp(jnp.sin, partial(jax.vjp, jnp.sin), (V,))
    check_vjp(sine(), partial(jax.vjp, sine()), (V,), atol=1e-2, rtol=1e-2, eps=1e-3)

    def given(x, t):
        return jnp.sin(x[0]), 1.01 * jnp.cos(x[0]) * t[0]

    with pytest.raises(AssertionError, match="here: JVP"):
        check_jvp(jnp.sin, given, (V,), err_msg="here")
    check_jvp(jnp.sin, given, (V,), rtol=0.1)
    with pytest.raises(AssertionError, match="there: VJP"):
        check_vjp(jnp.sin, lambda x: (jnp.sin(x), lambda g: (jnp.cos(x) * g.at[0].mul(2.0),)), (V,), err_msg="there")


def test_check_vjp_with_other_arguments():
    f = lambda p, i, m: (p["w"][i] * m, i)  # noqa: E731
    args = ({"w": V, "n": 3}, jnp.arange(2), jnp.ones(2, jnp.float32))
    check_vjp(f, partial(jax.vjp, f), args)
    z = jnp.array([1 + 2j, -0.3j], jnp.complex64)
    check_vjp(jnp.sin, partial(jax.vjp, jnp.sin), (z,))
    check_jvp(jnp.sin, partial(jax.jvp, jnp.sin), (z,))
    with pytest.raises(AssertionError):
        check_vjp(jnp.sin, lambda z: (jnp.sin(z), lambda g: (jnp.conj(jnp.cos(z)) * g,)), (z,))


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("context", ["strict", "rank", "checks", "nans", "no jit"])
def test_under_jaxs_own_test_settings(context, x64):
    contexts = {"strict": lambda: jax.numpy_dtype_promotion("strict"), "rank": lambda: jax.numpy_rank_promotion("raise"),  # noqa: E501
                "checks": lambda: jax.enable_checks(True), "nans": lambda: jax.debug_nans(True),
                "no jit": jax.disable_jit}  # fmt: skip
    with contexts[context](), jax.enable_x64(x64):
        x = jnp.asarray(V)
        check_grads(sine(), (x,), 2, ["rev"])
        check_grads(sine_forward(), (x,), 2, ALL)
        check_grads(lambda x, y: jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, jnp.ones_like(x))), y), (x, x), 1)
        with pytest.raises(AssertionError):
            check_grads(sine(lambda g: g * jnp.asarray(1.01, g.dtype)), (x,), 1, ["rev"])
        assert x.dtype == V.dtype


def test_the_same_twice():
    said = []
    for _ in range(2):
        with pytest.raises(AssertionError) as caught:
            check_grads(sine(lambda g: 1.01 * g), (V,), 1, ["rev"])
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.parametrize(("action", "category", "outcome"), [
    ("error", Warning, "warned"), ("error", UserWarning, "warned"), ("ignore", Warning, "silent"),
    ("error", jc.GradientCheckWarning, "raised"),
])  # fmt: skip
def test_a_suite_whose_warnings_are_errors_does_not_turn_red_at_a_kink(action, category, outcome):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter(action, category)
        try:
            check_grads(jnp.abs, (jnp.zeros(3),), 1)
        except jc.GradientCheckWarning:
            assert outcome == "raised"
            return
    assert outcome == ("warned" if seen else "silent")
    if seen:
        assert seen[0].filename == __file__
