"""The values that a change may bring in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxcheck.program.where.sites import Group
from jaxcheck.program.where.tape import Tape

_ORDER = ("own", "forward", "local", "use", "cotangent")


def each_once(tape: Tape, groups: Sequence[Group], values: Sequence[np.ndarray]) -> list[Group]:
    """The groups without those of the same numbers, of the backward pass's own first."""
    found, seen = [], set()
    for group in sorted(groups, key=lambda g: _ORDER.index(g.what)):
        arrays = [values[i] for i in group.ids] if group.what == "own" else group.arrays[0]
        key = tuple((x.shape, x.tobytes()) for x in arrays)
        near = tuple((x.shape, *np.round([np.sum(x), np.abs(x).sum()], 9)) for x in map(np.asarray, arrays))
        new = key not in seen and (group.what == "own" or near not in seen)
        if new or _added_to_nothing(tape, group, values):
            seen |= {key, near}
            found.append(group)
    return found


def _added_to_nothing(tape: Tape, group: Group, values: Sequence[np.ndarray]) -> bool:
    """Whether a value of each turn is another one plus what is zero so far: it may be more when that is mended."""
    ops = [tape.ops[k] for k in group.made if group.what == "own" and len(group.ids) > 1 and k >= 0]
    sums = [op for op in ops if op.name in ("add", "add_any")]
    return bool(sums) and all(any(not values[i].any() for i in op.ins) for op in sums)
