"""The path that is run: gradients that choose by dtype, and right code in low precision."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxcheck as jc
from jaxcheck import Reason, Verdict, bars
from jaxcheck.judgement import as_run as judgement
from jaxcheck.program.alike import alike
from jaxcheck.program.derived import gradient, plain
from jaxcheck.program.objective import trace
from jaxcheck.test_util import check_grads, check_jvp, check_vjp
from jaxcheck.theta import take_apart

DTYPES = ("float32", "bfloat16", "float16")


def square(rows, columns):
    """Every pair, but for a Latin square's worth of them under the marker `slow`: every row and column is tried."""
    return [
        pytest.param(r, c, marks=[] if (i + j) % len(columns) == 0 else pytest.mark.slow)
        for i, r in enumerate(rows)
        for j, c in enumerate(columns)
    ]


# How a program finds out in which precision it runs.
CHOICES = {
    "dtype": lambda x: x.dtype != jnp.float64,
    "finfo": lambda x: float(jnp.finfo(x.dtype).eps) > 1e-12,
    "x64": lambda x: not jax.config.jax_enable_x64,
}
# What is done wrong there: to the gradient of the leaf W, with the parts that it is a sum of.
MISTAKES = {
    "factor": lambda g, parts: g * jnp.asarray(1.05, g.dtype),
    "sign": lambda g, parts: -g,
    "dropped term": lambda g, parts: parts[0],
    "clamp": lambda g, parts: jnp.minimum(g, jnp.asarray(0.5, g.dtype)),
    "one component": lambda g, parts: g.at[1, 0].multiply(jnp.asarray(1.1, g.dtype)),
}
# The mistakes of the plain run for a dtype and a choice: each with every dtype, and with every choice.
SOME = {
    (d, c): [m for k, m in enumerate(MISTAKES) if (i + j + k) % 3 == 0]
    for i, d in enumerate(DTYPES)
    for j, c in enumerate(CHOICES)
}


