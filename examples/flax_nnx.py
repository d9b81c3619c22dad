"""A Flax nnx model: the module is split, and its state is the pytree that is checked.

nnx modules hold their parameters in variables. `nnx.split` gives the structure and the state; `nnx.merge` puts them
together inside the loss. The state is a pytree like any other: every variable is a leaf with its own verdict. The
gradient under test is what training uses, `nnx.grad` of the merged module; so what is
checked includes the splitting and merging that nnx does itself.

Run it: python examples/flax_nnx.py      (needs flax)
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxcheck as jc


class Net(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(4, 5, rngs=rngs)
        self.norm = nnx.LayerNorm(5, rngs=rngs)
        self.out = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x):
        return self.out(self.norm(jnp.tanh(self.hidden(x))))


def module_loss(net, x, y):
    return jnp.mean((net(x) - y) ** 2)


def main() -> list[jc.Report]:
    """The report over the six variables of the module."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 4)), rng.normal(size=(6, 2))
    graph, state = nnx.split(Net(nnx.Rngs(0)))

    def loss(state, x, y):
        return module_loss(nnx.merge(graph, state), x, y)

    def grad(state, x, y):
        return nnx.grad(module_loss)(nnx.merge(graph, state), x, y)

    report = jc.check_grad(loss, state, grad=jax.jit(grad), args=(x, y), name="nnx")
    print(report)
    return [report]


if __name__ == "__main__":
    raise SystemExit(0 if all(report.ok for report in main()) else 1)
