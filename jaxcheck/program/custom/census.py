"""Which custom rules a program contains, where they come from, and what they are applied to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxcheck.program import interpret
from jaxcheck.program.custom import owner, rules
from jaxcheck.program.native import refuse_no_function, trace_native


@dataclass(frozen=True)
class RuleInfo:
    """One call of a custom rule in a program.

    `kind` is `custom_vjp`, `custom_jvp`, `hijax` or `unknown`; `origin` is `user`, `third_party`
    or `jax`; `where` is the way into the program, such as `jit(loss) > scan > body`.
    """

    name: str
    kind: str
    file: str
    line: int
    origin: str
    in_shapes: tuple[str, ...]
    out_shapes: tuple[str, ...]
    where: str


def _short(atom: Any) -> str:
    aval = atom.aval
    return aval.str_short(short_dtypes=True) if hasattr(aval, "str_short") else str(aval)


def describe(eqn: Any, path: tuple[str, ...] = ()) -> RuleInfo:
    """What is known about the rule in one equation."""
    who = owner.owner(eqn)
    kind = rules.rule_kind(eqn) or "unknown"
    ins, outs = (tuple(map(_short, atoms)) for atoms in (eqn.invars, eqn.outvars))
    return RuleInfo(who.name, kind, who.file, who.line, who.origin, ins, outs, " > ".join(path))


def rules_in(closed_jaxpr: Any) -> tuple[RuleInfo, ...]:
    """Every rule call in a jaxpr, in program order, those nested in other rules included."""
    return tuple(describe(eqn, path) for eqn, path in interpret.walk(closed_jaxpr) if rules.rule_kind(eqn) is not None)


def find_rules(f: Callable[..., Any]) -> Callable[..., tuple[RuleInfo, ...]]:
    """The custom rules that `f` meets: `find_rules(f)(*args, **kwargs)`.

    The function is traced, never executed. Rules which a `grad` inside `f` has already consumed
    leave no trace and are not listed: look at the loss rather than at the train step.

    Raises:
        TypeError: `f` is no function.
        Whatever tracing `f` raises.
    """
    refuse_no_function("find_rules", f)

    def found(*args: Any, **kwargs: Any) -> tuple[RuleInfo, ...]:
        return rules_in(trace_native(f, args, kwargs).closed)

    return found


def is_stop(eqn: Any) -> bool:
    """Whether an equation is a `stop_gradient` (JAX keeps it as one), but for those that JAX's own functions set where
    they are harmless: on the factors of a solve, or the maximum in a softmax."""
    return eqn.primitive.name == "stop_gradient" and owner.caller_origin(eqn) != "jax"


def has_stop_gradient(closed_jaxpr: Any) -> bool:
    """Whether a `stop_gradient` that is not JAX's own stands anywhere in the program."""
    return any(is_stop(eqn) for eqn, _ in interpret.walk(closed_jaxpr))


def sees_zeros(closed_jaxpr: Any) -> bool:
    """Whether a rule in the program is told what is not perturbed, or which result is not used."""
    return any(eqn.params.get("symbolic_zeros") for eqn, _ in interpret.walk(closed_jaxpr))


__all__ = ["RuleInfo", "describe", "find_rules", "has_stop_gradient", "rules_in", "sees_zeros"]
