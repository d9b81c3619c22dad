"""A Flax linen model with an activation of its own: the rule is checked where it is used.

The model's activation carries a custom_vjp. Without `grad=` the gradient under test is `jax.grad` of the loss, rules
included; autodiff, the third witness, runs the same model with the rules taken out. If the rule is wrong, the leaves
before it are wrong and those after it are right, and the report names them as Flax does:
`params.layers_0.kernel`.

Run it: python examples/flax_linen.py      (needs flax)
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import jaxcheck as jc


def swish_with(slope):
    """x * sigmoid(x) with a rule by hand, which is right where `slope` is 1."""

    @jax.custom_vjp
    def swish(x):
        return x * jax.nn.sigmoid(x)

    def backward(x, g):
        s = jax.nn.sigmoid(x)
        return (g * (s + slope * x * s * (1 - s)),)

    swish.defvjp(lambda x: (swish(x), x), backward)
    return swish


def check(slope, name):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 4)), rng.normal(size=(6, 2))
    model = nn.Sequential([nn.Dense(5), swish_with(slope), nn.LayerNorm(), nn.Dense(2)])
    variables = model.init(jax.random.key(0), x)
    return jc.check_grad(lambda v: jnp.mean((model.apply(v, x) - y) ** 2), variables, name=name)


def main() -> list[jc.Report]:
    """The reports of the right rule and of one that lacks a factor."""
    right, wrong = check(1.0, "linen, right rule"), check(0.9, "linen, wrong rule")
    print(right, wrong, sep="\n\n")
    return [right, wrong]


if __name__ == "__main__":
    right, wrong = main()
    raise SystemExit(0 if right.ok and not wrong.ok else 1)
