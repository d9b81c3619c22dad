"""Lifted programs against the same programs promoted by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.ode import odeint

from jaxcheck.program.custom.strip import trace_native
from jaxcheck.program.float64 import shadow
from jaxcheck.program.float64.literals import simplest

RNG = np.random.default_rng(7)
V = RNG.normal(size=6).astype(np.float32)
P = (np.abs(V) + 0.5).astype(np.float32)
M = RNG.normal(size=(4, 3)).astype(np.float32)
S = (RNG.normal(size=(4, 4)) + 4 * np.eye(4)).astype(np.float32)
SPD = (S @ S.T).astype(np.float32)
B = RNG.normal(size=4).astype(np.float32)
IMAGE = RNG.normal(size=(1, 2, 6, 6)).astype(np.float32)
KERNEL = RNG.normal(size=(3, 2, 3, 3)).astype(np.float32)
INDEX = np.array([2, 0, 2, 1, 0, 1], np.int32)


@jax.custom_vjp
def cubed(x):
    return x * x * x


cubed.defvjp(lambda x: (x * x * x, x), lambda x, g: (3 * x * x * g * 1.25,))


@jax.custom_jvp
def sine(x):
    return jnp.sin(x)


@sine.defjvp
def _sine_jvp(primals, tangents):
    return sine(primals[0]), 1.5 * jnp.cos(primals[0]) * tangents[0]


def mlp(w, v, x):
    return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ v) ** 2)


def attention(q, k, v):
    scores = jax.nn.softmax(q @ k.T / jnp.sqrt(q.shape[-1]), axis=-1)
    return jnp.sum((scores @ v) ** 2)


def loop(x):
    return lax.scan(lambda c, t: (jnp.sin(c) * t + c, c * t), x[0], x)[0]


def wloop(x):
    return lax.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, jnp.sin(c[1]) + 0.1), (0, x))[1]


def newton(x):
    return lax.custom_root(
        lambda y: y**3 - x, x,
        lambda f, y: lax.fori_loop(0, 60, lambda i, y: y - f(y) / (3 * y * y), y),
        lambda g, b: b / g(1.0),
    )  # fmt: skip


def normalise(x):
    return (x - x.mean()) / jnp.sqrt(x.var() + 1e-5)


def gelu(x):
    return 0.5 * x * (1 + jnp.tanh(jnp.sqrt(2 / jnp.pi) * (x + 0.044715 * x**3)))


def flow(y, a):
    return odeint(lambda y, t, a: -a * y + jnp.sin(t), y, jnp.array([0.0, 0.5]), a, rtol=1e-3)[-1]


def custom_solve(x):
    return lax.custom_linear_solve(
        lambda v: S.astype(x.dtype) @ v, x, lambda mv, b: jnp.linalg.inv(S.astype(x.dtype)) @ b,
        lambda vm, b: jnp.linalg.inv(S.astype(x.dtype)).T @ b,
    )  # fmt: skip


def at_key(x):
    return x * jnp.array([3, 1, 4, 1, 5, 9])


# Programs that promotion alone brings to float64: it is their truth.
PROGRAMS = {
    "mlp": (mlp, M, M.T, M.T),
    "attention": (attention, M, M, M),
    "norm": (normalise, V),
    "gelu": (gelu, V),
    "jit": (jax.jit(lambda x: jax.jit(jnp.sin)(x) * 0.1), V),
    "conv": (lambda x, k: jnp.tanh(lax.conv(x, k, (1, 1), "SAME")), IMAGE, KERNEL),
    "conv_transpose": (lambda x: lax.conv_transpose(x, KERNEL.astype(x.dtype).transpose(1, 0, 2, 3),
                                                    (2, 2), "SAME",
                                                    dimension_numbers=("NCHW", "OIHW", "NCHW"),
                                                    transpose_kernel=True), IMAGE[:, :, :3]),
    "sort": (lambda x: jnp.sort(x) * jnp.arange(6), V),
    "argsort": (lambda x: x[jnp.argsort(-x)] * jnp.arange(6), V),
    "top_k": (lambda x: lax.top_k(x, 3)[0], V),
    "cumsum": (lambda x: jnp.cumsum(x**2), V),
    "cumprod": (jnp.cumprod, V),
    "cumlogsumexp": (lambda x: lax.cumlogsumexp(x), V),
    "associative_scan": (lambda x: lax.associative_scan(jnp.multiply, x), V),
    "cholesky": (lambda a: jnp.linalg.cholesky(a @ a.T + jnp.eye(4)), S),
    "solve": (jnp.linalg.solve, S, B),
    "cho_solve": (lambda a, b: jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(a), b),
                  SPD, B),
    "triangular": (lambda a, b: jax.scipy.linalg.solve_triangular(a, b), S, B),
    "inv": (jnp.linalg.inv, S),
    "slogdet": (lambda a: jnp.linalg.slogdet(a)[1], S),
    "svd": (lambda a: jnp.linalg.svd(a, compute_uv=False), M),
    "eigh": (lambda a: jnp.linalg.eigvalsh(a + a.T), S),
    "qr": (lambda a: jnp.linalg.qr(a)[1] ** 2, M),
    "expm": (lambda a: jax.scipy.linalg.expm(a * 0.1), S),
    "scan": (loop, V),
    "while": (lambda x: lax.stop_gradient(wloop(x)) * x, V),
    "fori": (lambda x: lax.fori_loop(0, 4, lambda i, c: jnp.sin(c) + 0.3 * i, x), V),
    "cond": (lambda x: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x), V),
    "switch": (lambda x: lax.switch(2, [jnp.sin, jnp.cos, lambda x: x * 0.7], x), V),
    "map": (lambda x: lax.map(lambda t: jnp.exp(t) * 0.1, x), V),
    "odeint": (flow, V, np.float32(0.7)),
    "root": (newton, np.float32(2.0)),
    "linear_solve": (custom_solve, B),
    "remat": (jax.checkpoint(lambda x: jnp.sin(jnp.sin(x)) * 0.1), V),
    "remat_const": (jax.checkpoint(lambda x: jnp.sin(x @ jnp.asarray(M) * 0.1)), B),
    "vmap": (jax.vmap(lambda x, y: jnp.dot(x, y) * x), M, M),
    "nested_grad": (jax.grad(lambda x: jnp.sum(jax.grad(lambda y: jnp.sum(y**4))(x) ** 2)), V),
    "hvp": (lambda x: jax.jvp(jax.grad(lambda y: jnp.sum(jnp.sin(y) ** 3)), (x,), (x,))[1], V),
    "softplus": (jax.nn.softplus, np.concatenate([V, np.zeros(1, np.float32)])),
    "relu": (jax.nn.relu, np.concatenate([V, np.zeros(1, np.float32)])),
    "logsumexp": (jax.nn.logsumexp, V),
    "special": (lambda x: lax.lgamma(x) + lax.digamma(x) + lax.erf_inv(x / 9) + lax.bessel_i1e(x)
                + jax.scipy.special.gammainc(2.0, x) + jax.scipy.stats.norm.logcdf(x), P),
    "betainc": (lambda x: jax.scipy.special.betainc(2.0, 3.0, x / 9), P),
    "sinc": (jnp.sinc, V),
    "frexp": (lambda x: jnp.frexp(x)[0], V),
    "fft": (lambda x: jnp.abs(jnp.fft.fft(x)) ** 2, V),
    "complex": (lambda x: jnp.real(jnp.exp(1j * x) * (2 + 0.1j)), V),
    "segment_sum": (lambda x: jax.ops.segment_sum(x**2, INDEX, 3), V),
    "gather": (lambda x: x[INDEX] ** 2, V),
    "scatter": (lambda x: jnp.zeros(6, x.dtype).at[np.array([0, 2, 4])].set(x[:3] ** 2), V),
    "scatter_mul": (lambda x: x.at[np.array([0, 1])].multiply(0.1), V),
    "scatter_traced": (lambda x: jnp.zeros(3, x.dtype).at[jnp.argsort(x)[:3] % 3].add(x[:3]), V),
    "dynamic": (lambda x: lax.dynamic_update_slice(x, lax.dynamic_slice(x, (1,), (2,)) * 3, (3,)),
                V),
    "max_pool": (lambda x: lax.reduce_window(x, -np.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2),
                                             "VALID"), IMAGE),
    "avg_pool": (lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 1, 2, 2), (1, 1, 1, 1), "SAME"),
                 IMAGE),
    "logistic": (lambda x: jax.nn.log_sigmoid(x) + jax.nn.swish(x) + jax.nn.elu(x), V),
    "one_hot": (lambda x: jax.nn.one_hot(jnp.array([1, 0]), 3, dtype=x.dtype) @ x[:3], V),
    "cross_entropy": (lambda x: -jnp.take_along_axis(jax.nn.log_softmax(x), INDEX[:4, None], 1), M),
    "interp": (lambda x: jnp.interp(x, jnp.arange(3.0), jnp.arange(3.0) ** 2), V),
    "quantile": (lambda x: jnp.quantile(x, 0.3), V),
    "custom_vjp": (lambda x: cubed(x) * 0.1, V),
    "custom_jvp": (lambda x: sine(x) * 0.1, V),
    "rules_nested": (jax.jit(lambda x: lax.scan(lambda c, t: (cubed(sine(c)) * t, c), x[0], x)[0]),
                     V),
    "vmap_rule": (jax.vmap(lambda x: cubed(x) + jax.vmap(sine)(x)), M),
    "remat_rule": (jax.checkpoint(lambda x: cubed(sine(x))), V),
    "cond_rule": (lambda x: lax.cond(x[0] > 0, cubed, sine, x), V),
    "einsum": (lambda a, b: jnp.einsum("ij,kj,i->k", a, b, a[:, 0]), M, M),
    "precision": (lambda a, b: jnp.dot(a, b, precision="highest"), M, M.T),
    "integer": (lambda x: x * at_key(jnp.ones(6, jnp.int32)), V),
    "signs": (lambda x: jnp.copysign(x * x, x) + jnp.where(jnp.signbit(x), x, 2 * x), V),
    "logaddexp": (lambda x: jnp.logaddexp(x, 0.1), V),
    "polyval": (lambda x: jnp.polyval(jnp.array([0.125, -0.25, 2.0]), x), V),
    "name": (lambda x: checkpoint_name(x, "x") * 0.1, V),
    "linear_call": (lambda x: jax.custom_derivatives.linear_call(
        lambda r, v: v * r, lambda r, v: v * r, jnp.asarray(P), x), V),
}  # fmt: skip


def weighted(f):
    """A scalar function of f's arguments which every output moves."""

    def loss(*args):
        leaves = [v for v in jax.tree_util.tree_leaves(f(*args))]
        return sum(jnp.sum(v * jnp.cos(jnp.arange(v.size).reshape(v.shape))) for v in leaves)

    return loss


