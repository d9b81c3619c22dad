"""Evaluate a function over many rows of theta, with memory bounded by a chunk of rows.

A row is theta + t v. Rows are made inside the compiled program, chunk by chunk, so that neither the
rows nor their outputs ever exist at once in full. A chunk is small on CPU, where 8-32 rows that fit
the cache beat 256 by several times, and large on GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Elements in one chunk: on a device, some 1.6 GB of float64; on CPU, about what its caches hold. And rows from which on
# fewer than 8 at a time are worth what the cores lose.
ON_DEVICE, ON_CPU, LARGE = 2e8, 1.7e6, 2e7


def chunk_rows(cost: float, rows: int) -> int:
    """Rows per chunk for a function that computes `cost` elements per row."""
    if jax.default_backend() != "cpu":
        return int(max(1, min(rows, ON_DEVICE // max(cost, 1.0))))
    # With 4 rows or fewer XLA keeps to one core; 8 rows of 2e7 elements are a gigabyte.
    fewest = 8 if cost <= LARGE else 1
    return int(max(1, min(rows, max(fewest, ON_CPU // max(cost, 1.0)))))


def chunk_of(program: Any, rows: int) -> int:
    """Rows per chunk for a `Program`: 1 where they run better one after the other."""
    return 1 if program.sequential else chunk_rows(program.cost, rows)


# Parameters of which each row has a copy of its own: from here on two rows at a time are as fast as eight on a CPU, and
# the check takes two thirds of the memory (networks of 1, 2, 4 and 8 million, `tests/benchmarks/large.py`).
MOVED = 1_000_000


def moving(size: int, chunk: int) -> int:
    """Rows per chunk where each moves `size` parameters."""
    return min(chunk, 2) if size >= MOVED and jax.default_backend() == "cpu" else chunk


def sample(f: Callable, theta: Any, directions: Any, offsets: Any, chunk: int) -> Any:
    """f(theta + offsets[t] * directions[d]) for all d and t; traced code.

    Args:
        f: maps a (P,) vector to (G,) outputs.
        theta: (P,); directions: (D, P); offsets: (T,); chunk: rows at a time.

    Returns:
        (T, D, G).
    """
    d, t = directions.shape[0], offsets.shape[0]
    total = d * t

    def row(index):
        return f(theta + offsets[index % t] * directions[index // t])

    blocks = -(-total // chunk)
    if blocks == 1:
        out = jax.vmap(row)(jnp.arange(total)) if chunk > 1 else row(0)[None]
    else:
        # Rows past the end repeat the last one; they are cut off below.
        index = jnp.minimum(jnp.arange(blocks * chunk), total - 1).reshape(blocks, chunk)
        body = jax.vmap(row) if chunk > 1 else lambda i: row(i[0])[None]
        out = jax.lax.map(body, index).reshape(blocks * chunk, -1)[:total]
    return jnp.swapaxes(out.reshape(d, t, -1), 0, 1)


def evaluate(f: Callable, points: Any, chunk: int) -> Any:
    """f of every row of `points` (R, P), `chunk` rows at a time; traced code. Returns (R, G)."""
    total = points.shape[0]
    if chunk >= total:
        return jax.vmap(f)(points) if total > 1 else f(points[0])[None]
    if chunk == 1:
        return jax.lax.map(f, points)
    blocks = -(-total // chunk)
    # Rows past the end repeat the last one; they are cut off below.
    index = np.minimum(np.arange(blocks * chunk), total - 1).reshape(blocks, chunk)
    return jax.lax.map(jax.vmap(f), points[index]).reshape(blocks * chunk, -1)[:total]


def one_hot(f: Callable, values: list[Any], which: int) -> Callable:
    """`row(index, step)`: f with one component of leaf `which` moved; traced code. The other leaves stay
    unbatched, so that what comes after the leaf becomes a matrix product over the rows.

    Args:
        f: a function of the list of (real or complex) leaves.
        values: the leaves; `which` of them is moved. Components are those of its real view.
    """
    leaf = values[which]
    is_complex = jnp.iscomplexobj(leaf)
    size = leaf.size

    def row(index, step):
        if is_complex:
            step = jnp.where(index < size, step.astype(leaf.dtype), 1j * step)
        moved = leaf.ravel().at[index % size].add(step.astype(leaf.dtype)).reshape(leaf.shape)
        return f([*values[:which], moved, *values[which + 1 :]])

    return row


def components(row: Callable, indices: Any, chunk: int, steps: Any) -> Any:
    """`row` on components of one leaf, each with each of its steps; traced code.

    Args:
        row: maps (component, signed step) to (G,) outputs.
        indices: (n,) the components (traced), a multiple of `chunk`; those past the end repeat the last one.
        steps: (S, N) signed steps for each component of the leaf, e.g. +h, -h, +2h, -2h.

    Returns:
        (n, S, G).
    """
    last = steps.shape[1] - 1

    def block(indices):
        indices = jnp.minimum(indices, last)
        if chunk == 1:
            return jax.lax.map(lambda s: row(indices[0], s[indices[0]])[None], steps)
        return jax.vmap(lambda s: jax.vmap(row)(indices, s[indices]))(steps)

    out = jax.lax.map(block, indices.reshape(-1, chunk))  # (blocks, S, chunk, G)
    return jnp.moveaxis(out, 1, 2).reshape(len(indices), steps.shape[0], -1)
