"""Attention, embeddings and transformers' small parts."""

import jax.numpy as jnp

from tests.planted.base import Problem, draws, ints, right, wrong


def softmax(S):
    E = jnp.exp(S - S.max(-1, keepdims=True))
    return E / E.sum(-1, keepdims=True)


def attention(dtype, bug=None):
    """One causal head: Wq, Wk, Wv, all square."""
    r = draws(31, dtype)
    p = {"Wq": r(4, 4), "Wk": r(4, 4), "Wv": r(4, 4)}
    X, T = r(5, 4), r(5, 4)
    causal = jnp.tril(jnp.ones((5, 5), bool))

    def loss(p, X):
        Q, K, V = X @ p["Wq"], X @ p["Wk"], X @ p["Wv"]
        P = softmax(jnp.where(causal, Q @ K.T / 2, -1e9))
        return 0.5 * jnp.mean((P @ V - T) ** 2)

    def grad(p, X):
        Q, K, V = X @ p["Wq"], X @ p["Wk"], X @ p["Wv"]
        S = Q @ K.T / 2
        P = softmax(S if bug == "no-mask" else jnp.where(causal, S, -1e9))
        dO = (P @ V - T) / T.size
        dP = dO @ V.T
        if bug == "diagonal":
            dS = dP * P * (1 - P)
        else:
            axis = 0 if bug == "softmax-axis" else 1
            dS = P * (dP - (P * dP).sum(axis, keepdims=True))
        if bug == "late-mask":  # the mask put on the upstream gradient's wrong side
            dS = jnp.where(causal.T, dS, 0)
        scale = {"no-scale": 1, "scale-d": 1 / 4}.get(bug, 1 / 2)
        dQ, dK = dS @ K * scale, (dS if bug == "no-transpose" else dS.T) @ Q * scale
        dV = P @ dO if bug == "value-transpose" else P.T @ dO
        if bug == "swapped":
            dQ, dK = dK, dQ
        return {"Wq": X.T @ dQ, "Wk": X.T @ dK, "Wv": X.T @ dV}

    return Problem(loss, p, grad, (X,))


def heads(dtype, bug=None):
    """Three heads of size two, merged and projected."""
    r = draws(32, dtype)
    p = {"qkv": r(6, 18, scale=0.5), "out": r(6, 6)}
    X, T = r(4, 6), r(4, 6)

    def split(U):  # (tokens, 18) -> three of (heads, tokens, size)
        return U.reshape(4, 3, 3, 2).transpose(1, 2, 0, 3)

    def forward(p):
        Q, K, V = split(X @ p["qkv"])
        P = softmax(Q @ K.swapaxes(1, 2) / jnp.sqrt(2.0).astype(Q.dtype))
        return Q, K, V, P, (P @ V).transpose(1, 0, 2).reshape(4, 6)

    def loss(p):
        return jnp.sum(jnp.sin(forward(p)[-1] @ p["out"]) * T)

    def grad(p):
        Q, K, V, P, H = forward(p)
        dY = jnp.cos(H @ p["out"]) * T
        dO = dY @ p["out"].T
        if bug == "merge":
            dH = dO.reshape(3, 4, 2)  # a reshape where a transposition is meant
        else:
            dH = dO.reshape(4, 3, 2).transpose(1, 0, 2)
        dP, dV = dH @ V.swapaxes(1, 2), P.swapaxes(1, 2) @ dH
        dS = P * (dP - (P * dP).sum(-1, keepdims=True)) / 2**0.5
        if bug == "one-head":
            dS = dS.at[2].set(0)
        parts = jnp.stack([dS @ K, dS.swapaxes(1, 2) @ Q, dV])
        return {"qkv": X.T @ parts.transpose(2, 0, 1, 3).reshape(4, 18), "out": H.T @ dY}

    return Problem(loss, p, grad)


def embedding(dtype, bug=None):
    """A table looked up with duplicates, with positions, and tied to the output layer."""
    r = draws(33, dtype)
    p = {"table": r(6, 3), "position": r(8, 3)}
    ids = jnp.asarray([1, 4, 1, 0, 4, 1, 3])

    def loss(p, ids):
        H = jnp.tanh(p["table"][ids] + p["position"][: len(ids)])
        return jnp.mean((H @ p["table"].T) ** 2)

    def grad(p, ids):
        E = p["table"]
        H = jnp.tanh(E[ids] + p["position"][: len(ids)])
        dY = 2 * (H @ E.T) / (len(ids) * len(E))
        dH = (dY @ E) * (1 - H**2)
        rows = jnp.zeros_like(E)
        if bug == "set":
            rows = rows.at[ids].set(dH)
        elif bug == "count":  # gradients of repeated tokens averaged
            rows = rows.at[ids].add(dH) / jnp.maximum(jnp.bincount(ids, length=6), 1)[:, None]
        elif bug == "padding":  # id 0 treated as padding
            rows = rows.at[ids].add(dH).at[0].set(0)
        else:
            rows = rows.at[ids].add(dH)
        table = {"input-only": rows, "output-only": dY.T @ H}.get(bug, rows + dY.T @ H)
        position = jnp.zeros_like(p["position"])
        position = position.at[1:8].set(dH) if bug == "shifted" else position.at[:7].set(dH)
        return {"table": table, "position": position}

    return Problem(loss, p, grad, (ids,))


