"""A gradient checker for JAX: three witnesses, an error bar on every number, and who is to blame.

The names below are loaded when first used, so that `import jaxcheck` costs nothing and does not
import JAX (a pytest plugin or a conftest may still have to configure it).
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Loaded at once although the others wait: the submodule bears the name of the decorator, and only a
# binding made after the submodule's import keeps `jaxcheck.case` the decorator. It costs nothing.
from jaxcheck.case import case as case

if TYPE_CHECKING:
    from jaxcheck.check.calls import check_batch as check_batch
    from jaxcheck.check.calls import check_grad as check_grad
    from jaxcheck.check.calls import check_rule as check_rule
    from jaxcheck.options import Exhaustive as Exhaustive
    from jaxcheck.options import Sketch as Sketch
    from jaxcheck.options import Tolerance as Tolerance
    from jaxcheck.program.custom.census import RuleInfo as RuleInfo
    from jaxcheck.program.custom.census import find_rules as find_rules
    from jaxcheck.program.custom.strip import strip_rules as strip_rules
    from jaxcheck.program.float64.shadow import in_float64 as in_float64
    from jaxcheck.result import Component as Component
    from jaxcheck.result import Culprit as Culprit
    from jaxcheck.result import GradientCheckWarning as GradientCheckWarning
    from jaxcheck.result import GradientInconclusive as GradientInconclusive
    from jaxcheck.result import GradientMismatch as GradientMismatch
    from jaxcheck.result import LeafResult as LeafResult
    from jaxcheck.result import Point as Point
    from jaxcheck.result import Reason as Reason
    from jaxcheck.result import Report as Report
    from jaxcheck.result import Row as Row
    from jaxcheck.result import Verdict as Verdict
    from jaxcheck.result import Witness as Witness

    __version__: str

_HOME = {
    "jaxcheck.check.calls": ("check_batch", "check_grad", "check_rule"),
    "jaxcheck.options": ("Exhaustive", "Sketch", "Tolerance"),
    "jaxcheck.program.custom.census": ("RuleInfo", "find_rules"),
    "jaxcheck.program.float64.shadow": ("in_float64",),
    "jaxcheck.program.custom.strip": ("strip_rules",),
    "jaxcheck.result": (
        "Component",
        "Culprit",
        "GradientCheckWarning",
        "GradientInconclusive",
        "GradientMismatch",
        "LeafResult",
        "Point",
        "Reason",
        "Report",
        "Row",
        "Verdict",
        "Witness",
    ),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Component",
    "Culprit",
    "Exhaustive",
    "GradientCheckWarning",
    "GradientInconclusive",
    "GradientMismatch",
    "LeafResult",
    "Point",
    "Reason",
    "Report",
    "Row",
    "RuleInfo",
    "Sketch",
    "Tolerance",
    "Verdict",
    "Witness",
    "__version__",
    "case",
    "check_batch",
    "check_grad",
    "check_rule",
    "find_rules",
    "in_float64",
    "strip_rules",
]


if not TYPE_CHECKING:  # it answers any name, and a type checker would let a misspelt one pass

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import PackageNotFoundError, version

            try:
                value: Any = version("jaxcheck")
            except PackageNotFoundError:  # run from a source tree that was never installed
                value = "0+unknown"
        elif name in _MODULE_OF:
            value = getattr(import_module(_MODULE_OF[name]), name)
        else:
            from jaxcheck.friends import missing

            raise missing(name, sys._getframe(1))
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
