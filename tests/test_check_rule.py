"""The front door for rules: what comes back, who is named, and what becomes of bad input."""

from __future__ import annotations

import collections
import pickle
import sysconfig

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcheck as jc

V = jnp.asarray(np.random.default_rng(0).standard_normal(4), jnp.float32)
FAST = dict(algebra=False, transforms=False)


def sine(bwd=lambda x, g: (jnp.cos(x) * g,), fwd=lambda x: (jnp.sin(x), x)):
    f = jax.custom_vjp(lambda x: jnp.sin(x))
    f.defvjp(fwd, bwd)
    return f


def pair(bwd):
    f = jax.custom_vjp(lambda p: p["a"] * p["b"])
    f.defvjp(lambda p: (f(p), p), bwd)
    return f


PAIR = {"a": V, "b": V + 1}


def wrong_rows(report, group):
    return {r.name for r in report.rows if r.group == group and r.status == "WRONG"}


def row(report, name):
    (found,) = [r for r in report.rows if r.name == name]
    return found


def test_a_right_rule_says_all_it_knows():
    report = jc.check_rule(sine(), V, order=2, name="mine")
    assert report.verdict is jc.Verdict.PASS and report.ok and report.kind == "check_rule" and report.name == "mine"
    assert {r.group for r in report.rows} == {"forward", "second order", "law", "transformation"}
    assert not any(r.status == "WRONG" for r in report.rows)
    assert row(report, "JVP").status == "UNSUPPORTED" and "forward-mode" in row(report, "JVP").detail
    assert row(report, "reverse over reverse").status == "OK"
    assert any("custom_vjp" in n and __file__ in n for n in report.notes)
    (leaf,) = report.leaves
    assert leaf.path == "x" and leaf.floor < 1e-5 and leaf.difference < 1e-9 and leaf.difference_autodiff < 1e-14
    assert pickle.loads(pickle.dumps(report)) is not None and "PASS" in str(report)
    report.assert_ok()


def test_the_same_twice():
    first, second = (jc.check_rule(sine(lambda x, g: (1.01 * jnp.cos(x) * g,)), V, seed=3) for _ in range(2))
    assert first.rows == second.rows or str(first.rows) == str(second.rows)
    assert [leaf.difference for leaf in first.leaves] == [leaf.difference for leaf in second.leaves]


def test_no_row_where_none_is_asked_for():
    report = jc.check_rule(sine(), V, **FAST)
    assert {r.group for r in report.rows} == {"forward"}


def test_forward_only():
    def looped(x):
        return lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, x))[1]

    report = jc.check_rule(looped, V)
    assert report.ok and row(report, "JVP").status == "OK" and "no reverse mode" in report.notes[0]
    bad = jax.custom_jvp(jnp.sin)
    bad.defjvp(lambda x, t: (bad(x[0]), 1.001 * jnp.cos(x[0]) * t[0]))
    report = jc.check_rule(lambda x: looped(bad(x)), V, **FAST)
    assert report.verdict is jc.Verdict.FAIL and wrong_rows(report, "forward") == {"JVP"}


def test_argnums_kwargs_and_nondiff():
    f = jax.custom_vjp(lambda x, y, scale=1.0: x * jnp.exp(y) * scale)
    f.defvjp(lambda x, y, scale=1.0: (f(x, y, scale), (x, y, scale)),
             lambda r, g: (g * jnp.exp(r[1]) * r[2], 0 * g, jnp.zeros_like(r[2])))  # fmt: skip
    assert jc.check_rule(f, V, V, kwargs={"scale": 2.0}, argnums=0, **FAST).ok
    report = jc.check_rule(f, V, V, argnums=1, **FAST)
    assert report.verdict is jc.Verdict.FAIL and [leaf.path for leaf in report.leaves] == ["y"]
    report = jc.check_rule(f, V, V, argnums=(0, -1), **FAST)
    assert [leaf.path for leaf in report.leaves] == ["x", "y"]
    with pytest.raises(ValueError, match="argnums=3"):
        jc.check_rule(f, V, V, argnums=3)
    # A declared argument that has a default and was not given is not one of those that were.
    power = jax.custom_jvp(lambda x, n=2: x**n, nondiff_argnums=(1,))
    power.defjvp(lambda n, x, t: (power(x[0], n), n * x[0] ** (n - 1) * t[0]))
    report = jc.check_rule(power, V, **FAST)
    assert report.ok and [leaf.path for leaf in report.leaves] == ["x"]


