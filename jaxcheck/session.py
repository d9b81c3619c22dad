"""What a whole run (a test session, the command line) asks of every check in it, and wants to hear of each.

Standard library only, and next to nothing of it: the pytest plugin loads this in every run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxcheck.result import Report

Listener = Callable[["Report"], None]

# Options of the front doors, by name, for a call that does not give its own; a function is asked at each call, and
# told what keywords that gives.
defaults: dict[str, Any] = {}

_listeners: list[Listener] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Call `listener` with every report that a front door makes. Returns what ends that."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def tell(report: Report) -> None:
    """Say to all who listen that `report` was made."""
    for listener in tuple(_listeners):
        listener(report)
