"""A program flattened at concrete values: one list of operations, loops unrolled and branches taken.

Values are numbered in the order in which they are made, so that an operation's results come after its operands.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxcheck.program import interpret, jaxpr
from jaxcheck.program.where import foreign, kernels, pulls
from jaxcheck.program.where.nonsense import Unflattened
from jaxcheck.program.where.places import Place, stack_of
from jaxcheck.program.where.rest import run_on
from jaxcheck.program.where.turns import AS_IT_IS, put_together, row_of

LONGEST = 20_000
# The second part of the label of what puts the turns of a scan together, where others have the number of a value.
STACKED = -1
# What is run neither in float64 nor twice.
_REFUSED = ("callback", "pallas", "ffi", "custom_call", "infeed", "outfeed")


@dataclasses.dataclass(frozen=True, eq=False)
class Op:
    """One operation. `name` is the primitive's, "" for what only takes a loop apart, where `label` says which value of
    the loop's body it gives; `turn` numbers the iterations of the loops around it."""

    name: str
    eqn: Any
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    run: Callable[..., Sequence[np.ndarray]]
    back: Callable[..., Sequence[np.ndarray | None]]
    stack: tuple[Place, ...] = ()
    turn: tuple[int, ...] = ()
    label: tuple[int, int] | None = None


@dataclasses.dataclass(eq=False)
class Tape:
    """`literals` are the values that stand in the program as numbers; `makers` the operation that made a value; `scans`
    where each scan stands, and how many values it carries, by the first part of its operations' labels; `hidden` the
    operations in which nothing can be mistaken, see `shared`."""

    values: list[np.ndarray]
    ops: list[Op]
    inputs: list[int]
    outputs: list[int]
    literals: set[int]
    makers: dict[int, int]
    compiled: dict[Any, Any] = dataclasses.field(default_factory=dict)
    scans: dict[int, tuple[tuple[Place, ...], int]] = dataclasses.field(default_factory=dict)
    hidden: frozenset[int] = frozenset()

    def needed(self) -> set[int]:
        """The values that results depend on."""
        found = set(self.outputs)
        for op in reversed(self.ops):
            if not found.isdisjoint(op.outs):
                found.update(op.ins)
        return found

    def pruned(self) -> Tape:
        """The tape without what no result depends on."""
        needed = self.needed()
        ops = [op for op in self.ops if not needed.isdisjoint(op.outs)]
        return dataclasses.replace(self, ops=ops, makers={i: k for k, op in enumerate(ops) for i in op.outs})

    def replay(
        self,
        values: Sequence[np.ndarray],
        changed: Mapping[int, np.ndarray],
        edits: Mapping[int, Callable] | None = None,
        start: int = 0,
        only: Sequence[int] | None = None,
    ) -> list[np.ndarray]:
        """All values, with some changed and everything that depends on them computed again.

        Args:
            values: of a run at the same inputs, or at others that are all among `changed`.
            edits: from an operation's number to what is run in its place: (its operands, all values) to results.
            start: no operation before this one is concerned.
            only: the operations that are run again, in order; default all that depend on a change.

        Raises:
            Whatever an operation raises of operands that do not fit.
        """
        now = list(values)
        dirty = set(changed)
        for i, x in changed.items():
            now[i] = x
        edits = edits or {}
        for k in range(start, len(self.ops)) if only is None else only:
            op = self.ops[k]
            edit = edits.get(k)
            if edit is None and dirty.isdisjoint(op.ins):
                continue
            operands = [now[i] for i in op.ins]
            results = op.run(*operands) if edit is None else edit(operands, now)
            for i, x in zip(op.outs, results, strict=True):
                if i not in changed:
                    now[i] = x
                    dirty.add(i)
        return now

    def back(
        self, values: Sequence[np.ndarray], cotangents: Mapping[int, np.ndarray]
    ) -> tuple[dict[int, np.ndarray], dict[tuple[int, int], np.ndarray]]:
        """Cotangents of all values, and of every (operation, operand) through that operation alone."""
        total = dict(cotangents)
        edges: dict[tuple[int, int], np.ndarray] = {}
        for k in range(len(self.ops) - 1, -1, -1):
            op = self.ops[k]
            given = [total.get(i) for i in op.outs]
            if all(g is None for g in given):
                continue
            operands = [values[i] for i in op.ins]
            for j, g in enumerate(op.back(operands, [values[i] for i in op.outs], given)):
                if g is None:
                    continue
                edges[k, j] = g
                i = op.ins[j]
                total[i] = total[i] + g if i in total else g
        return total, edges


