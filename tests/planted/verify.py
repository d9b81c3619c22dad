"""Is each planted case what it says it is? `python -m tests.planted.verify [ID ...]`, from root.

Nothing here uses jaxcheck. The hand-written gradient, in float64, is held against the truth: the
`truth` of the problem, else Ridders' differences where the loss carries rules, else jax.grad.
"""

import inspect
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tests.planted import CASES, RIGHT, WRONG, hard_kinks
from tests.planted.base import leaf_paths

SMALLEST_ERROR = 1e-6  # a planted error is at least this part of its leaf's norm
AGREEMENT = 1e-9  # right gradients, and the other leaves of wrong ones
# Where the truth itself is known less well, and why.
LOOSE = {"while-1e-6": 1e-5, "while-1e-6-1-percent": 1e-5}  # solved to 1e-6


def is_float(leaf):
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def split(tree):
    """The differentiable leaves, and how to put others in their place."""
    leaves, treedef = jax.tree_util.tree_flatten(tree)
    where = [i for i, leaf in enumerate(leaves) if is_float(leaf)]

    def join(values):
        new = list(leaves)
        for i, value in zip(where, values, strict=True):
            new[i] = value
        return treedef.unflatten(new)

    return [leaves[i] for i in where], join, where


def value_of(problem):
    loss = problem.loss
    if problem.options.get("has_aux"):
        return lambda p: loss(p, *problem.args)[0]
    return lambda p: loss(p, *problem.args)


def autodiff(problem):
    floats, join, _ = split(problem.params)
    return jax.grad(lambda v: value_of(problem)(join(v)))(floats)


def ridders(f, h=1e-2, levels=8):
    """Derivative at 0 of f along the line, by Richardson's table with the least estimated error."""
    best, error, previous = np.nan, np.inf, []
    for k in range(levels):
        step = h / 2**k
        up, down = f(step), f(-step)
        row = [(up - down) / (2 * step)]
        round_off = np.finfo(float).eps * max(abs(up), abs(down)) / step
        for j, old in enumerate(previous):
            row.append(row[j] + (row[j] - old) / (4 ** (j + 1) - 1))
        for j in range(1, len(row)):
            claim = max(abs(row[j] - row[j - 1]), abs(row[j] - previous[j - 1])) + round_off
            if claim < error:
                best, error = row[j], claim
        previous = row
    return best


def differences(problem):
    floats, join, _ = split(problem.params)
    value = jax.jit(lambda v: value_of(problem)(join(v)))
    result = [np.array(x) for x in floats]
    for i, leaf in enumerate(floats):
        flat = np.array(leaf).ravel()
        for c in range(flat.size):
            scale = 1.0

            def along(t, unit, i=i, c=c, flat=flat, leaf=leaf, scale=scale):
                moved = flat.copy()
                moved[c] += unit * t * scale
                new = list(floats)
                new[i] = jnp.asarray(moved.reshape(np.shape(leaf)), leaf.dtype)
                return float(value(new))

            slope = ridders(lambda t: along(t, 1.0))
            if np.iscomplexobj(flat):  # JAX's convention: dJ/dx - i dJ/dy
                slope = slope - 1j * ridders(lambda t: along(t, 1j))
            result[i].ravel()[c] = slope
    return result


def subgradient(problem, i, ours, true):
    """`ours` with `true` (autodiff's choice) wherever it lies between the one-sided slopes."""
    floats, join, _ = split(problem.params)
    ours, true = np.array(ours), np.asarray(true)
    value, h = value_of(problem), 1e-6
    for c in range(ours.size):
        if abs(ours.ravel()[c] - true.ravel()[c]) <= 1e-12 * (1 + abs(ours.ravel()[c])):
            continue

        def at(t, c=c):
            moved = np.array(floats[i])
            moved.ravel()[c] += t
            return float(value(join([*floats[:i], jnp.asarray(moved), *floats[i + 1 :]])))

        left, right = (at(0) - at(-h)) / h, (at(h) - at(0)) / h
        if min(left, right) - 1e-5 <= ours.ravel()[c] <= max(left, right) + 1e-5:
            ours.ravel()[c] = true.ravel()[c] if np.isfinite(true.ravel()[c]) else 0
    return ours


