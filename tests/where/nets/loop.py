"""A network of equal layers in a Python loop, squared error."""

import jax.numpy as jnp


def point(r):
    layers = [(r(5, 5), r(5)) for _ in range(4)]
    return {"layers": layers, "out": r(5, 2)}, (r(8, 5), r(8, 2))


def forward(layers, x):
    kept = [x]
    for W, b in layers:
        x = jnp.maximum(x @ W + b, 0.1 * (x @ W + b))
        kept.append(x)
    return x, kept


def loss(p, x, y):
    h, _ = forward(p["layers"], x)
    return 0.5 * jnp.mean(jnp.sum((h @ p["out"] - y) ** 2, axis=-1))


def grad(p, x, y):
    h, kept = forward(p["layers"], x)
    err = (h @ p["out"] - y) / len(x)
    dout = h.T @ err
    dh = err @ p["out"].T
    grads = []
    for (W, _), before, after in zip(p["layers"][::-1], kept[-2::-1], kept[:0:-1], strict=True):
        dz = jnp.where(after > 0, dh, 0.1 * dh)
        dW = before.T @ dz
        db = dz.sum(0)
        dh = dz @ W.T
        grads.append((dW, db))
    return {"layers": grads[::-1], "out": dout}
