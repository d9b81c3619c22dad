"""Points exactly at, or very near, a kink: any subgradient is right, anything else is wrong."""

import jax
import jax.numpy as jnp

from tests.planted.base import Problem, draws, right, wrong

AT_KINK = ("KINK", "")  # "": the step never saw it, and all witnesses agree


def rectifier(dtype, bug=None, at=0.0, slope=0.0):
    """relu with some inputs exactly `at` its kink; `slope` is the subgradient taken there."""
    r = draws(121, dtype)
    p = {"x": r(6).at[jnp.asarray([1, 4])].set(at), "w": r(6)}

    def loss(p):
        return jnp.sum(p["w"] * jnp.maximum(p["x"], 0) + jnp.sin(p["x"]))

    def grad(p):
        x = p["x"]
        step = jnp.where(x == 0, bug if isinstance(bug, float) else slope, x > 0)
        dw = jnp.maximum(x, 0) * (1.001 if bug == "smooth" else 1)
        return {"x": p["w"] * step + jnp.cos(x) * (1.01 if bug == "beside" else 1), "w": dw}

    # XLA's maximum gives each of two equal arguments a half.
    def truth(p):
        return {"x": p["w"] * jnp.where(p["x"] == 0, 0.5, p["x"] > 0) + jnp.cos(p["x"]), "w": jnp.maximum(p["x"], 0)}

    return Problem(loss, p, grad, truth=truth)


def lasso(dtype, bug=None, at_zero=0.0):
    """An L1 penalty on sparse weights, and total variation of a piecewise constant signal."""
    r = draws(122, dtype)
    p = [r(6) * jnp.asarray([1, 0, 1, 0, 0, 1], dtype), jnp.repeat(r(3), 3)]
    X, y = r(8, 6), r(8)

    def loss(p):
        fit = 0.5 * jnp.sum((X @ p[0] - y) ** 2) + 0.5 * jnp.sum((p[1] - 1) ** 2)
        return fit + 0.3 * jnp.sum(jnp.abs(p[0])) + 0.2 * jnp.sum(jnp.abs(jnp.diff(p[1])))

    def grad(p):
        w, s = p
        sign = jnp.where(w == 0, at_zero, jnp.sign(w))
        dw = X.T @ (X @ w - y) + 0.3 * (0 if bug == "no-l1" else sign)
        turn = 0.2 * jnp.sign(jnp.diff(s))
        ds = jnp.zeros_like(s).at[1:].add(turn).at[:-1].add(turn if bug == "tv-sign" else -turn)
        return [dw, s - 1 + ds]

    return Problem(loss, p, grad)


def maximum(dtype, bug=None, first=False):
    """The maximum of a vector with two equal largest entries."""
    x = draws(123, dtype)(6).at[jnp.asarray([0, 3])].set(3)

    def grad(x):
        top = (x == x.max()).astype(x.dtype)
        if first:
            top = jax.nn.one_hot(jnp.argmax(x), 6, dtype=x.dtype)
        elif bug != "double":
            top = top / top.sum()
        return 2 * x.max() * top + x / 5

    return Problem(lambda x: x.max() ** 2 + jnp.sum(x**2) / 10, x, grad)


def hinge(dtype, bug=None, gap=0.0):
    """A hinge loss with one example exactly on (or `gap` from) the margin; w is exact in binary."""
    w, r = jnp.asarray([0.5, -1.0, 2.0], dtype), draws(124, dtype)
    X = r(5, 3).at[2].set(jnp.asarray([2.0, 2.0, 1.0 + gap], dtype))
    y = jnp.asarray([1, -1, 1, -1, 1], dtype)

    def loss(w):
        return jnp.sum(jnp.maximum(0, 1 - y * (X @ w))) + 0.5 * w @ w

    def grad(w):
        active = 1 - y * (X @ w) > 0
        return -X.T @ (y * active) * (1.01 if bug else 1) + w

    return Problem(loss, w, grad)


def ties(dtype, bug=None):
    """Sorted with equal entries, weights by rank; a clip exactly at its bounds; equal arguments."""
    r = draws(125, dtype)
    p = {
        "s": jnp.asarray([0.5, -1.0, 0.5, 2.0, -1.0], dtype),
        "c": jnp.asarray([-1.0, 0.3, 1.0, 2.0], dtype),
        "a": r(3),
        "b": r(3),
    }
    p["b"] = p["b"].at[1].set(p["a"][1])
    rank, c = jnp.arange(5, dtype=dtype), r(4)

    def loss(p):
        top = jnp.maximum(p["a"], p["b"]) ** 2
        return jnp.sum(jnp.sort(p["s"]) * rank) + jnp.sum(c * jnp.clip(p["c"], -1, 1)) + top.sum()

    def grad(p):
        order = jnp.argsort(p["s"])
        inside = (p["c"] >= -1) & (p["c"] <= 1)
        if bug == "clip":  # wrong where clipped, not at the bound
            inside = p["c"] > -2
        over = p["a"] >= p["b"]
        return {
            "s": jnp.zeros_like(p["s"]).at[order].set(rank),
            "c": c * inside,
            "a": jnp.where(over, 2 * p["a"], 0),
            "b": jnp.where(over, 0, 2 * p["b"]),
        }

    return Problem(loss, p, grad)


