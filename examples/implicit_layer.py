"""An implicit layer: z = tanh(W z + x), solved by iteration, differentiated by the implicit function theorem.

The backward pass solves a linear system with (I - J), J the Jacobian of the right-hand side by z, instead of going
back through the iteration. The loop stops at a tolerance, so its derivative as stopped and the implicit one differ by
a little. jaxcheck runs the loop on until it rests and holds the rule to that: PASS, CONVERGED, with the stopping error
in the note. The wrong rule solves with J where it should with its transpose.

Run it: python examples/implicit_layer.py
"""

import jax
import jax.numpy as jnp
import numpy as np

import jaxcheck as jc


def solve(W, x):
    def far(z):
        return jnp.max(jnp.abs(z - jnp.tanh(W @ z + x))) > 1e-5

    return jax.lax.while_loop(far, lambda z: jnp.tanh(W @ z + x), jnp.zeros_like(x))


def layer(transposed=True):
    f = jax.custom_vjp(solve)

    def forward(W, x):
        z = f(W, x)
        return z, (W, z)

    def backward(saved, g):
        W, z = saved
        slope = 1 - z**2
        J = slope[:, None] * W
        u = slope * jnp.linalg.solve(jnp.eye(len(z)) - (J.T if transposed else J), g)
        return jnp.outer(u, z), u

    f.defvjp(forward, backward)
    return f


def main() -> list[jc.Report]:
    """The reports of the right rule and of the one without the transpose."""
    rng = np.random.default_rng(0)
    p = {"W": rng.normal(size=(4, 4)) / 4, "x": rng.normal(size=4)}
    reports = []
    for transposed in (True, False):
        f = layer(transposed)
        name = "implicit, right" if transposed else "implicit, without the transpose"
        reports.append(jc.check_grad(lambda p, f=f: jnp.sum(f(p["W"], p["x"]) ** 3), p, name=name))
        print(reports[-1], "\n")
    return reports


if __name__ == "__main__":
    right, wrong = main()
    raise SystemExit(0 if right.ok and not wrong.ok else 1)
