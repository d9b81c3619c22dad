"""Rows over several devices: which ones are in force, and a part of a program that is split over them.

Each device runs the same code on its share of the rows, with all else (parameters, data, constants) given to each; so
a number does not depend on how many there are, but for the rounding of a smaller batch. What would gain nothing by it
stays on one device, and so does what may run on one alone: callbacks, programs with a layout of their own, data that
the caller committed to a device.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcheck.program import interpret
from jaxcheck.program.mode import is_traced
from jaxcheck.program.run import hosts, memory

ROWS = "rows"
# Elements computed in all from which on rows are spread: about a second of one device. Below, what the compiler and
# the copies to each device take is not won back.
WORTH = 3e8
# Part of the host's free memory that copies of the arguments may take, where devices share it.
COPIES = 0.25
# Equations that place what they compute by themselves.
_PLACED = frozenset(
    "shard_map sharding_constraint mesh_cast reshard layout_constraint xla_pmap custom_partitioning".split()
)


@dataclasses.dataclass(frozen=True)
class Devices:
    """Where a check runs: `own` are the devices of this process; `chosen`: the caller named them; `laid_out`: the
    caller's arrays lie over several, and so does all that is computed of them; `alone`: none of those named is of
    another process, and so no other one takes part."""

    own: tuple[Any, ...]
    chosen: bool = False
    laid_out: bool = False
    alone: bool = False


_CURRENT: contextvars.ContextVar[Devices | None] = contextvars.ContextVar("jaxcheck_devices", default=None)


def choose(devices: Any, *trees: Any, points: Any = None) -> Devices:
    """The devices of a check.

    Args:
        devices: None, a device, a `Mesh`, or a sequence of devices.
        trees: what the caller gives: what is committed to devices stays there, unless others are named.
        points: the same, of rows that may be spread anew.

    Raises:
        TypeError, ValueError: naming the option.
    """
    if any(
        isinstance(x, jax.Array) and not is_traced(x) and not x.is_fully_addressable
        for x in jax.tree_util.tree_leaves((trees, points))
    ):
        raise TypeError(
            "an argument lies over several processes, none of which sees it whole; give all of it to each "
            "(jax.experimental.multihost_utils.process_allgather), or check a part of the model"
        )
    if devices is None:
        committed = [x for x in jax.tree_util.tree_leaves((trees, points)) if _is_committed(x)]
        found = dict.fromkeys(d for x in committed for d in sorted(x.devices(), key=lambda d: d.id))
        split = any(_is_committed(x) and not x.sharding.is_fully_replicated for x in jax.tree_util.tree_leaves(trees))
        return Devices(tuple(found) or default(), laid_out=split)
    named = isinstance(devices, Mesh)
    listed = tuple(devices.devices.flat) if named else (devices,) if isinstance(devices, jax.Device) else devices
    say = "a device of jax.devices(), or a sequence of several"
    if isinstance(listed, (str, bytes)) or not isinstance(listed, Sequence):
        raise TypeError(f"devices={devices!r}: {say}")
    if not all(isinstance(d, jax.Device) for d in listed):
        raise TypeError(
            f"devices={devices!r}: {say}; it holds "
            f"{next(type(d).__name__ for d in listed if not isinstance(d, jax.Device))}"
        )
    if len(set(listed)) < len(listed) or len({d.platform for d in listed}) > 1:
        raise ValueError(f"devices={devices!r}: each device once, and all of one kind")
    own = tuple(d for d in listed if d.process_index == jax.process_index())
    if not own:
        raise ValueError(f"devices={devices!r}: {say}; none of them belongs to this process")
    return Devices(own, chosen=True, alone=len(own) == len(listed))


def default() -> tuple[Any, ...]:
    """The devices of this process, or the one that `jax.default_device` says."""
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if device is None:
        return tuple(jax.local_devices())
    return (device,) if isinstance(device, jax.Device) else tuple(jax.local_devices(backend=device))[:1]


def where(x: Any) -> Any:
    """Where an array was put by whoever made it, hashable; None where that is left open."""
    return x.sharding if _is_committed(x) else None


def _is_copied(x: Any, devices: Sequence[Any]) -> bool:
    """Whether each of the devices has all of the array."""
    return isinstance(x, jax.Array) and set(x.devices()) == set(devices) and x.sharding.is_fully_replicated


def _is_committed(x: Any) -> bool:
    return isinstance(x, jax.Array) and not is_traced(x) and bool(x.committed)


@contextlib.contextmanager
def over(devices: Any, *trees: Any, points: Any = None) -> Iterator[Devices]:
    """Devices in force, see `choose`; what is not spread runs on the first of them."""
    found = choose(devices, *trees, points=points)
    token = _CURRENT.set(found)
    try:
        with (
            jax.default_device(found.own[0]) if found.own[0] != default()[0] else contextlib.nullcontext(),
            hosts.taking_part(trees, points, alone=found.alone),
        ):
            yield found
    finally:
        _CURRENT.reset(token)


def current() -> Devices:
    return _CURRENT.get() or Devices(default())


def of_this_process() -> tuple[Any, ...]:
    """The devices that the caller named, or all of this process."""
    found = current()
    return found.own if found.chosen else tuple(jax.local_devices())


@dataclasses.dataclass(frozen=True)
class Shares:
    """How rows are split: over the devices of a mesh (None: one device), and over processes of which this is one."""

    mesh: Mesh | None = None
    process: int = 0
    processes: int = 1

    @property
    def lanes(self) -> int:
        """How many of this process's devices run side by side."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def width(self) -> int:
        """How many devices of all processes run side by side."""
        return self.lanes * self.processes

    def starts(self, count: int, each: int) -> range:
        """Where the calls of this process begin, `each` rows at a time."""
        return range(self.process * each, count, self.processes * each)

    def joined(self, name: str, work: Callable[[], list[Any]]) -> list[Any]:
        """What `work()` lists in every process (see `hosts.together` for what is raised), taken in turns: the first
        of each, the second of each, up to what is missing where one of them was stopped."""
        if self.processes == 1:
            return work()
        found = hosts.together(name, work)
        full = min(map(len, found))
        ended = [x[full] for x in itertools.takewhile(lambda x: len(x) > full, found)]
        return [x[turn] for turn in range(full) for x in found] + ended


