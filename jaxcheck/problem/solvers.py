"""Solvers of SciPy's that a function in Python calls: they stop at a tolerance, and the differences see where."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxcheck.program.ask import Refused, ask

# What stops at a tolerance, by the name it is called by.
_SOLVERS = {
    "integrate": frozenset({"solve_ivp", "odeint", "quad", "nquad", "dblquad", "tplquad", "quad_vec", "solve_bvp"}),
    "optimize": frozenset({
        "minimize", "minimize_scalar", "root", "root_scalar", "fsolve", "brentq", "brenth", "bisect", "ridder",
        "newton", "least_squares", "leastsq", "curve_fit", "fixed_point", "toms748",
    }),
}  # fmt: skip
_PARTS = {part: os.sep + os.path.join("scipy", part) + os.sep for part in _SOLVERS}


def called(f: Callable[[np.ndarray], Any], point: np.ndarray) -> list[str]:
    """Those that `f` calls at a point, as `scipy.integrate.solve_ivp`; [] where it raises."""
    found: dict[str, None] = {}

    def note(frame: Any, event: str, arg: Any) -> None:
        code = frame.f_code
        for part, names in _SOLVERS.items():
            if event == "call" and code.co_name in names and _PARTS[part] in code.co_filename:
                found[f"scipy.{part}.{code.co_name}"] = None

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        ask(f, point)
    except Refused:
        return []
    finally:
        sys.setprofile(before)
    return list(found)