def test_what_is_carried():
    def f(x, step, key, mask, nothing):
        return jnp.where(mask, x, 2 * x) * jax.random.uniform(key) * step

    report = jc.check_rule(f, V, 3, jax.random.key(0), V > 0, None, **FAST)
    assert report.ok and [leaf.path for leaf in report.leaves] == ["x"]
    assert {path for path, _ in report.carried} >= {"step", "key", "mask"}


def test_surrogate_looks_at_structure_only():
    through = jax.custom_vjp(lambda x: jnp.round(x))
    through.defvjp(lambda x: (jnp.round(x), None), lambda _, g: (g,))
    report = jc.check_rule(through, 3 * V, surrogate=True)
    assert report.ok and report.reason is jc.Reason.SURROGATE
    assert not jc.check_rule(through, 3 * V, **FAST).ok
    through.defvjp(lambda x: (jnp.round(x), None), lambda _, g: (g * jnp.nan,))
    assert not jc.check_rule(through, 3 * V, surrogate=True).ok


def test_surrogate_as_a_function_of_the_leaf():
    through = jax.custom_vjp(lambda x, y: jnp.round(x) * y)
    through.defvjp(lambda x, y: (jnp.round(x) * y, (jnp.round(x), y)), lambda saved, g: (g * saved[1], g * saved[0]))
    report = jc.check_rule(through, 3 * V, V, surrogate=lambda path: path == "x")
    reasons = {leaf.path: leaf.reason for leaf in report.leaves}
    assert report.ok and reasons == {"x": jc.Reason.SURROGATE, "y": jc.Reason.AGREE}
    assert {row.group for row in report.rows} <= {"forward"}
    assert any(row.group == "law" for row in jc.check_rule(sine(), V, surrogate=lambda _: False, transforms=False).rows)


@pytest.mark.parametrize("surrogate", [lambda _: 1 / 0, lambda: True], ids=["raises", "takes nothing"])
@pytest.mark.parametrize("check", [lambda s: jc.check_rule(sine(), V, surrogate=s),
                                   lambda s: jc.check_grad(lambda x: jnp.sum(x**2), V, surrogate=s)])  # fmt: skip
def test_what_a_function_for_surrogate_raises_is_no_refusal_of_the_rules(surrogate, check):
    with pytest.raises((ZeroDivisionError, TypeError)) as caught:
        check(surrogate)
    assert "raised by surrogate(" in "".join(caught.value.__notes__)


def test_second_order_by_itself():
    f = sine(lambda x, g: (jnp.cos(lax.stop_gradient(x)) * g,))
    assert jc.check_rule(f, V, **FAST).ok
    report = jc.check_rule(f, V, order=2, **FAST)
    assert report.reason is jc.Reason.SECOND_ORDER_WRONG and "reverse over reverse" in wrong_rows(
        report, "second order"
    )
    assert all(leaf.verdict is jc.Verdict.PASS for leaf in report.leaves)


def test_no_custom_rule_inside():
    report = jc.check_rule(lambda x: jnp.sin(x), V)
    assert report.ok and "No custom rule but JAX's own" in " ".join(report.notes)
    hidden = lambda x: x * lax.stop_gradient(x)  # noqa: E731
    assert not jc.check_rule(hidden, V, **FAST).ok


@pytest.mark.parametrize(("f", "words"), [
    (lambda x: None, "returned None"),
    (lambda x: jnp.argmax(x), "no float or complex output"),
    (lambda x: (), "no float or complex output"),
    (3, "must be a function, not int"),
])  # fmt: skip
def test_nothing_to_differentiate(f, words):
    with pytest.raises(TypeError, match=words):
        jc.check_rule(f, V)


