"""Deep networks and pinned precisions: rounding where the parameters' dtype does not show it."""

import jax
import jax.numpy as jnp

from tests.planted.base import ALL_REAL, Problem, draws, right, sigmoid, wrong


def deep(dtype, bug=None, depth=12, kind="tanh", width=3):
    """A plain deep net, loss at the end."""
    r = draws(141, dtype)
    gain = 1.2 if kind == "tanh" else 2.0
    p = [(r(width, width, scale=gain / width**0.5), r(width, scale=0.1)) for _ in range(depth)]
    X, T = r(4, width), r(4, width)
    f = jnp.tanh if kind == "tanh" else sigmoid

    def forward(p):
        out = [X]
        for W, b in p:
            out.append(f(out[-1] @ W + b))
        return out

    def loss(p):
        return jnp.mean((forward(p)[-1] - T) ** 2)

    def grad(p):
        out = forward(p)
        dA, g = 2 * (out[-1] - T) / T.size, [None] * depth
        for i in reversed(range(depth)):
            A = out[i + 1]
            dZ = dA * (1 - A**2 if kind == "tanh" else A * (1 - A))
            g[i] = (out[i].T @ dZ, dZ.sum(0))
            dA = dZ @ p[i][0].T
        if bug:
            g[0] = (g[0][0] * bug, g[0][1])
        return g

    return Problem(loss, p, grad)


def residual(dtype, bug=None, depth=20):
    """Twenty residual relu blocks, stacked leaves, run by scan."""
    r = draws(142, dtype)
    p, x, c = {"W": r(depth, 3, 3, scale=0.3), "b": r(depth, 3)}, r(3), r(3)

    def states(p):
        def step(h, layer):
            return h + jnp.maximum(h @ layer["W"] + layer["b"], 0), h

        last, before = jax.lax.scan(step, x, p)
        return last, before

    def loss(p):
        last, _ = states(p)
        return jnp.sum(c * jnp.tanh(last / 50))

    def grad(p):
        last, before = states(p)
        end = c * (1 - jnp.tanh(last / 50) ** 2) / 50

        def back(dh, layer):
            q, h = layer
            dz = dh * (h @ q["W"] + q["b"] > 0)
            through = dz @ q["W"].T
            return (through if bug == "skip" else dh + through), (jnp.outer(h, dz), dz)

        _, (dW, db) = jax.lax.scan(back, end, (p, before), reverse=True)
        return {"W": dW[::-1] if bug == "order" else dW, "b": db}

    return Problem(loss, p, grad)


def mixed_precision(dtype, bug=None, low="bfloat16", depth=10):
    """Products in a pinned low precision, the rest in the parameters' own, as mixed training is."""
    r = draws(143, dtype)
    p = {"layers": [{"W": r(4, 4, scale=0.6), "b": r(4, scale=0.1)} for _ in range(depth)], "head": r(4)}
    X, y = r(6, 4), r(6)

    def dot(a, b):
        return (a.astype(low) @ b.astype(low)).astype(a.dtype)

    def forward(p):
        out = [X]
        for q in p["layers"]:
            out.append(jnp.tanh(dot(out[-1], q["W"]) + q["b"]))
        return out

    def loss(p):
        return jnp.mean((dot(forward(p)[-1], p["head"]) - y) ** 2)

    def grad(p):
        out = forward(p)
        d = 2 * (dot(out[-1], p["head"]) - y) / y.size
        g = {"head": dot(out[-1].T, d), "layers": [None] * depth}
        dA = jnp.outer(d.astype(low), p["head"].astype(low)).astype(d.dtype)
        for i in reversed(range(depth)):
            dZ = dA * (1 - out[i + 1] ** 2)
            W = p["layers"][i]["W"]
            g["layers"][i] = {"W": dot(out[i].T, dZ), "b": dZ.sum(0)}
            dA = dot(dZ, W if bug == "no-transpose" and i == 9 else W.T)
        if bug == "one-layer":
            g["layers"][4]["b"] = g["layers"][4]["b"] * 1.01
        if bug == "1e-4":
            g["head"] = g["head"] * (1 + 1e-4)
        return g

    return Problem(loss, p, grad)