def knots(dtype, bug=None):
    """A piecewise linear table read exactly at a knot, and between."""
    xs = jnp.asarray([0.0, 1.0, 2.0, 4.0], dtype)
    p = {"x": jnp.asarray([1.0, 0.5, 3.0], dtype), "ys": draws(126, dtype)(4)}

    def locate(x):
        return jnp.clip(jnp.searchsorted(xs, x, side="right") - 1, 0, 2)

    def loss(p):
        i = locate(p["x"])
        t = (p["x"] - xs[i]) / (xs[i + 1] - xs[i])
        return jnp.sum(p["ys"][i] * (1 - t) + p["ys"][i + 1] * t)

    def grad(p):
        i = locate(p["x"])
        t = (p["x"] - xs[i]) / (xs[i + 1] - xs[i])
        width = 1 if bug else xs[i + 1] - xs[i]
        dys = jnp.zeros_like(p["ys"]).at[i].add(1 - t).at[i + 1].add(t)
        return {"x": (p["ys"][i + 1] - p["ys"][i]) / width, "ys": dys}

    return Problem(loss, p, grad)


def dead(dtype, bug=None):
    """A layer whose relus are all dead: its gradient is exactly zero, the others' are not."""
    r = draws(127, dtype)
    p = {"W": r(3, 4), "b": r(4) - 50, "V": r(4, 2), "live": r(3, 2)}
    X = r(5, 3)

    def forward(p):
        Z = X @ p["W"] + p["b"]
        return Z, jnp.maximum(Z, 0) @ p["V"] + X @ p["live"]

    def loss(p):
        return 0.5 * jnp.sum(forward(p)[1] ** 2)

    def grad(p):
        Z, Y = forward(p)
        dZ = Y @ p["V"].T * (1e-3 if bug else Z > 0)
        return {"W": X.T @ dZ, "b": dZ.sum(0), "V": jnp.maximum(Z, 0).T @ Y, "live": X.T @ Y}

    return Problem(loss, p, grad)


def norm_at_zero(dtype, bug=None):
    """|x| at x = 0 by hand: 0 is a subgradient, autodiff gives NaN."""
    r = draws(128, dtype)
    p = [jnp.zeros(3, dtype), r(3)]

    def loss(p):
        return sum(jnp.sqrt(jnp.sum(x**2)) * (i + 1) for i, x in enumerate(p))

    def grad(p):
        norms = [jnp.sqrt(jnp.sum(x**2)) for x in p]
        return [(i + 1) * x / jnp.where(n == 0, 1, n) for i, (x, n) in enumerate(zip(p, norms, strict=True))]

    def truth(p):
        return [jnp.zeros(3, p[0].dtype), 2 * p[1] / jnp.sqrt(jnp.sum(p[1] ** 2))]

    return Problem(loss, p, grad, truth=truth)


CASES = (
    right("relu-at-0", rectifier, "relu'(0) = 0", reasons=AT_KINK),
    right("relu-at-0-slope-1", rectifier, "relu'(0) = 1", reasons=AT_KINK, slope=1.0),
    right("relu-at-0-slope-0.3", rectifier, "relu'(0) = 0.3", reasons=AT_KINK, slope=0.3),
    *(
        right(f"relu-near-0-by-{at}", rectifier, f"relu at {at}", reasons=AT_KINK, at=at)
        for at in (1e-12, 1e-9, -1e-6, 1e-3)
    ),
    wrong("relu-at-0-outside", rectifier, 1.5, "1.5 is no subgradient of relu at 0", "x"),
    wrong("relu-at-0-negative", rectifier, -0.2, "-0.2 is no subgradient of relu at 0", "x"),
    wrong("relu-at-0-smooth-leaf", rectifier, "smooth", "1e-3 wrong beside a kinked leaf", "w"),
    wrong("relu-at-0-beside", rectifier, "beside", "1 % wrong in the smooth part of the same leaf", "x"),
    right("lasso", lasso, "|w| at 0 with sign(0) = 0, total variation of flat parts", reasons=AT_KINK),
    right("lasso-sign-1", lasso, "|w| at 0 with sign(0) = 1", reasons=AT_KINK, at_zero=1.0),
    wrong("lasso-no-l1", lasso, "no-l1", "the L1 term forgotten", "[0]"),
    wrong("total-variation-sign", lasso, "tv-sign", "sign of one neighbour", "[1]"),
    right("max-tie", maximum, "a tie shared", reasons=AT_KINK),
    right("max-tie-first", maximum, "a tie given to the first", reasons=AT_KINK, first=True),
    # Each component lies within its own slopes; together they are no subgradient, for along
    # the diagonal the loss is smooth and its slope is half of what is claimed.
    wrong("max-tie-double", maximum, "double", "a tie given in full to both", ""),
    right("hinge-on-margin", hinge, "an example on the margin", reasons=AT_KINK),
    right("hinge-near-margin", hinge, "an example 1e-6 from the margin", reasons=AT_KINK, gap=1e-6),
    wrong("hinge-on-margin-1-percent", hinge, "factor", "1 % wrong with one on the margin", ""),
    right("sort-clip-max-ties", ties, "equal entries sorted, clip at its bounds", reasons=AT_KINK),
    wrong("clip-at-bound-through", ties, "clip", "one clipped entry passes", "c"),
    right("table-knot", knots, "a table read at its knot", reasons=AT_KINK),
    wrong("table-width", knots, "width", "interval's width missing where it is not 1", "x"),
    right("dead-relu", dead, "a dead layer: exact zeros"),
    wrong("dead-relu-leak", dead, "leak", "a leak of 1e-3 where the truth is zero", "W b"),
    right("norm-at-zero", norm_at_zero, "|x| at 0: autodiff is NaN", reasons=("KINK", "AUTODIFF_DIFFERS")),
)