def lifted(f, args):
    """f as a function of float64 arguments, through its float32 trace."""
    traced = trace_native(f, args, {}, lambda leaf: True)
    assert any("32" in str(v.aval.dtype) for v in traced.closed.jaxpr.invars)
    run = shadow.lift(traced.closed)
    return lambda *flat: jax.tree_util.tree_unflatten(traced.out_tree, run(*flat))


def wide(args):
    return tuple(np.asarray(a, np.float64) for a in args)


# Tables of coefficients are float32 arrays in the native trace: data, taken as they are.
LOOSE = {"odeint": 1e-6}


def close(found, truth, tolerance=1e-12):
    leaves = jax.tree_util.tree_leaves
    for a, b in zip(leaves(found), leaves(truth), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype and a.shape == b.shape
        assert np.all(np.isfinite(b))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * (1 + np.abs(b).max()))


@pytest.mark.parametrize("name", PROGRAMS)
def test_lifted_is_promoted(name):
    f, *args = PROGRAMS[name]
    loss, args = weighted(f), tuple(args)
    run = lifted(f, args)
    numbers = tuple(range(len(args)))
    with jax.enable_x64(True):
        flat = wide(args)
        truth = jax.jit(f)(*flat)
        assert {v.dtype for v in jax.tree_util.tree_leaves(truth)} == {np.dtype(np.float64)}
        close(jax.jit(run)(*flat), truth, LOOSE.get(name, 1e-12))
        slopes = jax.jit(jax.grad(loss, numbers))(*flat)
        close(jax.jit(jax.grad(weighted(run), numbers))(*flat), slopes, LOOSE.get(name, 1e-12))


