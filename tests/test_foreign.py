"""Leaves that JAX does not know: what hides numbers is refused with advice, what holds none is carried."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.test_util import check_grads
from jaxcheck.theta import take_apart

W = jnp.arange(1.0, 4.0)


@dataclasses.dataclass
class Layer:
    w: Any
    name: str = "layer"


class Plain:
    def __init__(self, **held):
        self.__dict__.update(held)

    def __call__(self, x):
        return x


class Quiet(Plain):
    __call__ = None


class Slotted:
    __slots__ = ("w",)

    def __init__(self, w):
        self.w = w


class Named(dict):
    pass


class NumPyLike:
    def __array__(self, dtype=None, copy=None):
        return np.ones(3)


class JaxLike:
    def __jax_array__(self):
        return W


class Rate(enum.Enum):
    SLOW = 0.1


OBJECTS = np.empty(2, object)
OBJECTS[:] = [1.0, "x"]
HIDING = {
    "dataclass": (Layer(W), "register_dataclass(Layer)"),
    "dataclass of a float": (Layer(0.5), "`.w` (float)"),
    "dataclass of a dataclass": (Layer(Layer([1, np.ones(2)])), "`.w.w[1]` (float64 array)"),
    "object": (Quiet(a=3, b={"c": W}), "`.b['c']` (float32 array)"),
    "callable that holds an array": (Plain(w=W), "register_pytree_node"),
    "slots": (Slotted(W), "`.w` (float32 array)"),
    "dict of another kind": (Named(a=1.0), "Pass a plain dict"),
    "set": ({1.0}, "Pass a list"),
    "deque": (collections.deque([1, W]), "`[1]` (float32 array)"),
    "partial of an array": (functools.partial(jnp.dot, W), "`.args[0]` (float32 array)"),
    "namespace": (types.SimpleNamespace(w=W), "`.w`"),
    "__array__": (NumPyLike(), "np.asarray"),
    "__jax_array__": (JaxLike(), "jnp.asarray"),
    "masked array": (np.ma.array([1.0, 2.0], mask=[0, 1]), "masked array"),
    "masked integers": (np.ma.array([1, 2], mask=[0, 1]), "masked array"),
    "array of objects": (OBJECTS, "array of objects"),
    "records": (np.zeros(2, [("a", float)]), "array of records"),
    "long double": (np.ones(2, np.longdouble), "astype(np.float64)"),
    "the other byte order": (np.ones(2, ">f8"), "dtype >f8"),
}


@pytest.mark.parametrize("name", HIDING)
def test_what_hides_numbers_is_refused_as_jax_refuses_it(name):
    odd, text = HIDING[name]
    tree = {"x": W, "odd": [odd]}
    with pytest.raises((TypeError, ValueError)):
        jax.grad(lambda p: jnp.sum(p["x"]))(tree)  # or there is no ground to refuse it
    f = lambda p: jnp.sum(jnp.sin(p["x"]))  # noqa: E731
    for door in (
        lambda: jc.check_grad(f, tree, jax.grad(f)),
        lambda: check_grads(f, (tree,), 1),
        lambda: jc.check_rule(f, tree),
        lambda: jc.check_batch(f, [tree, tree]),
    ):
        with pytest.raises(TypeError) as caught:
            door()
        assert "odd[0]`" in str(caught.value) and text in str(caught.value)


CARRIED = {
    "text": "relu",
    "function": lambda x: 0.5 * x,
    "jitted": jnp.tanh,
    "rule": jax.nn.relu,
    "ufunc": jnp.logaddexp,
    "a slope": functools.partial(jax.nn.leaky_relu, negative_slope=0.2),
    "callable": Plain(rate=0.1, name="x"),
    "class": Layer,
    "dtype": np.dtype("float32"),
    "enum": Rate.SLOW,
    "settings": Layer(3),
    "integers": Quiet(n=[1, 2]),
    "names": np.array(["a", "b"]),
    "None in objects": np.array([None]),
    "module": np,
    "bytes": b"x",
    "NumPy's": np.tanh,
}


@pytest.mark.parametrize("name", CARRIED)
def test_what_holds_no_parameter_is_carried(name):
    theta = take_apart({"x": W, "odd": CARRIED[name]})
    assert [leaf.path for leaf in theta.leaves] == ["x"] and [path for path, _ in theta.carried] == ["odd"]
    assert theta.rebuild(theta.inexact())["odd"] is CARRIED[name]


def test_an_object_in_a_circle_is_searched_once():
    circle = Quiet()
    circle.self = circle
    assert not take_apart({"odd": circle}).leaves
    circle.w = W
    with pytest.raises(TypeError, match="float32 array"):
        take_apart({"odd": circle})


def test_extra_arguments_may_be_any_object_that_reaches_the_loss_as_it_is():
    data = Layer(np.ones(3))

    def loss(p, layer):
        assert layer is data
        return jnp.sum(jnp.sin(p) * layer.w)

    assert jc.check_grad(loss, W, lambda p, layer: jnp.cos(p), args=(data,)).ok
    with pytest.raises(TypeError, match=r"`args\[0\]` is a masked array|`\[0\]` is a masked array"):
        jc.check_grad(lambda p, m: jnp.sum(p), W, args=(np.ma.array([1.0], mask=[0]),))


def test_registered_as_advised_it_is_a_tree():
    @functools.partial(jax.tree_util.register_dataclass, data_fields=["w"], meta_fields=["name"])
    @dataclasses.dataclass
    class Registered(Layer):
        pass

    f = lambda p: jnp.sum(jnp.sin(p["odd"].w))  # noqa: E731
    report = jc.check_grad(f, {"odd": Registered(W)}, lambda p: {"odd": Registered(2 * jnp.cos(p["odd"].w))})
    assert [x.path for x in report.leaves if x.verdict is jc.Verdict.FAIL] == ["odd.w"]


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("grad", ["hand", "autodiff"])
def test_the_dtype_is_the_parameters_own(dtype, x64, grad):
    with jax.enable_x64(x64):
        x = np.asarray(W).astype(dtype)
        f = lambda x: jnp.sum(jnp.sin(x))  # noqa: E731
        report = jc.check_grad(f, x, jnp.cos if grad == "hand" else None)
        assert report.ok and report.leaves[0].dtype == dtype
        assert not any("dtype differs" in note for note in report.notes)
        as_run = "float32" if dtype == "float64" and not x64 else dtype
        assert report.leaves[0].native == as_run
        assert all(f"native {as_run} loses" in line for line in str(report).splitlines() if "precision:" in line)


def test_a_gradient_of_another_dtype_is_still_noted():
    report = jc.check_grad(
        lambda x: jnp.sum(jnp.sin(x)),
        np.asarray(W),
        lambda x: jnp.cos(x).astype(jnp.bfloat16),
        tolerance=jc.Tolerance(rtol=1e-2),
        must_catch=1,
    )
    assert any("gradient bfloat16, parameter float32" in note for note in report.notes)
    with jax.enable_x64(True):
        report = jc.check_grad(
            lambda x: jnp.sum(jnp.sin(x)),
            np.asarray(W, np.float64),
            lambda x: jnp.cos(x.astype(jnp.float32)),
            tolerance=jc.Tolerance(rtol=1e-2),
        )
    assert any("gradient float32, parameter float64" in note for note in report.notes)
