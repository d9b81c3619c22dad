"""Derivatives that JAX makes of functions it was handed: `custom_linear_solve`, `linear_call`, `custom_root`.

They are no custom rules, and are not taken out for an autodiff witness: without them there may be no derivative at all
(a solver that loops), or that of the solver's steps. But nor are they JAX's own derivative, to be believed as that is.
"""

from __future__ import annotations

from typing import Any

from jaxcheck.program import interpret
from jaxcheck.program.custom import owner, rules


def given_solves(closed: Any) -> tuple[str, ...]:
    """Each of them in a program whose functions are the caller's, by name and place."""
    found = dict.fromkeys(said for eqn, _ in interpret.walk(closed) if (said := _said(eqn)))
    return tuple(found)


def _said(eqn: Any) -> str:
    name = eqn.primitive.name
    if name in ("custom_linear_solve", "linear_call"):
        # What is to be solved may be the caller's where the solver is JAX's (`cg`).
        solves = [getattr(eqn.params.get("jaxprs"), which, None) for which in ("solve", "transpose_solve")]
        those = [x for x in solves if x is not None] or [x for _, x in interpret.sub_jaxprs(eqn.params)]
        return _of_users(name, those)
    if rules.rule_kind(eqn) == "custom_jvp" and owner.owner(eqn).name == "_custom_root":
        return _of_users("custom_root", [value for _, value in interpret.sub_jaxprs(eqn.params)])
    prim = eqn.params.get("_prim")  # since JAX 0.11
    if type(prim).__name__ == "CustomRoot":
        return _of_users("custom_root", [prim.params["solve_jaxpr"]]) or "custom_root"
    return ""


def _of_users(name: str, programs: list[Any]) -> str:
    for program in programs:
        for inner in interpret.walk_jaxprs(program):
            stated = owner.stated_by(interpret.opened(inner))
            if stated is not None and owner.origin_of(stated[1]) == "user":
                return f"{name} ({stated[1]}:{stated[2]})"
    return ""
