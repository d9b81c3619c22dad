"""How often the first hint is right: `python -m tests.where.hints [--verbose]`.

Every kind of mistake is planted in the gradient of every leaf of every net, where it is one there, and the hint read
off the evidence as a check has it. Nets that were held back while the kinds were written are counted apart.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache

import jax
import numpy as np

from jaxcheck.evidence.measured import LeafEvidence
from jaxcheck.judgement.pattern import hint
from jaxcheck.problem.beside import Beside, of_data
from jaxcheck.theta import Leaf
from tests.where import build
from tests.where.cases import CASES, HELD_BACK


@dataclasses.dataclass(frozen=True, eq=False)
class Spot:
    """A leaf of a net with its right gradient, and what is around it."""

    net: str
    path: str
    t: np.ndarray
    value: np.ndarray
    siblings: dict[str, np.ndarray]
    beside: Beside
    rng: np.random.Generator


# What is done to the right gradient, and what the hint must say; None where the mistake is not one there.
Planted = tuple[np.ndarray, str] | None
KINDS: dict[str, Callable[[Spot], Planted]] = {}


def kind(f: Callable[[Spot], Planted]) -> Callable[[Spot], Planted]:
    KINDS[f.__name__.replace("_", " ").strip()] = f
    return f


@kind
def zero(s):
    return 0 * s.t, "exactly zero"


@kind
def doubled(s):
    return 2 * s.t, "ratio 2.000"


@kind
def halved(s):
    return s.t / 2, "ratio 0.5"


@kind
def sign(s):
    return -s.t, "sign flipped"


@kind
def summed_over_the_batch(s):
    n = s.beside.batch
    return (n * s.t, f"ratio {n:.3f} on") if n > 2 else None


@kind
def averaged_twice(s):
    n = s.beside.batch
    return (s.t / n, f"= 1/{n}, and the batch has size {n}") if n > 2 else None


@kind
def by_a_dimension(s):
    d = next((d for d in s.t.shape if d > 2), 0)
    return (s.t * d, f"= {d}, and") if d else None


@kind
def by_the_root_of_a_dimension(s):
    d = next((d for d in s.t.shape if d > 2 and not float(d**0.5).is_integer()), 0)
    return (s.t / d**0.5, f"= 1/sqrt({d})") if d else None


@kind
def by_a_product_of_dimensions(s):
    d = [d for d in s.beside.sizes if d > 3][-2:]
    return (s.t / (d[0] * d[1]), f"1/({d[0]} x {d[1]})") if len(d) == 2 else None


@kind
def transposed(s):
    square = s.t.ndim == 2 and s.t.shape[0] == s.t.shape[1] > 1
    return (s.t.T, "transposed") if square and far(s.t.T, s.t) else None


@kind
def transposed_before_the_reshape(s):
    if s.t.ndim != 2 or min(s.t.shape) < 2 or s.t.shape[0] == s.t.shape[1]:
        return None
    return s.t.T.reshape(s.t.shape), "transposed before the reshape"


@kind
def axes_in_another_order(s):
    if s.t.ndim != 3 or len(set(s.t.shape)) < 2:
        return None
    return np.transpose(s.t, (1, 0, 2)).reshape(s.t.shape), "axes in another order"


@kind
def swapped(s):
    for path, other in s.siblings.items():
        if other.shape == s.t.shape and s.t.size > 1 and far(other, s.t):
            return other, f"gradient of leaf `{path}`"
    return None


@kind
def no_weight_decay(s):
    return (s.t - 0.02 * s.value, "missing term 0.02 x parameter") if s.t.size > 1 else None


@kind
def too_much_weight_decay(s):
    return (s.t + 0.3 * s.value, "extra term 0.3 x parameter") if s.t.size > 1 else None


@kind
def no_sign_of_the_parameter(s):
    mixed = np.ptp(np.sign(s.value)) > 0 and s.t.size > 3
    return (s.t - 0.01 * np.sign(s.value), "missing term 0.01 x sign(parameter)") if mixed else None


@kind
def the_parameter_itself(s):
    return (0.1 * s.value, "it is 0.1 x parameter") if s.t.size > 2 and far(s.t, s.value) else None


@kind
def twice_and_no_weight_decay(s):
    return (2 * (s.t - 0.1 * s.value), "ratio 2.000, and 0.2 x parameter too little") if s.t.size > 4 else None


@kind
def one_row(s):
    if s.t.ndim != 2 or len(s.t) < 2 or s.t.shape[1] < 2 or not s.t[1].any():
        return None
    return changed(s.t, np.index_exp[1], 3 * s.t[1]), "only row 1 is wrong"


@kind
def one_column_zero(s):
    if s.t.ndim != 2 or min(s.t.shape) < 2 or np.count_nonzero(s.t[:, 0]) < 2:
        return None
    return changed(s.t, np.index_exp[:, 0], 0), "only column 0 is wrong"


@kind
def where_the_gradient_is_negative(s):
    mixed = min((s.t < 0).sum(), (s.t > 0).sum()) > 1
    return (np.where(s.t < 0, 0, s.t), "(exactly those with a negative gradient)") if mixed else None


@kind
def where_the_parameter_is_negative(s):
    mask = s.value < 0
    if min(mask[s.t != 0].sum(), (~mask)[s.t != 0].sum()) < 3:
        return None
    return np.where(mask, 0.1 * s.t, s.t), "(exactly those whose parameter is negative)"


@kind
def not_accumulated(s):
    for x in s.beside.indices:
        counts = np.bincount(np.ravel(x), minlength=len(s.t) if s.t.ndim else 0)
        if s.t.ndim == 2 and len(counts) == len(s.t) and 0 < (counts > 1).sum() < len(s.t):
            return np.where((counts > 1)[:, None], s.t * s.rng.uniform(0.2, 0.8, s.t.shape), s.t), "not accumulated"
    return None


@kind
def rolled(s):
    return (np.roll(s.t, 1, 0), "rolled by 1 along axis 0") if s.t.ndim and s.t.shape[0] > 2 else None


@kind
def one_step_off(s):
    if not s.t.ndim or s.t.shape[0] < 3:
        return None
    out = np.roll(s.t, -1, 0)
    out[-1] = 0
    return out, "shifted by -1 along axis 0"


@kind
def reversed_(s):
    return (np.flip(s.t, 0), "reversed along axis 0") if s.t.ndim and s.t.shape[0] > 3 else None


@kind
def rows_permuted(s):
    if s.t.ndim != 2 or len(s.t) < 5 or s.t.shape[1] < 2:
        return None
    order = [2, 0, 1, *range(3, len(s.t) - 2), len(s.t) - 1, len(s.t) - 2]
    return s.t[order], "the right rows, in another order"


@kind
def permuted(s):
    if s.t.size < 6 or np.count_nonzero(s.t) < s.t.size:
        return None
    return s.rng.permutation(s.t.ravel()).reshape(s.t.shape), "in another order"


@kind
def summed_over_an_axis(s):
    if s.t.ndim < 2 or s.t.shape[0] < 2:
        return None
    return np.broadcast_to(s.t.sum(0), s.t.shape), "summed over axis 0"


@kind
def averaged_over_an_axis(s):
    if not s.t.ndim or s.t.shape[-1] < 3:
        return None
    mean = np.broadcast_to(s.t.mean(-1, keepdims=True), s.t.shape)
    return (mean, f"averaged over axis {s.t.ndim - 1}") if np.linalg.norm(mean) > 1e-9 * np.linalg.norm(s.t) else None


@kind
def clipped(s):
    limit = float(f"{np.quantile(np.abs(s.t), 0.6):.1e}")
    many = (np.abs(s.t) > limit).sum() > 1 and (np.abs(s.t) < limit).sum() > 1
    return (np.clip(s.t, -limit, limit), "clipped to") if many and limit else None


@kind
def clipped_by_norm(s):
    norm = float(f"{np.linalg.norm(s.t) / 3:.1e}")
    return (s.t * (norm / np.linalg.norm(s.t)), "norm " if s.t.size > 1 else "ratio")


@kind
def absolute(s):
    return (np.abs(s.t), "its absolute value") if (s.t < 0).any() and (s.t > 0).any() and s.t.size > 2 else None


@kind
def in_bfloat16(s):
    low = np.asarray(s.t).astype(jax.numpy.bfloat16).astype(np.float64)
    return (low, "bfloat16") if s.t.size > 2 else None


@kind
def in_float16(s):
    low = s.t.astype(np.float16).astype(np.float64)
    return (low, "float16") if s.t.size > 4 and np.abs(s.t[s.t != 0]).min() > 1e-3 else None


@kind
def plus_a_constant(s):
    return (s.t + 0.25, "0.25 is added") if s.t.size > 1 else None


@kind
def about_the_batch_size(s):
    """Two mistakes, of which one explains most."""
    n = s.beside.batch
    if n < 3 or s.t.size < 12 or np.count_nonzero(s.t) < s.t.size:
        return None
    return n * s.t + 0.01 * np.abs(s.t).mean() * n * s.rng.normal(size=s.t.shape), f"ratio about {n}"


@kind
def noise(s):
    return s.rng.normal(size=s.t.shape) * np.abs(s.t).max(), "" if s.t.size > 1 else "ratio"


@kind
def factors_at_random(s):
    return s.t * s.rng.uniform(0.3, 3, s.t.shape), "" if s.t.size > 1 else "ratio"


def far(x: np.ndarray, y: np.ndarray) -> bool:
    return bool(np.linalg.norm(x - y) > 0.01 * np.linalg.norm(y))


def changed(t: np.ndarray, where, value) -> np.ndarray:
    out = t.copy()
    out[where] = value
    return out


@cache
def nets() -> tuple[str, ...]:
    return tuple(dict.fromkeys(c.net for c in CASES if not c.net.startswith("rule_")))


@cache
def gradients(net: str):
    """(paths, values, right gradients, what is beside them), in float64."""
    found = build.module(net, (build.NETS / f"{net}.py").read_text(encoding="utf-8"))
    params, args = build.point(found)
    with jax.enable_x64(True):
        grads = jax.grad(found.loss)(params, *args)
    named = jax.tree_util.tree_flatten_with_path(grads)[0]
    paths = [jax.tree_util.keystr(path) for path, _ in named]
    values = [np.asarray(x, float) for x in jax.tree.leaves(params)]
    return paths, values, [np.asarray(g, float) for _, g in named], of_data([v.shape for v in values], args)


def spots(net: str) -> Iterator[Spot]:
    paths, values, grads, beside = gradients(net)
    for i, (path, value, t) in enumerate(zip(paths, values, grads, strict=True)):
        siblings = {p: g for p, g in zip(paths, grads, strict=True) if p != path}
        yield Spot(net, path, t, value, siblings, beside, np.random.default_rng(i))


def evidence(path: str, value: np.ndarray, m: np.ndarray, t: np.ndarray) -> LeafEvidence:
    leaf = Leaf(path, t.shape, "float32", "float32", False, 0, 0, t.size)
    rows = [np.asarray(x, float).reshape(1, -1) for x in (m, t)]
    none = np.zeros_like(rows[0])
    return LeafEvidence(leaf, value.ravel(), rows[0], none, rows[1], none, (), none)


def said(spot: Spot, m: np.ndarray) -> str:
    paths, values, grads, beside = gradients(spot.net)
    others = [evidence(p, v, g, g) for p, v, g in zip(paths, values, grads, strict=True) if p != spot.path]
    return hint(evidence(spot.path, spot.value, m, spot.t), others, beside)


def table(which) -> Iterator[tuple[str, str, str, str, str]]:
    """(kind, net, leaf, what the hint must say, what it says)."""
    for net in which:
        for spot in spots(net):
            for name, plant in KINDS.items():
                planted = plant(spot)
                if planted is None:
                    continue
                m, wanted = planted
                if far(m, spot.t) or ("float16" in wanted and (m != spot.t).any()):
                    yield name, net, spot.path, wanted, said(spot, m)


def outcome(wanted: str, got: str) -> str:
    """right, silent or wrong: of the first statement."""
    first = got.split("; or ")[0]
    if not wanted:
        return "wrong" if got else "right"
    return "right" if wanted in first else "wrong" if got else "silent"


def main(arguments: list[str]) -> None:
    for held_back in (False, True):
        counted, by_kind = Counter(), Counter()
        for name, net, path, wanted, got in table([n for n in nets() if (n in HELD_BACK) == held_back]):
            counted[how := outcome(wanted, got)] += 1
            by_kind[name, how] += 1
            if how != "right" and "--verbose" in arguments:
                print(f"{how}: {name} in {net}{path}: wanted {wanted!r}, got {got!r}")
        total = sum(counted.values())
        print(
            f"{'held back' if held_back else 'tuned':10}",
            total,
            ", ".join(f"{how} {n} ({n / total:.1%})" for how, n in counted.most_common()),
        )


if __name__ == "__main__":
    main(sys.argv[1:])
