"""Rules that come with JAX: activations, special functions, linear algebra, solvers, scans, windows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import jax.scipy.special as jss
from jax import lax
from jax.experimental.ode import odeint

from . import Rule, numbers, spd

V, W, POS, M = numbers(5), numbers(4, 3), numbers(5, seed=1, low=0.5, high=2.0), numbers(3, 3, seed=2)
UNIT = numbers(4, seed=3, low=0.1, high=0.9)
IMAGE = numbers(1, 4, 4, 2, seed=4)
S = spd(3)


def symmetric(f):
    return lambda a: f((a + a.T) / 2)


def cube_root(x):
    return lax.custom_root(lambda y: y**3 - x, jnp.ones_like(x), _newton, lambda g, y: y / g(jnp.ones_like(y)))


def _newton(g, y):
    return lax.fori_loop(0, 40, lambda _, y: y - g(y) / jax.jvp(g, (y,), (jnp.ones_like(y),))[1], y)


def own_solve(a, b):
    return lax.custom_linear_solve(lambda x: a @ x, b, lambda mv, b: jnp.linalg.solve(a, b),
                                   lambda mv, b: jnp.linalg.solve(a.T, b))  # fmt: skip


def pendulum(y0, k):
    ts = jnp.linspace(0.0, 0.5, 3)
    return odeint(lambda y, t, k: jnp.array([y[1], -k * jnp.sin(y[0])]), y0, ts, k, rtol=1e-10, atol=1e-10)


def recurrence(w, x):
    return lax.scan(lambda c, x: (jnp.tanh(w @ c + x),) * 2, jnp.zeros(3, w.dtype), x)[1]


def attention(q, k, v):
    return jax.nn.dot_product_attention(q, k, v)


ACTIVATIONS = ["relu", "relu6", "gelu", "silu", "selu", "elu", "celu", "softplus", "soft_sign", "sigmoid",
     "log_sigmoid",
               "hard_tanh", "hard_sigmoid", "leaky_relu", "mish", "squareplus", "softmax", "log_softmax", "standardize",
               "logsumexp", "glu"]  # fmt: skip
SPECIAL = {"gammaln": POS, "digamma": POS, "erf": V, "erfc": V, "erf_inv": 0.8 * V, "erfcx": V, "expit": V, "logit": UNIT,  # noqa: E501
           "ndtr": V, "ndtri": UNIT, "i0": V, "i0e": V, "i1": V, "i1e": V, "entr": UNIT, "xlogy": None,
           "sici": None, "zeta": None}  # fmt: skip

RULES = [
    *(Rule(f"nn.{n}", getattr(jax.nn, n), (W if n != "glu" else numbers(3, 4),)) for n in ACTIVATIONS
      if hasattr(jax.nn, n)),
    *(Rule(f"special.{n}", getattr(jss, n), (x,)) for n, x in SPECIAL.items() if x is not None and hasattr(jss, n)),
    Rule("special.log_ndtr", jss.log_ndtr, (3 * V,)),
    Rule("special.xlogy", jss.xlogy, (POS, POS + 1)),
    Rule("special.xlog1py at 0", jss.xlog1py, (jnp.float32(0.0), jnp.float32(0.7))),
    Rule("special.gammainc", jss.gammainc, (POS, POS + 0.3), order=1, slow=True),
    Rule("special.betainc", lambda x: jss.betainc(1.5, 2.5, x), (UNIT,), order=1),
    Rule("special.betaln", jss.betaln, (POS, POS + 1)),
    Rule("special.logsumexp with weights", lambda a, b: jss.logsumexp(a, b=b, axis=1), (W, jnp.abs(W) + 0.1)),
    Rule("special.polygamma", lambda x: jss.polygamma(1, x), (POS,)),
    Rule("special.multigammaln", lambda x: jss.multigammaln(x, 2), (POS + 2,)),
    Rule("jnp.logaddexp", jnp.logaddexp, (V, POS)),
    Rule("jnp.logaddexp2", jnp.logaddexp2, (V, POS)),
    Rule("jnp.logaddexp complex", jnp.logaddexp, (numbers(3, dtype=jnp.complex64), numbers(3, seed=9,
         dtype=jnp.complex64))),
    Rule("jnp.sinc", jnp.sinc, (V,)),
    Rule("jnp.linalg.norm", jnp.linalg.norm, (V,)),
    Rule("jnp.linalg.inv", jnp.linalg.inv, (S,)),
    Rule("jnp.linalg.solve", jnp.linalg.solve, (S, W[:3])),
    Rule("jnp.linalg.det", jnp.linalg.det, (M,)),
    Rule("jnp.linalg.slogdet", lambda a: jnp.linalg.slogdet(a)[1], (S,)),
    Rule("jnp.linalg.cholesky", symmetric(jnp.linalg.cholesky), (S,)),
    Rule("jnp.linalg.qr", lambda a: jnp.linalg.qr(a)[1], (W,)),
    Rule("jnp.linalg.eigh", symmetric(jnp.linalg.eigvalsh), (S,)),
    Rule("jnp.linalg.svd", lambda a: jnp.linalg.svd(a, compute_uv=False), (W,)),
    Rule("jnp.linalg.pinv", jnp.linalg.pinv, (W,)),
    Rule("jnp.linalg.lstsq", lambda a, b: jnp.linalg.lstsq(a, b)[0], (W, numbers(4)), order=1),
    Rule("jnp.linalg.matrix_power", lambda a: jnp.linalg.matrix_power(a, 3), (M,)),
    Rule("linalg.expm", jsl.expm, (M,), order=1, slow=True),
    Rule("linalg.cho_solve", lambda a, b: jsl.cho_solve(jsl.cho_factor((a + a.T) / 2), b), (S, V[:3])),
    Rule("linalg.lu", lambda a: jsl.lu(a)[1:], (S,)),
    Rule("linalg.solve_triangular", lambda a, b: jsl.solve_triangular(a, b, lower=True), (S, V[:3])),
    Rule("linalg.sqrtm by eigh", symmetric(lambda a: (lambda w, v: (v * jnp.sqrt(w)) @ v.T)(*jnp.linalg.eigh(a))), (S,),
         order=1),
    Rule("custom_root", cube_root, (POS,), order=1),
    Rule("custom_linear_solve", own_solve, (S, V[:3])),
    Rule("cg", lambda a, b: jax.scipy.sparse.linalg.cg(lambda x: a @ x, b, tol=1e-12)[0], (S, V[:3]), order=1,
         options=dict(argnums=1)),
    Rule("gmres", lambda a, b: jax.scipy.sparse.linalg.gmres(lambda x: a @ x, b, tol=1e-12)[0], (S, V[:3]), order=1,
         slow=True),
    Rule("bicgstab", lambda a, b: jax.scipy.sparse.linalg.bicgstab(lambda x: a @ x, b, tol=1e-12)[0], (S, V[:3]),
         order=1,
         slow=True),
    Rule("odeint", pendulum, (V[:2], 1.5), order=1, modes=("rev",), slow=True),
    Rule("scan", recurrence, (M, W)),
    Rule("while", lambda x: lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.sin(s[1])), (0, x))[1], (V,),
         modes=("fwd",)),
    Rule("cond", lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), (V,)),
    Rule("associative_scan", lambda x: lax.associative_scan(jnp.multiply, x), (POS,)),
    Rule("cumsum", jnp.cumsum, (V,)),
    Rule("cumprod", jnp.cumprod, (POS,)),
    Rule("cumprod with a zero", jnp.cumprod, (jnp.array([2.0, 0.0, 3.0]),)),
    Rule("cummax", lax.cummax, (V,)),
    Rule("cumlogsumexp", lax.cumlogsumexp, (V,)),
    Rule("sort", jnp.sort, (V,)),
    Rule("top_k", lambda x: lax.top_k(x, 2)[0], (V,)),
    Rule("max", lambda x: jnp.max(x, axis=0), (W,)),
    Rule("median", jnp.median, (V,)),
    Rule("quantile", lambda x: jnp.quantile(x, 0.3), (V,)),
    Rule("prod with a zero", jnp.prod, (jnp.array([2.0, 0.0, 3.0]),)),
    Rule("var", jnp.var, (V,)),
    Rule("interp", lambda x: jnp.interp(x, jnp.linspace(-1, 1, 4), jnp.arange(4.0) ** 2), (V,)),
    Rule("take", lambda x: jnp.take(x, jnp.array([0, 2, 2]), axis=0), (W,)),
    Rule("at set", lambda x, y: x.at[1:3].set(y), (V, V[:2] + 1)),
    Rule("dynamic_slice", lambda x, i: lax.dynamic_slice(x, (i,), (2,)), (V, jnp.int32(1))),
    Rule("where", lambda x: jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), x**2), (V,)),
    Rule("segment_sum", lambda x: jax.ops.segment_sum(x, jnp.array([0, 0, 1, 2]), 3), (W,)),
    Rule("segment_max", lambda x: jax.ops.segment_max(x, jnp.array([0, 0, 1, 1]), 2), (W,)),
    Rule("conv", lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO",
         "NHWC")),
         (IMAGE, numbers(2, 2, 2, 1))),
    Rule("max pool", lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"), (IMAGE,),
         order=1),
    Rule("image.resize", lambda x: jax.image.resize(x, (1, 6, 6, 2), "bilinear"), (IMAGE,), order=1),
    Rule("map_coordinates", lambda x, c: jax.scipy.ndimage.map_coordinates(x, [c, c], order=1),
         (M, jnp.array([0.3, 1.4])), order=1),
    Rule("fft", lambda x: jnp.abs(jnp.fft.rfft(x)) ** 2, (V,)),
    Rule("fft complex", jnp.fft.fft, (numbers(4, dtype=jnp.complex64),)),
    Rule("einsum", lambda a, b: jnp.einsum("ij,jk->ik", a, b), (W, M)),
    Rule("attention", attention, tuple(numbers(1, 3, 1, 2, seed=s) for s in range(3))),
    Rule("logpdf normal", jax.scipy.stats.norm.logpdf, (V, jnp.float32(0.3), jnp.float32(0.8))),
    Rule("logpdf t", jax.scipy.stats.t.logpdf, (V, jnp.float32(3.0))),
    # Not random.gamma: its rule is the implicit derivative of the distribution, which is another number than the
    # derivative of the sampler at a fixed key, and the check says so.
    Rule("random.normal", lambda key, s: s * jax.random.normal(key, s.shape), (jax.random.key(0), POS)),
    Rule("complex abs", jnp.abs, (numbers(3, dtype=jnp.complex64),)),
    Rule("complex power", lambda z: z**3, (numbers(3, dtype=jnp.complex64),)),
    Rule("complex solve", jnp.linalg.solve, (numbers(2, 2, dtype=jnp.complex64), numbers(2, dtype=jnp.complex64)),
         options={}),
    Rule("clip", lambda x: jnp.clip(x, -0.5, 0.5), (V,)),
    Rule("remat", jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))), (V,)),
    Rule("zero size", lambda x: jnp.sin(x), (jnp.zeros((0, 3)),)),
    Rule("bfloat16", lambda x: jnp.tanh(x), (V.astype(jnp.bfloat16),)),
    Rule("bfloat16 inside", lambda x: jnp.tanh(x.astype(jnp.bfloat16)).astype(jnp.float32), (V,), order=1),
]  # fmt: skip
