"""Edges of domains and traps of autodiff: log, sqrt, powers, where, and the NaN behind it."""

import jax
import jax.numpy as jnp

from tests.planted.base import Problem, draws, right, wrong

# The rule is right and differences say so; autodiff of the program is what fails.
TRAP = ("AUTODIFF_DIFFERS",)
EDGE = ("", "DOMAIN")


def edge(f, df, point):
    """A family at given points, with a smooth second leaf; the bug is a factor."""

    def family(dtype, bug=None):
        p = {"edge": jnp.asarray(point, dtype), "plain": draws(131, dtype)(3)}

        def loss(p):
            return jnp.sum(f(p["edge"])) + jnp.sum(jnp.sin(p["plain"]))

        def grad(p):
            return {"edge": df(p["edge"]) * (bug or 1), "plain": jnp.cos(p["plain"])}

        return Problem(loss, p, grad)

    return family


def trap(f, df, point):
    """As `edge`, where autodiff of f is NaN or wrong though f is smooth; the truth is df."""

    def family(dtype, bug=None):
        p = {"trap": jnp.asarray(point, dtype), "plain": draws(132, dtype)(3)}

        def loss(p):
            return jnp.sum(f(p["trap"])) + jnp.sum(jnp.sin(p["plain"]))

        def truth(p):
            return {"trap": df(p["trap"]), "plain": jnp.cos(p["plain"])}

        def grad(p):
            if bug == "autodiff":  # the trap itself handed in: NaN
                return jax.grad(loss)(p)
            g = truth(p)
            return {**g, "trap": g["trap"] * (bug or 1)}

        return Problem(loss, p, grad, truth=truth)

    return family


log = edge(jnp.log, lambda x: 1 / x, [1e-6, 2e-6, 0.5])
log_tiny = edge(jnp.log, lambda x: 1 / x, [1e-12, 1e-10, 1e-11])
sqrt = edge(jnp.sqrt, lambda x: 0.5 / jnp.sqrt(x), [1e-8, 3e-8, 2.0])
entropy = edge(lambda p: p * jnp.log(p), lambda p: jnp.log(p) + 1, [1e-6, 0.3, 0.7])
arccos = edge(jnp.arccos, lambda x: -1 / jnp.sqrt((1 - x) * (1 + x)), [0.99999, -0.9999, 0.2])
arctanh = edge(jnp.arctanh, lambda x: 1 / ((1 - x) * (1 + x)), [0.999, -0.99, 0.0])
log1p = edge(jnp.log1p, lambda x: 1 / (1 + x), [-0.999, 1e-10, 3.0])
reciprocal = edge(lambda x: 1 / x, lambda x: -1 / x**2, [1e-4, -1e-3, 2.0])
barrier = edge(
    lambda x: -1e-3 * (jnp.log(1 - x) + jnp.log(1 + x)), lambda x: 2e-3 * x / (1 - x**2), [0.9999, -0.5, 0.0]
)
# At 0 only one side exists; the slope from it is 0.
one_sided = edge(lambda x: x**1.5, lambda x: 1.5 * jnp.sqrt(x), [0.0, 1.0, 0.5])
lgamma = edge(jax.scipy.special.gammaln, jax.scipy.special.digamma, [1e-3, 0.7, 12.0])

