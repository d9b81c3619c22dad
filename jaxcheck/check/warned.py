"""The warning of a check that could not judge all it was asked, at the caller's own line."""

from __future__ import annotations

import sys
import warnings

from jaxcheck.result import GradientCheckWarning


def warned(text: str) -> None:
    """Warn at the caller's line. Where all warnings are errors (a suite's `-W error`) this one stays a warning: at a
    kink a right rule must not turn a test red. A filter that names `GradientCheckWarning` is obeyed as it stands."""
    with warnings.catch_warnings():
        # Filters of other messages, as NumPy sets them when it is imported, say nothing of this one.
        first = next(
            (
                f
                for f in warnings.filters
                if issubclass(GradientCheckWarning, f[2]) and (f[1] is None or f[1].match(text))
            ),
            None,
        )
        if first is not None and first[0] == "error" and first[2] in (Warning, UserWarning):
            warnings.simplefilter("always", GradientCheckWarning)
        warnings.warn(text, GradientCheckWarning, stacklevel=_callers_level())


def _callers_level() -> int:
    """How many frames above `_warn` the first one is that is not of this package."""
    frame, level = sys._getframe(1), 1
    while frame is not None and frame.f_globals.get("__name__", "").startswith("jaxcheck."):
        frame, level = frame.f_back, level + 1
    return level
