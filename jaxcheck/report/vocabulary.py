"""The words of a report that are no reasons, each with what it means."""

from __future__ import annotations

from typing import NamedTuple

from jaxcheck.result import Verdict


class Term(NamedTuple):
    """`meaning` and `todo` are sentences; `example` is code, "" where none is short enough."""

    name: str
    meaning: str
    example: str = ""
    todo: str = ""


WORDS = [
    Term(
        Verdict.PASS.name,
        "The gradient agrees with every witness that spoke, and an error above the floor could not "
        "have passed. Only a PASS is true: assert jc.check_grad(...) means what it says.",
    ),
    Term(
        Verdict.FAIL.name,
        "The gradient is wrong beyond all error bars. The report says where, and what kind of "
        "mistake it is as far as that is measured.",
        todo="Start at the line `blamed:`.",
    ),
    Term(
        Verdict.INCONCLUSIVE.name,
        "Nothing was shown either way. The reason says what stood in the way; it is never a PASS.",
        todo="Ask for the reason: jaxcheck explain KINK.",
    ),
    Term("M", "The manual gradient: the one under test. |M| is its 2-norm on a leaf, in units of loss per parameter."),
    Term("N", "The numeric gradient: centred differences in float64, with an error bar on each."),
    Term("A", "The autodiff gradient: jax.grad of the same program with your custom rules taken out."),
    Term("X", "The formula itself in ball arithmetic (extra `exact`): asked where float64 has no digits left."),
    Term(
        "witnesses",
        "Who spoke, and how. float64: run in float64, whatever the dtype. native: in the caller's own dtypes. host: as "
        "Python, in NumPy. numbers: given as arrays. absent: silent, for the reason that follows.",
    ),
    Term(
        "blamed",
        "The witness that the others contradict, or what else stands in the way, and at which leaves.",
    ),
    Term(
        "this line",
        "The line of the backward pass which, changed as shown, makes the leaves right at the point of the check and "
        "at another one. `one of these lines`: the change may be made on any of them. `what this line should give`: "
        "the value is known, not how it is written. Absent where nothing of that was proved.",
    ),
    Term(
        "difference",
        "Formula (2) of the textbook, ||M - N|| / (||M|| + ||N||): from 0 (equal) to 1 (opposite). "
        "`to N` is against differences, `to A` against autodiff. A gradient that is doubled has 1/3.",
    ),
    Term(
        "error bar",
        "The number after ±: how far the differences themselves may be off, in the unit of the number "
        "before it. The verdict is a statement about bars; ? is a bar that is not known.",
    ),
    Term(
        "floor",
        "The smallest error that this check would have caught, relative to the leaf's 2-norm. Two numbers: "
        "`leaf` for an error of the leaf as a whole, `component` for one entry that is off alone. It is found by "
        "putting errors into the truth and judging again.",
        todo="A floor above must_catch is VACUOUS, not PASS; save on a kink, where every choice between the slopes of "
        "its sides is right.",
    ),
    Term(
        "hint",
        "What explains the error, measured: a ratio on so many entries, a sign, a transpose, two leaves "
        "swapped, a missing term. No hint is given that does not fit.",
    ),
    Term(
        "mode",
        "exhaustive: every component was looked at. sketch: random directions, whose cost does not depend on "
        "the number of parameters. The cost decides unless mode= does.",
    ),
    Term(
        "native precision",
        "What the gradient loses in its own dtype: the difference between it and itself in "
        "float64. Rounding explains that much; more is PRECISION_WRONG.",
    ),
    Term(
        "law",
        "What every rule obeys, whatever its function: its gradient is linear in the cotangent, zero of zero, adjoint "
        "to the derivative (<J t, g> = <t, J^T g>), the same when asked twice; and its value is the function's.",
    ),
    Term(
        "transformation",
        "The rule under jit, vmap, scan, remat, on several devices and in other dtypes gives what it gives alone.",
    ),
    Term("WRONG", "A line of a table that no right rule has: the verdict is FAIL. OK: it is as it must be."),
    Term(
        "cost",
        "What the check took: seconds of compiling and of running, of one loss and gradient; evaluations of the loss "
        "that were planned, and below them those that were made; bytes of the largest program.",
    ),
    Term("again", "What repeats the check: the command where it was made by one, else the call, with its seed."),
    Term("carried", "Leaves that are not differentiable (integers, keys, None): handed through, not judged."),
    Term(
        "textbook",
        "What the courses say of the difference: below 1e-7 great, above 1e-3 a mistake. The verdict "
        "does not follow it, but bars.",
    ),
    Term("must_catch", "What a PASS has to be able to see, relative to the leaf: 1e-3 unless said otherwise."),
    Term("UNSUPPORTED", "A line of a table that JAX itself cannot do here (its own words follow); nothing was judged."),
]

# Other words that a report has for the same.
SAME = {
    "difference": ("to N", "to A"),
    "error bar": ("±", "+-", "bar"),
    "floor": ("leaf", "component", "floor: leaf", "floor: component"),
    "hint": ("ratio",),
    "mode": ("exhaustive", "sketch"),
    "native precision": ("precision", "native"),
    "carried": ("carried along, not differentiable",),
    "witnesses": ("witness", "host", "numbers", "absent"),
    "blamed": ("blame",),
    "this line": ("one of these lines", "what this line should give"),
    "law": ("laws", "adjointness"),
    "transformation": ("transformations",),
    "WRONG": ("OK",),
    "cost": ("evaluations", "compiling", "running", "peak"),
    "again": ("seed",),
}
