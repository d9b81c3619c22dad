"""Magnitudes: large offsets, tiny gradients, mixed scales, stiffness, saturation, flatness."""

import jax.numpy as jnp
import numpy as np

from tests.planted.base import Problem, draws, right, sigmoid, wrong


def elementwise(f, df):
    """A family: sum of c f(x) over a vector, its gradient c f'(x); the bug is a factor."""

    def family(dtype, bug=None, seed=101, scale=1.0, shift=0.0, n=6):
        r = draws(seed, dtype)
        x, c = shift + scale * r(n), r(n)

        def grad(x):
            g = c * df(x)
            return g * bug if isinstance(bug, float) else g

        return Problem(lambda x: jnp.sum(c * f(x)), x, grad)

    return family


def offset(dtype, bug=None, slope=1.0):
    """A loss of 1e6 whose changes are small: float32 does not see them at all."""
    r = draws(102, dtype)
    p, c = {"x": r(4), "y": r(3)}, r(4)

    def loss(p):
        return 1e6 + slope * (jnp.sum(c * jnp.sin(p["x"])) + jnp.sum(p["y"] ** 2))

    def grad(p):
        return {"x": slope * c * jnp.cos(p["x"]), "y": slope * p["y"] * (bug or 2)}

    return Problem(loss, p, grad)


def residuals(dtype, bug=None):
    """Least squares of large, badly scaled data: a loss of 1e6 the honest way."""
    r = draws(103, dtype)
    w, X, y = r(5), 30 * r(40, 5), 200 * r(40)

    def loss(w, X, y):
        return jnp.sum((X @ w - y) ** 2)

    def grad(w, X, y):
        return 2 * X.T @ (X @ w - y) * (bug or 1)

    return Problem(loss, w, grad, (X, y))


def tiny(dtype, bug=None, base=0.0, size=1e-9):
    """Gradients of 1e-9, alone or beside a loss of one."""
    r = draws(104, dtype)
    p, X = {"w": r(4), "b": r()}, r(6, 4)

    def loss(p):
        return base + size * jnp.sum(jnp.tanh(X @ p["w"] + p["b"]))

    def grad(p):
        d = size * (1 - jnp.tanh(X @ p["w"] + p["b"]) ** 2)
        return {"w": X.T @ d * (bug or 1), "b": d.sum()}

    return Problem(loss, p, grad)


def mixed_leaves(dtype, bug=None, s=1e8):
    """Leaves of 1e-8 and 1e8, hence gradients of 1e8 and 1e-8, that matter equally."""
    r = draws(105, dtype)
    p = {"small": r(4) / s, "large": r(4) * s, "plain": r(3)}

    def loss(p):
        a, b = p["small"] * s, p["large"] / s
        return jnp.sum(jnp.sin(a) * b) + jnp.sum(p["plain"] ** 3)

    def grad(p):
        a, b = p["small"] * s, p["large"] / s
        g = {"small": jnp.cos(a) * b * s, "large": jnp.sin(a) / s, "plain": 3 * p["plain"] ** 2}
        return {k: v * 1.001 if k == bug else v for k, v in g.items()}

    return Problem(loss, p, grad)


def mixed_effects(dtype, bug=None, s=1e3):
    """One leaf moves the loss by thousands, another by thousandths."""
    r = draws(106, dtype)
    p = [r(3), r(3), r(2, 2)]

    def loss(p):
        return s * jnp.sum(jnp.cos(p[0])) + jnp.sum(jnp.sin(p[1])) / s + jnp.sum(p[2] ** 2)

    def grad(p):
        return [-s * jnp.sin(p[0]), jnp.cos(p[1]) / s * (bug or 1), 2 * p[2]]

    return Problem(loss, p, grad)


def mixed_within(dtype, bug=None, decades=6):
    """Components from 1e-6 to 1e6 inside one leaf."""
    s = jnp.asarray(10.0 ** np.linspace(-decades, decades, 7), dtype)
    x = draws(107, dtype)(7) * s

    def grad(x):
        g = jnp.cos(x / s) / s
        return g.at[0].multiply(1.01) if bug else g

    return Problem(lambda x: jnp.sum(jnp.sin(x / s)), x, grad)