def data(dtype, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *s: jnp.asarray(rng.normal(size=s), dtype)  # noqa: E731
    return {"W": draw(3, 4), "b": draw(4)}, draw(5, 3)


def loss(p, x):
    return jnp.sum(jnp.tanh(x @ p["W"] + p["b"])) + jnp.sum(p["W"] ** 2)


def backprop(p, x, choice, mistake):
    h = jnp.tanh(x @ p["W"] + p["b"])
    d = 1 - h * h
    parts = x.T @ d, 2 * p["W"]
    g = parts[0] + parts[1]
    if mistake and CHOICES[choice](x):
        g = MISTAKES[mistake](g, parts)
    return {"W": g, "b": d.sum(0)}


def rule(choice, mistake, forward):
    """The same function as a rule."""
    if forward:

        @jax.custom_jvp
        def f(w, b, x):
            return jnp.tanh(x @ w + b)

        @f.defjvp
        def _jvp(primals, tangents):
            (w, b, x), (dw, db, dx) = primals, tangents
            h = jnp.tanh(x @ w + b)
            parts = x @ dw, db + dx @ w
            moved = parts[0] + parts[1]
            if mistake and CHOICES[choice](x):
                moved = {
                    "factor": lambda: moved * jnp.asarray(1.05, moved.dtype),
                    "sign": lambda: -moved,
                    "dropped term": lambda: parts[0],
                }[mistake]()
            return h, (1 - h * h) * moved

        return f

    @jax.custom_vjp
    def g(w, b, x):
        return jnp.tanh(x @ w + b)

    def fwd(w, b, x):
        return g(w, b, x), (w, b, x)

    def bwd(kept, ct):
        w, b, x = kept
        h = jnp.tanh(x @ w + b)
        d = ct * (1 - h * h)
        out = x.T @ d
        if mistake and CHOICES[choice](x):
            out = MISTAKES[mistake](out, (out * 0,))
        return out, d.sum(0), d @ w.T

    g.defvjp(fwd, bwd)
    return g


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_backprop_that_is_wrong_in_one_dtype_only(dtype, choice, every):
    p, x = data(dtype)
    assert jc.check_grad(loss, p, partial(backprop, choice=choice, mistake=""), args=(x,)).assert_ok()
    for mistake in MISTAKES if every else SOME[dtype, choice]:
        report = jc.check_grad(loss, p, partial(backprop, choice=choice, mistake=mistake), args=(x,))
        assert (report.verdict, report.reason) == (Verdict.FAIL, Reason.PRECISION_WRONG), mistake
        assert [leaf.path for leaf in report.leaves if leaf.verdict is Verdict.FAIL] == ["W"]
        leaf = report.leaf("W")
        assert leaf.difference < 1e-7 and leaf.precision > 1e-3
        top = leaf.worst[0]
        assert dtype in leaf.note and dtype in top.note and "by autodiff" in leaf.note
        # All three: M as run, A as run, and N, with which M in float64 agrees.
        assert abs(top.manual - top.numeric) > 0.02 * abs(top.numeric)
        assert abs(top.autodiff - top.numeric) < 0.02 * abs(top.numeric)
        if mistake == "one component":
            assert top.index == (1, 0)


@pytest.mark.parametrize("x64", [False, True])
def test_the_mode_of_the_caller_is_the_one_that_is_run(x64):
    p, x = data("float32")
    with jax.enable_x64(x64):
        report = jc.check_grad(loss, p, partial(backprop, choice="x64", mistake="sign"), args=(x,))
    # In the 64-bit mode the wrong branch is never taken.
    assert report.verdict is (Verdict.PASS if x64 else Verdict.FAIL)


@pytest.mark.parametrize(("dtype", "mistake"), square(DTYPES, ["factor", "sign", "clamp"]))
def test_a_rule_that_is_wrong_in_one_dtype_only(dtype, mistake):
    p, x = data(dtype)
    args, quick = (p["W"], p["b"], x), dict(algebra=False, transforms=False)
    assert jc.check_rule(rule("dtype", "", False), *args, **quick).assert_ok()
    report = jc.check_rule(rule("dtype", mistake, False), *args, **quick)
    assert (report.verdict, report.reason) == (Verdict.FAIL, Reason.PRECISION_WRONG)
    assert [leaf.path for leaf in report.leaves if leaf.verdict is Verdict.FAIL] == ["w"]


def test_a_rule_of_forward_mode_only():
    """`while` has no reverse mode: the row of the forward mode alone can tell."""
    p, x = data("float32")

    def through_a_loop(f):
        def g(w, b, x):
            return f(w, b, lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))[1])

        return g

    for mistake, reason in (("", Reason.AGREE), ("sign", Reason.PRECISION_WRONG)):
        report = jc.check_rule(
            through_a_loop(rule("finfo", mistake, True)), p["W"], p["b"], x, algebra=False, transforms=False
        )
        assert report.reason is reason


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "mistake"), square(DTYPES, ["factor", "sign", "dropped term"]))
def test_the_drop_in(dtype, mistake):
    p, x = data(dtype)
    args = p["W"], p["b"], x
    f = lambda w, b, x: jnp.tanh(x @ w + b)  # noqa: E731
    doors = {
        "both": lambda g: check_grads(g, args, 1),
        "reverse": lambda g: check_grads(g, args, 1, modes=["rev"]),
        "jvp": lambda g: check_jvp(f, partial(jax.jvp, g), args),
        "vjp": lambda g: check_vjp(f, partial(jax.vjp, g), args),
    }
    for name, door in doors.items():
        door(rule("dtype", "", True))
        with pytest.raises(jc.GradientMismatch) as found:
            door(rule("dtype", mistake, True))
        assert found.value.report.reason is Reason.PRECISION_WRONG, name


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_batch_is_judged_at_every_point(dtype):
    rng = np.random.default_rng(0)
    points = jnp.asarray(rng.uniform(0.5, 2, (12, 4)), dtype)
    points = points.at[7, 2].set(1e-9)  # below eps at one point alone

    def entropy(p):
        return jnp.sum(p * jnp.log(p))

    def clamped(p):
        return jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).eps)) + 1

    assert jc.check_batch(entropy, points, lambda p: jnp.log(p) + 1).assert_ok()
    report = jc.check_batch(entropy, points, clamped)
    assert report.reason is Reason.PRECISION_WRONG and report.points_failed == 1
    assert [point.index for point in report.points] == [7]
    everywhere = jc.check_batch(entropy, points, lambda p: (jnp.log(p) + 1) * (-1 if p.dtype == dtype else 1))
    assert everywhere.reason is Reason.PRECISION_WRONG and everywhere.points_failed == 12


