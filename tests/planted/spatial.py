"""Convolutions and pooling; scatter, gather, shifts, sorts, masks: where indices go wrong."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.planted.base import ALL_REAL, Problem, draws, right, spread, wrong


def conv1d(dtype, bug=None):
    """Correlation with padding 1, channels first, through XLA's convolution; relu-free."""
    r = draws(51, dtype)
    p, X, T = {"k": r(3, 2, 3), "b": r(3)}, r(4, 2, 7), r(4, 3, 7)

    def forward(p):
        y = jax.lax.conv(X, p["k"], (1,), "SAME")
        return jnp.tanh(y + p["b"][:, None])

    def loss(p):
        return 0.5 * jnp.sum((forward(p) - T) ** 2) / len(X)

    def grad(p):
        Y = forward(p)
        dZ = (Y - T) * (1 - Y**2) / len(X)
        pad = {"padding": (0, 2), "circular": None}.get(bug, (1, 1))
        if pad:
            Xp = jnp.pad(X, ((0, 0), (0, 0), pad))
        else:
            Xp = jnp.concatenate([X[..., -1:], X, X[..., :1]], -1)
        dk = jnp.stack([jnp.einsum("not,nct->oc", dZ, Xp[..., i : i + 7]) for i in range(3)], -1)
        if bug == "flipped":
            dk = dk[..., ::-1]
        if bug == "one-image":
            dk = jnp.stack([dZ[0] @ Xp[0, :, i : i + 7].T for i in range(3)], -1)
        return {"k": dk, "b": dZ.sum((0, 1))[:3] if bug == "bias" else dZ.sum((0, 2))}

    return Problem(loss, p, grad)


def conv_stack(dtype, bug=None):
    """Two 2-D convolutions, the first with stride 2; the second passes a gradient to its input."""
    r = draws(52, dtype)
    p, X = [r(2, 1, 3, 3), r(1, 2, 2, 2)], r(2, 1, 7, 7)

    def forward(p):
        A = jnp.tanh(jax.lax.conv(X, p[0], (2, 2), "VALID"))  # 3 x 3
        return A, jax.lax.conv(A, p[1], (1, 1), "VALID")  # 2 x 2

    def loss(p):
        return jnp.mean(jnp.sin(forward(p)[1]))

    def grad(p):
        A, Y = forward(p)
        dY = jnp.cos(Y) / Y.size
        d1 = jnp.zeros_like(p[1])
        dA = jnp.zeros_like(A)
        for i in range(2):
            for j in range(2):
                d1 = d1.at[0, :, i, j].set((A[:, :, i : i + 2, j : j + 2] * dY).sum((0, 2, 3)))
                w = p[1][0, :, i, j] if bug != "unflipped" else p[1][0, :, 1 - i, 1 - j]
                dA = dA.at[:, :, i : i + 2, j : j + 2].add(w[:, None, None] * dY)
        dZ = dA * (1 - A**2)
        d0, s = jnp.zeros_like(p[0]), 1 if bug == "stride" else 2
        for i in range(3):
            for j in range(3):
                patch = X[:, :, i : i + 2 * s + 1 : s, j : j + 2 * s + 1 : s]
                d0 = d0.at[:, 0, i, j].set((patch * dZ).sum((0, 2, 3)))
        return [d0.swapaxes(2, 3) if bug == "transposed" else d0, d1]

    return Problem(loss, p, grad)


def pool(dtype, bug=None):
    """Max pool of distinct values beside an average pool."""
    X, T = spread(dtype, -2, 2, 4, 6), draws(53, dtype)(2, 3)

    def loss(X):
        B = X.reshape(2, 2, 3, 2)
        return jnp.sum(B.max((1, 3)) * T) + jnp.sum(B.mean((1, 3)) ** 2)

    def grad(X):
        B = X.reshape(2, 2, 3, 2)
        top = B == B.min((1, 3), keepdims=True) if bug == "min" else B == B.max((1, 3), keepdims=True)
        mean = B.mean((1, 3), keepdims=True)
        g = top * T[:, None, :, None] + 2 * mean / (1 if bug == "sum" else 4)
        if bug == "spread":  # the maximum's gradient given to the whole window
            g = T[:, None, :, None] + 2 * mean / 4 + 0 * B
        return jnp.broadcast_to(g, B.shape).reshape(4, 6)

    return Problem(loss, X, grad)