def test_no_differentiable_argument():
    with pytest.raises(TypeError, match=r"no differentiable argument.*`i` \(Python int\)"):
        jc.check_rule(lambda i, m: i * 1.5, 3, np.arange(3))
    with pytest.raises(TypeError, match="given nothing"):
        jc.check_rule(lambda: 1.0)


def test_errors_of_the_function_come_out():
    with pytest.raises(ZeroDivisionError):
        jc.check_rule(lambda x: 1 / 0, V)
    with pytest.raises(AttributeError, match="No VJP defined"):
        jc.check_rule(jax.custom_vjp(lambda x: x), V)
    with pytest.raises(ValueError, match="order=3"):
        jc.check_rule(sine(), V, order=3)
    with pytest.raises(Exception, match=r"trac|jit"):
        jax.jit(lambda x: jc.check_rule(sine(), x))(V)


def boom(*_):
    raise RuntimeError("boom")


@pytest.mark.parametrize("f", [sine(bwd=boom), sine(fwd=boom)], ids=["bwd", "fwd"])
def test_raises_only_under_differentiation(f):
    report = jc.check_rule(f, V)
    assert report.verdict is jc.Verdict.FAIL and report.reason is jc.Reason.STRUCTURE
    assert "RuntimeError: boom" in report.notes[0]


@pytest.mark.parametrize(("f", "args", "words"), [
    (sine(lambda x, g: (g, g)), (V,), "container"),
    (sine(lambda x, g: g), (V,), "container"),
    (sine(lambda x, g: None), (V,), "container"),
    (sine(lambda x, g: (g.sum(),)), (V,), "`x`"),
    (sine(lambda x, g: ((g * jnp.cos(x)).astype(jnp.bfloat16),)), (V,), "cotangent bfloat16[4], argument float32[4]"),
    (pair(lambda p, g: ({"a": g * p["b"]},)), (PAIR,), "container"),
    (pair(lambda p, g: ([g * p["b"], g * p["a"]],)), (PAIR,), "container"),
    (pair(lambda p, g: ({"a": g * p["b"], "b": (g * p["a"]).sum()},)), (PAIR,), "['b']"),
], ids=["too many", "no tuple", "None", "shape", "dtype", "keys", "list", "shape of one leaf"])  # fmt: skip
def test_cotangents_of_another_structure(f, args, words):
    report = jc.check_rule(f, *args, transforms=False)
    assert report.verdict is jc.Verdict.FAIL
    assert report.reason in (jc.Reason.STRUCTURE, jc.Reason.LAW_BROKEN)
    assert "structure" in wrong_rows(report, "law") and words in row(report, "structure").detail


def test_tangents_of_another_structure():
    f = jax.custom_jvp(jnp.sin)
    f.defjvp(lambda x, t: (f(x[0]), (jnp.cos(x[0]) * t[0]).sum()))
    report = jc.check_rule(f, V, transforms=False)
    assert report.reason is jc.Reason.STRUCTURE and "Custom JVP rule" in row(report, "structure").detail


def test_hidden_state_and_side_effects():
    calls = [0]

    def bwd(x, g):
        calls[0] += 1
        return (g * jnp.cos(x) * (1 + calls[0] % 2),)

    report = jc.check_rule(sine(bwd), V, transforms=False)
    assert report.verdict is jc.Verdict.FAIL and {"the same twice", "no hidden state"} <= wrong_rows(report, "law")
    seen = []
    assert jc.check_rule(lambda x: (seen.append(1), jnp.sin(x))[1], V).ok and seen


def test_points_that_are_not_finite():
    report = jc.check_rule(sine(), V.at[0].set(jnp.nan))
    assert report.verdict is jc.Verdict.INCONCLUSIVE and report.reason is jc.Reason.NONFINITE
    report = jc.check_rule(sine(lambda x, g: (g * jnp.nan,)), V, **FAST)
    assert report.verdict is jc.Verdict.FAIL and report.reason is jc.Reason.NONFINITE


