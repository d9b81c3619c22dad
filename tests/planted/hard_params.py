"""Shapes and kinds of parameters: containers, empty and 0-d leaves, integers, keys, aux."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests.planted.base import ALL_REAL, Problem, draws, right, wrong


class Dense(NamedTuple):
    W: Any
    b: Any


@partial(jax.tree_util.register_dataclass, data_fields=("first", "second", "gain"), meta_fields=())
@dataclass(frozen=True)
class Net:
    first: Dense
    second: Dense
    gain: Any


def no_gradient(leaf):
    """What jax.grad(..., allow_int=True) gives for an integer, bool or key leaf."""
    return np.zeros(leaf.shape, jax.dtypes.float0)


def containers(dtype, bug=None):
    """NamedTuples in a dataclass, with a 0-d leaf."""
    r = draws(151, dtype)
    p, X = Net(Dense(r(3, 4), r(4)), Dense(r(4, 2), r(2)), r()), r(5, 3)

    def loss(p, X):
        H = jnp.tanh(X @ p.first.W + p.first.b)
        return jnp.sum((H @ p.second.W + p.second.b) ** 2) * p.gain

    def grad(p, X):
        H = jnp.tanh(X @ p.first.W + p.first.b)
        Y = H @ p.second.W + p.second.b
        dY = 2 * Y * p.gain
        dZ = dY @ p.second.W.T * (1 - H**2)
        second = Dense(H.T @ dY, (2 if bug == "bias" else 1) * dY.sum(0))
        gain = jnp.sum(Y**2) * (1.001 if bug == "gain" else 1)
        return Net(Dense(X.T @ dZ, dZ.sum(0)), second, gain)

    return Problem(loss, p, grad, (X,))


def odd_shapes(dtype, bug=None):
    """Nested dicts and lists with empty, 0-d, 1 x 1 and 4-d leaves, a None, and an unused one."""
    r = draws(152, dtype)
    p = {
        "a": {"empty": r(0), "none": None, "deep": [r(), {"x": r(1, 1)}]},
        "b": (r(2, 1, 3, 2),),
        "rows": r(0, 3),
        "unused": r(4),
    }

    def loss(p):
        s, x, b = p["a"]["deep"][0], p["a"]["deep"][1]["x"], p["b"][0]
        empty = jnp.sum(p["a"]["empty"]) + jnp.sum(p["rows"] ** 2)
        return jnp.sum(jnp.sin(b * s)) + jnp.sum(x**2) + empty

    def grad(p):
        s, x, b = p["a"]["deep"][0], p["a"]["deep"][1]["x"], p["b"][0]
        ds = jnp.sum(jnp.cos(b * s) * b)
        db = jnp.cos(b * s) * s
        if bug == "slice":
            db = db.at[:, :, 1].set(db[:, :, 0])
        unused = jnp.full_like(p["unused"], 1e-4 if bug == "unused" else 0)
        x = 2 * x.T if bug != "x" else x
        return {
            "a": {"empty": p["a"]["empty"], "none": None, "deep": [ds, {"x": x}]},
            "b": (db,),
            "rows": 2 * p["rows"],
            "unused": unused,
        }

    return Problem(loss, p, grad)


def scalar(dtype, bug=None):
    """The textbook's theta^3 at 1, params a bare 0-d array."""
    return Problem(lambda t: t**3, jnp.asarray(1, dtype), lambda t: (2.5 if bug else 3) * t**2)


def integers(dtype, bug=None):
    """Integer, bool and key leaves among the parameters: carried, not differentiated."""
    r = draws(153, dtype)
    p = {
        "W": r(3, 3),
        "steps": jnp.asarray(2),
        "mask": jnp.asarray([True, False, True]),
        "key": jax.random.key(5),
        "ids": jnp.asarray([0, 2, 2]),
    }

    def loss(p):
        keep = jax.random.bernoulli(p["key"], 0.5, (3, 3))
        rows = jnp.where(keep, p["W"], 0)[p["ids"]] ** 2 * p["steps"]
        return jnp.sum(jnp.where(p["mask"], rows, 0))

    def grad(p):
        keep = jax.random.bernoulli(p["key"], 0.5, (3, 3))
        V = jnp.where(keep, p["W"], 0)
        d = jnp.where(p["mask"], 2 * V[p["ids"]] * p["steps"], 0)
        d = jnp.zeros_like(V).at[p["ids"]].set(d) if bug else jnp.zeros_like(V).at[p["ids"]].add(d)
        return {k: no_gradient(v) if k != "W" else jnp.where(keep, d, 0) for k, v in p.items()}

    return Problem(loss, p, grad)


def integer_zeros(dtype):
    """An integer leaf whose hand-written gradient is zeros of its own dtype, as many write it."""
    r = draws(154, dtype)
    p = {"n": jnp.asarray([1, 2, 3]), "x": r(3)}

    def grad(p):
        return {"n": jnp.zeros_like(p["n"]), "x": jnp.cos(p["x"]) * p["n"]}

    return Problem(lambda p: jnp.sum(jnp.sin(p["x"]) * p["n"]), p, grad)


