"""A physics-informed loss of second order, u'' = -sin(x) with u(0) = 0, and its backprop by hand.

The network is u(x) = v . tanh(w x + b). With t = tanh(w x + b) and s = 1 - t^2 its second derivative by x is the sum
of -2 v w^2 t s, so the gradient of the loss holds third derivatives, where factors and signs are easily lost. The loss
takes u'' by autodiff, twice; the backprop takes it from the formula. Two ways to one number: what they agree on is
right.

Run it: python examples/physics_loss.py
"""

import jax
import jax.numpy as jnp
import numpy as np

import jaxcheck as jc


def u(p, x):
    return jnp.tanh(p["w"] * x + p["b"]) @ p["v"]


def loss(p, x):
    second = jax.vmap(jax.grad(jax.grad(u, argnums=1), argnums=1), (None, 0))(p, x)
    return jnp.mean((second + jnp.sin(x)) ** 2) + u(p, 0.0) ** 2


def backprop(p, x):
    t = jnp.tanh(jnp.outer(x, p["w"]) + p["b"])
    s = 1 - t**2
    scale = p["v"] * p["w"] ** 2
    r = 2 * (-2 * (t * s) @ scale + jnp.sin(x)) / len(x)
    dz = -2 * r[:, None] * scale * s * (1 - 3 * t**2)  # (t s)' = s (1 - 3 t^2)
    dscale = -2 * r @ (t * s)
    grads = {"w": (dz * x[:, None]).sum(0) + 2 * dscale * p["v"] * p["w"], "b": dz.sum(0), "v": dscale * p["w"] ** 2}
    edge = jnp.tanh(p["b"])  # the boundary: u(0) does not depend on w
    d = 2 * (edge @ p["v"])
    return {"w": grads["w"], "b": grads["b"] + d * p["v"] * (1 - edge**2), "v": grads["v"] + d * edge}


def main() -> list[jc.Report]:
    """The report over the network's three leaves."""
    rng = np.random.default_rng(0)
    p = {name: rng.normal(size=6) for name in ("w", "b", "v")}
    report = jc.check_grad(loss, p, grad=backprop, args=(np.linspace(0, 3, 8),), name="physics")
    print(report)
    return [report]


if __name__ == "__main__":
    raise SystemExit(0 if all(report.ok for report in main()) else 1)