# Right code in low precision: (loss, gradient, parameters), in the dtypes for which it is written.
def _floor(p):
    return jnp.maximum(p, jnp.finfo(p.dtype).eps)


def _scaled_down(p):
    scale = jnp.asarray(1024, p.dtype)
    return jax.grad(lambda p: scale * jnp.sum(jnp.exp(-p) * p))(p) / scale


def _compensated(p):
    def step(carry, x):
        total, lost = carry
        y = x - lost
        t = total + y
        return (t, (t - total) - y), None

    (total, _), _ = lax.scan(step, (jnp.zeros((), p.dtype),) * 2, p)
    return total


def _deep(p):
    h = jnp.linspace(-1.0, 1.0, 64).reshape(8, 8).astype(p.dtype)
    for w in p:
        h = jnp.tanh(h @ w)
    return jnp.mean(h**2)


def _deep_by_hand(p):
    hs = [jnp.linspace(-1.0, 1.0, 64).reshape(8, 8).astype(p.dtype)]
    for w in p:
        hs.append(jnp.tanh(hs[-1] @ w))
    d, out = 2 * hs[-1] / hs[-1].size, []
    for w, h, y in zip(p[::-1], hs[-2::-1], hs[:0:-1], strict=True):
        d = d * (1 - y * y)
        out.append(h.T @ d)
        d = d @ w.T
    return jnp.stack(out[::-1])


def _relu_net(p):
    h = jnp.linspace(-1.0, 1.0, 512).reshape(64, 8).astype(p.dtype)
    for w in p:
        h = jnp.maximum(h @ w, 0)
    return jnp.sum(h)


def _relu_by_hand(p):
    hs = [jnp.linspace(-1.0, 1.0, 512).reshape(64, 8).astype(p.dtype)]
    for w in p:
        hs.append(jnp.maximum(hs[-1] @ w, 0))
    d, out = jnp.ones_like(hs[-1]), []
    for w, h, y in zip(p[::-1], hs[-2::-1], hs[:0:-1], strict=True):
        d = jnp.where(y > 0, d, 0)
        out.append(h.T @ d)
        d = d @ w.T
    return jnp.stack(out[::-1])


HILBERT = (1 / (np.arange(5)[:, None] + np.arange(5) + 1.0)).astype(np.float32)


def _normal(*shape, scale=1.0, shift=0.0):
    return scale * np.random.default_rng(1).normal(size=shape) + shift


def _gelu_slope(x):
    c, k = jnp.asarray(np.sqrt(2 / np.pi), x.dtype), jnp.asarray(0.044715, x.dtype)
    t = jnp.tanh(c * (x + k * x**3))
    return (1 + t) / 2 + x / 2 * (1 - t * t) * c * (1 + 3 * k * x**2)


def _gelu(x):
    c, k = jnp.asarray(np.sqrt(2 / np.pi), x.dtype), jnp.asarray(0.044715, x.dtype)
    return jnp.sum(x / 2 * (1 + jnp.tanh(c * (x + k * x**3))))


def _in_float32(p):
    x = jnp.linspace(0, 1, 32).reshape(4, 8).astype(p.dtype)
    return lax.dot(x, p, preferred_element_type=jnp.float32)


