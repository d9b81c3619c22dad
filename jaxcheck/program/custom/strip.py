"""The same program without the custom rules: what autodiff says when nobody helps it.

A jaxpr is rewritten, not traced again: an equation that carries a rule becomes a plain call of
the program that it computes. Nothing depends on the precision mode, and nothing is executed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.extend import core
from jax.extend.core import primitives

from jaxcheck.program import interpret
from jaxcheck.program.custom import census, owner, rules
from jaxcheck.program.kernels import without_kernels
from jaxcheck.program.native import refuse_no_function, trace_native
from jaxcheck.there import there

Which = str | Callable[[census.RuleInfo], bool]


def _chooser(which: Which) -> Callable[[Any, tuple[str, ...]], bool]:
    by_owner = owner.selector(which)

    def chosen(eqn: Any, path: tuple[str, ...]) -> bool:
        if rules.rule_kind(eqn) is None or rules.primal(eqn) is None:
            return False
        if by_owner is None and callable(which):
            return bool(which(census.describe(eqn, path)))
        return there(by_owner)(owner.owner(eqn))

    return chosen


def count_rules(closed_jaxpr: Any, which: Which = "user") -> int:
    """How many rule calls of the chosen kind a program holds, those nested in others included.

    Raises:
        ValueError: if `which` is not a known word or a callable.
    """
    chosen = _chooser(which)
    return sum(chosen(eqn, path) for eqn, path in interpret.walk(closed_jaxpr))


def strip(closed_jaxpr: Any, which: Which = "user") -> Any:
    """The program without custom rules, through every nesting; a closed jaxpr.

    `which` is `"user"` (rules whose source is outside JAX and outside site-packages),
    `"third_party"` (those and installed libraries'), `"all"`, or a function of a `RuleInfo`.
    JAX's own rules stay by default, for they are right where plain autodiff is not: without
    theirs, softplus has slope 0 at 0 and relu 0.5. What stands inside a rule that stays, stays:
    JAX's odeint differentiates the user's right-hand side by itself, with its rules, before any
    equation of it could be seen. `count_rules` of the result tells how many are left.

    Raises:
        ValueError: if `which` is not a known word or a callable.
    """
    return _Stripper(_chooser(which)).closed(closed_jaxpr)


def with_forwards(closed_jaxpr: Any) -> Any:
    """The program with every forward pass of a rule with `optimize_remat` in the place where it is called; the same
    object where there is none.

    Eagerly that is what runs. Compiled, JAX puts the function itself there where nobody asks for residuals, and keeps
    it out of sight until then.
    """
    if not any(eqn.primitive.name == rules.FORWARD for eqn, _ in interpret.walk(closed_jaxpr)):
        return closed_jaxpr
    return _Stripper(lambda eqn, path: False).closed(closed_jaxpr)


def without_stops(closed_jaxpr: Any) -> Any:
    """The program with every `stop_gradient` of the caller's a copy; the same object where there is none. Those inside
    of a rule stay: a rule is one piece with its program."""
    return _Freed(lambda eqn, path: False).closed(closed_jaxpr)


class _Stripper:
    def __init__(self, chosen: Callable[[Any, tuple[str, ...]], bool]):
        self._chosen = chosen
        self._done: dict[tuple[int, tuple[str, ...]], tuple[Any, Any]] = {}

    def closed(self, program: Any, path: tuple[str, ...] = ()) -> Any:
        """The program stripped; the same object where there is nothing to strip."""
        key = (id(program), path)
        if key not in self._done:  # the program is kept with its result, so its id stays its own
            self._done[key] = (program, self._strip(program, path))
        return self._done[key][1]

    def _strip(self, program: Any, path: tuple[str, ...]) -> Any:
        jaxpr = interpret.opened(program)
        eqns = [self._equation(eqn, path) for eqn in jaxpr.eqns]
        if all(new is old for new, old in zip(eqns, jaxpr.eqns, strict=True)):
            return program
        changed = jaxpr.replace(eqns=eqns)
        if hasattr(program, "jaxpr") and program.jaxpr is not program:
            return core.ClosedJaxpr(changed, program.consts)
        return changed

    def _equation(self, eqn: Any, path: tuple[str, ...]) -> Any:
        inside = (*path, interpret.label(eqn))
        if self._chosen(eqn, path) or eqn.primitive.name == rules.FORWARD:
            return _call(eqn, self.closed(rules.primal(eqn), inside))
        if rules.rule_kind(eqn) is not None:
            # A rule that stays is one piece with its program: what is inside stays with it.
            return eqn
        if "_prim" in eqn.params and (program := rules.primal(eqn)) is not None:
            stripped = self.closed(program, inside)
            return eqn if stripped is program else _call(eqn, stripped)
        params = interpret.map_jaxprs(eqn.params, lambda inner: self.closed(inner, inside))
        if all(params[k] is v or not _holds_jaxpr(v) for k, v in eqn.params.items()):
            return eqn
        return eqn.replace(params=params)


class _Freed(_Stripper):
    def _equation(self, eqn: Any, path: tuple[str, ...]) -> Any:
        if census.is_stop(eqn):
            return eqn.replace(primitive=primitives.copy_p, params={})
        return super()._equation(eqn, path)


def _holds_jaxpr(value: Any) -> bool:
    return interpret.is_jaxpr(value) or isinstance(value, (tuple, list))


def _call(eqn: Any, program: Any) -> Any:
    return eqn.replace(
        primitive=primitives.closed_call_p, params={"call_jaxpr": _named(interpret.closed(program))},
        effects=interpret.opened(program).effects,
    )  # fmt: skip


def _named(program: Any) -> Any:
    """The program with names for just the arguments it has.

    A rule's program keeps the names of arguments that were static (nondiff_argnums); JAX minds that
    in a call, though not in a rule.
    """
    jaxpr = interpret.opened(program)
    names = getattr(jaxpr.debug_info, "arg_names", None)
    if names is None or len(names) == len(jaxpr.invars):
        return program
    with jax.enable_x64(interpret.has_64_bits(program)):
        return jax.make_jaxpr(core.jaxpr_as_fun(program))(*(v.aval for v in jaxpr.invars))


def strip_rules(f: Callable[..., Any], which: Which = "user") -> Callable[..., Any]:
    """`f` without its custom rules, its kernels opened: same arguments and results, plain autodiff derivatives.

    Differentiable, and transformable, in every way in which `f` without rules would be. Python
    scalars among the arguments stay Python scalars, as in a direct call of `f`.

    Raises:
        TypeError: `f` is no function.
        ValueError: if `which` is not a known word or a callable.
        Whatever tracing `f` raises, when the result is called.
    """
    refuse_no_function("strip_rules", f)
    _chooser(which)

    @functools.wraps(f, updated=())
    def stripped(*args: Any, **kwargs: Any) -> Any:
        traced = trace_native(f, args, kwargs)
        data = [x for x, m in zip(traced.flat, traced.dynamic, strict=True) if m]
        out = core.jaxpr_as_fun(strip(without_kernels(traced.closed), which))(*data)
        return jax.tree_util.tree_unflatten(traced.out_tree, out)

    return stripped