class Recording(jaxpr.Way[None]):
    """Values are their numbers on the tape."""

    def __init__(self, tape: Tape):
        super().__init__()
        self.tape = tape
        self.turns: list[int] = []
        self.kernels: dict[int, Callable] = {}
        self.stacks: dict[Any, tuple[Place, ...]] = {}

    def constant(self, value: Any, aval: Any) -> int:
        i = self.new(kernels.wide(interpret.as_declared(value, aval)))
        if np.ndim(value) == 0:
            self.tape.literals.add(i)
        return i

    def plain(self, value: int) -> np.ndarray:
        return self.tape.values[value]

    def general(self, value: int, aval: Any) -> int:
        return value

    def whole(self, eqn: Any, operands: list[int]) -> bool:
        # What a solver does inside says nothing of its derivative in the matrix.
        return eqn.primitive.name in _LOOPS or eqn.primitive.name == "custom_linear_solve"

    def equation(self, eqn: Any, operands: list[int], state: None) -> tuple[list[int], None]:
        name = eqn.primitive.name
        if name in _LOOPS:
            self.callers.append(eqn)
            try:
                return _LOOPS[name](self, eqn, operands), None
            finally:
                self.callers.pop()
        parts = foreign.results(eqn, record)
        if parts is not None:
            return self._apart(eqn, operands, parts), None
        if any(word in name for word in _REFUSED):
            raise Unflattened(f"{name} is not JAX's own")
        run = self.kernels.get(id(eqn))
        if run is None:
            run = self.kernels[id(eqn)] = kernels.kernel(eqn)
        compiled = self.tape.compiled

        def back(xs: Any, ys: Any, gs: Any) -> Any:
            return pulls.pull(eqn, xs, ys, gs, compiled)

        return self.add(name, eqn, operands, run, back, self._stack(eqn)), None

    def _stack(self, eqn: Any) -> tuple[Place, ...]:
        key = (id(eqn), *map(id, self.callers))
        if key not in self.stacks:
            self.stacks[key] = stack_of(eqn, self.callers)
        return self.stacks[key]

    def _apart(self, eqn: Any, operands: Sequence[int], parts: Sequence[tuple[Callable, Callable]]) -> list[int]:
        """The results of an equation, each by an operation of its own."""
        made = [self.add(eqn.primitive.name, eqn, operands, *part, self._stack(eqn)) for part in parts]
        return [i for (i,) in made]

    def add(
        self,
        name: str,
        eqn: Any,
        operands: Sequence[int],
        run: Callable,
        back: Callable,
        stack: tuple[Place, ...] = (),
        label: tuple[int, int] | None = None,
    ) -> list[int]:
        tape = self.tape
        if len(tape.ops) >= LONGEST:
            raise Unflattened(f"more than {LONGEST} operations")
        with np.errstate(all="ignore"):
            results = run(*(tape.values[i] for i in operands))
        outs = [self.new(kernels.wide(x)) for x in results]
        tape.makers.update(dict.fromkeys(outs, len(tape.ops)))
        tape.ops.append(Op(name, eqn, tuple(operands), tuple(outs), run, back, stack, tuple(self.turns), label))
        return outs

    def new(self, value: np.ndarray) -> int:
        self.tape.values.append(value)
        return len(self.tape.values) - 1


def record(closed: Any, args: Sequence[Any]) -> Tape:
    """Run a closed jaxpr at these values, in float64, and write down what it does.

    Raises:
        Unflattened: the program is too long, or calls foreign code.
        Whatever an equation raises.
    """
    tape = Tape([], [], [], [], set(), {})
    way = Recording(tape)
    tape.inputs = [way.new(kernels.wide(x)) for x in args]
    run(way, closed)
    return tape


def run(way: Recording, closed: Any) -> None:
    """Write a program down at the inputs of the tape."""
    with np.errstate(all="ignore"):
        way.tape.outputs, _ = jaxpr.run(way, closed, list(way.tape.inputs), None)


def _scan(way: Recording, eqn: Any, operands: list[int]) -> list[int]:
    body = interpret.closed(eqn.params["jaxpr"])
    inner = interpret.opened(body)
    consts, carry = jaxpr.scan_layout(eqn, inner)
    fixed, carried, scanned = operands[:consts], operands[consts : consts + carry], operands[consts + carry :]
    length = eqn.params["length"]
    order = range(length - 1, -1, -1) if eqn.params["reverse"] else range(length)
    rows: dict[int, list[int]] = {}
    way.tape.scans[id(eqn)] = stack_of(eqn, way.callers[:-1]), carry
    way.turns.append(0)
    for turn, t in enumerate(order):
        way.turns[-1] = turn
        carried = [way.add("", None, [x], *AS_IT_IS, label=(id(eqn), j))[0] for j, x in enumerate(carried)]
        row = [way.add("", None, [x], *row_of(t), label=(id(eqn), carry + j))[0] for j, x in enumerate(scanned)]
        out, _ = jaxpr.run(way, body, [*fixed, *carried, *row], None)
        carried, rows[t] = list(out[:carry]), out[carry:]
    way.turns.pop()
    stacked = []
    for j, var in enumerate(eqn.outvars[carry:]):
        parts = [rows[t][j] for t in range(length)]
        label = id(eqn), STACKED
        stacked += (
            way.add("", None, parts, *put_together(length), label=label)
            if parts
            else [way.new(np.zeros(var.aval.shape))]
        )
    return [*carried, *stacked]


def _while(way: Recording, eqn: Any, operands: list[int]) -> list[int]:
    a, b = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    asked, fixed, carried = operands[:a], operands[a : a + b], operands[a + b :]
    way.turns.append(0)
    while True:
        (going,), _ = jaxpr.run(way, eqn.params["cond_jaxpr"], [*asked, *carried], None)
        if np.ndim(way.plain(going)):
            raise Unflattened("a loop over rows that stop one by one")
        if not way.plain(going):
            break
        carried = _turn(way, eqn, fixed, carried)
    turns = way.turns[-1]
    carried = run_on(way.tape, lambda carried: _turn(way, eqn, fixed, carried), list(carried), turns, LONGEST // 4)
    way.turns.pop()
    return carried


def _turn(way: Recording, eqn: Any, fixed: list[int], carried: list[int]) -> list[int]:
    out, _ = jaxpr.run(way, eqn.params["body_jaxpr"], [*fixed, *carried], None)
    way.turns[-1] += 1
    return list(out)


def _cond(way: Recording, eqn: Any, operands: list[int]) -> list[int]:
    branches = eqn.params["branches"]
    taken = jaxpr.for_this_platform(eqn.params.get("branches_platforms"))
    if taken is None:
        taken = int(np.clip(int(way.plain(operands[0])), 0, len(branches) - 1))
    return jaxpr.run(way, interpret.closed(branches[taken]), operands[1:], None)[0]


_LOOPS: dict[str, Callable] = {"scan": _scan, "while": _while, "cond": _cond}