RIGHT = {
    "loss scaling": (lambda p: jnp.sum(jnp.exp(-p) * p), _scaled_down, _normal(6, shift=5.0), DTYPES),
    "float32 accumulators": (
        lambda p: jnp.sum(_in_float32(p) ** 2),
        lambda p: (
            2 * jnp.linspace(0, 1, 32).reshape(4, 8).astype(p.dtype).astype(jnp.float32).T @ _in_float32(p)
        ).astype(p.dtype),
        _normal(8, 3),
        ("bfloat16", "float16"),
    ),
    "compensated sum": (_compensated, jnp.ones_like, _normal(20, shift=1.0), DTYPES),
    "twelve layers": (_deep, _deep_by_hand, _normal(12, 8, 8, scale=0.4), DTYPES),
    "relu next to zero": (_relu_net, _relu_by_hand, _normal(3, 8, 8), DTYPES),
    "saturated": (lambda p: jnp.sum(jnp.tanh(p)), lambda p: 1 - jnp.tanh(p) ** 2, _normal(6, shift=9.0), DTYPES),
    "one saturated": (
        lambda p: jnp.sum(jnp.tanh(p)),
        lambda p: 1 - jnp.tanh(p) ** 2,
        np.array([0.1, 9.0, 20.0]),
        DTYPES,
    ),
    "logsumexp": (lambda p: jax.nn.logsumexp(p), jax.nn.softmax, np.array([20.0, 1.0, -30.0]), DTYPES),
    "ill-conditioned": (
        lambda b: jnp.sum(jnp.linalg.solve(HILBERT.astype(b.dtype), b) ** 2),
        lambda b: 2 * jnp.linalg.solve(HILBERT.T.astype(b.dtype), jnp.linalg.solve(HILBERT.astype(b.dtype), b)),
        _normal(5),
        ("float32",),
    ),
    "one clamp in both": (
        lambda p: jnp.sum(jnp.log(_floor(p))),
        lambda p: (p > jnp.finfo(p.dtype).eps) / _floor(p),
        np.array([1.0, 1e-9, 0.3]),
        ("float32", "bfloat16"),
    ),
    "one clamp in both, float16": (
        lambda p: jnp.sum(jnp.log(_floor(p))),
        lambda p: (p > jnp.finfo(p.dtype).eps) / _floor(p),
        np.array([1.0, 1e-5, 0.3]),
        ("float16",),
    ),
    "eps that does not bite": (
        lambda p: jnp.sqrt(jnp.sum(p**2)),
        lambda p: p / jnp.maximum(jnp.sqrt(jnp.sum(p**2)), jnp.finfo(p.dtype).eps),
        _normal(5),
        DTYPES,
    ),
    "another loss in float32": (
        lambda p: jnp.sum(p**3) * (2 if p.dtype != jnp.float64 else 1),
        lambda p: 3 * p**2 * (2 if p.dtype != jnp.float64 else 1),
        _normal(5),
        DTYPES,
    ),
    "constants in its dtype": (_gelu, _gelu_slope, _normal(7), DTYPES),
    "bias before normalisation": (
        lambda b: jnp.sum(
            jnp.arange(4.0, dtype=b.dtype)
            * (
                (lambda h: (h - h.mean(0)) / jnp.std(h, 0))(jnp.sin(jnp.arange(24.0, dtype=b.dtype)).reshape(6, 4) + b)
                ** 3
            ).sum(0)
        ),
        None,
        _normal(4),
        ("float32",),
    ),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=[] if k == i % len(case[3]) else pytest.mark.slow)
        for i, (name, case) in enumerate(RIGHT.items())
        for k, dtype in enumerate(case[3])
    ],
)
def test_right_code_in_low_precision(name, dtype):
    f, g, p, _ = RIGHT[name]
    report = jc.check_grad(f, jnp.asarray(p, dtype), g)
    assert report.reason is not Reason.PRECISION_WRONG and report.verdict is not Verdict.FAIL, str(report)
    if name not in ("saturated", "bias before normalisation"):  # nothing responds there, by any witness
        assert report.ok, str(report)