def large_array(dtype, bug=None):
    """1e5 components, all alive; one may be wrong."""
    r = draws(108, dtype)
    x, c = r(100_000), r(100_000)

    def grad(x):
        g = c * jnp.cos(x)
        where = 77_777
        if bug == "block":
            return g.at[60_000:60_100].multiply(1.01)
        return g if bug is None else g.at[where].set(bug * jnp.sign(g[where]) + g[where])

    return Problem(lambda x: jnp.sum(c * jnp.sin(x)), x, grad)


def softmax_head(dtype, bug=None, scale=30.0, shift=0.0):
    """Cross-entropy of logits in the tens or shifted by thousands: most probabilities vanish."""
    r = draws(109, dtype)
    Z, label = scale * r(6, 4) + shift, jnp.asarray([0, 1, 2, 3, 0, 1])

    def loss(Z):
        top = Z.max(1)
        lse = top + jnp.log(jnp.sum(jnp.exp(Z - top[:, None]), 1))
        return jnp.mean(lse - Z[jnp.arange(6), label])

    def grad(Z):
        E = jnp.exp(Z - Z.max(1, keepdims=True))
        P = E / E.sum(1, keepdims=True)
        return P.at[jnp.arange(6), label].add(-1) / (bug or 6)

    return Problem(loss, Z, grad)


def saturated(dtype, bug=None, depth=8.0):
    """tanh where it is nearly 1; its slope by the formula that keeps its digits."""
    x = jnp.asarray([1.0, -1.05, 1.1, -0.95], dtype) * depth

    def grad(x):
        return 4 / (jnp.exp(x) + jnp.exp(-x)) ** 2 * (bug or 1)

    return Problem(lambda x: jnp.sum(jnp.tanh(x)), x, grad, truth=lambda x: 1 / jnp.cosh(x) ** 2)


def rosenbrock(dtype, bug=None):
    x = draws(110, dtype)(6)

    def loss(x):
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def grad(x):
        e = x[1:] - x[:-1] ** 2
        g = jnp.zeros_like(x).at[1:].add(200 * e)
        return g.at[:-1].add((400 if bug else -400) * x[:-1] * e - 2 * (1 - x[:-1]))

    return Problem(loss, x, grad)


def stationary(dtype, bug=None, kind="minimum"):
    """Gradients that are exactly zero because the point is stationary."""
    r = draws(111, dtype)
    p = {"x": jnp.zeros(4, dtype), "y": r(3)}

    def loss(p):
        x = {"minimum": p["x"] ** 2, "quartic": p["x"] ** 4, "cubic": p["x"] ** 3, "cosine": jnp.cos(p["x"])}[kind]
        return jnp.sum(x) + jnp.sum(jnp.exp(p["y"]))

    def grad(p):
        x, zero = p["x"], jnp.zeros(4, dtype)
        g = {"minimum": 2 * x, "quartic": 4 * x**3, "cubic": 3 * x**2, "cosine": -jnp.sin(x)}[kind]
        return {"x": zero + 1e-3 if bug else g, "y": jnp.exp(p["y"])}

    return Problem(loss, p, grad)


exponential = elementwise(lambda x: jnp.exp(50 * x), lambda x: 50 * jnp.exp(50 * x))
wave = elementwise(lambda x: jnp.sin(1000 * x), lambda x: 1000 * jnp.cos(1000 * x))
power = elementwise(lambda x: x**15, lambda x: 15 * x**14)
far = elementwise(lambda x: jnp.log1p((x / 1e12) ** 2), lambda x: 2 * x / 1e24 / (1 + (x / 1e12) ** 2))
near = elementwise(lambda x: (x * 1e15) ** 2 / 2, lambda x: x * 1e30)
logistic = elementwise(lambda x: jnp.log(sigmoid(x)), lambda x: 1 - sigmoid(x))

