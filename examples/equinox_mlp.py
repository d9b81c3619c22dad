"""An Equinox model: the module is the pytree, functions and settings are carried along.

`eqx.filter_value_and_grad` gives the value and the gradient of the arrays; jaxcheck takes functions that return both.
The gradient's tree has None where the module has no arrays, which is what the check expects: what is not
differentiable is carried, and listed in `report.carried`.

Run it: python examples/equinox_mlp.py      (needs equinox)
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import jaxcheck as jc


class Gated(eqx.Module):
    """Two branches, one the gate of the other; `steps` is an integer, not a parameter."""

    value: eqx.nn.Linear
    gate: eqx.nn.Linear
    steps: int

    def __init__(self, width, steps, key):
        first, second = jax.random.split(key)
        self.value = eqx.nn.Linear(width, width, key=first)
        self.gate = eqx.nn.Linear(width, width, key=second)
        self.steps = steps

    def __call__(self, x):
        for _ in range(self.steps):
            x = x + jax.nn.sigmoid(self.gate(x)) * jnp.tanh(self.value(x))
        return x


def loss(model, x, y):
    return jnp.mean((jax.vmap(model)(x) - y) ** 2)


def main() -> list[jc.Report]:
    """The report over the four arrays of the module."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 4)), rng.normal(size=(6, 4))
    model = Gated(4, 3, jax.random.key(0))
    report = jc.check_grad(loss, model, grad=eqx.filter_value_and_grad(loss), args=(x, y), name="equinox")
    print(report)
    return [report]


if __name__ == "__main__":
    raise SystemExit(0 if all(report.ok for report in main()) else 1)
