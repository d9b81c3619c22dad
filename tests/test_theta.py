"""Theta: every pytree taken apart and put back, its order, its paths, and what counts as a matching gradient."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxcheck as jc
from jaxcheck.theta import mismatch, take_apart


class Pair(NamedTuple):
    W: Any
    b: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Layer:
    W: Any
    b: Any


def small(*shape, dtype=np.float32):
    return jnp.asarray(np.arange(1, 1 + int(np.prod(shape))).reshape(shape), dtype)


TREES = {
    "dict": {"b": small(3), "W": small(2, 3)},
    "list": [small(2), small(3)],
    "tuple of dicts": ({"W": small(2)}, {"W": small(1)}),
    "namedtuple": Pair(small(2, 2), small(2)),
    "dataclass": {"layers": [Layer(small(2, 2), small(2)), Layer(small(2), small(1))]},
    "0-d and empty": {"s": small(), "e": jnp.zeros((0, 3)), "v": small(2)},
    "bare": small(4),
    "python numbers": {"x": 1.5, "y": [2.5]},
}
PATHS = {
    "dict": ("W", "b"),
    "list": ("[0]", "[1]"),
    "tuple of dicts": ("[0].W", "[1].W"),
    "namedtuple": ("W", "b"),
    "dataclass": ("layers[0].W", "layers[0].b", "layers[1].W", "layers[1].b"),
    "0-d and empty": ("e", "s", "v"),
    "bare": ("params",),
    "python numbers": ("x", "y[0]"),
}


@pytest.mark.parametrize("name", TREES)
def test_order_paths_and_the_way_back(name):
    tree = TREES[name]
    theta = take_apart(tree)
    assert tuple(leaf.path for leaf in theta.leaves) == PATHS[name]
    np.testing.assert_array_equal(theta.ravel(), np.asarray(ravel_pytree(tree)[0]))
    back = theta.rebuild(theta.unravel(theta.ravel()))
    assert jax.tree_util.tree_structure(back) == jax.tree_util.tree_structure(tree)
    jax.tree.map(np.testing.assert_array_equal, back, tree)


def test_paths_of_odd_keys():
    theta = take_apart({"two words": small(1), "a.b": small(1)})
    assert [leaf.path for leaf in theta.leaves] == ["['a.b']", "['two words']"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_every_float_dtype_comes_back(dtype):
    z = jnp.asarray([1.5, -2.25], dtype) * (1 + 2j if dtype == "complex64" else 1)
    theta = take_apart({"z": z})
    assert theta.leaves[0].dtype == dtype
    assert theta.size == (4 if dtype == "complex64" else 2)
    wide = np.asarray(z).astype(complex if theta.size == 4 else float)
    np.testing.assert_array_equal(theta.unravel(theta.ravel())[0], wide)
    if dtype == "complex64":  # real parts first
        np.testing.assert_array_equal(theta.ravel(), [1.5, -2.25, 3.0, -4.5])


def test_what_is_not_differentiable_is_carried_with_the_reason():
    tree = {
        "w": small(2),
        "n": 3,
        "flag": True,
        "ids": np.arange(3),
        "mask": np.ones(2, bool),
        "none": None,
        "key": jax.random.key(0),
        "f": jnp.tanh,
        "name": "relu",
    }
    theta = take_apart(tree)
    assert [leaf.path for leaf in theta.leaves] == ["w"]
    carried = dict(theta.carried)
    assert carried.pop("f")
    assert carried == {
        "n": "Python int",
        "flag": "Python bool",
        "ids": "int64 array",
        "mask": "bool array",
        "none": "None",
        "key": "PRNG key",
        "name": "str object",
    }
    back = theta.rebuild(theta.inexact())
    assert back["f"] is jnp.tanh and back["none"] is None and back["n"] == 3


@pytest.mark.slow
def test_equinox_module_with_functions_as_leaves():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(3, 1, 4, 2, key=jax.random.key(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)

    def loss(model):
        return jnp.mean(jax.vmap(model)(x) ** 2)

    right = jc.check_grad(loss, model, grad=eqx.filter_grad(loss)).assert_ok()
    assert [leaf.path for leaf in right.leaves][:2] == ["layers[0].weight", "layers[0].bias"]
    assert "activation" in dict(right.carried)

    def wrong(model):
        g = eqx.filter_grad(loss)(model)
        return eqx.tree_at(lambda m: m.layers[1].bias, g, 2 * g.layers[1].bias)

    report = jc.check_grad(loss, model, grad=wrong)
    assert [leaf.path for leaf in report.leaves if leaf.verdict is jc.Verdict.FAIL] == ["layers[1].bias"]


def test_flax_params():
    nn = pytest.importorskip("flax.linen")
    model, x = nn.Dense(2), small(3, 4) / 7
    variables = model.init(jax.random.key(0), x)

    def loss(variables):
        return jnp.sum(jnp.tanh(model.apply(variables, x)))

    report = jc.check_grad(loss, variables, grad=jax.grad(loss)).assert_ok()
    assert [leaf.path for leaf in report.leaves] == ["params.bias", "params.kernel"]


P = {"W": small(2, 3), "b": small(3)}
WRONG_TREES = {
    "missing leaf": ({"W": P["W"]}, "no leaf `b`"),
    "extra leaf": ({**P, "c": small(1)}, "`c`"),
    "shape": ({**P, "b": small(2)}, "`b` has shape (2,), the parameter (3,)"),
    "0-d for a vector": ({**P, "b": small()}, "`b` has shape ()"),
    "integers": ({**P, "b": np.arange(3)}, "`b` has dtype int"),
    "complex": ({**P, "b": small(3) + 0j}, "`b` is complex"),
    "None": ({**P, "b": None}, "`b` is None"),
    "text": ({**P, "b": "x"}, "`b` is a str"),
    "a list for an array": ({**P, "b": [0.0, 1.0, 2.0]}, "`b`"),
}


@pytest.mark.parametrize("name", WRONG_TREES)
def test_a_gradient_of_another_structure_names_the_leaf(name):
    tree, text = WRONG_TREES[name]
    found, why = mismatch(take_apart(P), tree)
    assert found is None
    assert text in why


def test_a_bare_array_is_no_gradient_of_a_dict_with_one_leaf():
    found, why = mismatch(take_apart({"W": small(3)}), small(3))
    assert found is None and "`W`" in why


def test_another_dtype_is_noted():
    found, note = mismatch(take_apart(P), {**P, "b": P["b"].astype(jnp.bfloat16)})
    assert found is not None and "`b`: gradient bfloat16, parameter float32" in note


@pytest.mark.parametrize("params", [np.zeros(2), {"w": np.zeros(2)}], ids=["an array", "a leaf"])
def test_a_list_for_an_array_is_told_how_to_be_one(params):
    grads = [1.0, 2.0] if isinstance(params, np.ndarray) else {"w": [1.0, 2.0]}
    found, said = mismatch(take_apart(params), grads)
    assert found is None and "hand over np.asarray(...) of it" in said
    assert "np.asarray" not in mismatch(take_apart({"w": np.zeros(2)}), {"v": np.zeros(2)})[1]
