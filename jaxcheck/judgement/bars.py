"""Every threshold once, with what it follows from or the command that measured it."""

from __future__ import annotations

# The path that is run (`judgement.as_run`).

# A constant that a program makes in its own dtype (0.1 in bfloat16) is off by a unit, half a spacing; two factors of
# one term are one spacing. What more constants do, or one that is amplified, is measured before anybody is blamed.
CONSTANTS = 1.0
# Of a batch's points that nobody examines alone: a difference in the path that is run counts as a failure beyond a
# hundredth, more than two rounded constants are off by in bfloat16.
COUNTED = 1e-2
# Spacings by which a native run may be off from its own formula, where that is more than must_catch (in half
# precision), before anybody measures what rounding explains: a cost, not a verdict. Networks of twelve layers lose
# less than one of them (tests/test_path.py).
SPACINGS = 16.0
# True error over measured bar, of a leaf, is below 5 for 99 % of generated programs in float32 and float64, both by
# norm and by entry with the leaf's RMS beside it: `pytest tests/program/test_perturbed.py -k bars_are_true -m ""`.
ROUNDED = 5.0
# Part of a gradient that its run may lose to rounding before nothing of it is left: at a half, one that is zero and one
# that is twice as large are explained alike.
NOTHING_LEFT = 0.5


def underflow(smallest_normal: float, smallest: float) -> float:
    """What is lost where values leave the range of a dtype: XLA on CPU flushes float32's and bfloat16's subnormal
    numbers to zero, and keeps float16's, whose normal ones end at 6e-5, in steps of the smallest."""
    return smallest_normal if smallest_normal < 1e-30 else smallest