def newton(c, tolerance=None):
    tolerance = 10 * jnp.finfo(c.dtype).eps if tolerance is None else tolerance
    step = lambda s: 0.5 * (s + c / s)  # noqa: E731
    return lax.while_loop(lambda s: jnp.max(jnp.abs(s * s - c)) > tolerance, step, jnp.ones_like(c))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_a_loop_may_stop_at_the_precision_of_its_dtype(dtype, factor):
    """In bfloat16 the root is 2 % off where the loop stops; the formula is the same, unless it is wrong there."""

    def slope(c):
        y = newton(c)
        return 0.5 / y * (jnp.asarray(factor, c.dtype) if factor != 1 and c.dtype != jnp.float64 else 1)

    report = jc.check_grad(lambda c: jnp.sum(newton(c)), jnp.asarray([2.0, 3.0, 0.5], dtype), slope)
    assert report.ok if factor == 1 else report.reason is Reason.PRECISION_WRONG


@pytest.mark.slow
def test_twelve_layers_are_not_measured():
    """What `bars.SPACINGS` spares the cost of."""
    f, g, p, dtypes = RIGHT["twelve layers"]
    for dtype in dtypes:
        lost = jc.check_grad(f, jnp.asarray(p, dtype), g).leaves[0].precision / float(jnp.finfo(dtype).eps)
        assert 0.1 < lost < bars.SPACINGS / 4


def test_the_loss_takes_another_path_and_the_gradient_does_not():
    """Natively the loss is flat where it is clamped: a gradient that knows of no clamp is not its gradient."""
    p = jnp.asarray([1.0, 1e-9, 0.3], jnp.float32)
    f = lambda p: jnp.sum(jnp.log(_floor(p)))  # noqa: E731
    report = jc.check_grad(f, p, lambda p: 1 / p)
    assert report.reason is Reason.PRECISION_WRONG and report.leaves[0].worst[0].index == (1,)
    followed = jc.check_grad(f, p, RIGHT["one clamp in both"][1])
    assert followed.ok and "another path" in followed.leaves[0].note


def test_what_overflows_on_the_way_is_lost_and_autodiff_is_not():
    """exp(-x) / (1 + exp(-x))^2 at -60: infinite below the line in float32, so 0, where 9e-27 is right."""
    p = jnp.asarray([-60.0, -61.0], jnp.float32)
    f = lambda p: jnp.sum(jax.nn.sigmoid(p))  # noqa: E731
    report = jc.check_grad(f, p, lambda p: jnp.exp(-p) / (1 + jnp.exp(-p)) ** 2)
    assert report.reason is Reason.PRECISION_WRONG
    assert report.leaves[0].worst[0].manual == 0 and "lost" in report.leaves[0].note
    assert jc.check_grad(f, p, lambda p: jnp.exp(p) / (1 + jnp.exp(p)) ** 2).ok


def test_a_loss_scale_that_overflows_in_half_precision_is_lost():
    """Autodiff loses 4e-3 in bfloat16, which is more than must_catch; the scaled backprop loses all."""
    rng = np.random.default_rng(6)
    x, y, w = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((8, 5), (8, 3), (5, 3)))
    half = lambda a: a.astype(jnp.bfloat16)  # noqa: E731

    def loss(w):
        return jnp.mean((jnp.tanh(half(x) @ half(w)).astype(jnp.float32) - y) ** 2)

    def scaled(scale):
        def grad(w):
            h = jnp.tanh(half(x) @ half(w))
            d = half(scale * 2 * (h.astype(jnp.float32) - y) / y.size)
            return (half(x).T @ (d * (1 - h**2))).astype(jnp.float32) / scale

        return grad

    assert jc.check_grad(loss, w, scaled(1024.0)).ok
    report = jc.check_grad(loss, w, scaled(1e38))
    assert report.reason is Reason.PRECISION_WRONG, report


