"""A change is refuted by one result only where all results, computed in full, refute it as well."""

from __future__ import annotations

import numpy as np
import pytest

from jaxcheck.bars import REPAIRED
from jaxcheck.program.where.cones import Cones
from tests.where.cases import CASES
from tests.where.rates import report

# Loops, whose instances feed each other; nets of many results.
NETS = ("rnn_scan", "heads", "layernorm", pytest.param("lstm", marks=pytest.mark.slow))


@pytest.mark.where
@pytest.mark.parametrize("net", NETS)
def test_one_result_refutes_only_what_all_do(net, monkeypatch):
    told: list[tuple[bool, bool]] = []
    refutes = Cones.refutes

    def both(self, edit):
        said, values = refutes(self, edit), self.p.run(edit, 0)
        told.append((said, values is None or not (self.p.error(values, 0) <= REPAIRED).all()))
        return said

    monkeypatch.setattr(Cones, "refutes", both)
    report(next(case for case in CASES if case.net == net), np.float32, seed=0)
    said, full = np.array(told).T
    assert said.any()
    assert not (said & ~full).any()
    # It is worth its while where it refutes nearly all that is refuted.
    assert said.sum() > 0.9 * full.sum()
