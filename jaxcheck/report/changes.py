"""What changed from one report to another, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from jaxcheck.report import numbers
from jaxcheck.result import LeafResult, Report

# A change of a difference or a floor by less is that of other random directions, or of another machine's rounding.
_DIGITS = 1.0
# Below this both are as good as exact: 1e-17 against 3e-16 is no lost digit.
_EXACT = 1e-15


def between(old: Report, new: Report) -> tuple[str, ...]:
    """From `old` to `new`: verdicts first, then leaf by leaf."""
    return tuple(_changes(old, new))


def between_runs(
    old: Sequence[Report], new: Sequence[Report], old_errors: Mapping[str, str], new_errors: Mapping[str, str]
) -> Iterator[str]:
    """From the reports of one run to those of another, each by its name; several of one name in their order. `errors`
    are names and texts of those that could not be run."""
    before, after = _named(old), _named(new)
    if len(before) == len(after) == 1 and not old_errors and not new_errors:  # two reports, whatever they are called
        before = dict(zip(after, before.values(), strict=True))
    elif not before.keys() & after.keys() and not old_errors and not new_errors:
        # Of a folder's cases the names begin with the file, of one file's they do not.
        before, after = _without_file(before), _without_file(after)
    for name in dict.fromkeys([*before, *old_errors, *after, *new_errors]):
        was, now = before.get(name), after.get(name)
        if name in new_errors:
            error = new_errors[name].splitlines()[0] if new_errors[name] else "no text"
            if name not in old_errors:
                yield f"{name}: is in error ({error}), was {numbers.verdict(was) if was is not None else 'not there'}"
        elif now is None:
            yield f"{name}: is gone"
        elif was is None:
            yield f"{name}: {numbers.verdict(now)}, was in error" if name in old_errors else f"{name}: is new"
        else:
            yield from (f"{name}: {line}" for line in between(was, now))


def _named(reports: Sequence[Report]) -> dict[str, Report]:
    found: dict[str, Report] = {}
    for report in reports:
        same = sum(other.name == report.name for other in found.values())
        found[f"{report.name} ({same + 1})" if same else report.name] = report
    return found


def _without_file(named: dict[str, Report]) -> dict[str, Report]:
    """By the part of the names behind the file's, where that is enough to tell them apart."""
    short = {name.rpartition("::")[2]: report for name, report in named.items()}
    return short if len(short) == len(named) else named


def _changes(old: Report, new: Report) -> Iterator[str]:
    if (old.verdict, old.reason) != (new.verdict, new.reason):
        yield f"{numbers.verdict(new)}, was {numbers.verdict(old)}"
    elif not new.leaves and not old.leaves:
        yield from _digits("the whole", "difference", old.difference, new.difference)
    before = {leaf.path: leaf for leaf in old.leaves}
    after = {leaf.path: leaf for leaf in new.leaves}
    for path, leaf in after.items():
        if path not in before:
            yield f"leaf `{path}` is new: {numbers.verdict(leaf)}"
        else:
            yield from _leaf(before[path], leaf)
    yield from (f"leaf `{path}` is gone" for path in before if path not in after)
    yield from _rows(old, new)


def _leaf(old: LeafResult, new: LeafResult) -> Iterator[str]:
    name = f"leaf `{new.path}`"
    if (old.verdict, old.reason) != (new.verdict, new.reason):
        hint = f" ({new.hint})" if new.hint else ""
        yield f"{name}: {numbers.verdict(new)}{hint}, was {numbers.verdict(old)}"
    elif old.hint != new.hint:
        yield f"{name}: {new.hint or 'no hint'}, was {old.hint or 'no hint'}"
    if (old.shape, old.dtype) != (new.shape, new.dtype):
        was = f"{numbers.shape(old.shape)} {old.dtype}"
        yield f"{name}: {numbers.shape(new.shape)} {new.dtype}, was {was}"
    # What agrees with autodiff to rounding has its digits there; the differences have a bar of their own.
    which = "difference_autodiff" if not math.isnan(old.difference_autodiff + new.difference_autodiff) else "difference"
    yield from _digits(name, "", getattr(old, which), getattr(new, which))
    yield from _digits(name, "floor", old.floor, new.floor)


def _digits(name: str, what: str, old: float, new: float) -> Iterator[str]:
    about = f" of {what}" if what else ""
    if math.isnan(old) and math.isnan(new):
        return
    if math.isnan(old) or math.isnan(new):
        yield f"{name}: {what or 'difference'} {numbers.small(new)}, was {numbers.small(old)}"
        return
    low, high = (max(x, _EXACT) for x in (old, new))
    if not math.isfinite(low + high):
        if low != high:
            yield f"{name}: {what or 'difference'} {numbers.small(new)}, was {numbers.small(old)}"
        return
    moved = math.log10(high / low)
    if abs(moved) >= _DIGITS:
        verb = "lost" if moved > 0 else "gained"
        yield (
            f"{name} {verb} {numbers.count(round(abs(moved)), 'digit')}{about}: {numbers.small(new)}, "
            f"was {numbers.small(old)}"
        )


def _rows(old: Report, new: Report) -> Iterator[str]:
    before = {(row.group, row.name): row.status for row in old.rows}
    for row in new.rows:
        was = before.pop((row.group, row.name), None)
        if was is None:
            yield f"{row.group}: {row.name} is new: {row.status}"
        elif was != row.status:
            yield f"{row.group}: {row.name} is {row.status}, was {was}"
    yield from (f"{group}: {name} is gone" for group, name in before)