def preferred(dtype, bug=None, low="float32"):
    """dot_general with a pinned output precision, and a closed-over constant of that precision."""
    r = draws(144, dtype)
    p, X = {"W": r(5, 3), "s": r(3)}, r(7, 5).astype(low)

    def product(W):
        return jax.lax.dot_general(X, W.astype(low), (((1,), (0,)), ((), ())), preferred_element_type=jnp.dtype(low))

    def loss(p):
        return jnp.sum(jnp.sin(product(p["W"])) * p["s"])

    def grad(p):
        Z = product(p["W"])
        dZ = (jnp.cos(Z) * p["s"]).astype(low)
        W = (X.T @ dZ).astype(p["W"].dtype) * (1.001 if bug else 1)
        return {"W": W, "s": jnp.sin(Z).sum(0).astype(p["s"].dtype)}

    return Problem(loss, p, grad)


def rule_in_bfloat16(dtype, bug=None, low="bfloat16"):
    """A custom_vjp that computes in a pinned precision, as kernels do."""

    def f(x, g):
        h = x.astype(low)
        n = h / jnp.sqrt(jnp.mean(h * h, -1, keepdims=True) + 1e-3)
        return (n * g.astype(low)).astype(x.dtype)

    def bwd(saved, d):
        x, g = saved
        h, d, k = x.astype(low), d.astype(low), g.astype(low)
        inv = 1 / jnp.sqrt(jnp.mean(h * h, -1, keepdims=True) + 1e-3)
        dn = d * k
        inner = jnp.mean(dn * h, -1, keepdims=True)
        dx = dn * inv - (0 if bug else h * inv**3 * inner)
        return dx.astype(x.dtype), (d * h * inv).sum(0).astype(g.dtype)

    norm = jax.custom_vjp(f)
    norm.defvjp(lambda x, g: (f(x, g), (x, g)), bwd)
    r = draws(145, dtype)
    p, T = {"x": r(4, 6), "g": r(6)}, r(4, 6)
    return Problem(lambda p: jnp.sum(norm(p["x"], p["g"]) * T), p)


def half_sum(dtype, bug=None, low="float16"):
    """A long sum whose terms pass through a pinned float16."""
    r = draws(146, dtype)
    w, X = r(4), r(200, 4, scale=0.3)

    def loss(w):
        return jnp.mean(jnp.tanh(X @ w).astype(low).astype(w.dtype) ** 2)

    def grad(w):
        A = jnp.tanh(X @ w)
        return X.T @ (2 * A.astype(low).astype(w.dtype) * (1 - A**2)) / (100 if bug else 200)

    return Problem(loss, w, grad)


CASES = (
    right("deep-tanh-12", deep, "12 tanh layers"),
    wrong("deep-tanh-12-1e-3", deep, 1.001, "1e-3 wrong in the first of 12", "[0][0]"),
    right("deep-sigmoid-15", deep, "15 sigmoid layers: gradients vanish", depth=15, kind="sigmoid"),
    right("deep-tanh-20-bfloat16", deep, "20 layers with bfloat16 parameters", dtypes=ALL_REAL, depth=20),
    right("residual-20", residual, "20 residual blocks by scan"),
    wrong("residual-no-skip", residual, "skip", "the skip path forgotten", "W b"),
    wrong("residual-order", residual, "order", "layers in reverse order", "W"),
    right("bfloat16-products-10", mixed_precision, "10 layers with products pinned to bfloat16", low="bfloat16"),
    right("float16-products-10", mixed_precision, "10 layers with products pinned to float16", low="float16"),
    right("float32-products-10", mixed_precision, "products pinned to float32", low="float32"),
    wrong(
        "bfloat16-products-transpose",
        mixed_precision,
        "no-transpose",
        "W for W^T, pinned bfloat16",
        " ".join(f"layers[{i}].{k}" for i in range(9) for k in "Wb"),
    ),
    wrong("bfloat16-products-1-percent", mixed_precision, "one-layer", "1 % of a bias, pinned bfloat16", "layers[4].b"),
    wrong("bfloat16-products-1e-4", mixed_precision, "1e-4", "1e-4, far below bfloat16's own rounding", "head"),
    right("preferred-float32", preferred, "preferred_element_type and constants of float32", low="float32"),
    wrong("preferred-float32-1e-3", preferred, "factor", "1e-3 wrong, pinned float32", "W"),
    right("rule-in-bfloat16", rule_in_bfloat16, "a custom_vjp that computes in bfloat16", low="bfloat16"),
    wrong("rule-in-bfloat16-constant", rule_in_bfloat16, "constant", "norm taken as constant", "x"),
    right("float16-sum", half_sum, "a long sum through float16", low="float16"),
    wrong("float16-sum-doubled", half_sum, "doubled", "factor 2 through float16", ""),
)