def flat_pool(dtype, bug=None):
    """Max pool over a flat image: each window is a tie at every kernel, and the loss is smooth."""
    r = draws(54, dtype)
    k, X = r(3), r(6, 3)

    def pixels(k):  # neighbours are equal, as in a flat part of an image
        return jnp.repeat(X @ k, 2).reshape(6, 2)

    def loss(k):
        return jnp.sum(jnp.sin(pixels(k)).max(1) ** 2)

    def grad(k):
        Z = pixels(k)
        A = jnp.sin(Z)
        top = A == A.max(1, keepdims=True)
        share = top if bug == "double" else top / top.sum(1, keepdims=True)
        return X.T @ (2 * A * jnp.cos(Z) * share).sum(1)

    return Problem(loss, k, grad)


def dropout(dtype, bug=None):
    """Dropout with a fixed mask, scaled by 1/keep, between two layers."""
    r = draws(55, dtype)
    p, X, keep = {"W": r(4, 6), "V": r(6, 2)}, r(5, 4), 0.7
    mask = jnp.asarray(np.random.default_rng(55).random((5, 6)) < keep)

    def loss(p, mask):
        A = jnp.where(mask, jnp.tanh(X @ p["W"]) / keep, 0)
        return jnp.sum((A @ p["V"]) ** 2)

    def grad(p, mask):
        A = jnp.tanh(X @ p["W"])
        D = jnp.where(mask, A / keep, 0)
        dY = 2 * (D @ p["V"])
        dD = dY @ p["V"].T
        scale = 1 if bug == "unscaled" else 1 / keep
        back = ~mask if bug == "inverted" else mask
        dA = dD * scale if bug == "unmasked" else jnp.where(back, dD * scale, 0)
        return {"W": X.T @ (dA * (1 - A**2)), "V": (A if bug == "clean" else D).T @ dY}

    return Problem(loss, p, grad, (mask,))


def shuffle(dtype, bug=None):
    """Roll, cumulative sum, permutation, sort and gather, each a leaf of its own."""
    r = draws(56, dtype)
    names = ("rolled", "summed", "permuted", "sorted", "gathered", "repeated")
    p = {k: r(6) for k in names}
    # An order that is not its own inverse.
    p["sorted"] = jnp.asarray([0.4, -1.2, 1.5, -0.3, 0.9, -2.0], dtype)
    T = {k: r(12 if k == "repeated" else 6) for k in names}
    perm, pick = jnp.asarray([3, 0, 5, 1, 4, 2]), jnp.asarray([0, 2, 2, 5, 2, 1])

    def loss(p):
        out = dict(
            rolled=jnp.roll(p["rolled"], 2),
            summed=jnp.cumsum(p["summed"]),
            permuted=p["permuted"][perm],
            sorted=jnp.sort(p["sorted"]),
            gathered=p["gathered"][pick],
            repeated=jnp.repeat(p["repeated"], 2),
        )
        return sum(jnp.sum(jnp.sin(out[k]) * T[k]) for k in names)

    def grad(p):
        def up(k, y):
            return jnp.cos(y) * T[k]

        rolled = up("rolled", jnp.roll(p["rolled"], 2))
        summed = up("summed", jnp.cumsum(p["summed"]))
        permuted = up("permuted", p["permuted"][perm])
        order = jnp.argsort(p["sorted"])
        ordered = up("sorted", p["sorted"][order])
        gathered = up("gathered", p["gathered"][pick])
        repeated = up("repeated", jnp.repeat(p["repeated"], 2))
        zero = jnp.zeros_like(rolled)
        return dict(
            rolled=jnp.roll(rolled, {"roll-sign": 2, "roll-short": -1}.get(bug, -2)),
            summed=jnp.cumsum(summed) if bug == "cumsum" else jnp.cumsum(summed[::-1])[::-1],
            permuted=permuted[perm] if bug == "permutation" else permuted[jnp.argsort(perm)],
            sorted=ordered[order] if bug == "sort" else zero.at[order].set(ordered),
            gathered=zero.at[pick].set(gathered) if bug == "set" else zero.at[pick].add(gathered),
            repeated=repeated[:6] + repeated[6:] if bug == "tile" else repeated.reshape(6, 2).sum(1),
        )

    return Problem(loss, p, grad)