@pytest.mark.parametrize(("dtype", "large"), [(jnp.float16, 12), (jnp.bfloat16, 89.5), (jnp.float32, 89.5)])
@pytest.mark.parametrize("part", [0.01, 0.2])
def test_a_component_that_overflows_to_zero_is_lost(dtype, large, part):
    """exp(x) / (1 + exp(x)), its NaN taken for 0: autodiff, as run, has a number there."""
    f = jax.custom_vjp(lambda x: jnp.log1p(jnp.exp(-jnp.abs(x))) + jnp.maximum(x, 0))
    f.defvjp(lambda x: (f(x), x), lambda x, g: (g * jnp.nan_to_num(jnp.exp(x) / (1 + jnp.exp(x)), nan=0.0),))
    x, w = jnp.asarray([large, 0.5, -1.0], dtype), jnp.asarray([part, 1, 1], dtype)
    report = jc.check_grad(lambda x: jnp.sum(f(x) * w), x)
    assert report.reason is Reason.PRECISION_WRONG and report.leaves[0].worst[0].index == (0,), report


def test_where_the_loss_itself_overflows_nobody_is_to_blame():
    p = jnp.asarray([12.0, 1.0], jnp.float16)
    f = lambda p: jnp.sum(jnp.exp(p))  # noqa: E731
    assert jc.check_grad(f, p, jnp.exp).reason is Reason.NONFINITE
    assert jc.check_grad(f, p, jnp.exp).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("size", [1e-5, 1e-2])
@pytest.mark.parametrize("kind", ["leaf", "component"])
def test_numbers_are_held_to_the_rounding_of_autodiff(kind, size):
    """A hundredth of one component is seen, however small it is in its leaf; what rounding does is not."""
    p = jnp.asarray(_normal(6, 8, 8, scale=0.4), jnp.float32)
    g = np.asarray(jax.grad(_deep)(p))
    assert jc.check_grad(_deep, p, g).ok
    wrong = g * (1 + 10 * size) if kind == "leaf" else g.copy()
    small = np.unravel_index(np.argsort(np.abs(g).ravel())[g.size // 8], g.shape)
    if kind == "component":
        wrong[small] *= 1 + size
    report = jc.check_grad(_deep, p, wrong)
    assert report.verdict is (Verdict.FAIL if size == 1e-2 or kind == "leaf" else Verdict.PASS)


# Programs that are one formula in every dtype, and such as are not.
SAME = {
    "softmax": lambda x: jax.nn.log_softmax(x)[jnp.arange(3), jnp.array([0, 1, 1])].sum(),
    "loop": lambda x: lax.fori_loop(0, 5, lambda i, c: jnp.sin(c) * 0.1, x).sum(),
    "scan": lambda x: lax.scan(lambda c, r: (jnp.tanh(c + r), c), x[0], x)[1].sum(),
    "statistics": lambda x: jnp.std(x) + jnp.median(x) + jnp.linalg.norm(x),
    "casts": lambda x: jnp.sum(x.astype(jnp.bfloat16).astype(x.dtype) ** 2),
    "tolerance": lambda x: newton(jnp.abs(x) + 1).sum(),
    "branch": lambda x: lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x).sum(),
}
OTHER = {
    "factor": lambda x: jnp.sum(x**2) * (1.05 if x.dtype != jnp.float64 else 1),
    "operation": lambda x: jnp.sum(jnp.sin(x) if x.dtype != jnp.float64 else jnp.cos(x)),
    "order": lambda x: jnp.sum(jnp.sin(x) - jnp.cos(x) if x.dtype != jnp.float64 else jnp.cos(x) - jnp.sin(x)),
    "inside a loop": lambda x: lax.fori_loop(0, 3, lambda i, c: c * (2.0 if x.dtype != jnp.float64 else 3.0), x).sum(),
    "count": lambda x: lax.fori_loop(0, 3 if x.dtype != jnp.float64 else 4, lambda i, c: jnp.sin(c), x).sum(),
    "rows": lambda x: jnp.sum(x[jnp.array([0, 1 if x.dtype != jnp.float64 else 2])] ** 2),
    "axis": lambda x: jnp.sum(x.sum(int(x.dtype != jnp.float64)) ** 2),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*SAME, *OTHER])
