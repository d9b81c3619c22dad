"""What people bring along from torch, JAX and SciPy, and from writing in a hurry, gets an answer."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import re
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import friends, session, test_util
from jaxcheck.report import words

W = np.array([0.3, -0.7, 1.1])
X, Y = np.arange(3.0), np.float64(2.0)


def loss(w, x, y=1.0):
    return jnp.sum(jnp.sin(w) * x) * y


def grad(w, x, y=1.0):
    return jnp.cos(w) * x * y


ELSEWHERE = [name for name in friends._ELSEWHERE if name not in ("argnums", "kwargs")]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_keyword_of_another_library_is_told_what_it_is_here(name):
    with pytest.raises(TypeError, match=f"check_grad has no option {name}=: ") as caught:
        jc.check_grad(loss, W, grad, args=(X,), **{name: 1})
    assert friends._ELSEWHERE[name] in str(caught.value)


@pytest.mark.parametrize(
    "name", sorted({*ELSEWHERE, *friends._DROP_IN} - {"modes", "order", "rtol", "atol", "eps", "f"})
)
def test_the_drop_in_is_not_told_of_options_that_it_does_not_have(name):
    with pytest.raises(TypeError, match=f"check_grads has no option {name}=: ") as caught:
        test_util.check_grads(jnp.sin, (W,), 1, **{name: 1})
    said = re.sub(r"check_(rule|grad)\b.*|Exhaustive.*|functools.*", "", str(caught.value).partition("=: ")[2])
    assert set(re.findall(r"(\w+)=", said)) <= set(inspect.signature(test_util.check_grads).parameters), said


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: jc.check_grad(loss, W, grad, arg=(X,)), "check_grad has no option arg=: did you mean args=?"),
        (lambda: jc.check_grad(loss, W, grad, tolerence=1), "did you mean tolerance=?"),
        (lambda: jc.check_grad(loss, W, grad, colour=1), "has no option colour=: it has loss=, params=, grad="),
        (lambda: jc.check_grad(func=loss, inputs=(W, X)), "pass the function first"),
        (
            lambda: jc.check_grad(loss, W, grad, (X,)),
            "takes 3 arguments without a keyword (loss, params, grad), not 4; "
            "what the function takes beside goes into args=(x, y)",
        ),
        (
            lambda: jc.check_rule(loss, W, x=X),
            "check_rule has no option x=: a keyword argument of f goes into kwargs={'x'",
        ),
        (lambda: jc.check_batch(loss, [W, W], grad, argnums=(0, 1)), "params=(a, b)"),
        (lambda: jc.check_grad(loss, grad, W, (X,)), "a function stands where params belongs: SciPy's order is"),
        (lambda: jc.check_grad(loss, grad, W, args=(X,)), "Write check_grad(loss, params, grad)"),
        (
            lambda: jc.check_rule(three, (W, X, Y)),
            "check_rule takes the arguments of three(w, x, y) one after the other",
        ),
        (lambda: jc.check_rule(three, args=(W, X, Y)), "one after the other: check_rule(f, *args)"),
        (lambda: test_util.check_grads(jnp.sin, (W,), 1, order_=2), "did you mean order=?"),
        (
            lambda: jc.check_grad(loss),
            "check_grad: missing a required argument: 'params'; write check_grad(loss, pa",
        ),
        (
            lambda: jc.check_grad(loss, W, loss=loss),
            "multiple values for argument 'loss'; write check_grad(lo",
        ),
        (lambda: jc.check_rule(), "write check_rule(f, *args, ...)"),
        (
            lambda: test_util.check_grads(jnp.sin, (W,)),
            "missing a required argument: 'order'; write check_grads(f, a",
        ),
    ],
)
def test_a_call_that_cannot_be_says_what_to_write(call, said):
    with pytest.raises(TypeError) as caught:
        call()
    assert said in str(caught.value)
    assert {Path(file).name for file in frames(caught.value)} == {Path(__file__).name}


def three(w, x, y):
    return loss(w, x, y)


@pytest.mark.parametrize(
    ("given", "args", "said"),
    [
        (
            (X, Y),
            (),
            "three(w, x, y) cannot do without what was given there: did you mean args=? "
            "Write check_grad(three, params, grad=..., args=(x, y))",
        ),
        ([X, Y], (), "did you mean args=?"),
        ((Y,), (X,), "args=(x,)"),
        (Y, (X,), "args=(x,)"),
    ],
)
def test_data_in_the_place_of_the_gradient(given, args, said):
    with pytest.raises(TypeError) as caught:
        jc.check_grad(three, W, given, args=args)
    assert said in str(caught.value)


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


# As torch's gradcheck, JAX's check_grads and SciPy's check_grad take the point.
POINTS = {
    "all in one": (
        lambda: jc.check_grad(three, (W, X, Y)),
        "write check_grad(three, params[0], args=params[1:]), with argnums=(0, 1, 2)",
    ),
    "a list": (lambda: jc.check_grad(rosenbrock, [2.0, -1.0]), "an array is np.array(params, float)"),
    "whole numbers": (lambda: jc.check_grad(loss, np.arange(3), args=(X,)), "make them floats: np.asarray(x, float)"),
    "of a rule": (lambda: jc.check_rule(jnp.sin, np.arange(3)), "make them floats: np.asarray(x, float)"),
    "no tuple": (lambda: test_util.check_grads(rule, W, 1, ["rev"]), "write args=(x,)"),
    "a branch in Python": (lambda: jc.check_rule(branching, W), "the branch with jnp.where or jax.lax.cond"),
    "the same, in the drop-in": (
        lambda: test_util.check_grads(branching, (W,), 1, ["rev"]),
        "runs such functions on numbers",
    ),
    "no forward mode": (lambda: test_util.check_grads(rule, (W,), 1), 'modes=["rev"] leaves the forward mode out'),
}


@jax.jit
def branching(x):
    return jnp.sin(x) if jnp.sum(x) > 0 else x


@jax.custom_vjp
def rule(x):
    return jnp.sin(x)


rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x),))


@pytest.mark.parametrize("name", POINTS)
def test_a_point_as_other_libraries_take_it_is_told_how_it_is_given_here(name):
    call, said = POINTS[name]
    with pytest.raises(TypeError) as caught:
        call()
    assert said in "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


def test_one_point_in_the_place_of_many_is_told_apart():
    with pytest.raises((TypeError, ValueError), match=r"matmul|dot_general") as caught:
        jc.check_batch(lambda w: jnp.sum(jnp.eye(3) @ w), W)
    assert "the loss takes points as they are, which is one point: check_grad" in "".join(caught.value.__notes__)
    with pytest.raises((TypeError, ValueError), match=r"matmul|dot_general") as caught:
        jc.check_batch(lambda w: jnp.sum(jnp.eye(4) @ w), W)
    assert "one point" not in "".join(getattr(caught.value, "__notes__", ()))


def keyword(w, *, x):
    return loss(w, x)


BESIDE = "what it takes beside w goes into args=(x, y)"
# Calls with too few arguments, or too many: of every front door, and of each function that it is given.
CALLS = {
    "a loss": (lambda: jc.check_grad(three, W), f"three(w, x, y) was called without x and y: {BESIDE}"),
    "a loss under jit": (lambda: jc.check_grad(jax.jit(three), W), f"without x and y: {BESIDE}"),
    "a loss given one": (lambda: jc.check_grad(three, W, args=(X,)), f"without y: {BESIDE}"),
    "a loss by argnums": (lambda: jc.check_grad(three, W, args=(X,), argnums=(0, 1)), f"without y: {BESIDE}"),
    "a loss given three": (lambda: jc.check_grad(three, W, args=(X, Y, Y)), "with 4 arguments: too many positional"),
    "a gradient": (lambda: jc.check_grad(three, W, lambda w, x: x, args=(X, Y)), "<lambda>(w, x) was called with 3"),
    "a keyword": (lambda: jc.check_grad(keyword, W), "keyword(w, *, x) was called without x: kwargs={'x': ...}"),
    "a batch": (lambda: jc.check_batch(three, W[None]), f"without x and y: {BESIDE}"),
    "init": (lambda: jc.check_batch(loss, init=lambda: W, n=2, args=(X,)), "init takes a key"),
    "train_step": (
        lambda: jc.check_batch(loss, W, train_step=lambda w, x: w, steps=[1], args=(X,)),
        "train_step the parameters",
    ),
    "a rule": (lambda: jc.check_rule(three, W), "without x and y: write check_rule(f, w, x, y)"),
    "a custom_vjp": (lambda: jc.check_rule(rule, W, X), "rule(x) was called with 2 arguments: too many positional"),
    "the drop-in": (lambda: test_util.check_grads(three, (W,), 1), "without x and y: write args=(w, x, y)"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_python_refuses_says_what_to_write_without_a_frame_of_ours(name):
    call, said = CALLS[name]
    with pytest.raises(TypeError) as caught:
        call()
    assert said in str(caught.value)
    assert {Path(file).name for file in frames(caught.value)} == {Path(__file__).name}


def test_what_fails_inside_a_function_is_not_taken_for_its_call():
    with pytest.raises(TypeError, match=r"three\(\) missing 2"):
        jc.check_grad(lambda w, x=X: three(w), W)

    @functools.wraps(three)  # its signature is that of another
    def handing_on(w):
        return three(w, X, Y)

    assert jc.check_grad(handing_on, W)
    with pytest.raises(TypeError, match="sum or average it"):
        jc.check_grad(functools.wraps(three)(lambda w: jnp.sin(w)), W)


def test_a_tuple_that_the_loss_takes_whole_is_no_mistake():
    assert jc.check_grad(lambda pair: loss(*pair), (W, X)) and jc.check_grad(lambda w, *x: jnp.sum(w[0] ** 2), (W, X))


@pytest.mark.parametrize("name", ["gradcheck", "gradgradcheck", "check_grads", "check_jvp", "check_vjp"])
def test_a_checker_of_another_name_is_told_apart(name):
    with pytest.raises(AttributeError, match=rf"no attribute '{name}': use (check_rule|from jaxcheck.test_util)"):
        getattr(jc, name)
    with pytest.raises(
        ImportError, match=rf"import name '{name}' from 'jaxcheck': use (check_rule|from jaxcheck.test_)"
    ):
        exec(f"from jaxcheck import {name}")
    with pytest.raises(ImportError, match="cannot import name 'nothing' from 'jaxcheck' "):
        exec("from jaxcheck import nothing")
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'$"):
        jc.nothing  # noqa: B018


def test_a_gradient_given_as_data_is_none_of_that():
    assert jc.check_grad(lambda w: loss(w, X), W, grad(W, X))
    assert jc.check_grad(lambda w: loss(*w), (W, X), tuple(jax.grad(loss, (0, 1))(W, X)))
    assert jc.check_grad(loss, W, grad(W, X), args=(X,))  # y has a default
    with pytest.raises(TypeError, match="without x and y"):
        jc.check_grad(three, W, jnp.cos)


@pytest.mark.parametrize(
    ("argnums", "given"),
    [
        (0, grad),
        ((0,), lambda w, x, y=1.0: (grad(w, x, y),)),
        (1, lambda w, x, y=1.0: jnp.sin(w) * y),
        (-1, lambda w, x, y=1.0: jnp.sin(w) * y),
        ((0, 1), jax.grad(loss, (0, 1))),
        ([1, 0], jax.grad(loss, (1, 0))),
        ((0, 1), jax.value_and_grad(loss, (0, 1))),
        ((0, 1), None),
        (1, jax.grad(loss, 1)(W, X, 2.0)),
    ],
)
def test_argnums_and_keywords(argnums, given):
    report = jc.check_grad(loss, W, given, args=(X,), argnums=argnums, kwargs={"y": 2.0})
    assert report.ok and report.name == "loss", report
    several = not isinstance(argnums, int)
    assert [leaf.path for leaf in report] == ([f"[{i}]" for i in range(len(argnums))] if several else ["params"])


def test_a_mistake_in_the_second_argument_is_seen():
    def wrong(w, x, y):
        return grad(w, x, y), 2 * jnp.sin(w) * y

    report = jc.check_grad(loss, W, wrong, args=(X,), argnums=(0, 1), kwargs={"y": 2.0})
    assert [leaf.path for leaf in report.failed] == ["[1]"] and "ratio 2.000" in report["[1]"].hint


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"argnums": 2}, ValueError, "argnums=2 is out of range: params and args are 2 arguments"),
        ({"argnums": (0, 0)}, ValueError, "each place once"),
        ({"argnums": ()}, ValueError, "one at least"),
        ({"argnums": "w"}, TypeError, "a whole number"),
        ({"argnums": True}, TypeError, "a whole number"),
        ({"kwargs": (1,)}, TypeError, "kwargs must be a dict"),
    ],
)
def test_argnums_and_keywords_that_cannot_be(options, kind, said):
    with pytest.raises(kind) as caught:
        jc.check_grad(loss, W, grad, args=(X,), **options)
    assert said in str(caught.value)


def test_the_line_of_a_report_names_the_cause_at_every_door():
    doubled = jc.check_batch(loss, [W, W + 0.1], lambda w, x: 2 * grad(w, x), args=(X + 1,))
    assert repr(doubled).endswith(f"not pass, worst {doubled.point}: `params` ratio 2.000 on all 3 entries>")
    with pytest.raises(jc.GradientMismatch) as caught:
        test_util.check_grads(halved, (W,), 1, ["rev"])
    report = caught.value.report
    assert "`x` ratio 0.5 on all 3 entries" in repr(report)
    assert "again: " in str(report) and "jaxcheck.test_util.check_grads(halved, ...)" in words.repeats(
        dataclasses.replace(report, made=dataclasses.replace(report.made, again=""))
    )
    with pytest.raises(jc.GradientMismatch, match=r"FAIL check_vjp\(halved\)"):
        test_util.check_vjp(halved, functools.partial(jax.vjp, halved), (W,))
    # One number for one thing: what the headline says is what stands in the table of leaves.
    assert report.difference == report["x"].difference and report.difference_autodiff == report["x"].difference_autodiff
    with pytest.raises(ValueError, match="verdict='fail': use 'PASS', 'FAIL', 'INCONCLUSIVE'"):
        report.filter(verdict="fail")


@jax.custom_vjp
def halved(x):
    return jnp.sin(x)


halved.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (g * jnp.cos(x) / 2,))


def test_a_number_is_a_relative_tolerance():
    def off(w, x):
        return 1.001 * grad(w, x)

    assert not jc.check_grad(loss, W, off, args=(X,)).ok
    assert jc.check_grad(loss, W, off, args=(X,), tolerance=1e-2).ok
    assert jc.check_grad(loss, W, off, args=(X,), tolerance=np.float32(1e-2)).ok
    for bound in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1):  # what is granted need not be caught
        report = jc.check_grad(loss, W, grad, args=(X,), tolerance=bound)
        assert report.ok and report[0].floor <= max(1e-3, 10 * bound)
    # The caller's own word goes first: this check cannot see what it is asked to.
    assert jc.check_grad(loss, W, grad, args=(X,), tolerance=1e-2, must_catch=1e-3).reason == "VACUOUS"
    with pytest.raises(TypeError, match="not bool"):
        jc.check_grad(loss, W, off, args=(X,), tolerance=True)


def test_a_conjugated_gradient_says_whose_convention_it_is():
    z = np.array([1 + 2j, -0.3 + 0.4j], np.complex64)
    report = jc.check_grad(
        lambda z: jnp.sum(jnp.abs(z) ** 2) + jnp.sum(z.real * z.imag**2),
        z,
        lambda z: jnp.conj(jax.grad(lambda z: jnp.sum(jnp.abs(z) ** 2) + jnp.sum(z.real * z.imag**2))(z)),
    )
    assert "torch's is its conjugate" in report.failed[0].hint


def frames(error: BaseException) -> list[str]:
    return [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]


def test_a_traceback_ends_in_the_callers_code():
    def broken(w):
        return jnp.dot(w, X[:2])

    for call in (
        lambda: jc.check_grad(broken, W, grad),
        lambda: jc.check_rule(broken, W),
        lambda: jc.check_grad(loss, W, grad, args=(X,), rtol=1),
        lambda: jc.check_grad(loss, W, grad, args=X),
        lambda: test_util.check_grads(broken, (W,), 1),
        lambda: jc.check_grad(loss, W, lambda w, x: 2 * grad(w, x), args=(X,)).assert_ok(),
        lambda: jc.check_batch(broken, [W, W], grad),
    ):
        with pytest.raises((TypeError, AssertionError)) as caught:
            call()
        mine = [Path(name).name for name in frames(caught.value)]
        assert set(mine) <= {Path(__file__).name, "result.py"}, mine  # `assert_ok` hides itself from pytest


def test_a_mistake_of_our_own_keeps_its_frames(monkeypatch):
    monkeypatch.setattr("jaxcheck.check.calls.prepare", lambda *args: (None, None))
    with pytest.raises(AttributeError) as caught:
        jc.check_grad(loss, W, grad, args=(X,))
    assert Path(frames(caught.value)[-1]).name == "calls.py"


def test_who_listens_hears_of_every_report():
    heard = []
    stop = session.listen(heard.append)
    try:
        made = jc.check_grad(loss, W, grad, args=(X,))
        test_util.check_grads(jnp.sin, (W,), 1)
        with pytest.raises(AssertionError):
            test_util.check_grads(jnp.floor, (W,), 0)
    except ValueError:
        pass
    finally:
        stop()
    assert heard[0] is made and [report.kind for report in heard] == ["check_grad", "check_grads"]
    assert heard[1].ok and heard[1].seconds > 0 and heard[1].difference < 1e-6
    jc.check_grad(loss, W, grad, args=(X,))
    assert len(heard) == 2


def test_defaults_of_a_run_are_for_calls_without_their_own(monkeypatch):
    monkeypatch.setitem(session.defaults, "seed", 7)
    assert jc.check_grad(loss, W, grad, args=(X,)).seed == 7
    assert jc.check_grad(loss, W, grad, args=(X,), seed=2).seed == 2


def test_the_doors_keep_their_signatures():
    assert list(inspect.signature(jc.check_grad).parameters)[:3] == ["loss", "params", "grad"]
    assert "check" in str(inspect.getdoc(test_util.check_grads)).lower()


SCRIPT = """
import jax
import jax.numpy as jnp
import numpy as np
import jaxcheck as jc
from jaxcheck.test_util import check_grads

