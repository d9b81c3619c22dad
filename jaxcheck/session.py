"""What a whole run (a test session, the command line) asks of every check in it, and wants to hear of each.

Standard library only, and next to nothing of it: the pytest plugin loads this in every run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Is told of a `jaxcheck.Report`, which imports this module.
Listener = Callable[[Any], None]

# Options of the front doors, by name, for a call that does not give its own; a function is asked at each call, and
# told what keywords that gives.
defaults: dict[str, Any] = {}

# Of the terminal in which texts are shown in the end, where standard output is not that terminal.
columns: int | None = None
# The command that repeats the test which is running, "" outside of any.
again = ""

_listeners: list[Listener] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Call `listener` with every report that a front door makes. Returns what ends that."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def heard() -> bool:
    """Whether anybody listens."""
    return bool(_listeners)


def tell(report: Any) -> None:
    """Say to all who listen that `report` was made."""
    for listener in tuple(_listeners):
        listener(report)
