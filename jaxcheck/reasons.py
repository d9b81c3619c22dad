"""The words of a verdict: what came out, why, and the advice that goes with it."""

from __future__ import annotations

import enum


class Verdict(enum.StrEnum):
    """The three outcomes. INCONCLUSIVE is not PASS: it says that nothing was shown, and why.

    Members are strings, so that `report.verdict == "PASS"` says what it seems to say.
    """

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class Reason(enum.StrEnum):
    """Why a verdict is what it is: a string, its own name. `advice` is a sentence on what to do."""

    AGREE = "AGREE"
    MANUAL_WRONG = "MANUAL_WRONG"
    AUTODIFF_DIFFERS = "AUTODIFF_DIFFERS"
    NUMERIC_SUSPECT = "NUMERIC_SUSPECT"
    CONVERGED = "CONVERGED"
    KINK = "KINK"
    SURROGATE = "SURROGATE"
    STRUCTURE = "STRUCTURE"
    PRECISION = "PRECISION"
    PRECISION_WRONG = "PRECISION_WRONG"
    JUMP = "JUMP"
    NOISE = "NOISE"
    DOMAIN = "DOMAIN"
    NONFINITE = "NONFINITE"
    DEAD_STEP = "DEAD_STEP"
    NONDETERMINISTIC = "NONDETERMINISTIC"
    VACUOUS = "VACUOUS"
    SECOND_ORDER_WRONG = "SECOND_ORDER_WRONG"
    LAW_BROKEN = "LAW_BROKEN"
    TRANSFORM_WRONG = "TRANSFORM_WRONG"
    UNDIFFERENTIABLE = "UNDIFFERENTIABLE"
    IMPLICIT = "IMPLICIT"
    INTERRUPTED = "INTERRUPTED"

    @property
    def advice(self) -> str:
        """What this means, and what to do. True whenever the reason is: numbers are said elsewhere."""
        return _ADVICE[self]


# One reason has several occasions; a sentence here is true of every one of them. What holds of one
# occasion alone is said by the numbers, the notes and the witnesses of the report.
_ADVICE = {
    Reason.AGREE: "The gradient under test agrees with every witness that spoke, within error bars.",
    Reason.MANUAL_WRONG: (
        "The derivative under test is contradicted, beyond error bars, by the centred differences or by "
        "autodiff. What is off is named below."
    ),
    Reason.AUTODIFF_DIFFERS: (
        "The gradient under test and the differences agree; autodiff of the plain program does not. "
        "A stop_gradient or a NaN from an untaken `where` branch can do that, and may be why the rule exists."
    ),
    Reason.NUMERIC_SUSPECT: (
        "The differences contradict autodiff, with which the gradient under test agrees or which it is. "
        "Either the program hides part of its derivative (stop_gradient, a number taken out by .item(), a rule that "
        "is not under test), or the differences are off (rounding inside the program, a scale below their steps). "
        "Where a derivative is hidden on purpose, pass surrogate=True."
    ),
    Reason.CONVERGED: (
        "A loop inside stops at a tolerance. The gradient under test is right at the loop's limit; from the derivative "
        "of the loop as stopped it differs by the stopping error, which the note gives. Tighten the tolerance where "
        "that is too much."
    ),
    Reason.KINK: (
        "The function has a kink at this point, where a range of gradients is right; the gradient under test "
        "is one of them as far as can be told. Move the point to test it on smooth ground."
    ),
    Reason.SURROGATE: (
        "Declared a surrogate: only structure, finiteness and determinism were checked, not the formula."
    ),
    Reason.STRUCTURE: (
        "The gradient's structure, shapes or dtypes are not those of the parameters, or it could not be "
        "computed at all. The note says which; return one array per leaf."
    ),
    Reason.PRECISION: (
        "Rounding is too coarse for a verdict: that of the numbers as given, of a function that rounds to float32 "
        "inside, or of an ill-conditioned gradient. Pass the gradient as a function, compute in higher precision, or "
        "check at another point."
    ),
    Reason.PRECISION_WRONG: (
        "Right in float64, and not what is run: in the caller's own dtypes the derivative under test is off by more "
        "than their rounding explains. Look for a branch or a constant that follows dtype, finfo or "
        "jax_enable_x64, for a dtype narrower than any of the loss, for overflow and underflow on the way, or for a "
        "jitted function that keeps a global's old value; the note has the numbers."
    ),
    Reason.JUMP: "The function jumps at this point; it has no derivative here. Check at another point.",
    Reason.NOISE: (
        "The function is noisy here (iterative solver, quantised values, low precision), and nothing finer "
        "than its noise can be told. Tighten its tolerance, or run it in float64."
    ),
    Reason.DOMAIN: (
        "No difference could be taken, or none settles: next to this point the function is not finite, on both sides, "
        "or on one while on the other it may be singular. Move the point into the domain."
    ),
    Reason.NONFINITE: "The loss or its gradient is NaN or infinite at this point. Check for 0/0, log(0) or overflow.",
    Reason.DEAD_STEP: "The step is below the spacing of the parameters' floats: nothing moved. Use a larger step.",
    Reason.NONDETERMINISTIC: (
        "Two evaluations at the same point differ. Fix the PRNG key, close over one dropout mask, "
        "or turn dropout off for the check."
    ),
    Reason.VACUOUS: (
        "This check could not have caught an error: nothing moves, or the error bars are wider than "
        "must_catch. Check at a point where the loss responds to the parameters."
    ),
    Reason.SECOND_ORDER_WRONG: (
        "Right at first order, wrong at a higher one: the derivative of the rule's own result disagrees with "
        "differences of the gradient. Derive the backward pass from differentiable operations."
    ),
    Reason.LAW_BROKEN: (
        "The rule breaks a law that every rule obeys (linearity in the cotangent, adjointness, zero to "
        "zero, repeatability, primal equality). The table names which."
    ),
    Reason.TRANSFORM_WRONG: (
        "The rule gives another result under a transformation (jit, vmap, scan, remat) or at another dtype. The table "
        "names it."
    ),
    Reason.UNDIFFERENTIABLE: (
        "JAX cannot differentiate this function in the modes that were tried; the note gives its own words. "
        "Give it a rule, or check it in the mode that it has."
    ),
    Reason.IMPLICIT: (
        "What is differentiated is the parameter of a sampler by rejection (jax.random.gamma, or one made of it), "
        "whose derivative JAX takes by implicit reparameterisation: how a draw moves with its distribution. With the "
        "key held fixed the sampler is another function, with jumps, and no difference can judge the one by the other. "
        "Check the rest with the draw as an argument."
    ),
    Reason.INTERRUPTED: (
        "Stopped before all was looked at: by its budget, by Ctrl-C, or for want of memory. What is known so far is "
        "reported. Pass a larger budget=, or budget=None for as long as it takes."
    ),
}

for _public in (Verdict, Reason):
    _public.__module__ = "jaxcheck"
