"""Losses that carry custom_vjp and custom_jvp rules; `jax.grad` of them is what is tested."""

from functools import partial

import jax
import jax.numpy as jnp

from tests.planted.base import Problem, draws, right, sigmoid, wrong


def with_vjp(f, fwd, bwd, **options):
    g = jax.custom_vjp(f, **options)
    g.defvjp(fwd, bwd)
    return g


def log1pexp(dtype, bug=None):
    """The documentation's stable rule, by custom_jvp, at moderate and at overflowing inputs."""

    @jax.custom_jvp
    def f(x):
        return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))

    @f.defjvp
    def _(primals, tangents):
        (x,), (t,) = primals, tangents
        slope = 1 / (1 + jnp.exp(x)) if bug == "complement" else 1 / (1 + jnp.exp(-x))
        if bug == "large":  # wrong only where few look
            slope = jnp.where(x > 20, 0, slope)
        return f(x), slope * t

    x, c = jnp.asarray([-3.0, -0.4, 0.7, 2.0, 25.0, 300.0], dtype), draws(91, dtype)(6)
    return Problem(lambda x: jnp.sum(f(x) * c), x)


def dense(dtype, bug=None):
    """A dense layer as one custom_vjp with three inputs, used twice and scaled after."""

    def f(x, W, b):
        return jnp.tanh(x @ W + b)

    def fwd(x, W, b):
        y = f(x, W, b)
        return y, (y if bug == "residual" else x, W, y)

    def bwd(saved, g):
        x, W, y = saved
        if bug == "cotangent":  # right only for a loss that sums
            g = jnp.ones_like(g)
        if bug == "nonlinear":
            g = g * jnp.abs(g)
        dz = g * (1 - y**2)
        dx = dz @ (W if bug == "no-transpose" else W.T)
        db = dz.sum(1) if bug == "axis" else dz.sum(0)
        dW = jnp.zeros_like(W) if bug == "zero" else x.T @ dz
        return (dx, dW, db)

    layer, r = with_vjp(f, fwd, bwd), draws(92, dtype)
    p = {"first": (r(4, 4), r(4)), "second": (r(4, 4), r(4))}
    X, C = r(4, 4), r(4, 4)

    def loss(p, X):
        return jnp.sum(layer(layer(X, *p["first"]), *p["second"]) * C)

    return Problem(loss, p, args=(X,))


def swish(bug):
    """x sigmoid(x) by custom_vjp, 1 % wrong with any bug."""

    def bwd(x, g):
        s = sigmoid(x)
        return (g * (s + x * s * (1 - s)) * (1.01 if bug else 1),)

    return with_vjp(lambda x: x * sigmoid(x), lambda x: (x * sigmoid(x), x), bwd)


def wrapped(dtype, bug=None, how="scan"):
    """The same rule under each of JAX's transformations."""
    f, r = swish(bug), draws(93, dtype)
    p, X = {"w": r(4), "v": r(4)}, r(5, 4)

    def body(h, x):
        return f(h + x), None

    def under(w):
        if how == "scan":
            return jax.lax.scan(body, w, X)[0]
        if how == "vmap":
            return jax.vmap(f)(w * X).sum(0)
        if how == "jit":
            return jax.jit(jax.jit(f))(w)
        if how == "cond":
            return jax.lax.cond(w[0] > -100, f, jnp.sin, w)
        if how == "switch":
            return jax.lax.switch(1, [jnp.sin, f, jnp.cos], w)
        if how == "remat":
            return jax.checkpoint(lambda w: f(jnp.sin(f(w))))(w)
        if how == "fori":
            return jax.lax.fori_loop(0, 3, lambda i, h: f(h + X[i]), w)
        if how == "vmap-of-scan":
            return jax.vmap(lambda x: jax.lax.scan(body, w * x, X)[0])(X[:2]).sum(0)
        return jax.lax.map(f, w * X).sum(0)

    return Problem(lambda p: jnp.sum(under(p["w"]) * p["v"]), p)


def hypot(dtype, bug=None):
    """Two inputs, custom_jvp by defjvps, one of them broadcast; nondiff_argnums for the power."""

    @jax.custom_jvp
    def f(x, y):
        return jnp.sqrt(x**2 + y**2)

    f.defjvps(
        lambda t, out, x, y: t * x / out,
        lambda t, out, x, y: t * (x if bug == "second" else y) / out,
    )

    @partial(jax.custom_jvp, nondiff_argnums=(1,))
    def power(x, n):
        return x**n

    @power.defjvp
    def _(n, primals, tangents):
        (x,), (t,) = primals, tangents
        return power(x, n), t * (n - 1 if bug == "coefficient" else n) * x ** (n - 1)

    r = draws(94, dtype)
    p, c = {"x": r(5), "y": r(5), "z": r(3)}, r(5)
    return Problem(lambda p: jnp.sum(f(p["x"], p["y"]) * c) + jnp.sum(power(p["z"], 3)), p)