def test_the_comparison_can_fail():
    # The same table with float32 arithmetic must not pass at its tolerance.
    f, *args = PROGRAMS["mlp"]
    with pytest.raises(AssertionError):
        with jax.enable_x64(True):
            close(np.float64(f(*args)), np.float64(f(*wide(args))))


PINNED = {
    "bfloat16": (lambda x: (x.astype(jnp.bfloat16) * (1 / 3)).astype(jnp.float32),
                 lambda x: x / 3),
    "float16": (lambda x: jnp.sin(x.astype(jnp.float16) * 0.1), lambda x: jnp.sin(x * 0.1)),
    "dot": (lambda x: jnp.dot(x.astype(jnp.bfloat16), x.astype(jnp.bfloat16),
                              preferred_element_type=jnp.float32), lambda x: jnp.dot(x, x)),
    "const": (lambda x: x * jnp.asarray(V), lambda x: x * np.asarray(V, np.float64)),
    "scalar_const": (lambda x: x * jnp.float32(0.1), lambda x: x * 0.1),
    "reduce_precision": (lambda x: lax.reduce_precision(x, 5, 3), lambda x: x * 1.0),
    "zeros": (lambda x: jnp.zeros(6, jnp.float32) + x.astype(jnp.float32), lambda x: x * 1.0),
    "scan": (lambda x: lax.scan(lambda c, t: ((c + t.astype(jnp.float32)), c),
                                jnp.float32(0), x)[0], lambda x: jnp.sum(x)),
    "sum": (lambda x: jnp.sum(x.astype(jnp.bfloat16), dtype=jnp.float32), jnp.sum),
    "algorithm": (lambda x: lax.dot(x, x, precision=lax.DotAlgorithmPreset.F32_F32_F32)
                  if x.dtype == jnp.float32 else jnp.dot(x, x), jnp.dot),
    "remat": (jax.checkpoint(lambda x: jnp.sin(x.astype(jnp.float32) * jnp.asarray(V))),
              lambda x: jnp.sin(x * np.asarray(V, np.float64))),
    "float8": (lambda x: x.astype(jnp.float8_e4m3fn).astype(jnp.float32), lambda x: x * 1.0),
    "complex": (lambda x: jnp.abs(x.astype(jnp.complex64) * 1j), lambda x: jnp.abs(x)),
    "linspace": (lambda x: x * jnp.arange(6, dtype=jnp.float32), lambda x: x * jnp.arange(6.0)),
}  # fmt: skip
PINNED["algorithm"] = (PINNED["algorithm"][0], lambda x: jnp.dot(x, x))


