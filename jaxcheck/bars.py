"""Every threshold that decides a verdict, once, with what it follows from or the command that measured it.

"A choice" is one that nobody derived or measured: it separates sizes that lie far apart in what was seen.
"""

from __future__ import annotations

import sys

_UNIT = sys.float_info.epsilon

# What a claim is held to, beside its error bars.

# A claim contradicts a difference, or one difference another, or one gradient another, beyond this many of their bars.
# A choice; for the bars of measured round-off it is itself measured (`ROUNDED`).
BARS = 5.0
# True error over measured bar, of a leaf, is below 5 for 99 % of generated programs in float32 and float64, both by
# norm and by entry with the leaf's RMS beside it: `pytest tests/program/test_perturbed.py -k bars_are_true -m ""`.
ROUNDED = 5.0
# The textbook's bound of confidence for formula (2), and about the unit of float32: no run in that precision could tell
# a smaller one.
TEXTBOOK = 1e-7
# Two formulas of one derivative, in float64, differ by their round-off, which has its own bar; this is for what a
# formula means not to be part of it, such as 1e-12 added to a denominator.
SHARP = 1e-10
# What a check must be able to see, relative to the leaf, if the caller says nothing. Also what the claim of a
# map may be off by because its own loop stops early. A choice.
MUST_CATCH = 1e-3
# And if the caller says how much is right (rtol of formula (2)): an error of size s makes it s/2, and floors are found
# on half-decades, so what is caught for certain begins at 2 x 10^(1/2) rtol; rounded up to this many.
GRANTED = 10.0
# M = A against N is only believed on gross evidence: both claims would have to be wrong together. A choice.
GROSS = 1e-4
# Relative asymmetry of a Hessian in float64 that rounding explains. A choice.
SYMMETRIC = 1e-7

# Single components beside their leaf.

# Components of one leaf need not have one unit. One may be off by this much more than the leaf's tolerance, but
# relative to itself. A choice.
COMPONENT = 1e3
# Part of the caller's rtol that one component may be off by in units of its leaf's RMS. A choice.
BESIDE_LEAF = 1e-3
# What two gradients, or the one-sided slopes of a direction and those that its components add up to, may differ by
# beside their bars and be the same. A choice: where differences tell kinks, slopes that differ by less are one.
ALIKE = 1e-6
# Part of the leaf's size below which a number of one component is zero beside the others, where it
# is asked whether two gradients are one. A choice.
ZERO = 1e-12
# Part of the leaf's size that is nothing for one component where it is zero itself. A choice.
NEXT_TO_NOTHING = 1e-9

# Rounding that is not measured.

# Rounding of a number computed from others of its size: a derivative is not known better than the rounding of the
# outputs themselves (x -> f(x)/f(x) has derivative 1e-17, not 0), a component than that of its leaf. A choice: units.
ROUND_OFF = 16 * _UNIT
# Rounding units by which two right runs of one program may differ, and a gradient scatter among neighbours. A choice.
UNITS = 1e3
# Nor by more than so many units of a dtype whose sums are made in a wider one: those of half precision are made in
# float32, and rounded once. And the unit from which on a dtype is such. Choices.
ROUNDED_ONCE, HALF_PRECISION = 8.0, 1e-4
# Cap, relative to the leaf, on scatter over neighbours that counts as round-off: these may lie on the other side of a
# threshold, more likely so on a kink, and that is no round-off. Choices.
SCATTER, SCATTER_ON_KINK = 1e-6, 1e-10
# Scatters beyond which what a gradient is, or is off by, is not its round-off, which then is not even measured: far
# beyond the 14 bars that a single entry may be off by (`evidence/roundoff.py`).
OBVIOUS = 1e3
# A cotangent's column that is smaller than the largest by this factor is nothing but its rounding: some
# 450 units of float64. A choice.
ONLY_ROUNDING = 1e-13
# A leaf that does this part of what the most influential one does to the output may be zero but for its rounding
# (a bias before batch norm). A choice.
FAINT = 1e-8
# Stands for an unknown bar in sums that must not overflow.
HUGE = sys.float_info.max / 1e3
# Rounding unit below which a precision bears steps as small as float64's; a coarser one would only sample rounding.
# Between those of float64, 2e-16, and float32, 1e-7.
FINE_UNIT = 1e-12

# When the differences are quantised.

# Successive larger steps confirm a claim that the smallest contradict: to this part of it, and closer by this factor
# than the ladder's own estimate. Choices.
CONFIRMED, CLOSER = 3e-5, 0.1

# When a slope is infinite: the quotients of so many successive smaller steps each change by this part of the change
# before, or more. Of a smooth function it is the ratio of the steps, a half; of x log x it is 1, of a root above.
# Choices.
GROWS, GROWS_FOR = 0.9, 4

# What decides nothing beside something else, or is looked at closer.

# Part of a bound (must_catch, a tolerance) that a bar or a change may be and be far from convicting anybody. A choice.
FAR_BELOW = 0.01
# Part of the tolerance from which on round-off decides together with it, and of must_catch from which on the precision
# of what was given is why too little could be seen. A choice.
COUNTS = 0.1
# The bar of the differences, in units of that tolerance, from which on it is measured although neighbours scatter less.
# Of 425 leaves of networks, saturated or not, those that differences see by less had a round-off below the tolerance,
# but for polynomials of a saturated tanh (`tests/test_saturated.py`); of 37 ordinary layers the largest is 1.4.
NOISIER = 10.0
# By how much a component is moved at least to find its kink; beside it, as a part of its leaf's RMS. A choice.
LEAST_MOVE = 1e-2
# Part of the parameters' size by which a point is moved off its kink. A choice.
NUDGE = 1e-3