def clip(dtype, bug=None):
    """Clipping and thresholds, away from their bounds."""
    x = spread(dtype, -2.1, 2.2, 11)

    def loss(x):
        return jnp.sum(jnp.sin(jnp.clip(x, -1, 1))) + jnp.sum(jnp.abs(x) ** 1.5)

    def grad(x):
        inside = (jnp.abs(x) < 1) | (bug == "through")
        if bug == "one-sided":
            inside = x < 1
        sign = 1 if bug == "sign" else jnp.sign(x)
        return jnp.cos(jnp.clip(x, -1, 1)) * inside + 1.5 * jnp.sqrt(jnp.abs(x)) * sign

    return Problem(loss, x, grad)


CASES = (
    right("conv1d", conv1d, "padded convolution over a batch"),
    wrong("conv1d-flipped", conv1d, "flipped", "kernel's gradient flipped", "k"),
    wrong("conv1d-padding", conv1d, "padding", "padded on one side only", "k"),
    wrong("conv1d-circular", conv1d, "circular", "circular padding in backprop", "k"),
    wrong("conv1d-one-image", conv1d, "one-image", "batch not summed over", "k"),
    wrong("conv1d-bias-axis", conv1d, "bias", "db over channels", "b"),
    right("conv-stack", conv_stack, "strided 2-D convolutions"),
    wrong("conv-stack-unflipped", conv_stack, "unflipped", "input gradient by the reversed kernel", "[0]"),
    wrong("conv-stack-stride", conv_stack, "stride", "stride forgotten", "[0]"),
    wrong("conv-stack-transposed", conv_stack, "transposed", "height and width exchanged", "[0]"),
    right("pool", pool, "max and mean pool of distinct values", dtypes=ALL_REAL),
    wrong("pool-min", pool, "min", "the minimum's place", ""),
    wrong("pool-mean-not-divided", pool, "sum", "window size missing in mean pool", ""),
    wrong("pool-spread", pool, "spread", "max pool's gradient to the whole window", ""),
    right("pool-flat", flat_pool, "ties at every kernel: smooth nonetheless", reasons=("", "KINK")),
    wrong("pool-flat-double", flat_pool, "double", "tied maxima counted twice", ""),
    right("dropout-mask", dropout, "dropout with its mask in args"),
    wrong("dropout-unmasked", dropout, "unmasked", "mask not applied in backprop", "W"),
    wrong("dropout-unscaled", dropout, "unscaled", "1/keep missing", "W"),
    wrong("dropout-inverted", dropout, "inverted", "the dropped ones kept", "W"),
    wrong("dropout-clean", dropout, "clean", "undropped activations used for dV", "V"),
    right("shuffle", shuffle, "roll, cumsum, permutation, sort, gather, repeat", dtypes=ALL_REAL),
    wrong("shuffle-roll-sign", shuffle, "roll-sign", "rolled further, not back", "rolled"),
    wrong("shuffle-roll-short", shuffle, "roll-short", "rolled back by one too few", "rolled"),
    wrong("shuffle-cumsum", shuffle, "cumsum", "cumsum not reversed", "summed"),
    wrong("shuffle-permutation", shuffle, "permutation", "not inverted", "permuted"),
    wrong("shuffle-sort", shuffle, "sort", "the order where its inverse is meant", "sorted"),
    wrong("shuffle-gather-set", shuffle, "set", "duplicates overwrite", "gathered"),
    wrong("shuffle-tile", shuffle, "tile", "repeat undone as tile", "repeated"),
    right("clip", clip, "clip and |x|^1.5 away from their kinks"),
    wrong("clip-through", clip, "through", "gradient passes where clipped", ""),
    wrong("clip-one-sided", clip, "one-sided", "lower bound forgotten", ""),
    wrong("abs-sign", clip, "sign", "sign(x) missing: wrong only for negative inputs", ""),
)