def big_embedding(dtype, bug=None):
    """100,000 numbers of which few are touched."""
    r = draws(34, dtype)
    table, ids, T = r(20_000, 5), ints(34, 20_000, 40), r(40, 5)
    ids = ids.at[7].set(ids[3])

    def loss(table):
        return 0.5 * jnp.sum((table[ids] - T) ** 2)

    def grad(table):
        g = jnp.zeros_like(table).at[ids].add(table[ids] - T)
        if bug == "one-component":
            g = g.at[ids[20], 2].multiply(1.1)
        if bug == "stray":  # one of the many zeros is not zero
            g = g.at[12_345, 1].set(0.01)
        return g

    return Problem(loss, table, grad)


def tied(dtype, bug=None):
    """An autoencoder whose decoder is the encoder's transpose."""
    r = draws(35, dtype)
    p, X = {"W": r(5, 3, scale=0.5), "b": r(3), "c": r(5)}, r(6, 5)

    def loss(p):
        return jnp.mean((jnp.tanh(X @ p["W"] + p["b"]) @ p["W"].T + p["c"] - X) ** 2)

    def grad(p):
        H = jnp.tanh(X @ p["W"] + p["b"])
        dY = 2 * (H @ p["W"].T + p["c"] - X) / X.size
        dZ = (dY @ p["W"]) * (1 - H**2)
        encoder, decoder = X.T @ dZ, dY.T @ H
        W = {"encoder": encoder, "decoder": decoder, "mean": (encoder + decoder) / 2}.get(bug, encoder + decoder)
        return {"W": W, "b": dZ.sum(0), "c": dY.sum(0)}

    return Problem(loss, p, grad)


CASES = (
    right("attention", attention, "one causal head"),
    wrong("attention-no-scale", attention, "no-scale", "1/sqrt(d) missing", "Wq Wk"),
    wrong("attention-scale-d", attention, "scale-d", "1/d for 1/sqrt(d)", "Wq Wk"),
    wrong("attention-diagonal", attention, "diagonal", "softmax's Jacobian diagonal only", "Wq Wk"),
    wrong("attention-softmax-axis", attention, "softmax-axis", "softmax's sum along the other axis", "Wq Wk"),
    wrong("attention-no-mask", attention, "no-mask", "mask left out when recomputing P", "Wq Wk Wv"),
    wrong("attention-mask-transposed", attention, "late-mask", "the mask's transpose", "Wq Wk"),
    wrong("attention-dS-no-transpose", attention, "no-transpose", "dS for dS^T", "Wk"),
    wrong("attention-dV-no-transpose", attention, "value-transpose", "P for P^T", "Wv"),
    wrong("attention-swapped", attention, "swapped", "dQ and dK exchanged", "Wq Wk"),
    right("heads", heads, "three heads, fused qkv"),
    wrong("heads-merge", heads, "merge", "heads merged by reshape without transposing", "qkv"),
    wrong("heads-one-missing", heads, "one-head", "scores of one head not propagated", "qkv"),
    right("embedding", embedding, "duplicate ids, tied to the output, unused rows"),
    wrong("embedding-set-for-add", embedding, "set", "duplicates lost", "table"),
    wrong("embedding-averaged", embedding, "count", "duplicates averaged", "table"),
    wrong("embedding-row-0", embedding, "padding", "id 0 taken as padding", "table"),
    wrong("embedding-input-only", embedding, "input-only", "the tied output forgotten", "table"),
    wrong("embedding-output-only", embedding, "output-only", "the tied input forgotten", "table"),
    wrong("embedding-position-shift", embedding, "shifted", "positions off by one", "position"),
    right("embedding-1e5", big_embedding, "1e5 components, mostly exact zeros"),
    wrong("embedding-1e5-one", big_embedding, "one-component", "one of 1e5 10 % off", ""),
    wrong("embedding-1e5-stray", big_embedding, "stray", "one of 1e5 zeros is not zero", ""),
    right("tied-autoencoder", tied, "decoder tied to the encoder"),
    wrong("tied-encoder-only", tied, "encoder", "decoder's path forgotten", "W"),
    wrong("tied-decoder-only", tied, "decoder", "encoder's path forgotten", "W"),
    wrong("tied-averaged", tied, "mean", "paths averaged, not added", "W"),
)