def test_one_formula_is_seen_whatever_the_dtype(name, dtype):
    f = {**SAME, **OTHER}[name]
    x = [jnp.asarray(_normal(3, 3), dtype)]
    flat = lambda leaves, extras: f(leaves[0]).reshape(1)  # noqa: E731
    own, wide = trace(flat, x, [], "native"), trace(flat, x, [])
    assert alike(plain(own).closed, plain(wide).closed, tolerances=True) is (name in SAME)
    assert alike(plain(own).closed, plain(wide).closed) is (name in SAME and name != "tolerance")
    if name in ("scan", "softmax", *OTHER):
        more = dict(stripped=False, leaves=x, extras=[])
        native, again = gradient(own, precision="native", **more), gradient(wide, **more)
        assert alike(native.program.closed, again.program.closed) is (name in SAME)


def leaf_run(n, **more):
    leaf = take_apart(jnp.zeros(3, jnp.float32)).leaves[0]
    truth = np.array([[1.0, 2.0, 3.0]])
    given = dict(formula=truth, wide=truth, least=1e-38) | more
    return judgement.LeafRun(leaf, np.ones(3), np.asarray(n, float)[None], **given)


def test_the_thresholds_decide():
    """Each of the numbers in `bars`: beyond it somebody is asked or blamed, within it nobody is."""
    spacing = 2.0**-23
    truth = np.array([[1.0, 2.0, 3.0]])
    for factor, wrong in ((0.9, False), (1.2, True)):
        off = leaf_run(truth[0], formula=truth * (1 + factor * bars.CONSTANTS * spacing))
        assert judgement.another_formula(off, None, spacing).any() == wrong
        bar = np.full((1, 3), 0.01)
        shift = factor * (1e-3 * np.sqrt(14 / 3) + bars.ROUNDED * 0.02)
        lost = leaf_run(truth[0] + [shift, 0, 0], bar=bar)
        assert judgement.lost(lost, 1e-3, spacing).any() == wrong
        coarse = leaf_run(truth[0] * (1 + factor * bars.SPACINGS * 2.0**-8))
        assert judgement.lost(coarse, 1e-3, 2.0**-8).any() == wrong
    assert bars.underflow(1e-38, 1e-45) == 1e-38 and bars.underflow(6e-5, 6e-8) == 6e-8


def test_autodiff_that_is_lost_as_well_excuses():
    truth, small = np.array([[1.0, 2.0, 3.0]]), np.full((1, 3), 1e-7)
    zero = np.zeros((1, 3))
    fine = dict(bar=small, autodiff_bar=small, autodiff_formula=truth)
    assert judgement.lost(leaf_run(zero[0], autodiff=truth, **fine), 1e-3, 1e-7).all()
    assert not judgement.lost(leaf_run(zero[0], autodiff=zero, **fine), 1e-3, 1e-7).any()
    assert not judgement.lost(leaf_run(zero[0], autodiff=0.5 * truth, **fine), 1e-3, 1e-7).any()
    near, far = (truth * (1 - part) for part in (0.5 * bars.NEARLY_ALL, 1.5 * bars.NEARLY_ALL))
    unknown = fine | dict(bar=np.full((1, 3), np.inf))
    for known in (fine, unknown):
        assert judgement.lost(leaf_run(zero[0], autodiff=near, **known), 1e-3, 1e-7).all()
        assert not judgement.lost(leaf_run(zero[0], autodiff=far, **known), 1e-3, 1e-7).any()


def test_a_zero_beside_rounding_is_rounding():
    """A bias before a normalisation: one run gives 0 where another gives 4e-9, and either may be off by that."""
    noise = np.array([[4e-9, -2e-9, 1e-9]])
    for bar, wrong in ((1e-8, False), (1e-10, True)):
        bars_of = np.full((1, 3), bar)
        one = leaf_run([0, -2e-9, 3e-9], autodiff=noise, bar=bars_of, autodiff_bar=bars_of, autodiff_formula=noise * 0)
        assert judgement.apart(one, 1e-3, 2.0**-23).any() == wrong
