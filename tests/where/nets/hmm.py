"""A hidden Markov model, its backward pass the forward-backward algorithm with scaled messages."""

import jax
import jax.numpy as jnp
import numpy as np

OBS = np.array([0, 2, 1, 1, 3, 0, 2, 2])


def point(r):
    return {"A": r(3, 3), "B": r(3, 4), "pi": r(3)}, (OBS,)


def logs(p):
    return jax.nn.log_softmax(p["A"], 1), jax.nn.log_softmax(p["B"], 1), jax.nn.log_softmax(p["pi"])


def loss(p, obs):
    A, B, pi = logs(p)

    def step(a, o):
        return jax.nn.logsumexp(a[:, None] + A, axis=0) + B[:, o], None

    last, _ = jax.lax.scan(step, pi + B[:, obs[0]], obs[1:])
    return -jax.nn.logsumexp(last)


def grad(p, obs):
    A, B, pi = jax.nn.softmax(p["A"], 1), jax.nn.softmax(p["B"], 1), jax.nn.softmax(p["pi"])
    first = pi * B[:, obs[0]]

    def ahead(a, o):
        new = (a @ A) * B[:, o]
        c = new.sum()
        return new / c, (new / c, c)

    _, (after, scales) = jax.lax.scan(ahead, first / first.sum(), obs[1:])
    alpha = jnp.concatenate([(first / first.sum())[None], after])

    def back(b, x):
        o, c, a = x
        seen = B[:, o] * b / c
        pair = a[:, None] * A * seen[None, :]
        return A @ seen, (b, pair)

    end, (beta, pairs) = jax.lax.scan(back, jnp.ones(3), (obs[1:], scales, alpha[:-1]), reverse=True)
    gamma = alpha * jnp.concatenate([end[None], beta])
    nA = pairs.sum(0)
    nB = jnp.zeros_like(B).at[:, obs].add(gamma.T)
    dA = nA.sum(1, keepdims=True) * A - nA
    dB = nB.sum(1, keepdims=True) * B - nB
    dpi = pi - gamma[0]
    return {"A": dA, "B": dB, "pi": dpi}