def fixed_key(dtype, bug=None, keep=0.8):
    """Dropout and noise from a fixed key: random, yet a function."""
    r = draws(155, dtype)
    p, X, key = {"W": r(4, 5), "v": r(5)}, r(6, 4), jax.random.key(7)

    def noise(key):
        drop, jitter = jax.random.split(key)
        # The draws' own dtype is pinned: another one would be other numbers.
        return (jax.random.bernoulli(drop, keep, (6, 5)), jax.random.normal(jitter, (6, 4), jnp.float32))

    def loss(p, key):
        mask, e = noise(key)
        A = jnp.tanh((X + 0.1 * e) @ p["W"])
        return jnp.mean((jnp.where(mask, A / keep, 0) @ p["v"]) ** 2)

    def grad(p, key):
        mask, e = noise(jax.random.fold_in(key, 1) if bug == "another-key" else key)
        inputs = X if bug == "no-noise" else X + 0.1 * e
        A = jnp.tanh((X + 0.1 * e) @ p["W"])
        D = jnp.where(mask, A / keep, 0)
        dY = 2 * (D @ p["v"]) / 6
        dA = jnp.where(mask, jnp.outer(dY, p["v"]) / keep, 0)
        return {"W": inputs.T @ (dA * (1 - A**2)), "v": D.T @ dY}

    return Problem(loss, p, grad, (key,))


def with_aux(dtype, bug=None):
    """has_aux: predictions and a counter come back beside the loss."""
    r = draws(156, dtype)
    w, X, y = r(3), r(5, 3), r(5)

    def loss(w, X, y):
        e = X @ w - y
        return jnp.mean(e**2), {"error": e, "count": jnp.asarray(5), "name": None}

    def grad(w, X, y):
        return (1 if bug else 2) * X.T @ (X @ w - y) / 5

    return Problem(loss, w, grad, (X, y), options={"has_aux": True})


def shared(dtype, bug=None):
    """One leaf used in three places, in a tree whose keys sort unlike their order."""
    r = draws(157, dtype)
    p = {"z": r(3), "B": r(3, 3), "a10": r(3), "a9": r(3)}

    def loss(p):
        h = jnp.sin(p["B"] @ p["z"])
        return p["z"] @ h + jnp.sum(p["B"] * p["B"].T) + p["a10"] @ (p["a9"] ** 2) + h @ p["a9"]

    def grad(p):
        u = p["B"] @ p["z"]
        du = jnp.cos(u) * (p["z"] + p["a9"])
        g = {
            "z": jnp.sin(u) + p["B"].T @ du,
            "B": jnp.outer(du, p["z"]) + 2 * p["B"].T,
            "a10": p["a9"] ** 2,
            "a9": 2 * p["a10"] * p["a9"] + jnp.sin(u),
        }
        if bug == "one-use":
            g["z"] = p["B"].T @ du
        if bug == "order":  # sorted as numbers, not as strings
            g["a9"], g["a10"] = g["a10"], g["a9"]
        return g

    return Problem(loss, p, grad)


CASES = (
    right("containers", containers, "NamedTuples in a dataclass"),
    wrong("containers-bias", containers, "bias", "a bias doubled deep in a dataclass", "second.b"),
    wrong("containers-gain", containers, "gain", "a 0-d leaf 1e-3 wrong", "gain"),
    right("odd-shapes", odd_shapes, "empty, 0-d, 1 x 1, 4-d, None, unused"),
    wrong("odd-shapes-slice", odd_shapes, "slice", "one slice copied to the next", "b[0]"),
    wrong("odd-shapes-unused", odd_shapes, "unused", "1e-4 where a leaf is not used", "unused"),
    wrong("odd-shapes-1x1", odd_shapes, "x", "half, deep in lists and dicts", "a.deep[1].x"),
    right("theta-cubed", scalar, "the textbook's theta^3", dtypes=ALL_REAL),
    wrong("theta-cubed-slope", scalar, "slope", "2.5 theta^2", "", dtypes=ALL_REAL),
    right("integer-leaves", integers, "integers, bools and a key among the parameters"),
    wrong("integer-leaves-set", integers, "set", "duplicates lost beside integer leaves", "W"),
    right("integer-leaves-zeros", integer_zeros, "integer zeros for an integer leaf"),
    right("fixed-key", fixed_key, "dropout and noise of a fixed key"),
    wrong("fixed-key-another", fixed_key, "another-key", "another mask in backprop", "W v"),
    wrong("fixed-key-no-noise", fixed_key, "no-noise", "input noise forgotten in dW", "W"),
    right("has-aux", with_aux, "a loss with aux"),
    wrong("has-aux-half", with_aux, "half", "2 missing, with aux", ""),
    right("shared-leaf", shared, "one leaf used three times"),
    wrong("shared-leaf-one-use", shared, "one-use", "one of its uses dropped", "z"),
    wrong("shared-leaf-order", shared, "order", "leaves in another order", "a10 a9"),
)