def test_nothing_moves():
    report = jc.check_rule(lambda x: jnp.ones(3), V, **FAST)
    assert report.verdict is jc.Verdict.INCONCLUSIVE and report.reason is jc.Reason.VACUOUS


@pytest.mark.parametrize("setting", ["strict", "rank", "nans", "x64"])
def test_under_jaxs_own_test_settings(setting):
    contexts = {"strict": lambda: jax.numpy_dtype_promotion("strict"), "rank": lambda: jax.numpy_rank_promotion("raise"),  # noqa: E501
                "nans": lambda: jax.debug_nans(True), "x64": lambda: jax.enable_x64(True)}  # fmt: skip
    with contexts[setting]():
        report = jc.check_rule(sine(), V, order=2)
        assert report.ok and not any(r.status == "WRONG" for r in report.rows), str(report)
        assert not jc.check_rule(sine(lambda x, g: (-jnp.cos(x) * g,)), V, **FAST).ok


def test_arguments_are_left_alone():
    x = np.array([0.3, 0.7], np.float32)
    kept = x.copy()
    jc.check_rule(sine(), x)
    assert (x == kept).all() and x.dtype == kept.dtype


@pytest.mark.parametrize("detached", [False, True])
def test_hessian_symmetry(detached):
    """First order right both times; with a detached factor the derivative of the gradient is no Hessian."""
    hold = lax.stop_gradient if detached else lambda x: x

    def bwd(r, g):
        x, w = r
        return g * hold(jnp.cos(x * w)) * w, g * jnp.cos(x * w) * x

    f = jax.custom_vjp(lambda x, w: jnp.sin(x * w))
    f.defvjp(lambda x, w: (f(x, w), (x, w)), bwd)
    report = jc.check_rule(f, V, 2 * V, order=2, transforms=False, algebra=False)
    assert row(report, "Hessian symmetry").status == ("WRONG" if detached else "OK")
    assert report.reason is (jc.Reason.SECOND_ORDER_WRONG if detached else jc.Reason.AGREE)


INSTALLED = """
import jax, jax.numpy as jnp

@jax.custom_vjp
def twice(x):
    return 2 * jnp.sin(x)

twice.defvjp(lambda x: (twice(x), x), lambda x, g: (2 * jnp.cos(x) * g,))
"""


def test_the_rule_of_an_installed_package_is_named_as_that():
    where = f"{sysconfig.get_path('purelib')}/somewhere/rules.py"
    names: dict = {}
    exec(compile(INSTALLED, where, "exec"), names)
    twice, x = names["twice"], jnp.arange(1.0, 4.0)
    reports = [jc.check_rule(twice, x, algebra=False, transforms=False), jc.check_grad(lambda x: jnp.sum(twice(x)), x)]
    for report in reports:
        said = " ".join(report.notes)
        assert "installed packages" in said and f"twice ({where}:" in said and "but JAX's own" not in said
    plain = jc.check_grad(lambda x: jnp.sum(jax.nn.relu(x)), x)  # a rule of JAX's own is none
    assert "No custom rule but JAX's own" in " ".join(plain.notes)


def test_a_rule_that_jax_refuses_once_it_is_traced():
    """The forward rule gives a plain pair where the function gives a named one: JAX differentiates it as it is called,
    and raises inside of jit."""
    pair = collections.namedtuple("pair", "sum product")

    @jax.custom_vjp
    def f(x):
        return pair(jnp.sum(x), jnp.prod(x))

    f.defvjp(lambda x: ((jnp.sum(x), jnp.prod(x)), x), lambda x, g: (g[0] + g[1] * jnp.prod(x) / x,))
    report = jc.check_rule(f, np.array([0.5, 1.5]))
    assert report.reason is jc.Reason.STRUCTURE and "runs as it is called" in str(report), report
    assert "no reverse mode" not in str(report)