CASES = (
    right("offset-1e6", offset, "1e6 + O(1): float32 has four digits of the change"),
    right("offset-1e6-slope-1e-3", offset, "1e6 + 1e-3 f: float32 sees nothing", slope=1e-3),
    wrong("offset-1e6-1-percent", offset, 2.02, "1 % wrong under an offset of 1e6", "y"),
    right("residuals-1e6", residuals, "a sum of squares near 1e6"),
    wrong("residuals-1e6-1e-3", residuals, 1.001, "1e-3 wrong in a loss of 1e6", ""),
    right("tiny-1e-9", tiny, "gradients of 1e-9"),
    right("tiny-1e-9-beside-1", tiny, "gradients of 1e-9 of a loss of one", base=1.0),
    right("tiny-1e-25", tiny, "gradients of 1e-25", size=1e-25),
    wrong("tiny-1e-9-1-percent", tiny, 1.01, "1 % of 1e-9", "w"),
    right("mixed-leaves", mixed_leaves, "1e-8 beside 1e8"),
    wrong("mixed-leaves-large", mixed_leaves, "large", "1e-3 wrong where gradients are 1e-8", "large"),
    wrong("mixed-leaves-small", mixed_leaves, "small", "1e-3 wrong where gradients are 1e8", "small"),
    wrong("mixed-leaves-plain", mixed_leaves, "plain", "1e-3 wrong in the leaf between", "plain"),
    right("mixed-effects", mixed_effects, "effects of 1e3 and 1e-3"),
    wrong("mixed-effects-1-percent", mixed_effects, 1.01, "1 % wrong in the weak leaf", "[1]"),
    right(
        "mixed-effects-1e8", mixed_effects, "effects of 1e8 and 1e-8: one hides the other", reasons=("", "NOISE"), s=1e8
    ),
    right("mixed-within", mixed_within, "1e-6 to 1e6 inside one leaf"),
    wrong("mixed-within-1-percent", mixed_within, "one", "1 % wrong in the smallest", ""),
    right("array-1e5", large_array, "1e5 live components"),
    wrong("array-1e5-one", large_array, 1.0, "one of 1e5 wrong by one", ""),
    wrong("array-1e5-one-by-1e-2", large_array, 1e-2, "one of 1e5 wrong by 0.01", ""),
    wrong("array-1e5-block", large_array, "block", "100 of 1e5 1 % wrong", ""),
    right("stiff-exp-50x", exponential, "exp(50 x): 1e20 beside 1e-20"),
    right("stiff-exp-50x-mild", exponential, "exp(50 x) near 0", scale=0.02),
    wrong("stiff-exp-50x-1-percent", exponential, 1.01, "1 % of exp(50 x)", ""),
    right("wave-1000x", wave, "sin(1000 x)"),
    wrong("wave-1000x-1e-4", wave, 1.0001, "1e-4 of sin(1000 x)", ""),
    right("power-15", power, "x^15"),
    right("far-1e12", far, "parameters of 1e12", scale=1e12),
    right("near-1e-15", near, "parameters of 1e-15", scale=1e-15),
    wrong("near-1e-15-1-percent", near, 1.01, "parameters of 1e-15, 1 % wrong", ""),
    right("logits-large", softmax_head, "logits in the tens"),
    right("logits-shifted", softmax_head, "logits near 1e4", scale=1.0, shift=1e4),
    wrong("logits-large-mean", softmax_head, 4, "classes for examples with large logits", ""),
    right("logistic-tail", logistic, "log sigmoid at 10", shift=10.0),
    right("saturated-8", saturated, "tanh(8)"),
    right(
        "saturated-15",
        saturated,
        "tanh(15): autodiff has four digits, differences fewer",
        reasons=("", "NOISE", "AUTODIFF_DIFFERS"),
        depth=15.0,
    ),
    wrong("saturated-8-half", saturated, 0.5, "half of tanh's slope at 8", ""),
    right("rosenbrock", rosenbrock, "a stiff valley"),
    wrong("rosenbrock-sign", rosenbrock, "sign", "sign of one term", ""),
    *(
        right(f"stationary-{kind}", stationary, f"exactly zero gradient: {kind}", kind=kind)
        for kind in ("minimum", "quartic", "cubic", "cosine")
    ),
    wrong("stationary-not-zero", stationary, "shift", "1e-3 where the truth is zero", "x"),
)
