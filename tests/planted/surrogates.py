"""Gradients that are not derivatives and are not meant to be: the user declares them."""

import jax
import jax.numpy as jnp

from tests.planted.base import Problem, draws, right
from tests.planted.rules import with_vjp


def surrogate(dtype, kind="round"):
    """Rules that are not derivatives, and are not meant to be."""
    if kind == "clip":  # gradient clipping: the identity
        f = with_vjp(lambda x: x * 1, lambda x: (x * 1, None), lambda _, g: (jnp.clip(g, -1, 1),))
    elif kind == "reverse":  # domain-adversarial gradient reversal
        f = with_vjp(lambda x: x * 1, lambda x: (x * 1, None), lambda _, g: (-0.5 * g,))
    elif kind == "round":  # straight-through
        f = with_vjp(lambda x: jnp.round(x), lambda x: (jnp.round(x), None), lambda _, g: (g,))
    elif kind == "sign":  # binary networks: straight-through within [-1, 1]
        f = with_vjp(lambda x: jnp.sign(x), lambda x: (jnp.sign(x), x), lambda x, g: (g * (jnp.abs(x) < 1),))
    else:  # spiking networks: a step whose surrogate is a fast sigmoid's slope
        f = with_vjp(
            lambda x: (x > 0) * 1.0 * jnp.ones_like(x),
            lambda x: ((x > 0) * jnp.ones_like(x), x),
            lambda x, g: (g / (1 + jnp.abs(x)) ** 2,),
        )
    r = draws(98, dtype)
    W, X, c = r(4, 3), r(5, 4), 3 * r(3)
    return Problem(lambda W: jnp.sum(jnp.sin(f(X @ W)) * c), W, options={"surrogate": True})


def hand_surrogate(dtype):
    """A straight-through gradient written by hand, no rule."""
    r = draws(99, dtype)
    w, X = r(4), r(6, 4)

    def loss(w):
        return jnp.mean(jnp.round(2 * X @ w) ** 2)

    def grad(w):
        return 4 * X.T @ jnp.round(2 * X @ w) / 6

    return Problem(loss, w, grad, options={"surrogate": True})


def baseline(dtype):
    """A stop_gradient that is meant: the hand-written gradient stops too, and says so."""
    r = draws(133, dtype)
    w, X, y = r(4), r(6, 4), r(6)

    def loss(w):
        target = jax.lax.stop_gradient(y + 0.9 * jnp.tanh(X @ w))
        return jnp.mean((X @ w - target) ** 2)

    def grad(w):
        return 2 * X.T @ (X @ w - y - 0.9 * jnp.tanh(X @ w)) / 6

    return Problem(loss, w, grad, options={"surrogate": True})


SURROGATES = ("clip", "reverse", "round", "sign", "spike")
CASES = (
    *(
        right(f"surrogate-{kind}", surrogate, f"declared surrogate: {kind}", reasons=("SURROGATE",), kind=kind)
        for kind in SURROGATES
    ),
    right("surrogate-by-hand", hand_surrogate, "hand-written straight-through", reasons=("SURROGATE",)),
    right("stop-gradient-meant", baseline, "a semi-gradient, declared", reasons=("SURROGATE",)),
)