# Under promotion JAX itself widens the scalar, and nothing is pinned.
PROMOTABLE = ("algorithm", "scalar_const", "const", "remat")


@pytest.mark.parametrize("name", PINNED)
@pytest.mark.parametrize("native", [False, True])
def test_pinned_precision_is_lifted(name, native):
    f, truth = PINNED[name]
    with jax.enable_x64(True):
        expected = truth(np.asarray(V, np.float64)) * 1.0
        slopes = jax.grad(weighted(truth))(np.asarray(V, np.float64))
    if native or name == "scalar_const":
        run = lifted(f, (V,))
    else:
        run = shadow.in_float64(f)
        traced = shadow.trace_float64(f, V)
        if name not in PROMOTABLE:
            assert traced.how == "lifted" and traced.reasons
    with jax.enable_x64(True):
        close(run(np.asarray(V, np.float64)), expected)
        close(jax.grad(weighted(run))(np.asarray(V, np.float64)), slopes)


@jax.custom_vjp
def low_rule(x):
    return x * x


low_rule.defvjp(
    lambda x: ((x.astype(jnp.bfloat16) ** 2).astype(x.dtype), x.astype(jnp.bfloat16)),
    lambda x, g: ((g.astype(jnp.bfloat16) * x * 3).astype(jnp.float32),),
)


def test_a_rule_that_pins_bfloat16_is_lifted():
    x = np.float32(0.3)
    traced = shadow.trace_float64(low_rule, x)
    assert traced.how == "lifted" and any("bfloat16" in r for r in traced.reasons)
    run = shadow.in_float64(low_rule)
    with jax.enable_x64(True):
        value, slope = jax.value_and_grad(run)(np.float64(x))
    assert value == pytest.approx(np.float64(x) ** 2, rel=1e-14)
    assert slope == pytest.approx(3 * np.float64(x), rel=1e-14)  # the rule's 3, not the truth's 2


def dropout(x, key):
    keep = jax.random.bernoulli(key, 0.7, x.shape)
    return jnp.where(keep, x / 0.7, 0)


@pytest.mark.parametrize(
    "wrap", [lambda f: f, jax.jit, jax.checkpoint, lambda f: lambda x, k: lax.map(lambda t: f(t, k), x[None])[0]]
)
def test_dropout_keeps_its_mask(wrap):
    x, key = np.ones(2000, np.float32), jax.random.key(3)
    native = np.asarray(wrap(dropout)(x, key))
    found = np.asarray(shadow.in_float64(wrap(dropout))(x, key))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found != 0, native != 0)
    np.testing.assert_allclose(found, native, rtol=1e-6)
    assert set(np.unique(found)) == {0.0, 1 / 0.7}