def shares(programs: Sequence[Any], effort: float, *args: Any) -> Shares:
    """Over what rows of `programs` are to be spread.

    Args:
        effort: elements that all rows compute, see `Program.effort`.
        args: what every device gets a copy of.
    """
    if effort < WORTH:
        return Shares()
    process, processes = hosts.share()
    # No process may use more devices than another one has: they go through the same turns.
    lanes = hosts.least("devices", _lanes(programs, args))
    return Shares(Mesh(np.array(current().own[:lanes]), (ROWS,)) if lanes > 1 else None, process, processes)


def _lanes(programs: Sequence[Any], args: Any) -> int:
    """How many devices of this process are to take part."""
    found = current()
    if len(found.own) < 2 or found.laid_out or any(p.calls_back or p.placed for p in programs):
        return 1
    given = jax.tree_util.tree_leaves((args, [p.closed.consts for p in programs]))
    if not found.chosen and any(_is_committed(x) and not _is_copied(x, found.own) for x in given):
        return 1
    size = sum(x.nbytes for x in given if hasattr(x, "nbytes"))
    if found.own[0].platform == "cpu":
        free = memory.available()
        if free is not None and size * len(found.own) > COPIES * free:
            return 1
    return len(found.own)


def is_placed(program: Any) -> bool:
    """Whether a closed jaxpr says itself where it runs."""
    return any(
        eqn.primitive.name in _PLACED
        or (eqn.primitive.name == "device_put" and any(d is not None for d in eqn.params.get("devices", ())))
        or _is_laid_out(eqn)
        for eqn, _ in interpret.walk(program)
    )


def _is_laid_out(eqn: Any) -> bool:
    """Whether a call under jit has shardings of its own."""
    return any(
        isinstance(s, jax.sharding.Sharding)
        for key in ("in_shardings", "out_shardings")
        for s in eqn.params.get(key) or ()
    )


def rows(f: Callable, mesh: Mesh | None, split: Sequence[int]) -> Callable:
    """`f(consts, *args)`, traced code, each device with its share of the rows.

    Args:
        split: which of the args hold rows, on their leading axes, as many as are a multiple of the devices; every
            result has them in front as well.
    """
    if mesh is None:
        return f
    shares, copies = PartitionSpec(ROWS), PartitionSpec()

    def whole(consts: Any, *args: Any) -> Any:
        specs = copies, *(shares if i in split else copies for i in range(len(args)))
        return jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=shares, check_vma=False)(consts, *args)

    return whole


def placed(args: Sequence[Any], mesh: Mesh | None, split: Sequence[int]) -> tuple[Any, ...]:
    """The arguments of such a function, where they are to be: rows on the device that has them, all else on each."""
    if mesh is None:
        return everywhere(tuple(args), None)
    shares = NamedSharding(mesh, PartitionSpec(ROWS))
    return tuple(jax.device_put(x, shares) if i in split else everywhere(x, mesh) for i, x in enumerate(args))


def everywhere(x: Any, mesh: Mesh | None) -> Any:
    """Arrays with a copy on every device of the mesh; what is there already stays as it is. Without a mesh, on the
    device that the caller named, where they were committed to others."""
    found = current()
    if mesh is None and not found.chosen:
        return x
    own = found.own[:1] if mesh is None else tuple(mesh.devices.flat)
    to = found.own[0] if mesh is None else NamedSharding(mesh, PartitionSpec())

    def place(x: Any) -> Any:
        stays = _is_copied(x, own) or (mesh is None and not _is_committed(x))
        return x if stays else jax.device_put(x, to)

    return jax.tree_util.tree_map(place, x)


def here(mesh: Mesh | None) -> Any:
    """Where `everywhere` is, hashable."""
    found = current()
    return mesh if mesh is not None or not found.chosen else found.own[0]
