"""The cotangents along which a rule of several outputs is looked at: each output, or leaf of them, at its own scale."""

from __future__ import annotations

import numpy as np

from jaxcheck.problem.leaves import groups

# Outputs up to this number get one cotangent each, besides a random one; more get random ones.
ROWS = 6
RANDOM = 3
# Sizes within one leaf of outputs that a dense cotangent still shows, at a tolerance of 1e-7 with digits to spare.
SPREAD = 1e3
# Numbers in all cotangents together.
OWN_SIZE = 3e7


def cotangents(owner: np.ndarray, seed: int, values: np.ndarray) -> np.ndarray:
    """(G, m) cotangents of mixed signs, random ones and one per leaf of the results: every leaf has its own
    scale, and what a small one does wrong is nothing beside a large one. Few outputs get one each.

    Args:
        owner: (m,) the leaf to which each output belongs.
        values: (m,) the outputs themselves: small ones of a leaf are not to drown in its large ones.
    """
    size, rng = len(owner), np.random.default_rng([seed, 3])
    if size <= ROWS:
        signs = np.where(np.arange(size) % 2 == 0, 1.0, -1.0)
        return np.concatenate([np.diag(signs), rng.standard_normal((1, size))])
    dense = rng.standard_normal((RANDOM, size))
    own = [mask * rng.standard_normal(size) for mask in groups(owner, OWN_SIZE / size)]
    each = _by_size(owner, values) * rng.standard_normal(size)
    return np.stack([*(dense[: RANDOM - 1] if own else dense), *own, *([each] if each.any() else [])])


def _by_size(owner: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(m,) one over each output's own size, where the outputs of one leaf have sizes of their own; else zero."""
    size = np.where(np.isfinite(values), np.abs(values), 0.0)
    out = np.zeros(len(owner))
    for leaf in np.unique(owner):
        mine = size[owner == leaf]
        shown = mine[mine > 0]
        if shown.size and shown.max() > SPREAD * shown.min():
            out[owner == leaf] = 1 / np.where(mine > 0, mine, shown.max())
    return out
