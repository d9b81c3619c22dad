"""The planted-error corpus: wrong gradients and right-but-hard ones, as data.

`CASES` holds all; `WRONG` must FAIL, `RIGHT` must PASS, the few others are INCONCLUSIVE.
"""

from tests.planted import (
    attention,
    complexes,
    hard_deep,
    hard_domain,
    hard_kinks,
    hard_params,
    hard_scale,
    hard_solvers,
    heads,
    inconclusive,
    linalg,
    mlp,
    norms,
    rules,
    sequence,
    spatial,
    surrogates,
)
from tests.planted.base import Case, Problem, leaf_paths

MODULES = (
    mlp, heads, norms, attention, sequence, spatial, linalg, complexes, rules, surrogates,
    hard_scale, hard_kinks, hard_domain, hard_deep, hard_params, hard_solvers, inconclusive,
)  # fmt: skip
CASES: tuple[Case, ...] = tuple(case for module in MODULES for case in module.CASES)
WRONG: tuple[Case, ...] = tuple(case for case in CASES if case.verdict == "FAIL")
RIGHT: tuple[Case, ...] = tuple(case for case in CASES if case.verdict == "PASS")

__all__ = ["CASES", "RIGHT", "WRONG", "Case", "Problem", "leaf_paths"]