# Loops that stop at a tolerance.

# A gradient whose own loop stops so early that it is off by more than must_catch is off, even if run on it would
# be right: unless the function as stopped is about as far from its limit. About: this many times. A choice.
SAME = 10.0
# What changes by less than this, relative, is taken for at rest where it is asked whether a limit is approached.
# A choice.
RESTS = 1e-9
# A derivative that shrinks below this part of what it was has no limit that a claim could be held to. A choice.
FADED = 1e-2

# Hints: what kind of mistake. They never change a verdict; all are choices.

# A hint explains the leaf to this part of its norm.
EXPLAINS = 1e-5
# An error explained leaves at most this part of itself: a small one is close to many guesses.
LEAVES = 0.01
# Differences may stand for the truth if their bars are this part of `EXPLAINS`.
READABLE = 0.1
# An entry obeys an explanation of its leaf when it does so to this relative error; differences that are further off
# from autodiff speak against it; and a ratio so near to 1 is written as its distance from 1.
FITS = 1e-3
# Units of a narrow dtype that sums in it may be off by: the root of their count, of a million terms.
ADDED_UP = 1000
# A ratio, or a forgotten term's coefficient, is a number to this relative error.
RATIO = 1e-4
# An entry is near zero below this part of the largest, wrong beyond this part of itself, and a number whole within it.
ENTRY = 1e-6

# Where nothing explains a leaf whole, a plain factor that leaves this part of the error is told, if its own bar is no
# more than this part of it.
MOST_OF_IT, ABOUT = 0.1, 0.05

# What would have been caught.

# Half-decades, descending: the floor is printed to one digit, finer steps would be noise.
SIZES = tuple(10.0 ** (-k / 2) for k in range(0, 27))
# How often an error of the size of a floor, spread at random over a leaf that only random directions look at, may hide
# from all of them: a choice.
MISSED = 0.05

# What a look may cost, in elements computed: no verdict of its own.

# Before the default turns from every component to random directions, and for kinks to be looked at for ties.
WORK = 6e7
# What a row costs that runs by itself: its operations are dispatched one by one, some 150 us a row of a small
# convolution (`python -m tests.benchmarks.layers --only conv2d`).
SEQUENTIAL = 1e5
# What a row costs at least.
LEAST_COST = 50.0
# Beyond which one random direction of each leaf must do.
ONE_DIRECTION = 3e10

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
# Part of a gradient that its run may lose to rounding before nothing of it is left: at a half, one that is zero and one
# that is twice as large are explained alike.
NOTHING_LEFT = 0.5
# And part that autodiff may lose and keep nearly all: a tenth of that. Networks in bfloat16 lose some 0.004. A choice.
NEARLY_ALL = 0.05
# A dtype whose smallest normal number is below this is float32's or bfloat16's (1e-38), else float16's (6e-5).
SUBNORMAL = 1e-30


def underflow(smallest_normal: float, smallest: float) -> float:
    """What is lost where values leave the range of a dtype: XLA on CPU flushes float32's and bfloat16's subnormal
    numbers to zero, and keeps float16's, whose normal ones end at 6e-5, in steps of the smallest."""
    return smallest_normal if smallest_normal < SUBNORMAL else smallest


# Which line of a backward pass is wrong (`program.where`, `judgement.culprit`). What comes of it:
# `python -m tests.where.rates`.

# Two values of two programs are one value when they differ by less, relative to their norm, and what projections of
# the results ask for is met: many times a program's round-off in float64, far from any other value at a random point.
SAME_VALUE = 1e-7
# A change makes the gradients right when each leaf is off by less of its norm. A choice.
REPAIRED = 1e-8
# A result of less than this part of the largest one's norm is taken for one that cancels: float64's rounding leaves
# some 1e-16 of what is added up there. A choice.
CANCELLED = 1e-13
# And off by its error over this part of that norm, so that rounding is less than REPAIRED of it. A choice.
CANCELLED_SIZE = 1e-4
# A leaf is wrong, for the search, beyond this part of its norm; one in between keeps the search away. A choice.
ASTRAY = 1e-6
# Of a large rule, run as it is, a result is right where it is off by less of its norm: what float32 rounds. A choice.
RIGHT_AS_RUN = 1e-4
# It is wrong, and looked for at smaller sizes, from this on; in between nobody knows. A choice.
ASTRAY_AS_RUN = 1e-3
# A loop that stopped is run on, turn by turn, where one more moves it by less than this: else it is no iteration that
# stopped at a tolerance. A choice.
NEAR_REST = 1e-2
# It rests when a turn moves it by less: some of float64's roundings.
AT_REST = 1e-14
# The truth that a search goes by is believed when differences of the loss agree with it to this part of the most
# that they could be: at their step they are off by some 1e-9. A choice.
TRUTH = 1e-5
# A constant is one of the program's own (a dimension, a literal, a small fraction) when it is that near. A choice.
NICE = 1e-7
# A line is named where every other that could be to blame costs that much more (`judgement.culprit.COST`).
# Chosen on the cases that were not held back: `python -m tests.where.rates`.
NEAR_LINE = 0.45
# A set of lines is named where at most so many cost about the same. A choice.
NEAR_LINES = 3
# No line is named where even the cheapest change costs more. Chosen likewise.
TOO_DEAR = 2.6
