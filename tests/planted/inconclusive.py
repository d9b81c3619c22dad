"""Points where no gradient can be judged: the loss is random, not finite, broken or constant."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from tests.planted.base import REAL, Case, Problem, draws


def family(loss_of, grad_of, point):
    """One vector beside a plain leaf; `loss_of` may make fresh state at each build."""

    def build(dtype):
        f = loss_of() if loss_of.__name__.startswith("make") else loss_of
        p = {"x": jnp.asarray(point, dtype), "plain": draws(181, dtype)(3)}

        def loss(p):
            return jnp.sum(f(p["x"])) + jnp.sum(jnp.sin(p["plain"]))

        return Problem(loss, p, lambda p: {"x": grad_of(p["x"]), "plain": jnp.cos(p["plain"])})

    return build


def make_global():
    """NumPy's global generator, as careless code uses it."""
    return lambda x: x**2 * (1 + 0.1 * np.random.normal())


def make_counter():
    count = itertools.count()
    return lambda x: x**2 + 0.1 * next(count)


def make_callback():
    """Noise at run time: jit does not freeze it."""
    rng = np.random.default_rng(182)

    def f(x):
        noise = jax.pure_callback(
            lambda: x.dtype.type(rng.normal()), jax.ShapeDtypeStruct((), x.dtype), vmap_method="sequential"
        )
        return x**2 + 0.01 * noise

    return f


def make_stateful_key():
    """A key that moves on with every call."""
    state = [jax.random.key(183)]

    def f(x):
        state[0], key = jax.random.split(state[0])
        return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x**2, 0)

    return f


def constant(dtype):
    """A loss that does not see its parameters, and a gradient that agrees."""
    p, X = {"W": draws(184, dtype)(3, 3), "b": draws(185, dtype)(3)}, draws(186, dtype)(4)
    return Problem(lambda p: jnp.sum(X**2), p, lambda p: jax.tree_util.tree_map(jnp.zeros_like, p))


def staircase(dtype):
    """A loss rounded to steps: zero slope wherever one looks, and a gradient that says so."""
    w, X = draws(187, dtype)(4), draws(188, dtype)(6, 4)
    return Problem(lambda w: jnp.sum(jnp.sign(X @ w) > 0) * 1.0, w, jnp.zeros_like)


def case(id, build, what, *reasons):
    return Case(id, build, what, "INCONCLUSIVE", reasons, (), REAL)


POINT = [0.5, -1.0, 2.0]
CASES = (
    case(
        "random-global",
        family(make_global, lambda x: 2 * x, POINT),
        "numpy's global generator inside the loss",
        "NONDETERMINISTIC",
    ),
    case(
        "random-counter", family(make_counter, lambda x: 2 * x, POINT), "a counter inside the loss", "NONDETERMINISTIC"
    ),
    case(
        "random-callback",
        family(make_callback, lambda x: 2 * x, POINT),
        "noise from a callback, also under jit",
        "NONDETERMINISTIC",
        "NOISE",
    ),
    case("random-key", family(make_stateful_key, lambda x: x, POINT), "a key that moves on", "NONDETERMINISTIC"),
    case(
        "loss-nan",
        family(jnp.log, lambda x: 1 / x, [-1.0, 0.5, 2.0]),
        "log of a negative number",
        "NONFINITE",
        "DOMAIN",
    ),
    case("loss-inf", family(lambda x: 1 / x, lambda x: -1 / x**2, [0.0, 0.5, 2.0]), "1/x at 0", "NONFINITE", "DOMAIN"),
    case(
        "jump-where",
        family(lambda x: jnp.where(x > 0.5, x**2, x - 3), lambda x: jnp.where(x > 0.5, 2 * x, 1.0), POINT),
        "a jump exactly at the point",
        "JUMP",
    ),
    case(
        "jump-floor",
        family(lambda x: x**2 + jnp.floor(x), lambda x: 2 * x, [0.3, 1.0, 2.5]),
        "floor at an integer",
        "JUMP",
    ),
    case("constant", constant, "a constant loss", "VACUOUS"),
    case("staircase", staircase, "a loss of steps: flat wherever one looks", "VACUOUS"),
)