@pytest.mark.parametrize("draw", [
    lambda k: jax.random.normal(k, (50,)),
    lambda k: jax.random.uniform(k, (50,), minval=-2.0, maxval=3.0),
    lambda k: jax.random.gamma(k, 2.5, (50,)),
    lambda k: jax.random.truncated_normal(k, -1.0, 2.0, (50,)),
    lambda k: jax.random.gumbel(k, (50,)),
    lambda k: jax.random.randint(k, (50,), 0, 9),
    lambda k: jax.random.categorical(k, jnp.log(jnp.arange(1.0, 9.0)), shape=(50,)),
    lambda k: jax.random.permutation(k, 50),
    lambda k: jax.random.normal(k, (50,), jnp.bfloat16),
])  # fmt: skip
@pytest.mark.parametrize("raw", [False, True])
def test_draws_are_the_same(draw, raw):
    key = jax.random.PRNGKey(5) if raw else jax.random.key(5)
    x = np.float32(1.0)

    def f(x):
        return draw(key) * x

    native = np.asarray(f(x)).astype(np.float64)
    found = np.asarray(shadow.in_float64(f)(x))
    assert found.dtype == np.float64 and np.ptp(native) > 0
    tolerance = 1e-2 if draw(key).dtype == jnp.bfloat16 else 1e-6
    np.testing.assert_allclose(found, native, rtol=tolerance, atol=tolerance)


def test_a_draw_with_a_moving_parameter_stays_differentiable():
    def f(scale):
        return jnp.sum(jax.random.uniform(jax.random.key(0), (5,), minval=0.0, maxval=scale))

    def noise(scale):
        return jnp.sum(jax.random.normal(jax.random.key(0), (5,)) * scale)

    for g in (f, noise):
        run = shadow.in_float64(g)
        with jax.enable_x64(True):
            slope = jax.grad(run)(np.float64(2.0))
            assert slope == pytest.approx(float(run(np.float64(2.0))) / 2, rel=1e-12)


def test_promotion_that_fails_falls_back_to_the_native_trace():
    def f(x):
        return jnp.sum(lax.mul(x, jnp.asarray(V)))  # lax wants equal dtypes

    traced = shadow.trace_float64(f, V)
    assert traced.how == "lifted" and "promotion fails" in traced.reasons[0]
    truth = np.dot(np.asarray(V, np.float64), np.asarray(V, np.float64))
    assert float(shadow.in_float64(f)(V)) == pytest.approx(truth, rel=1e-14)


def test_a_rule_that_fails_in_64_bits_falls_back():
    @jax.custom_vjp
    def f(x):
        return jnp.sum(x)

    # lax.mul wants equal dtypes, and this rule keeps float32 data.
    f.defvjp(lambda x: (jnp.sum(x), None), lambda _, g: (lax.mul(jnp.ones(6, jnp.float32), jnp.broadcast_to(g, 6)),))
    traced = shadow.trace_float64(f, V)
    assert traced.how == "lifted" and traced.wide is False
    run = shadow.runnable(traced)
    with jax.enable_x64(True):
        close(jax.grad(lambda x: run(x)[0])(np.asarray(V, np.float64)), np.ones(6))


def test_islands():
    def f(x):
        y = jax.pure_callback(lambda a: np.asarray(a) * 2, jax.ShapeDtypeStruct((), jnp.float32), x)
        return y + x * 0.1

    traced = shadow.trace_float64(f, np.float32(1.5))
    assert traced.how == "native" and "pure_callback" in traced.reasons
    assert shadow.islands(traced.closed) == ("pure_callback",)
    assert shadow.runnable(traced)(np.float64(1.5))[0] == pytest.approx(3.15, rel=1e-15)
    with pytest.raises(shadow.Unliftable, match="pure_callback"):
        shadow.lift(traced.closed)(np.float64(1.5))
    assert shadow.islands(jax.make_jaxpr(jnp.sin)(1.0)) == ()


def test_prints_are_dropped(capfd):
    def f(x):
        jax.debug.print("seen {x}", x=x)
        return x.astype(jnp.bfloat16) * 2

    assert float(shadow.in_float64(f)(np.float32(0.1))) == 2 * np.float64(np.float32(0.1))
    assert "seen" not in capfd.readouterr().out