def relative_errors(case, dtype, build=None):
    problem = (build or case.build)(jnp.dtype(dtype))
    _, _, where = split(problem.params)
    paths = [leaf_paths(problem.params)[i] for i in where]
    if problem.grad is None:
        ours = autodiff(problem)
    else:
        ours = problem.grad(problem.params, *problem.args)
        leaves, treedef = jax.tree_util.tree_flatten(ours)
        assert treedef == jax.tree_util.tree_structure(problem.params), f"{case.id}: structure"
        ours = [leaves[i] for i in where]
    if problem.truth is not None:
        true = problem.truth(problem.params, *problem.args)
        true = [jax.tree_util.tree_leaves(true)[i] for i in where]
    elif problem.grad is None:
        true = differences(problem)
    else:
        true = autodiff(problem)
    ours, true = [np.asarray(a) for a in ours], [np.asarray(b) for b in true]
    # A zero gradient has no scale of its own: rounding of the others may leave 1e-16 there.
    zero = min(1e-14, 1e-3 * max(np.linalg.norm(b.ravel()) for b in true))
    errors = {}
    for path, a, b in zip(paths, ours, true, strict=True):
        assert a.shape == b.shape, f"{case.id} {path}: shape {a.shape} for {b.shape}"
        if path not in case.leaves and (case in hard_kinks.CASES or "KINK" in case.reasons):
            a = subgradient(problem, paths.index(path), a, b)
        norm, gap = np.linalg.norm(b.ravel()), np.linalg.norm((a - b).ravel())
        errors[path] = gap / norm if norm > zero else gap
    return errors, problem


def double(case):
    return "complex128" if any(d.startswith("complex") for d in case.dtypes) else "float64"


def check(case):
    """The complaints about one case; none is good."""
    build, dtype = case.build, double(case)
    if "low" in inspect.signature(build).parameters:
        build = partial(build, low=dtype)  # the formula is judged without the precision it pins
    if case.verdict == "INCONCLUSIVE" or "SURROGATE" in case.reasons:
        problem = build(jnp.dtype(dtype))
        if problem.grad is None:
            autodiff(problem)
        else:
            problem.grad(problem.params, *problem.args)
        problem.loss(problem.params, *problem.args)
        return []
    errors, problem = relative_errors(case, dtype, build)
    complaints = []
    if "AUTODIFF_DIFFERS" in case.reasons and not {"NOISE", "KINK"} & set(case.reasons):
        leaves = jax.tree_util.tree_leaves(problem.truth(problem.params))
        gaps = [np.max(np.abs(a - b) / (1 + np.abs(b))) for a, b in zip(differences(problem), leaves, strict=True)]
        if not max(gaps) < 1e-7:
            complaints.append(f"differences deny the truth: {gaps}")
        if all(np.allclose(a, b) for a, b in zip(autodiff(problem), leaves, strict=True)):
            complaints.append("autodiff does not differ")
    if not np.isfinite(value_of(problem)(problem.params)):
        complaints.append("loss not finite")
    unknown = set(case.leaves) - set(errors)
    if unknown:
        complaints.append(f"no such leaves {unknown}")
    for path, error in errors.items():
        if path in case.leaves and error < SMALLEST_ERROR:
            complaints.append(f"{path!r} should be wrong, error {error:.1e}")
        if path not in case.leaves and not error <= LOOSE.get(case.id, AGREEMENT):
            complaints.append(f"{path!r} should be right, error {error:.1e}")
    return complaints


def check_native(case):
    """Every listed precision builds, in its dtype, and evaluates."""
    complaints = []
    for dtype in case.dtypes:
        start = time.perf_counter()
        problem = case.build(jnp.dtype(dtype))
        taken = time.perf_counter() - start
        if taken > 1:
            complaints.append(f"{dtype}: building takes {taken:.1f} s")
        value = value_of(problem)(problem.params)
        if np.shape(value) != () or jnp.iscomplexobj(value):
            complaints.append(f"{dtype}: loss is not a real scalar")
        floats = split(problem.params)[0]
        if not any(leaf.dtype == jnp.dtype(dtype) for leaf in floats):
            complaints.append(f"{dtype}: no leaf of that dtype")
        if not np.isfinite(np.asarray(value, float)) and case.verdict != "INCONCLUSIVE":
            complaints.append(f"{dtype}: loss is {value}")
        if problem.grad is None:
            autodiff(problem)
        else:
            problem.grad(problem.params, *problem.args)
    return complaints


def main(names):
    jax.config.update("jax_enable_x64", True)
    ids = [case.id for case in CASES]
    repeated = {i for i in ids if ids.count(i) > 1}
    bad = len(repeated)
    if repeated:
        print("repeated ids:", repeated)
    for case in CASES:
        if names and not any(case.id.startswith(name) for name in names):
            continue
        start = time.perf_counter()
        try:
            complaints = check(case) + check_native(case)
        except Exception as error:
            complaints = [f"{type(error).__name__}: {str(error)[:300]}"]
        taken = time.perf_counter() - start
        if taken > 5:
            print(f"slow {case.id}: {taken:.1f} s")
        if complaints:
            bad += 1
            print(f"{case.id}: " + "; ".join(complaints))
    inconclusive = len(CASES) - len(WRONG) - len(RIGHT)
    print(f"{len(WRONG)} wrong, {len(RIGHT)} right, {inconclusive} inconclusive; {bad} bad")
    return bad


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
