"""What wrong rules once got away with: each beside its right twin."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.custom_derivatives import SymbolicZero

import jaxcheck as jc
from jaxcheck.check.laws.algebra import laws
from jaxcheck.check.transforms import dtype as transforms_dtype
from jaxcheck.test_util import check_grads

X = jnp.array([0.3, 0.7, 1.1], jnp.float32)


def vjp(f0, bwd, **options):
    f = jax.custom_vjp(f0)
    f.defvjp(lambda *x: (f0(*x), x), lambda x, g: _tuple(bwd(*x, g)), **options)
    return f


def _tuple(x):
    return x if isinstance(x, tuple) else (x,)


def jvp(f0, push):
    f = jax.custom_jvp(f0)
    f.defjvp(lambda x, t: (f0(*x), push(*x, *t)))
    return f


def masked(value, k):
    """The sine where the mask lets it through, with a rule that is off by a factor."""
    mask = jnp.array([True, True, False])
    return lambda x: jnp.where(mask, jnp.sin(x), value), lambda x, d: jnp.where(mask, k * jnp.cos(x) * d, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("value", [-jnp.inf, jnp.inf, jnp.nan])
@pytest.mark.parametrize(("make", "modes"), [(vjp, "rev"), (jvp, "fwd"), (jvp, "rev"), (jvp, "lin")])
def test_an_infinite_output_hides_no_other(value, make, modes):
    with pytest.warns(jc.GradientCheckWarning, match="1 of 3 outputs are infinite or NaN at this point") as told:
        check_grads(make(*masked(value, 1.0)), (X,), 1, modes)
    assert len(told) == 1
    for k in (-5.0, 1.00001):
        with pytest.raises(jc.GradientMismatch):
            check_grads(make(*masked(value, k)), (X,), 1, modes)


@pytest.mark.slow
def test_nor_at_second_order():
    f0, _ = masked(-jnp.inf, 1.0)

    def rule(hold):
        return vjp(f0, lambda x, g: (jnp.where(jnp.isfinite(f0(x)), jnp.cos(hold(x)) * g, 0.0),))

    with pytest.warns(jc.GradientCheckWarning, match="left out"):
        check_grads(rule(lambda x: x), (X,), 2, "rev")
    with pytest.raises(jc.GradientMismatch, match="SECOND_ORDER_WRONG"):
        check_grads(rule(jax.lax.stop_gradient), (X,), 2, "rev")


@pytest.mark.parametrize("modes", ["fwd", "rev"])
def test_nothing_finite_is_not_judged(modes):
    with pytest.raises(jc.GradientInconclusive, match="every output is infinite or NaN"):
        check_grads(lambda x: x - jnp.inf, (X,), 1, modes)


def test_a_nan_that_no_rule_can_help_is_not_held_against_it():
    """The logarithm at 0: its slope is infinite and its cotangent, left out, zero."""
    with pytest.warns(jc.GradientCheckWarning):
        check_grads(jnp.log, (jnp.array([0.0, 1.0, 2.0]),), 1, ("fwd", "rev"))
    with pytest.raises(jc.GradientMismatch):
        check_grads(jvp(jnp.log, lambda x, t: 1.01 * t / x), (jnp.array([0.0, 1.0, 2.0]),), 1, ("fwd", "rev"))


def test_the_forward_row_of_a_rule_looks_at_what_is_finite():
    for k, status in ((1.0, "OK"), (1.01, "WRONG")):
        report = jc.check_rule(jvp(*masked(-jnp.inf, k)), X, algebra=False, transforms=False)
        (row,) = [r for r in report.rows if r.name == "JVP"]
        assert row.status == status and (k != 1.0 or "1 of 3 outputs" in row.detail)


def test_what_is_finite_is_told_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_grads(vjp(jnp.sin, lambda x, g: (g * jnp.cos(x),)), (np.asarray(X),), 2, "rev")


def product(k):
    """g c, with a rule of its own that is off in g."""
    return vjp(lambda g, c: g * c, lambda g, c, h: (k * h * c, h * g))


HOLD = jax.lax.stop_gradient
# In the cotangent (or tangent) alone: what varies only x sees nothing.
SECOND = {
    "right": (True, lambda: vjp(jnp.sin, lambda x, g: (g * jnp.cos(x),))),
    "g held": (False, lambda: vjp(jnp.sin, lambda x, g: (HOLD(g) * jnp.cos(x),))),
    "right by a product of its own": (True, lambda: vjp(jnp.sin, lambda x, g: (product(1.0)(g, jnp.cos(x)),))),
    "the product off in g": (False, lambda: vjp(jnp.sin, lambda x, g: (product(1.01)(g, jnp.cos(x)),))),
    "the product negative in g": (False, lambda: vjp(jnp.sin, lambda x, g: (product(-1.0)(g, jnp.cos(x)),))),
    "right forward": (True, lambda: jvp(jnp.sin, lambda x, t: t * jnp.cos(x))),
    "t held": (False, lambda: jvp(jnp.sin, lambda x, t: HOLD(t) * jnp.cos(x))),
    "x held": (False, lambda: jvp(jnp.sin, lambda x, t: t * jnp.cos(HOLD(x)))),
}


@pytest.mark.parametrize("name", SECOND)
def test_the_second_order_varies_what_comes_in(name):
    right, make = SECOND[name]
    report = jc.check_rule(make(), X, order=2, algebra=False, transforms=False)
    assert report.reason is (jc.Reason.AGREE if right else jc.Reason.SECOND_ORDER_WRONG), report


TWICE = {
    "two leaves, two results": (
        vjp(lambda x, w: (x * w, jnp.sum(x)), lambda x, w, g: (g[0] * w + g[1], g[0] * x)),
        (X, X + 1),
    ),
    "complex": (vjp(lambda z: z * z, lambda z, g: (2 * z * g,)), (X * (1 + 2j),)),
    "complex result": (vjp(lambda x: jnp.exp(1j * x), lambda x, g: ((1j * jnp.exp(1j * x) * g).real,)), (X,)),
    "bfloat16": (vjp(jnp.sin, lambda x, g: (g * jnp.cos(x),)), (X.astype(jnp.bfloat16),)),
    "a mask": (vjp(*masked(-jnp.inf, 1.0)), (X,)),
    "forward, two leaves": (jvp(lambda x, w: x * w, lambda x, w, t, s: t * w + x * s), (X, X + 1)),
    "complex forward": (jvp(lambda z: z * z, lambda z, t: 2 * z * t), (X * (1 + 2j),)),
}


@pytest.mark.parametrize("name", TWICE)
def test_and_accuses_no_right_rule(name):
    f, args = TWICE[name]
    report = jc.check_rule(f, *args, order=2, algebra=False)
    assert report.ok and not any(r.status == "WRONG" for r in report.rows), report
    assert {r.status for r in report.rows if "over" in r.name} == {"OK"}


def test_at_first_order_it_is_told():
    report = jc.check_rule(SECOND["g held"][1](), X, algebra=False)
    (row,) = [r for r in report.rows if r.name == "jvp of vjp"]
    assert report.ok and "wrong at second order" in row.detail


def rows_of(report, *names):
    return {r.name: r for r in report.rows if r.name in names}


def dtypes(f, *args, **options):
    return jc.check_rule(f, *args, algebra=False, **options)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("given", [jnp.float32, None])
@pytest.mark.parametrize("k", [0.0, 0.5, 0.95, 1.0, 1.05, 2.0])
def test_another_formula_in_half_precision(dtype, given, k):
    """A unit of bfloat16 is almost a percent; the row is judged before any rounding."""
    x = X.astype(given or dtype)
    f = vjp(jnp.sin, lambda x, g: ((g * jnp.cos(x) * (k if x.dtype == dtype else 1)).astype(x.dtype),))
    report = dtypes(f, x)
    name = jnp.dtype(dtype).name
    assert rows_of(report, name)[name].status == ("OK" if k == 1 else "WRONG"), report
    assert report.ok is (k == 1)


def layer_norm(x, w):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * w


def layer_norm_back(x, w, g):
    mean, scale = x.mean(-1, keepdims=True), jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)
    h, gw = (x - mean) * scale, g * w
    back = scale * (gw - gw.mean(-1, keepdims=True) - h * (gw * h).mean(-1, keepdims=True))
    return back, (g * h).sum(0)


def in_float32(back):
    """The accumulation of half precision: everything in float32, the result as it came."""

    def wider(*values):
        found = back(*(v.astype(jnp.float32) for v in values))
        return tuple(a.astype(v.dtype) for a, v in zip(_tuple(found), values[:-1], strict=True))

    return wider


def softmax(x):
    return jax.nn.softmax(x)


def softmax_back(x, g):
    y = jax.nn.softmax(x)
    return (y * (g - (g * y).sum(-1, keepdims=True)),)


def convolve(x, k):
    return jax.lax.conv_general_dilated(x, k, (1,), "SAME")


def scaled(x, w, g):
    y, scale = jnp.tanh(x @ w), 1024.0
    back = g * scale * (1 - y * y)
    return back @ w.T / scale, x.T @ back / scale


def gelu_back(x, g):
    inner = 0.7978845608 * (x + 0.044715 * x**3)
    t = jnp.tanh(inner)
    return (g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608 * (1 + 3 * 0.044715 * x * x)),)


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


MASK = np.tri(6, dtype=bool)
NARROW = {
    "softmax": (softmax, softmax_back, (3 * normal(4, 8),)),
    "softmax in float32": (softmax, in_float32(softmax_back), (3 * normal(4, 8),)),
    "layer norm": (layer_norm, layer_norm_back, (5 + normal(4, 16), normal(16))),
    "layer norm in float32": (layer_norm, in_float32(layer_norm_back), (5 + normal(4, 16), normal(16))),
    "logsumexp": (
        lambda x: jax.nn.logsumexp(x, axis=-1),
        lambda x, g: (g[..., None] * jax.nn.softmax(x),),
        (4 * normal(4, 8),),
    ),
    "convolution": (convolve, lambda x, k, g: jax.vjp(convolve, x, k)[1](g), (normal(2, 3, 8), normal(4, 3, 3))),
    "loss scaled": (lambda x, w: jnp.tanh(x @ w), scaled, (normal(4, 8), 0.3 * normal(8, 4))),
    "rounded constants": (
        lambda x: 0.5 * x * (1 + jnp.tanh(0.7978845608 * (x + 0.044715 * x**3))),
        gelu_back,
        (2 * normal(16),),
    ),
    "a guard of the dtype's own": (
        jnp.sqrt,
        lambda x, g: (g / (2 * jnp.sqrt(x) + jnp.finfo(x.dtype).eps),),
        (np.abs(normal(8)) + 0.2,),
    ),
    "a mask": (
        lambda x: jax.nn.softmax(jnp.where(MASK, x, -1e9)),
        lambda x, g: softmax_back(jnp.where(MASK, x, -1e9), g),
        (normal(6, 6),),
    ),
    "dropout": (
        lambda x: x * jax.random.bernoulli(jax.random.key(0), 0.5, x.shape),
        lambda x, g: (g * jax.random.bernoulli(jax.random.key(0), 0.5, g.shape),),
        (normal(8),),
    ),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", NARROW)
def test_right_rules_in_half_precision(name, dtype):
    f0, back, args = NARROW[name]
    found = transforms_dtype.rows(vjp(f0, back), [jnp.asarray(x, dtype) for x in args], {}, tuple(range(len(args))), 0)
    assert [(r.name, r.status) for r in found] == [(n, "OK") for n in ("float32", "bfloat16", "float16", "float64")], (
        found
    )


def test_what_is_lost_where_autodiff_keeps_it():
    """The formula is right; as it runs in bfloat16, and there alone, a mantissa of no bits is left of the cotangent."""

    def coarse(x, g):
        return (jnp.cos(x) * (jax.lax.reduce_precision(g, 8, 0) if x.dtype == jnp.bfloat16 else g),)

    (row,) = rows_of(dtypes(vjp(jnp.sin, coarse), jnp.asarray(normal(64))), "bfloat16").values()
    assert row.status == "WRONG" and "autodiff without the rule" in row.detail


@pytest.mark.slow
def test_a_rule_for_float32_is_no_wrong_rule_for_float64():
    """Unless float64 is what it was given."""
    f = vjp(softmax, in_float32(softmax_back))
    report = dtypes(f, jnp.asarray(normal(4, 8)))
    (row,) = rows_of(report, "float64").values()
    assert report.ok and row.status == "OK" and "as precise as what was given" in row.detail
    with jax.enable_x64(True):
        assert not dtypes(f, jnp.asarray(normal(4, 8), jnp.float64)).ok


@pytest.mark.parametrize("k", [1.0, 1.05])
def test_mixed_arguments(k):
    """bfloat16 activations and float32 weights: the rows of one dtype for all are not what was given."""
    f0 = lambda a, b: a.astype(jnp.float32) @ b  # noqa: E731
    f = vjp(f0, lambda a, b, g: ((g @ b.T).astype(a.dtype), k * a.astype(jnp.float32).T @ g))
    report = dtypes(f, jnp.ones((8, 16), jnp.bfloat16), jnp.asarray(normal(16, 4)))
    assert report.ok is (k == 1.0), report
    row = rows_of(report, "bfloat16")["bfloat16"]
    assert k != 1.0 or (row.status == "OK" and "the gradient is float32, the argument bfloat16" in row.detail)


@pytest.mark.slow
def test_not_run_in_float16_is_said():
    def host(x):
        return jax.pure_callback(
            lambda v: np.cos(v).astype(v.dtype), jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential"
        )

    (row,) = rows_of(dtypes(vjp(jnp.sin, lambda x, g: (g * host(x),)), X), "float16").values()
    assert row.status == "UNSUPPORTED" and "not run" in row.detail
    (row,) = rows_of(dtypes(vjp(jnp.sin, lambda x, g: (g * jnp.cos(x),)), X), "float16").values()
    assert row.status == "OK" and "formula alone" in row.detail


def perturbed(bad):
    """Told which arguments are perturbed, and wrong for one combination of them."""
    f = jax.custom_vjp(lambda x, w, b: jnp.sin(x) * w + b)

    def fwd(x, w, b):
        return jnp.sin(x.value) * w.value + b.value, (x.value, w.value, (x.perturbed, w.perturbed, b.perturbed))

    def bwd(r, g):
        x, w, those = r
        k = 1.05 if those == bad else 1.0
        return g * jnp.cos(x) * w * k, g * jnp.sin(x) * k, g * k

    f.defvjp(fwd, bwd, symbolic_zeros=True)
    return f


def unused(bad):
    """Told which results are not used, and wrong for one combination of them."""
    f = jax.custom_vjp(lambda x: (jnp.sin(x), jnp.cos(x), x**2))

    def bwd(x, g):
        zero = tuple(isinstance(v, SymbolicZero) for v in g)
        a, b, c = (0.0 if z else v for z, v in zip(zero, g, strict=True))
        return ((1.05 if zero == bad else 1.0) * (a * jnp.cos(x) - b * jnp.sin(x) + c * 2 * x) + 0 * x,)

    f.defvjp(lambda x: ((jnp.sin(x.value), jnp.cos(x.value), x.value**2), x.value), bwd, symbolic_zeros=True)
    return f


SOME = [None, *(tuple(hit == (k == i) for i in range(3)) for k in range(3) for hit in (True, False))]


@pytest.mark.parametrize(("make", "args"), [(perturbed, (X, X + 1, X + 2)), (unused, (X,))])
@pytest.mark.parametrize("bad", SOME, ids=str)
def test_symbolic_zeros_of_all_but_one(make, args, bad):
    wrong = [r for r in laws(make(bad), args, argnums=tuple(range(len(args)))) if r.status == "WRONG"]
    assert [r.group for r in wrong] == ["law"] * (bad is not None), wrong


def memo(keeps):
    """x w, of which the first concrete w is kept "since it is constant"."""
    kept = {}
    f = jax.custom_vjp(lambda x, w: x * w)

    def fwd(x, w):
        if keeps and not isinstance(w, jax.core.Tracer):
            kept.setdefault("w", w)
        return x * w, (x, w)

    f.defvjp(fwd, lambda r, g: (g * kept.get("w", r[1]), g * r[0]))
    return f, (X, X + 1)


def last_shape(keeps):
    """x times its length, with the length of the last call."""
    kept = {}
    f = jax.custom_vjp(lambda x: x * x.shape[0])

    def fwd(x):
        kept["n"] = x.shape[0]
        return x * x.shape[0], x

    f.defvjp(fwd, lambda x, g: (g * (kept["n"] if keeps else x.shape[0]),))
    return f, (X,)


@pytest.mark.parametrize("make", [memo, last_shape])
@pytest.mark.parametrize("keeps", [False, True])
def test_what_is_kept_of_an_earlier_call(make, keeps):
    f, args = make(keeps)
    (row,) = [r for r in laws(f, args, argnums=tuple(range(len(args)))) if r.name == "no hidden state"]
    assert row.status == ("WRONG" if keeps else "OK"), row


STATELESS = {
    "a fixed shape": (lambda x: x + jnp.arange(3.0), lambda x, g: g, (X,)),
    "a mean over rows": (lambda x: x - x.mean(0), lambda x, g: g - g.mean(0), (X,)),
    "a kink at one": (lambda x: jnp.minimum(x, 1.0), lambda x, g: jnp.where(x < 1, g, 0.0), (X,)),
    "no rows": (lambda x: x**2, lambda x, g: 2 * x * g, (X[0],)),
    "bfloat16": (jnp.tanh, lambda x, g: g * (1 - jnp.tanh(x) ** 2), (3 * X.astype(jnp.bfloat16),)),
    "an edge of the domain": (jnp.arccos, lambda x, g: -g / jnp.sqrt(1 - x * x), (X[:2],)),
    "what autodiff cannot": (
        lambda x: jnp.sqrt(x**2),
        lambda x, g: g * jnp.sign(x),
        (X * jnp.array([1.0, 0.0, -1.0]),),
    ),
}


@pytest.mark.parametrize("name", STATELESS)
def test_what_is_computed_anew_is_no_state(name):
    f0, back, args = STATELESS[name]
    (row,) = [r for r in laws(vjp(f0, back), args) if r.name == "no hidden state"]
    assert row.status == "OK", row


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda n: False, None),
        (lambda n: n == 1, "batch of 1"),
        (lambda n: n > 4, "batch of 7"),
        (lambda n: True, "differs"),
    ],
)
def test_batches_of_other_sizes(bad, said):
    cosine = jax.custom_batching.custom_vmap(jnp.cos)
    cosine.def_vmap(lambda n, batched, x: (jnp.cos(x) * (1.01 if bad(n) else 1.0), True))
    report = jc.check_rule(vjp(jnp.sin, lambda x, g: (g * cosine(x),)), X, algebra=False)
    (row,) = rows_of(report, "vmap over both").values()
    assert report.ok is (said is None) and (row.status == "OK" if said is None else said in row.detail), report


@pytest.mark.parametrize(("rtol", "passes"), [
    ({np.float16: 1e-1, np.float32: 1e-3}, False), ({np.float16: 1e-3, np.float32: 1e-1}, True),
    ({jnp.dtype("float32"): 1e-1}, True), ({jnp.bfloat16: 1e-1}, False), ({"float32": 1e-1}, True), (1e-1, True),
])  # fmt: skip
def test_a_bound_is_that_of_the_dtypes_that_take_part(rtol, passes):
    f = vjp(jnp.sin, lambda x, g: (1.05 * g * jnp.cos(x),))
    if passes:
        check_grads(f, (X,), 1, "rev", rtol=rtol)
        return
    with pytest.raises(jc.GradientMismatch):
        check_grads(f, (X,), 1, "rev", rtol=rtol)


def test_a_bound_of_one_of_the_dtypes_that_take_part():
    f = vjp(lambda a, b: a.astype(b.dtype) * b, lambda a, b, g: ((1.05 * g * b).astype(a.dtype), g * a.astype(b.dtype)))
    check_grads(f, (X.astype(jnp.bfloat16), X), 1, "rev", rtol={jnp.bfloat16: 1e-1, jnp.float32: 1e-3})


@pytest.mark.slow
def test_a_sampler_is_not_called_noisy():
    """The derivative of its distribution is not that of its path, though it is a smooth function of its argument."""
    with pytest.raises(jc.GradientInconclusive) as caught:
        check_grads(lambda a: jax.random.gamma(jax.random.key(0), a), (np.float32(2.0),), 1)
    assert caught.value.report.reason is jc.Reason.IMPLICIT
    assert "is noisy" not in str(caught.value)
