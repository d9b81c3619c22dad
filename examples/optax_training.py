"""Before and after training: a gradient that is right at the start and wrong later.

The textbook's advice is to check at random initialisation, and again after some training. `check_batch` takes the
checkpoints of an ordinary Optax loop, its optimiser with a state, and checks them all in one program. The backprop here
clips the gradient of its hidden layer at a threshold that is never reached at the start, so a check there is a PASS;
after some hundred steps of Adam the output weights have grown, and the report names the step and the leaf.

Run it: python examples/optax_training.py      (needs optax)
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcheck as jc

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 3))
Y = (np.sin(2 * X[:, :1]) > 0.2) * 1.0
STEPS = (0, 100, 400)


def loss(p):
    return jnp.mean(optax.sigmoid_binary_cross_entropy(jnp.tanh(X @ p["W1"]) @ p["W2"], Y))


def backprop(p, clip=0.02):
    h = jnp.tanh(X @ p["W1"])
    dlogits = (jax.nn.sigmoid(h @ p["W2"]) - Y) / len(X)
    dh = jnp.clip(dlogits @ p["W2"].T, -clip, clip)
    return {"W1": X.T @ (dh * (1 - h**2)), "W2": h.T @ dlogits}


def checkpoints(p):
    """The parameters after each number of STEPS."""
    optimiser = optax.adam(0.05)
    state, kept = optimiser.init(p), []
    for step in range(max(STEPS) + 1):
        kept += [p] if step in STEPS else []
        updates, state = optimiser.update(backprop(p), state)
        p = optax.apply_updates(p, updates)
    return kept


def main() -> list[jc.Report]:
    """The reports of the clipped backprop and of the one without the clip."""
    points = checkpoints({"W1": 0.3 * RNG.normal(size=(3, 4)), "W2": 0.3 * RNG.normal(size=(4, 1))})
    clipped = jc.check_batch(loss, points, grad=backprop, name="clipped")
    right = jc.check_batch(loss, points, grad=lambda p: backprop(p, jnp.inf), name="not clipped")
    print(clipped, right, sep="\n\n")
    return [clipped, right]


if __name__ == "__main__":
    clipped, right = main()
    raise SystemExit(0 if right.ok and not clipped.ok else 1)