sinc = trap(
    lambda x: jnp.where(x == 0, 1.0, jnp.sin(x) / x),
    lambda x: jnp.where(x == 0, 0.0, (x * jnp.cos(x) - jnp.sin(x)) / jnp.where(x == 0, 1, x) ** 2),
    [0.0, 1.0, -2.0],
)
elu = trap(
    lambda x: jnp.where(x > 0, x, jnp.exp(x) - 1),
    lambda x: jnp.where(x > 0, 1.0, jnp.exp(jnp.minimum(x, 0))),
    [1000.0, -1.0, 2.0],
)
softplus = trap(
    lambda x: jnp.where(x > 20, x + jnp.exp(-jnp.abs(x)), jnp.log(1 + jnp.exp(x))),
    lambda x: jnp.where(x > 20, 1 - jnp.exp(-jnp.abs(x)), 1 / (1 + jnp.exp(-x))),
    [900.0, 0.5, -3.0],
)
masked_log = trap(
    lambda x: jnp.where(x > 0.1, jnp.log(x), 0.0),
    lambda x: jnp.where(x > 0.1, 1 / jnp.where(x > 0.1, x, 1), 0.0),
    [0.0, 0.5, 2.0],
)
smooth_norm = trap(
    lambda x: jnp.where((x**2).sum() < 0.01, (x**2).sum() / 0.2, jnp.sqrt((x**2).sum()) - 0.05),
    lambda x: x / 0.1,
    [0.0, 0.0, 0.0],
)
stopped = trap(lambda x: jax.lax.stop_gradient(x) * x, lambda x: 2 * x, [0.3, -1.0, 2.0])
# Autodiff sees nothing at all: its gradient is zero everywhere.
frozen = trap(
    lambda x: jax.lax.stop_gradient(jnp.tanh(x)) ** 2,
    lambda x: 2 * jnp.tanh(x) * (1 - jnp.tanh(x) ** 2),
    [0.3, -1.0, 2.0],
)


NAN = ("MANUAL_WRONG", "NONFINITE")
CASES = (
    right("log-1e-6", log, "log at 1e-6", reasons=EDGE),
    right("log-1e-12", log_tiny, "log at 1e-12", reasons=EDGE),
    wrong("log-1e-6-1e-3", log, 1.001, "1e-3 wrong at log's edge", "edge"),
    right("sqrt-1e-8", sqrt, "sqrt at 1e-8", reasons=EDGE),
    wrong("sqrt-1e-8-half", sqrt, 2.0, "1/2 missing at sqrt's edge", "edge"),
    right("entropy-1e-6", entropy, "p log p at 1e-6", reasons=EDGE),
    right("arccos-edge", arccos, "arccos at 1 - 1e-5", reasons=EDGE),
    wrong("arccos-edge-sign", arccos, -1.0, "sign of arccos'", "edge"),
    right("arctanh-edge", arctanh, "arctanh at 0.999", reasons=EDGE),
    right("log1p-edge", log1p, "log1p at -0.999", reasons=EDGE),
    right("reciprocal-1e-4", reciprocal, "1/x at 1e-4", reasons=EDGE),
    wrong("reciprocal-1e-4-1e-4", reciprocal, 1.0001, "1e-4 wrong at 1/x's pole", "edge"),
    right("log-barrier", barrier, "a log barrier 1e-4 from its wall", reasons=EDGE),
    right("one-sided-x^1.5", one_sided, "x^1.5 at 0: nothing to the left", reasons=("", "DOMAIN", "KINK")),
    right("lgamma-pole", lgamma, "log gamma at 1e-3", reasons=EDGE),
    right("where-sinc", sinc, "sin(x)/x at 0 behind a where", reasons=TRAP),
    wrong("where-sinc-nan", sinc, "autodiff", "NaN from the branch not taken", "trap", reasons=NAN),
    wrong("where-sinc-sign", sinc, -1.0, "wrong sign where autodiff cannot help", "trap"),
    right("where-elu-overflow", elu, "exp(1000) in the branch not taken", reasons=TRAP),
    wrong("where-elu-nan", elu, "autodiff", "NaN from an overflow not taken", "trap", reasons=NAN),
    right("where-softplus-overflow", softplus, "log(1 + exp(900)) not taken", reasons=TRAP),
    right("where-masked-log", masked_log, "log(0) under a mask", reasons=TRAP),
    wrong("where-masked-log-nan", masked_log, "autodiff", "NaN from log(0) under a mask", "trap", reasons=NAN),
    right("where-smooth-norm", smooth_norm, "Huber's norm at zero", reasons=TRAP),
    wrong("where-smooth-norm-nan", smooth_norm, "autodiff", "NaN from sqrt(0)", "trap", reasons=NAN),
    right("stop-gradient-stray", stopped, "a stray stop_gradient: the rule is right", reasons=TRAP),
    right("stop-gradient-all", frozen, "autodiff is zero, the rule is right", reasons=TRAP),
)
