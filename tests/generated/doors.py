"""The front doors, each with a program and a plant (None: the right gradient): the report, or what stands for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcheck as jc
from jaxcheck.result import Report, Verdict
from jaxcheck.test_util import check_grads
from tests.generated.plant import Plant
from tests.generated.programs import Program


def hand_gradient(one: Program, plant: Plant | None) -> Callable:
    """The gradient of the loss, by the other program; wrong as planted."""

    def grad(p: dict[str, Any]) -> dict[str, Any]:
        g = jax.grad(one.loss_other)(p)
        return g if plant is None else plant.gradient(g, term(one, plant, p))

    return grad


def term(one: Program, plant: Plant, p: dict[str, Any]) -> Any:
    """The part of the gradient of the loss that goes through one output."""
    if plant.kind != "missing term":
        return None
    out, pull = jax.vjp(one.other, p)
    whole = jax.grad(lambda y: one.weighed(y))(out)
    return pull(tuple(g if k == plant.output else jnp.zeros_like(g) for k, g in enumerate(whole)))[0]


def by_vjp(one: Program, plant: Plant | None) -> Callable:
    """The program with a custom_vjp, wrong as planted."""
    f = jax.custom_vjp(one.main)

    def bwd(p: dict[str, Any], ct: tuple[Any, ...]) -> tuple[Any]:
        _, pull = jax.vjp(one.other, p)
        g = pull(ct)[0]
        if plant is None:
            return (g,)
        part = None
        if plant.kind == "missing term":
            part = pull(tuple(c if k == plant.output else jnp.zeros_like(c) for k, c in enumerate(ct)))[0]
        return (plant.gradient(g, part),)

    f.defvjp(lambda p: (one.main(p), p), bwd)
    return f


def by_jvp(one: Program, plant: Plant | None) -> Callable:
    """The program with a custom_jvp, wrong as planted."""
    f = jax.custom_jvp(one.main)

    @f.defjvp
    def _(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]:
        right = jax.jvp(one.other, primals, tangents)[1]
        if plant is not None:
            wrong = jax.jvp(one.other, primals, (plant.tangents(tangents[0]),))[1]
            right = tuple(
                w if plant.output in (-1, k) else r for k, (w, r) in enumerate(zip(wrong, right, strict=True))
            )
        return one.main(*primals), right

    return f


def given(one: Program) -> dict[str, Any]:
    return {k: jnp.asarray(x) for k, x in one.leaves.items()}


def mode(one: Program) -> str | None:
    """Programs this small would be looked at component by component; some are to be seen along directions."""
    return "sketch" if one.structure.sketch else None


def grad(one: Program, plant: Plant | None) -> Report:
    return jc.check_grad(one.loss, given(one), hand_gradient(one, plant), mode=mode(one), where=False)


def hidden(one: Program, plant: Plant | None) -> Report:
    """A loss that JAX cannot look into."""
    inside, hand = jax.jit(one.loss), jax.jit(hand_gradient(one, plant))
    return jc.check_grad(lambda p: float(inside(p)), given(one), lambda p: hand(p), mode=mode(one))


def _laws(one: Program) -> dict[str, bool]:
    """The laws and the transformations cost more than all else, and have tests of their own: of a few programs."""
    return {"algebra": one.number % 32 == 0, "transforms": one.number % 128 == 0}


def rule(one: Program, plant: Plant | None) -> Report:
    return jc.check_rule(by_vjp(one, plant), given(one), mode=mode(one), where=False, **_laws(one))


def rule_jvp(one: Program, plant: Plant | None) -> Report:
    return jc.check_rule(by_jvp(one, plant), given(one), mode=mode(one), where=False, **_laws(one))


def _drop_in(f: Callable, one: Program, modes: tuple[str, ...]) -> Report:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            check_grads(f, (given(one),), 1, modes)
        except (jc.GradientMismatch, jc.GradientInconclusive) as error:
            return error.report
    unsure = any("not judged" in str(w.message) for w in told)
    return Report("check_grads", one.name, Verdict.INCONCLUSIVE if unsure else Verdict.PASS, jc.Reason.AGREE)


def drop_in(one: Program, plant: Plant | None) -> Report:
    return _drop_in(by_vjp(one, plant), one, ("rev",))


def drop_in_jvp(one: Program, plant: Plant | None) -> Report:
    return _drop_in(by_jvp(one, plant), one, ("fwd",) if one.number % 2 else ("fwd", "rev"))


DOORS: dict[str, Callable[[Program, Plant | None], Report]] = {
    "grad": grad, "hidden": hidden, "rule": rule, "rule-jvp": rule_jvp, "drop-in": drop_in, "drop-in-jvp": drop_in_jvp,
}  # fmt: skip


def errors(one: Program, plant: Plant, door: str) -> dict[str, tuple[float, float]]:
    """For each wrong leaf: (2-norm of its error, its largest component's), relative to the norm of the right one; the
    larger over the cotangents of single outputs, where the door takes a rule."""
    missing = one.gradient(plant.output)[1] if plant.kind == "missing term" else None
    if door in ("grad", "hidden"):
        pairs = [(one.gradient()[1], missing)]
    else:
        each = [one.gradient(k)[1] for k in range(one.outputs)]
        pairs = [(g, g if k == plant.output else {a: 0 * b for a, b in g.items()}) for k, g in enumerate(each)]
    found: dict[str, list[tuple[float, float]]] = {leaf: [] for leaf in plant.leaves}
    for right, part in pairs:
        with jax.enable_x64(True):
            wrong = {k: np.asarray(x) for k, x in plant.gradient(right, part).items()}
        for leaf, of in found.items():
            size, off = np.linalg.norm(right[leaf]), wrong[leaf] - right[leaf]
            if size > 0:
                of.append((float(np.linalg.norm(off) / size), float(np.abs(off).max() / size)))
    return {leaf: max(of, default=(0.0, 0.0)) for leaf, of in found.items()}
