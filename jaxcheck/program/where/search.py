"""The search: which small change of a backward pass makes all of its results right, at two points.

Where the results are affine in what an operation gives, a change is tested by what it does to a few random
projections of the results, one inner product each, which also solve for a constant in it; only what passes is run.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence

import numpy as np

from jaxcheck.bars import NICE, REPAIRED, SAME_VALUE
from jaxcheck.program.where import edits as e
from jaxcheck.program.where.constants import Constants
from jaxcheck.program.where.edits import OUT, Edit
from jaxcheck.program.where.matching import Known
from jaxcheck.program.where.sites import Group, Site, own_values, sites
from jaxcheck.program.where.tape import Tape

PROJECTIONS = 6


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """A change that makes all results right at every point, with what speaks for it.

    Attributes:
        was, becomes: whether the value of the site's operation is one that the loss knows, before and after.
        inputs: whether all that goes into it is known.
        plain: whether the constant in it is 1 (or there is none).
        chain: whether the value that is changed goes on to a single use.
    """

    edit: Edit
    was: bool
    becomes: bool
    inputs: bool
    leaves: tuple[int, ...] = ()


@dataclasses.dataclass(eq=False)
class Problem:
    """A backward pass next to the truth: at each point all values of its tape, and what its results should be.

    `truths` are the loss's values; `repaired` the numbers of the results that a change must make right (all).
    """

    tape: Tape
    runs: list[list[np.ndarray]]
    targets: list[list[np.ndarray]]
    truths: list[Group]
    constants: Constants
    deadline: float
    seed: int = 0

    def __post_init__(self) -> None:
        self.sites = sites(self.tape)
        self.users: dict[int, list[int]] = {}
        for k, op in enumerate(self.tape.ops):
            for i in op.ins:
                self.users.setdefault(i, []).append(k)
        self.own = own_values(self.tape, self.sites)
        self.scales = [[max(float(np.linalg.norm(t)), np.finfo(float).tiny) for t in row] for row in self.targets]
        whole = [x for g in self.truths if g.what in ("forward", "cotangent") for x in g.arrays[0]]
        inputs = [self.runs[0][i] for i in self.tape.inputs]
        self.forward = Known([*(x for g in self.truths if g.what == "forward" for x in g.arrays[0]), *inputs])
        self.known = Known([*whole, *inputs])

    def late(self) -> bool:
        return time.perf_counter() > self.deadline

    def error(self, values: Sequence[np.ndarray], point: int) -> np.ndarray:
        """Relative error of each result."""
        with np.errstate(all="ignore"):
            return np.array([
                np.linalg.norm(values[o] - t) / s if np.shape(values[o]) == np.shape(t) else np.inf
                for o, t, s in zip(self.tape.outputs, self.targets[point], self.scales[point], strict=True)])

    def run(self, edit: Edit, point: int) -> list[np.ndarray] | None:
        """All values with a change made; None where it does not fit."""
        try:
            with np.errstate(all="ignore"):
                return self.tape.replay(self.runs[point], {}, edit.at(self.tape, point), edit.site.ops[0])
        except Exception:  # a change may be nonsense in any way
            return None

    def repairs(self, edit: Edit) -> bool:
        """Whether a change makes all results right, at every point."""
        for point in range(len(self.runs)):
            values = self.run(edit, point)
            if values is None or not (self.error(values, point) <= REPAIRED).all():
                return False
        return True


class Search:
    """The changes of one problem that repair it."""

    def __init__(self, problem: Problem):
        self.p = problem
        self.found: list[Found] = []
        self.tried = 0
        rng = np.random.default_rng([problem.seed, 11])
        tape, values = problem.tape, problem.runs[0]
        self.required = np.zeros(PROJECTIONS)
        self.adjoint: list[dict[int, np.ndarray]] = []
        self.edges: list[dict[tuple[int, int], np.ndarray]] = []
        for r in range(PROJECTIONS):
            seeds: dict[int, np.ndarray] = {}
            for o, t, s in zip(tape.outputs, problem.targets[0], problem.scales[0], strict=True):
                g = rng.normal(size=np.shape(t)) / s
                self.required[r] += (g * (t - values[o])).sum()
                seeds[o] = seeds[o] + g if o in seeds else g
            with np.errstate(all="ignore"):
                total, edges = tape.back(values, seeds)
            self.adjoint.append(total)
            self.edges.append(edges)

    def go(self) -> list[Found]:
        """All of them, as far as time allows; those that need no running first."""
        late = []
        self.named = self._sources(plain=True)
        sites_ = [s for s in self.p.sites if self._matters(s)]
        for site in sites_:
            if self.p.late():
                return self.found
            if self._affine(site):
                self._screened(site)
            elif not self._right_forward(site):
                late.append(site)
        if not self.found:
            for site in sites_:
                if self.p.late():
                    return self.found
                if site not in late and self._affine(site):
                    self._products(site)
        self._run_all(late)
        return self.found

    # What a site is.

    def _matters(self, site: Site) -> bool:
        """Whether what it gives reaches the results at all."""
        outs = [o for k in site.ops for o in self.p.tape.ops[k].outs]
        if any(self.p.runs[0][o].dtype == bool for o in outs):
            return True
        return any(np.any(self.adjoint[0].get(o, 0) != 0) for o in outs)

    def _right_forward(self, site: Site) -> bool:
        """Whether it computes a value of the loss: in such a place there is no mistake."""
        return all(self.p.runs[0][self.p.tape.ops[k].outs[0]] in self.p.forward for k in site.ops)

    def _affine(self, site: Site) -> bool:
        if not hasattr(self, "_known_affine"):
            self._known_affine: dict[int, bool] = {}
        if id(site) not in self._known_affine:
            self._known_affine[id(site)] = self._find_affine(site)
        return self._known_affine[id(site)]

    def _find_affine(self, site: Site) -> bool:
        """Whether the results are affine in its values, all instances together, and none of these goes into another."""
        tape, values = self.p.tape, self.p.runs[0]
        outs = [tape.ops[k].outs[0] for k in site.ops]
        if len(site.ops) > 1 and self._chained(site):
            return False
        if any(len(tape.ops[k].outs) != 1 or values[o].dtype.kind != "f" for k, o in zip(site.ops, outs, strict=True)):
            return False
        rng = np.random.default_rng(3)
        steps = {o: rng.normal(size=values[o].shape) * (1 + np.abs(values[o])) for o in outs}
        results = []
        for t in (1.0, 2.0):
            edits = {k: (lambda xs, now, k=k, o=o, t=t: [tape.ops[k].run(*xs)[0] + t * steps[o]])
                     for k, o in zip(site.ops, outs, strict=True)}
            with np.errstate(all="ignore"):
                results.append(tape.replay(values, {}, edits, site.ops[0]))
        for o in tape.outputs:
            first, second = results[0][o] - values[o], results[1][o] - values[o]
            if not np.linalg.norm(second - 2 * first) <= SAME_VALUE * np.linalg.norm(second):
                return False
        return True

    def _chained(self, site: Site) -> bool:
        tape = self.p.tape
        reached = set(tape.ops[site.ops[0]].outs)
        instances = set(site.ops)
        for k in range(site.ops[0] + 1, site.ops[-1] + 1):
            op = tape.ops[k]
            touched = not reached.isdisjoint(op.ins)
            if k in instances and touched:
                return True
            if touched or k in instances:
                reached.update(op.outs)
        return False

    # What passes the projections.

    def _screened(self, site: Site) -> None:
        tape, values = self.p.tape, self.p.runs[0]
        ops = [tape.ops[k] for k in site.ops]
        news = [*e.structural(tape, site), *e.reductions(tape, site, self.p.users),
                *e.unary(tape, site, OUT, values[ops[0].outs[0]], ops[0])]
        for j in range(len(ops[0].ins)):
            news += e.unary(tape, site, j, values[ops[0].ins[j]], ops[0])
        for edit in news:
            if self.fits(edit):
                self._take(edit)
        for slot in (OUT, *range(len(ops[0].ins))):
            weights, olds = self._slot(site, slot)
            if weights is not None:
                self._scaled(site, slot, weights, olds)
                for group in self.named:
                    self._with(site, slot, group, weights, olds)
            elif slot != OUT:
                self._slowly(site, slot)

    def fits(self, edit: Edit) -> bool:
        """Whether a change of an affine site moves the projections as it must."""
        tape, values = self.p.tape, self.p.runs[0]
        moved = np.zeros(PROJECTIONS)
        self.tried += 1
        try:
            with np.errstate(all="ignore"):
                for k, run in edit.at(tape, 0).items():
                    op = tape.ops[k]
                    (new,) = run([values[i] for i in op.ins], values)
                    step = np.asarray(new, float) - values[op.outs[0]]
                    if step.shape != values[op.outs[0]].shape:
                        return False
                    for r in range(PROJECTIONS):
                        if op.outs[0] in self.adjoint[r]:
                            moved[r] += (self.adjoint[r][op.outs[0]] * step).sum()
        except Exception:  # nonsense
            return False
        return self._close(moved, self.required)

    def _close(self, x: np.ndarray, y: np.ndarray) -> bool:
        return bool(np.linalg.norm(x - y) <= SAME_VALUE * (np.linalg.norm(y) + 1e-3 * np.linalg.norm(x)))

    def _slot(self, site: Site, slot: int) -> tuple[list[np.ndarray] | None, list[np.ndarray]]:
        """(per instance the weights (projections, n) of what is in a slot, its values); None where the operation is
        not linear in it."""
        tape, values = self.p.tape, self.p.runs[0]
        weights, olds = [], []
        for k in site.ops:
            op = tape.ops[k]
            i = op.outs[0] if slot == OUT else op.ins[slot]
            if values[i].dtype.kind != "f" or (slot != OUT and not _linear(op.name, slot, op.ins)):
                return None, []
            rows = [self.adjoint[r].get(i) if slot == OUT else self.edges[r].get((k, slot))
                    for r in range(PROJECTIONS)]
            zero = np.zeros(values[i].shape)
            weights.append(np.stack([np.broadcast_to(zero if w is None else w, zero.shape).ravel() for w in rows]))
            olds.append(values[i])
        return weights, olds

    def _scaled(self, site: Site, slot: int, weights: list, olds: list) -> None:
        now = sum(w @ x.ravel() for w, x in zip(weights, olds, strict=True))
        literal = slot != OUT and self.p.tape.ops[site.ops[0]].ins[slot] in self.p.tape.literals
        self._solve(Edit(site, slot, "scale"), now, self.required + now,
                    float(olds[0]) if literal and not olds[0].ndim else 1.0)

    def _with(self, site: Site, slot: int, group: Group, weights: list, olds: list) -> None:
        count = len(site.ops)
        for backwards in (False, True) if count > 1 and group.what != "own" else (False,):
            given = self._given(group, site, olds, backwards)
            if given is None:
                continue
            flat = [x.ravel() for x in olds]
            now = sum(w @ x for w, x in zip(weights, flat, strict=True))
            shape = dict(groups=(group,), backwards=backwards)
            straight = sum(w @ x for w, x in zip(weights, given, strict=True))
            if slot != OUT and group.what == "own" and self._same(olds, given):
                continue
            self._solve(Edit(site, slot, "swap", **shape), straight, self.required + now)
            self._solve(Edit(site, slot, "plus", **shape), straight, self.required)
            if group.what in ("own", "forward", "local"):
                with np.errstate(all="ignore"):
                    times = sum(w @ (x * y) for w, x, y in zip(weights, flat, given, strict=True))
                    over = sum(w @ (x / y) for w, x, y in zip(weights, flat, given, strict=True))
                self._solve(Edit(site, slot, "times", **shape), times, self.required + now)
                self._solve(Edit(site, slot, "over", **shape), over, self.required + now)
            if olds[0].ndim == 2 and olds[0].shape[0] == olds[0].shape[1] and count == 1:
                turned = weights[0] @ given[0].reshape(olds[0].shape).T.ravel()
                self._solve(Edit(site, slot, "turned", **shape), turned, self.required + now)

    @staticmethod
    def _same(olds: list, given: list) -> bool:
        return all(np.array_equal(x.ravel(), y) for x, y in zip(olds, given, strict=True))

    def _given(self, group: Group, site: Site, olds: list, backwards: bool) -> list[np.ndarray] | None:
        count = len(site.ops)
        if group.what == "own":
            if len(group.ids) not in (1, count) or any(
                    group.made[n if len(group.ids) > 1 else 0] >= k for n, k in enumerate(site.ops)):
                return None
        elif len(group.arrays[0]) not in (1, count) or (backwards and len(group.arrays[0]) == 1):
            return None
        given = []
        for n, old in enumerate(olds):
            x = e.value_of(group, n, count, self.p.runs[0], 0, backwards)
            if x.dtype.kind not in "fb" or x.size > old.size:
                return None
            x = e.fitted(x, old.shape)
            if x is None:
                return None
            given.append(np.asarray(x, float).ravel())
        return given

    def _solve(self, edit: Edit, moved: np.ndarray, wanted: np.ndarray, unit: float = 1.0) -> None:
        """Take a change with the constant that fits the projections, if there is one and it is a nice one."""
        self.tried += 1
        size = float(moved @ moved)
        if not np.isfinite(size) or not size:
            return
        c = float(moved @ wanted) / size
        if not np.linalg.norm(c * moved - wanted) <= SAME_VALUE * np.linalg.norm(wanted) or abs(c) < NICE:
            return
        nice = self.p.constants.nice(c, unit)
        if nice is not None:
            self._take(dataclasses.replace(edit, factor=nice))

    def _slowly(self, site: Site, slot: int) -> None:
        """Other values in a slot in which the operation is not linear."""
        olds = [self.p.runs[0][self.p.tape.ops[k].ins[slot]] for k in site.ops]
        for edit in self._replacements(site, slot, olds, self.named):
            if self.p.late():
                return
            if self.fits(edit):
                self._take(edit)

    def _replacements(self, site: Site, slot: int, olds: list, groups: Sequence[Group],
                      forms: Sequence[str] = ("swap",)) -> Iterator[Edit]:
        literal = slot != OUT and self.p.tape.ops[site.ops[0]].ins[slot] in self.p.tape.literals
        if literal:
            for c in self.p.constants.other_literals(float(olds[0])) if not olds[0].ndim else ():
                yield Edit(site, slot, "scale", factor=c)
            return
        if olds[0].dtype.kind == "f":
            for c in (-1.0, 2.0, 0.5):
                yield Edit(site, slot, "scale", factor=c)
        for group in groups:
            if self._given(group, site, olds, False) is None:
                continue
            for form in forms:
                yield Edit(site, slot, form, (group,))
            if len(site.ops) > 1 and group.what != "own" and len(group.arrays[0]) > 1:
                for form in forms:
                    yield Edit(site, slot, form, (group,), backwards=True)

    def _products(self, site: Site) -> None:
        """Plus a product of two values, and a product in its place: a term that was forgotten."""
        if len(site.ops) > 1:
            return
        for slot in (OUT, *range(len(self.p.tape.ops[site.ops[0]].ins))):
            weights, olds = self._slot(site, slot)
            if weights is None or not olds[0].ndim:
                continue
            groups, given = [], []
            for group in self.named:
                if group.what == "own" and (x := self._given(group, site, olds, False)) is not None:
                    groups.append(group)
                    given.append(x[0])
            if not groups:
                continue
            table = np.stack(given)
            now = weights[0] @ olds[0].ravel()
            pairs = np.einsum("rs,is,js->ijr", weights[0], table, table, optimize=True)
            for form, wanted in (("plus product", self.required), ("product", self.required + now)):
                sizes = (pairs**2).sum(-1)
                with np.errstate(all="ignore"):
                    c = (pairs @ wanted) / sizes
                    off = np.linalg.norm(c[..., None] * pairs - wanted, axis=-1) <= SAME_VALUE * np.linalg.norm(wanted)
                for i, j in zip(*np.nonzero(off), strict=True):
                    if i <= j and (nice := self.p.constants.nice(float(c[i, j]), 1.0)) is not None:
                        self._take(Edit(site, slot, form, (groups[i], groups[j]), factor=nice))

    # What has to be run.

    def _run_all(self, late: list[Site]) -> None:
        """The changes of sites in which the results are not affine, those that give known values first."""
        tape, values = self.p.tape, self.p.runs[0]
        queue: list[tuple[float, int, Edit]] = []
        for site in late:
            ops = [tape.ops[k] for k in site.ops]
            out = values[ops[0].outs[0]]
            news = [*e.structural(tape, site), *e.reductions(tape, site, self.p.users), *e.unary(tape, site, OUT, out, ops[0])]
            for j in range(len(ops[0].ins)):
                old = [values[op.ins[j]] for op in ops]
                news += e.unary(tape, site, j, old[0], ops[0])
                forms = ("swap", "times", "over", "plus") if old[0].dtype.kind == "f" else ("swap",)
                news += self._replacements(site, j, old, self.named, forms)
            news += self._replacements(site, OUT, [values[op.outs[0]] for op in ops], self.named,
                                       ("swap", "times", "over", "plus") if out.dtype.kind == "f" else ("swap",))
            for edit in news:
                queue.append((self._hopeless(edit), len(queue), edit))
            if self.p.late():
                return
        queue.sort(key=lambda item: item[:2])
        for _, _, edit in queue:
            if self.p.late():
                return
            self.tried += 1
            run = self.p.run(edit, 0)
            if run is not None and (self.p.error(run, 0) <= REPAIRED).all():
                self._take(edit)

    def _hopeless(self, edit: Edit) -> float:
        """0 where the first instance becomes a value that the loss knows, else 1 or more."""
        tape, values = self.p.tape, self.p.runs[0]
        k = edit.site.ops[0]
        try:
            with np.errstate(all="ignore"):
                (new,) = edit._one(tape.ops[k], 0, 0)([values[i] for i in tape.ops[k].ins], values)
        except Exception:  # nonsense
            return 9.0
        if np.shape(new) != np.shape(values[tape.ops[k].outs[0]]) or np.array_equal(new, values[tape.ops[k].outs[0]]):
            return 5.0
        if new in self.p.known:
            return 0.0
        return 1.0 if edit.form in ("drop", "instead", "exchange", "power", "scale", "axes", "transpose") else (
            2.0 if edit.form in ("swap", *e.UNARY) else 3.0)

    # What is found.

    def _sources(self, plain: bool) -> list[Group]:
        """The values that a change may bring in, each value once; the backward pass's own first."""
        found, seen = [], set()
        order = {"own": 0, "forward": 1, "local": 2, "use": 3, "cotangent": 3}
        for group in sorted([*self.p.own, *self.p.truths], key=lambda g: order[g.what]):
            arrays = [self.p.runs[0][i] for i in group.ids] if group.what == "own" else group.arrays[0]
            key = tuple((x.shape, x.tobytes()) for x in arrays)
            near = tuple((x.shape, np.round(np.asarray(x, float).sum(), 9), np.round(np.abs(x).sum(), 9)) for x in arrays)
            if key in seen or (group.what != "own" and near in seen):
                continue
            seen |= {key, near}
            found.append(group)
        return found

    def _take(self, edit: Edit) -> None:
        if not self.p.repairs(edit):
            return
        p, tape = self.p, self.p.tape
        values, after = p.runs[0], p.run(edit, 0)
        k = edit.site.ops[0]
        op = tape.ops[k]
        own = [values[i] for i in op.ins if i not in tape.literals and values[i].dtype.kind == "f" and values[i].ndim]
        self.found.append(Found(edit, all(values[tape.ops[n].outs[0]] in p.known for n in edit.site.ops),
                                after[op.outs[0]] in p.known, bool(own) and all(x in p.known for x in own)))


def _linear(name: str, slot: int, ins: Sequence[int]) -> bool:
    """Whether an operation is affine in one operand alone."""
    if len(set(ins)) < len(ins):
        return False
    if name in ("div",):
        return slot == 0
    return name in ("add", "add_any", "sub", "mul", "neg", "dot_general", "reduce_sum", "broadcast_in_dim", "reshape",
                    "squeeze", "transpose", "convert_element_type", "slice", "concatenate", "copy", "rev", "cumsum",
                    "expand_dims") or (name == "select_n" and slot > 0)
