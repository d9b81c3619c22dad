"""The values that come with derivatives, held to the function's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxcheck.bars import MUST_CATCH
from jaxcheck.evidence import leafwise, values
from jaxcheck.judgement.findings import Finding, value_of_forward
from jaxcheck.program.converge import iterates
from jaxcheck.program.objective import Traced


def wrong_values(
    primal: Traced, point: tuple[Any, ...], those: dict[str, Traced], rtol: float, atol: float
) -> list[tuple[str, Finding]]:
    """What is wrong with the values that come with the derivatives. A loop that stops at a tolerance may stop
    elsewhere on another way."""
    outputs, found, _ = values.measure(primal, tuple(map(np.asarray, point)), those)
    loose = any(iterates(t.program.closed) for t in (primal, *those.values()))
    owner = leafwise.belongs(primal.program.closed.out_avals)
    wrong = [
        value_of_forward(outputs, x, owner, max(rtol, MUST_CATCH) if loose else rtol, atol, name)
        for name, x in found.items()
    ]
    return [("", finding) for finding in wrong if finding is not None]