def loss(w: jax.Array) -> jax.Array:
    return jnp.sum(w**2)

report = jc.check_grad(loss, np.ones(3), mode="sketch", tolerance=1e-3, precision="native")
for leaf in report:
    print(leaf.path, leaf.difference, leaf.verdict is jc.Verdict.PASS)
print(report["params"].floor, report.failed, jc.check_rule(jnp.sin, 1.0).ok)
report.assert_ok().save("r.json")
check_grads(loss, (np.ones(3),), order=1)
for component in report["params"].worst:
    print(component.name, component.manual, component.numeric_error)
print(jc.check_batch(loss, init=lambda key: key + 1, n=2).ok)
print(jc.check_batch(loss, np.ones((2, 3))).plot("points"), [row.status for row in report.rows])
print(jc.Report.load("r.json").diff(report))
"""


def test_a_users_script_is_clean_to_a_strict_type_checker(tmp_path):
    pyright = Path(sys.executable).with_name("pyright")
    if not pyright.exists():
        pytest.skip("pyright is not installed")
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    config = {"typeCheckingMode": "strict", "extraPaths": [str(Path(jc.__file__).parents[1])]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    (tmp_path / "spoiled.py").write_text(
        textwrap.dedent(SCRIPT).replace('"sketch"', '"sketched"').replace('"points"', '"dots"').replace("_rule", "_rul")
    )
    done = subprocess.run(
        [pyright, "--pythonpath", sys.executable, "--outputjson", "script.py", "spoiled.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [(Path(one["file"]).name, one["message"]) for one in json.loads(done.stdout)["generalDiagnostics"]]
    assert [message for name, message in found if name == "script.py"] == []
    for word in ("sketched", "dots", "check_rul"):
        assert any(word in message for name, message in found if name == "spoiled.py")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: test_util.check_grads(jnp.sin, 0.3, 1), r"args must be a tuple of f's arguments, not float: write"),
        (lambda: test_util.check_grads((W,), jnp.sin, 1), r"f must be a function, not tuple: check_grads\(f, args"),
        (lambda: test_util.check_grads(jnp.sin, (W,), 1, None), r'modes=None: use "fwd", "rev" and "lin"'),
        (lambda: test_util.check_grads(jnp.sin, (W,), 1, 3), r'modes=3: use "fwd", "rev" and "lin"'),
        (lambda: jc.check_grad(jnp.sum, W, where="no"), r"where='no': True, False, or a number, the seconds"),
        (lambda: jc.check_grad(jnp.sum, W, must_catch=True), r"must_catch=True: a relative error"),
        (lambda: jc.check_grad(jnp.sum, W, name=3), r"name=3: a string"),
        (lambda: jc.check_grad(jnp.sum, W, name="a\nb"), r"name='a\\nb': one line"),
        (lambda: jc.check_rule(jnp.sin, W, transforms="all"), r"transforms='all': True or False"),
    ],
)
def test_values_of_options_are_refused_by_name(call, said):
    with pytest.raises((TypeError, ValueError), match=said):
        call()


def test_flags_may_be_numpys():
    assert jc.check_grad(jnp.sum, W, where=np.bool_(False), name="sum").name == "sum"
