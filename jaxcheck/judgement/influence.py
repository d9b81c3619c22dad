"""How much a leaf moves the outputs, as any witness sees it."""

from __future__ import annotations

import numpy as np

from jaxcheck import threads
from jaxcheck.bars import BARS
from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.formula import norms
from jaxcheck.judgement.measures import own_size


def influence(leaves: tuple[LeafEvidence, ...]) -> np.ndarray:
    """(G,) largest change of each output, to first order, for a move of one leaf by its own scale."""
    return np.max(threads.each(reach, leaves, [ev.m.size for ev in leaves]), axis=0) if leaves else np.zeros(1)


def reach(ev: LeafEvidence) -> np.ndarray:
    """(G,) change of each output, to first order, for a move of one leaf by its own scale, as any witness sees it."""
    return ev.once(_reach)


def _reach(ev: LeafEvidence) -> np.ndarray:
    size, found = own_size(ev), [np.zeros(len(ev.m))]
    with np.errstate(all="ignore"):
        for claim in (ev.m, ev.a):
            if claim is not None:
                found.append(norms(np.nan_to_num(claim) * size))
        for probes in ev.probes:
            s = probes.slopes
            value = np.where(np.abs(s.value) > BARS * s.error, np.abs(s.value), 0.0)
            value = np.where(s.kink, np.fmax(value, np.fmax(np.abs(s.left), np.abs(s.right))), value)
            if probes.directions is None:
                value = value * size[probes.at][:, None]
            found.append(value.max(axis=0, initial=0.0))
    return np.max(found, axis=0)
