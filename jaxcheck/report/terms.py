"""What the words of a report mean, each with an example and what to do: for `jaxcheck explain` and HTML tooltips.

A reason's meaning is its `advice`; here stand an example that ends in it, and the next step. Every example
runs as it stands after `SETTING`, and leaves a `report`.
"""

from __future__ import annotations

import difflib

from jaxcheck.report.vocabulary import SAME, WORDS, Term
from jaxcheck.result import Reason

SETTING = """\
import jax, jax.numpy as jnp, numpy as np, jaxcheck as jc
x = np.array([0.3, -0.7, 1.1])
"""


def _reason(reason: Reason, example: str, todo: str) -> Term:
    return Term(reason.name, reason.advice, example, todo)


_REASONS = [
    _reason(
        Reason.AGREE,
        "report = jc.check_grad(lambda x: jnp.sum(x**3), x, grad=lambda x: 3 * x**2)",
        "Nothing. The floor says how large an error would have been caught.",
    ),
    _reason(
        Reason.MANUAL_WRONG,
        "report = jc.check_grad(lambda x: jnp.sum(x**3), x, grad=lambda x: 2 * x**2)",
        "Look at the leaf and the entries that are named; the hint (a ratio, a sign, a transpose, a missing sum) "
        "is measured. Where several leaves are wrong, start with the one nearest to the loss.",
    ),
    _reason(
        Reason.AUTODIFF_DIFFERS,
        """\
def loss(x):  # stop_gradient hides one of the two factors from autodiff
    return jnp.sum(x * jax.lax.stop_gradient(x))
report = jc.check_grad(loss, x, grad=lambda x: 2 * x)""",
        "Nothing is wrong with the gradient. Do not replace it by jax.grad of this program.",
    ),
    _reason(
        Reason.NUMERIC_SUSPECT,
        """\
def loss(x):
    return jnp.sum(x * jax.lax.stop_gradient(x))
report = jc.check_grad(loss, x)  # jax.grad itself is under test""",
        "Look for stop_gradient, a custom rule or an integer on the way. Hidden on purpose: surrogate=True. Else "
        "rescale the loss, or check it at another point.",
    ),
    _reason(
        Reason.CONVERGED,
        """\
def root(a):  # Newton's method, stopped early
    return jax.lax.while_loop(lambda s: jnp.abs(s * s - a) > 1e-2, lambda s: (s + a / s) / 2, a)
report = jc.check_grad(root, 2.0, grad=lambda a: 0.5 / jnp.sqrt(a))""",
        "Decide whether the stopping error in the note is small enough for you; tighten the tolerance if not.",
    ),
    _reason(
        Reason.KINK,
        "report = jc.check_grad(lambda x: jnp.sum(jnp.abs(x)), np.zeros(2), grad=jnp.sign)",
        "Nothing, or move the point: random parameters hardly ever lie on a kink, zero biases do.",
    ),
    _reason(
        Reason.SURROGATE,
        """\
def loss(x):  # rounding has the derivative 0; its straight-through gradient is 1
    return jnp.sum(jnp.round(x))
report = jc.check_grad(loss, x, grad=jnp.ones_like, surrogate=True)""",
        "Nothing. Take surrogate away, or give it as a function of the leaf's path, to check the other leaves.",
    ),
    _reason(
        Reason.STRUCTURE,
        "report = jc.check_grad(lambda x: jnp.sum(x**2), x, grad=lambda x: 2 * x[:2])",
        "Return a tree like the parameters: the same keys, one array of the same shape per differentiable leaf.",
    ),
    _reason(
        Reason.PRECISION,
        """\
given = jnp.cos(x).astype(jnp.bfloat16)  # numbers, with two or three digits
report = jc.check_grad(lambda x: jnp.sum(jnp.sin(x)), x, grad=given)""",
        "Pass grad as a function: it is then run in float64. Numbers cannot be made finer than they are.",
    ),
    _reason(
        Reason.PRECISION_WRONG,
        """\
def grad(x):
    return 2 * x * (1.02 if x.dtype == jnp.float32 else 1.0)
report = jc.check_grad(lambda x: jnp.sum(x**2), x, grad=grad)""",
        "The formula is right, what runs is not. Follow the dtype: finfo, eps, casts, overflow of exp.",
    ),
    _reason(
        Reason.JUMP,
        "report = jc.check_grad(jnp.floor, 1.0, grad=lambda x: 0.0)",
        "Move the point off the jump. For a gradient that ignores jumps on purpose: surrogate=True.",
    ),
    _reason(
        Reason.NOISE, "", "Tighten the tolerance of the solver inside, take out quantisation, or run it in float64."
    ),
    _reason(
        Reason.DOMAIN,
        "report = jc.check_grad(lambda x: jnp.where(x == 1, x, np.nan), 1.0, grad=lambda x: 1.0)",
        "Move the parameters away from the edge (a probability of 0, a variance of 0).",
    ),
    _reason(
        Reason.NONFINITE,
        "report = jc.check_grad(lambda x: jnp.sum(jnp.log(x)), 0 * x, grad=lambda x: 1 / x)",
        "Run the loss alone at this point under jax.debug_nans(True): it stops at the operation.",
    ),
    _reason(
        Reason.DEAD_STEP,
        """\
far = jnp.asarray([1e9])
report = jc.check_grad(jnp.sum, far, grad=jnp.ones_like, mode=jc.Exhaustive(step=1e-9))""",
        "Leave step out (steps are then chosen), or scale the parameters to about 1.",
    ),
    _reason(
        Reason.NONDETERMINISTIC,
        """\
rng = np.random.default_rng(0)
report = jc.check_grad(lambda x: jnp.sum(x * rng.normal(size=3)), x)""",
        "Make the mask or the noise an argument (args=(key,)), so that each evaluation sees the same.",
    ),
    _reason(
        Reason.VACUOUS,
        "report = jc.check_grad(lambda x: jnp.sum(0 * x), x, grad=lambda x: 0 * x)",
        "Look why nothing moves (a dead ReLU, a mask, a factor of zero), or change the point. Where a coarser "
        "check is enough, say must_catch=0.01.",
    ),
    _reason(
        Reason.SECOND_ORDER_WRONG,
        """\
f = jax.custom_vjp(jnp.sin)
f.defvjp(lambda x: (jnp.sin(x), jnp.cos(x)), lambda c, g: (jax.lax.stop_gradient(c) * g,))
report = jc.check_rule(f, x, order=2, transforms=False)""",
        "Nothing, if you never differentiate twice. Else write residuals and backward pass so that JAX can "
        "differentiate them: no stop_gradient, no host callback.",
    ),
    _reason(
        Reason.LAW_BROKEN,
        """\
f = jax.custom_vjp(jnp.sin)
f.defvjp(lambda x: (jnp.sin(x), jnp.cos(x)), lambda c, g: (c * jnp.clip(g, -10, 10),))
report = jc.check_rule(f, x, transforms=False)""",
        "A backward pass is linear in the cotangent. Clip gradients in the optimiser, not in a rule; or declare "
        "it: surrogate=True.",
    ),
    _reason(
        Reason.TRANSFORM_WRONG,
        """\
f = jax.custom_vjp(jnp.sin)
f.defvjp(lambda x: (jnp.sin(x), jnp.cos(x)), lambda c, g: (c * g * (1.1 if c.dtype == jnp.bfloat16 else 1),))
report = jc.check_rule(f, x, algebra=False)""",
        "Look for shapes, dtypes or Python state that the rule takes from one way of calling it.",
    ),
    _reason(
        Reason.IMPLICIT,
        """\
report = jc.check_grad(lambda a: jax.random.gamma(jax.random.key(0), a), 2.0)""",
        "Draw outside and pass the draw in args: the rest of the loss is then judged. A sampler's derivative is "
        "right for its distribution: hold the mean of many draws to it.",
    ),
    _reason(
        Reason.UNDIFFERENTIABLE,
        """\
def f(x):
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="sequential")
report = jc.check_rule(f, x)""",
        "Give it a custom_vjp or custom_jvp.",
    ),
    _reason(Reason.INTERRUPTED, "", "Run it again without Ctrl-C, or ask for less: mode='sketch'."),
]

TERMS = {term.name.casefold(): term for term in (*_REASONS, *WORDS)}


def find(word: str) -> Term:
    """What a word of a report means. Raises KeyError, with the sentence to show, for one that no report has."""
    known = TERMS | {one.casefold(): TERMS[name.casefold()] for name, words in SAME.items() for one in words}
    asked = word.strip("`|: ")
    if asked in Reason.__members__:  # PRECISION is a reason, `precision:` a line of its own
        return TERMS[asked.casefold()]
    asked = asked.casefold()
    if asked in known:
        return known[asked]
    close = difflib.get_close_matches(asked, known, n=1)
    hint = f"did you mean {known[close[0]].name}?" if close else "`jaxcheck explain` lists the words"
    raise KeyError(f"no report says {word!r}; {hint}")


def meaning(name: str) -> str:
    """The sentences on a reason or a word. Raises KeyError for another."""
    return TERMS[name.casefold()].meaning