def test_second_order_and_transformations():
    run = shadow.in_float64(lambda x: sine(cubed(x.astype(jnp.float32)) * jnp.float32(0.1)))
    with jax.enable_x64(True):
        x = np.asarray(V, np.float64)
        truth = jax.vmap(jax.grad(lambda x: sine(cubed(x) * 0.1)))
        close(jax.jit(jax.vmap(jax.grad(run)))(x), truth(x))
        close(
            jax.vmap(jax.grad(jax.grad(lambda x: sine(x) * 0.1)))(x),
            jax.vmap(jax.grad(jax.grad(shadow.in_float64(lambda x: sine(x.astype(jnp.float32)) * 0.1))))(x),
        )
        close(jax.jvp(shadow.in_float64(lambda x: sine(x.astype(jnp.float32))), (x,), (x,)), jax.jvp(sine, (x,), (x,)))


def test_leaves_of_every_kind():
    def f(state, n):
        del n
        return {
            "w": state["w"] * 0.1,
            "step": state["step"] + 1,
            "mask": ~state["mask"],
            "key": jax.random.split(state["key"])[0],
            "none": state["none"],
            "z": state["z"] * 2,
        }

    state = {
        "w": V,
        "step": np.int32(3),
        "mask": np.array([True]),
        "key": jax.random.key(1),
        "none": None,
        "z": np.complex64(1 + 2j),
        "float": 0.5,
    }
    out = shadow.in_float64(f)(state, 3)
    assert out["w"].dtype == np.float64 and out["z"].dtype == np.complex128
    assert out["step"].dtype == np.int32 and out["step"] == 4 and out["mask"].dtype == bool
    assert jax.numpy.issubdtype(out["key"].dtype, jax.dtypes.prng_key) and out["none"] is None


def test_to_float64():
    assert shadow.to_float64(0.1).dtype == np.float64
    assert shadow.to_float64(1j).dtype == np.complex128
    assert shadow.to_float64(jnp.ones(2, jnp.bfloat16)).dtype == np.float64
    assert shadow.to_float64(np.complex64(1)).dtype == np.complex128
    key, ints = jax.random.key(0), np.arange(3, dtype=np.int8)
    for same in (key, ints, None, True, 3, "s"):
        assert shadow.to_float64(same) is same


def test_what_is_low():
    with jax.enable_x64(True):
        pure = jax.make_jaxpr(lambda x: jnp.sin(x) * 0.1)(np.float64(1))
        low = jax.make_jaxpr(lambda x: x * jnp.asarray(V))(np.float64(1))
        nested = jax.make_jaxpr(jax.jit(lambda x: x.astype(jnp.bfloat16)))(np.float64(1))
    assert shadow.low_precision(pure) == ()
    assert any("constant float32" in r or "float32" in r for r in shadow.low_precision(low))
    assert any("bfloat16" in r for r in shadow.low_precision(nested))
    assert not shadow.uses_random_bits(pure)
    draw = jax.make_jaxpr(jax.jit(lambda k: jax.random.normal(k)))(jax.random.key(0))
    assert shadow.uses_random_bits(draw)
    assert not shadow.uses_random_bits(jax.make_jaxpr(jax.random.split)(jax.random.key(0)))


def test_the_mode_is_restored():
    before = jax.config.jax_enable_x64
    for f in (jnp.sin, lambda x: 1 / 0):
        try:
            shadow.in_float64(f)(V)
        except ZeroDivisionError:
            pass
        assert jax.config.jax_enable_x64 == before
    assert jnp.sin(V).dtype == np.float32


@pytest.mark.parametrize("number", [0.1, 0.9, 1 / 3, 2 / 3, 1 / 6, 1e-3, 0.5, 3.0, 100.0, 0.75])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_simplest_number(number, dtype):
    stored = float(np.asarray(number).astype(dtype))
    assert simplest(stored, dtype) == number
    assert simplest(-stored, dtype) == -number


@pytest.mark.slow
def test_simplest_number_rounds_back():
    values = np.concatenate([RNG.normal(size=300), 10.0 ** RNG.uniform(-30, 30, 300)])
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        with np.errstate(over="ignore"):
            stored = values.astype(dtype)
        for value in stored:
            assert np.asarray(simplest(float(value), dtype)).astype(dtype) == value
    assert simplest(float("-inf"), jnp.float32) == -np.inf
    assert np.isnan(simplest(float("nan"), jnp.float32))


def test_in_float64_keeps_the_name():
    assert shadow.in_float64(mlp).__name__ == "mlp"
    assert shadow.in_float64(functools.partial(mlp, M, M.T))(M.T).dtype == np.float64
