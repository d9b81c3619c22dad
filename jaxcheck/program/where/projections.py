"""What a change does to a few random projections of the results, where these are affine in what is changed: one inner
product each, in place of a run."""

from __future__ import annotations

import numpy as np

from jaxcheck.bars import NICE, SAME_VALUE
from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.kernels import wide
from jaxcheck.program.where.nonsense import Late, tried
from jaxcheck.program.where.problem import Problem
from jaxcheck.program.where.sites import Site

COUNT = 6
_LINEAR = (
    "add",
    "add_any",
    "sub",
    "mul",
    "neg",
    "dot_general",
    "reduce_sum",
    "broadcast_in_dim",
    "reshape",
    "squeeze",
    "transpose",
    "convert_element_type",
    "slice",
    "concatenate",
    "copy",
    "rev",
    "cumsum",
    "expand_dims",
    "real",
    "imag",
    "conj",
    "complex",
    "fft",
)


class Projections:
    """`required` (COUNT,) is by how much the projections of the results must move.

    Raises:
        Late: the problem's time is over.
    """

    def __init__(self, problem: Problem):
        self.p = problem
        tape, values = problem.tape, problem.runs[0]
        rng = np.random.default_rng(11)
        self.required = np.zeros(COUNT)
        self._values, self._uses = [], []
        for r in range(COUNT):
            if problem.late():
                raise Late
            seeds: dict[int, np.ndarray] = {}
            for o, t, s in zip(tape.outputs, problem.targets[0], problem.scales[0], strict=True):
                g = normal(rng, t) / s
                self.required[r] += np.real((g * (t - values[o])).sum())
                seeds[o] = seeds[o] + g if o in seeds else g
            with np.errstate(all="ignore"):
                total, edges = tape.back(values, seeds)
            self._values.append(total)
            self._uses.append(edges)
        self._affine: dict[int, bool] = {}

    def reach(self, i: int) -> bool:
        """Whether the results depend on a value, to first order."""
        return any(np.any(self._values[0].get(i, 0) != 0) for _ in (0,))

    def affine(self, site: Site) -> bool:
        """Whether the results are affine in what a site gives, all instances together, and no instance goes into
        another."""
        if id(site) not in self._affine:
            self._affine[id(site)] = not _chained(self.p, site) and self._straight(site)
        return self._affine[id(site)]

    def _straight(self, site: Site) -> bool:
        tape, values = self.p.tape, self.p.runs[0]
        outs = [tape.ops[k].outs[0] for k in site.ops]
        if any(
            len(tape.ops[k].outs) != 1 or values[o].dtype.kind not in "fc" for k, o in zip(site.ops, outs, strict=True)
        ):
            return False
        rng = np.random.default_rng(3)
        steps = {o: normal(rng, values[o]) * (1 + np.abs(values[o])) for o in outs}
        results = []
        for t in (1.0, 2.0):
            moved = {o: values[o] + t * step for o, step in steps.items()}
            with np.errstate(all="ignore"):
                results.append(tape.replay(values, moved, start=site.ops[0]))
        for o in tape.outputs:
            first, second = results[0][o] - values[o], results[1][o] - values[o]
            if not np.linalg.norm(second - 2 * first) <= SAME_VALUE * np.linalg.norm(second):
                return False
        return True

    def fits(self, edit: Edit) -> bool:
        """Whether a change at an affine site moves the projections as it must."""
        moved = tried(self._moved, edit)
        return moved is not None and bool(
            np.linalg.norm(moved - self.required) <= SAME_VALUE * np.linalg.norm(self.required)
        )

    def _moved(self, edit: Edit) -> np.ndarray | None:
        """How far a change moves the projections, to first order; None where it makes another shape of a value."""
        tape, values = self.p.tape, self.p.runs[0]
        moved = np.zeros(COUNT)
        for k, run in edit.at(tape, 0).items():
            op = tape.ops[k]
            (new,) = run([values[i] for i in op.ins], values)
            step = wide(new) - values[op.outs[0]]
            if step.shape != values[op.outs[0]].shape:
                return None
            for r in range(COUNT):
                if op.outs[0] in self._values[r]:
                    moved[r] += np.real((self._values[r][op.outs[0]] * step).sum())
        return moved

    def slot(self, site: Site, slot: int) -> list[np.ndarray] | None:
        """Per instance the weights (COUNT, n) of what is in a slot; None where the operation is not linear in it. What
        complex weights and values make together counts by its real part."""
        tape, values = self.p.tape, self.p.runs[0]
        weights = []
        for k in site.ops:
            op = tape.ops[k]
            i = op.outs[0] if slot == OUT else op.ins[slot]
            if values[i].dtype.kind not in "fc" or (slot != OUT and not _linear(op.name, slot, op.ins)):
                return None
            rows = [self._values[r].get(i) if slot == OUT else self._uses[r].get((k, slot)) for r in range(COUNT)]
            zero = np.zeros(values[i].shape)
            weights.append(np.stack([np.broadcast_to(zero if w is None else w, zero.shape).ravel() for w in rows]))
        return weights

    @staticmethod
    def solve(moved: np.ndarray, wanted: np.ndarray) -> float | None:
        """The constant c with c * moved = wanted, if there is one."""
        size = float(moved @ moved)
        if not 0 < size < np.inf:
            return None
        c = float(moved @ wanted) / size
        close = np.linalg.norm(c * moved - wanted) <= SAME_VALUE * np.linalg.norm(wanted)
        return c if close and abs(c) >= NICE else None


def normal(rng: np.random.Generator, like: np.ndarray) -> np.ndarray:
    """Random numbers, complex where those of another array are."""
    x = rng.normal(size=np.shape(like))
    return x + 1j * rng.normal(size=x.shape) if np.iscomplexobj(like) else x


def _chained(problem: Problem, site: Site) -> bool:
    return len(site.ops) > 1 and bool(downstream(problem, site, site.ops[-1])[1])


def downstream(problem: Problem, site: Site, last: int) -> tuple[set[int], bool]:
    """(the values that depend on what a site gives, made no later than by the operation `last`; whether one instance
    of the site is among what makes them)."""
    tape, instances = problem.tape, set(site.ops)
    reached: set[int] = set()
    again = False
    for k in range(site.ops[0], last + 1):
        op = tape.ops[k]
        touched = not reached.isdisjoint(op.ins)
        again |= touched and k in instances
        if touched or k in instances:
            reached.update(op.outs)
    return reached, again


def _linear(name: str, slot: int, ins: tuple[int, ...]) -> bool:
    """Whether an operation is affine in one operand alone."""
    if len(set(ins)) < len(ins):
        return False
    if name in ("div", "select_n"):
        return (slot == 0) == (name == "div")
    return name in _LINEAR