def root(dtype, bug=None):
    """A while loop's fixed point whose custom_vjp uses the implicit function theorem."""

    def iterate(W, b):
        def cont(s):
            # A float32 run ends when nothing changes; the count is for two that alternate.
            return (jnp.max(jnp.abs(s[0] - s[1])) > 1e-14) & (s[2] < 200)

        def body(s):
            return s[1], jnp.tanh(W @ s[1] + b), s[2] + 1

        return jax.lax.while_loop(cont, body, (b, jnp.tanh(W @ b + b), 0))[1]

    def bwd(saved, g):
        W, z = saved
        s = 1 - z**2
        J = s[:, None] * W
        adj = g if bug == "one-step" else jnp.linalg.solve(jnp.eye(3, dtype=z.dtype) - J.T, g)
        return jnp.outer(s * adj, z), s * adj

    def fwd(W, b):
        z = iterate(W, b)
        return z, (W, z)

    solve, r = with_vjp(iterate, fwd, bwd), draws(95, dtype)
    p, c = [r(3, 3, scale=0.15), r(3)], r(3)
    return Problem(lambda p: jnp.sum(solve(*p) * c), p)


def gather(dtype, bug=None):
    """A rule with an integer input, whose scatter must add."""

    def bwd(saved, g):
        table, ids = saved
        rows = jnp.zeros_like(table).at[ids]
        return (rows.set(g) if bug else rows.add(g)), None

    take = with_vjp(lambda t, i: t[i], lambda t, i: (t[i], (t, i)), bwd)
    r, ids = draws(96, dtype), jnp.asarray([0, 2, 2, 1, 2])
    table, c = r(4, 3), r(5, 3)
    return Problem(lambda table, ids: jnp.sum(jnp.sin(take(table, ids)) * c), table, args=(ids,))


def safe_norm(dtype, bug=None, zero=False):
    """|x| with gradient 0 at 0, where plain autodiff is NaN."""

    def bwd(x, g):
        n = jnp.sqrt(jnp.sum(x**2))
        return (g * x / jnp.where(n == 0, 1, n) ** (2 if bug else 1),)

    def value(x):
        return jnp.sqrt(jnp.sum(x**2))

    norm, r = with_vjp(value, lambda x: (value(x), x), bwd), draws(97, dtype)
    p = {"x": r(3) * (0 if zero else 1), "y": r(3)}
    return Problem(lambda p: norm(p["x"]) + jnp.sin(norm(p["y"])), p)


WAYS = ("scan", "vmap", "jit", "cond", "switch", "remat", "fori", "vmap-of-scan", "map")
CASES = (
    right("rule-log1pexp", log1pexp, "stable log(1 + exp(x)), x up to 300"),
    wrong("rule-log1pexp-complement", log1pexp, "complement", "sigmoid(-x) for sigmoid(x)", ""),
    wrong("rule-log1pexp-large", log1pexp, "large", "zero where x > 20", ""),
    right("rule-dense", dense, "a dense layer with three inputs"),
    wrong("rule-dense-residual", dense, "residual", "output saved for input", "first[0] second[0]"),
    wrong("rule-dense-cotangent", dense, "cotangent", "cotangent ignored", "first[0] first[1] second[0] second[1]"),
    wrong("rule-dense-nonlinear", dense, "nonlinear", "g|g| for g", "first[0] first[1] second[0] second[1]"),
    wrong("rule-dense-no-transpose", dense, "no-transpose", "W for W^T", "first[0] first[1]"),
    wrong("rule-dense-bias-axis", dense, "axis", "bias summed over features", "first[1] second[1]"),
    wrong("rule-dense-zero", dense, "zero", "zeros for one input", "first[0] second[0]"),
    *(right(f"rule-under-{how}", wrapped, f"a rule under {how}", how=how) for how in WAYS),
    *(
        wrong(f"rule-under-{how}-1-percent", partial(wrapped, how=how), "factor", f"a rule 1 % off under {how}", "w")
        for how in WAYS
    ),
    right("rule-jvps", hypot, "custom_jvp of two inputs, and with nondiff_argnums"),
    wrong("rule-jvps-second", hypot, "second", "x for y in the second input's rule", "y"),
    wrong("rule-jvp-coefficient", hypot, "coefficient", "n - 1 for n", "z"),
    right("rule-implicit", root, "a while loop with an implicit rule"),
    wrong("rule-implicit-one-step", root, "one-step", "(I - J)^-1 left out", "[0] [1]"),
    right("rule-gather", gather, "an integer input and duplicates"),
    wrong("rule-gather-set", gather, "set", "duplicates overwrite", ""),
    right("rule-safe-norm", safe_norm, "safe norm away from zero"),
    right(
        "rule-safe-norm-at-zero",
        safe_norm,
        "safe norm at zero: plain autodiff is NaN",
        reasons=("KINK", "AUTODIFF_DIFFERS"),
        zero=True,
    ),
    wrong("rule-safe-norm-squared", safe_norm, "squared", "x/|x|^2", "x y"),
)
