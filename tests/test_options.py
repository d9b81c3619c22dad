"""An option that cannot be is refused in one sentence, which names it as the caller wrote it and says what to write."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc

W = np.linspace(-1, 1, 4)
POINTS = np.stack([W, 2 * W])
FAST = dict(algebra=False, transforms=False)


def loss(w, scale=1.0):
    return scale * jnp.sum(w**3)


def product(x, y):
    return x * y


def grad(**options):
    return jc.check_grad(loss, W, **options)


def rule(*args, **options):
    return jc.check_rule(product, *(args or (W, W + 3)), **FAST, **options)


def batch(points=None, **options):
    return jc.check_batch(loss, points, **options)


@pytest.mark.parametrize("argnums", [np.int64(1), np.array(1), jnp.int32(1), (np.int8(1),), [-1]])
def test_a_place_is_a_whole_number_of_whatever_kind(argnums):
    assert [leaf.path for leaf in rule(argnums=argnums).leaves] == ["y"]
    sums = lambda x, y: jnp.sum(x * y)  # noqa: E731
    assert jc.check_grad(sums, W, argnums=argnums, args=(W + 3,)).ok


def nothing(p):
    return None


def other(p):
    return {"w": p}


REFUSED = {
    "no whole number": (lambda: rule(argnums=1.0), TypeError, "argnums=1.0: a whole number, the place of an argument"),
    "an array": (lambda: rule(argnums=np.array([0])), TypeError, "argnums=array([0]): a whole number"),
    "a name": (lambda: rule(argnums="x"), TypeError, "argnums='x': a whole number"),
    "True": (lambda: rule(argnums=True), TypeError, "argnums=True: a whole number"),
    "none": (lambda: rule(argnums=()), ValueError, "argnums=(): each place once, and one at least"),
    "twice": (lambda: rule(argnums=(0, -2)), ValueError, "argnums=(0, -2): each place once, and one at least"),
    "not there": (lambda: rule(W, W, argnums=2), ValueError, "argnums=2 is out of range: f was given 2 arguments"),
    "an array of check_grad": (lambda: grad(argnums=np.array([0])), TypeError, "argnums=array([0]): a whole number"),
    "not there in check_grad": (lambda: grad(argnums=1), ValueError, "out of range: params is the only argument"),
    "init": (lambda: batch(init=3, n=3), TypeError, "init must be a function, init(key) -> params, not int"),
    "step": (lambda: batch(W, train_step=3, steps=[0, 1]), TypeError,
             "train_step must be a function, train_step(params) -> params, not int"),
    "a step that returns nothing": (lambda: batch(W, train_step=nothing, steps=[0, 3]), TypeError,
                                    "train_step returned None at step 1: it returns the parameters after a step"),
    "a step that returns another tree": (lambda: batch(W, train_step=other, steps=[0, 1]), ValueError,
                                         "step 1 of train_step has other leaves or shapes than step 0 of train_step: "
                                         "it has a leaf `w`, step 0 of train_step has none"),
    "points": (lambda: batch([W, W[:2]]), ValueError, "points[1] has other leaves or shapes than points[0]: leaf"),
    "kwargs": (lambda: grad(kwargs={"size": 2.0}), TypeError,
               "got an unexpected keyword argument 'size': leave that out of kwargs={'size': ...}"),
    "kwargs of the place": (lambda: grad(kwargs={"w": 2.0}), TypeError, "leave that out of kwargs={'w': ...}"),
    "kwargs of a rule": (lambda: rule(kwargs={"size": 2.0}), TypeError, "leave that out of kwargs={'size': ...}"),
    "kwargs no dict": (lambda: rule(kwargs=3), TypeError, "kwargs must be a dict of f's keyword arguments, not int"),
    "tolerance": (lambda: grad(tolerance=-1e-3), ValueError, "tolerance=-0.001: a relative bound, finite and not"),
    "tolerance NaN": (lambda: rule(tolerance=float("nan")), ValueError, "tolerance=nan: a relative bound"),
    "where": (lambda: grad(where="30"), TypeError, "where='30': True, False, or a number, the seconds that"),
    "where None": (lambda: rule(where=None), TypeError, "where=None: True, False, or a number"),
    "resume": (lambda: grad(resume=""), ValueError, "resume='' is no path; give that of a file, or leave resume out"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_option_cannot_be(name):
    call, kind, said = REFUSED[name]
    with pytest.raises(kind) as refused:
        call()
    assert said in str(refused.value)


def test_a_function_for_progress_that_takes_nothing():
    with pytest.raises(TypeError) as refused:
        grad(progress=lambda: None)
    assert "raised by progress=" in "".join(refused.value.__notes__)


def test_where_is_a_number_of_numpys_or_its_yes_and_no():
    for where in (np.float64(3), np.bool_(False), 0, 1.5):
        assert grad(where=where).ok


def test_points_of_init_are_named_as_such():
    sizes = iter((3, 4, 5))
    with pytest.raises(ValueError, match=r"point 1 of init has other leaves or shapes than point 0 of init"):
        batch(init=lambda key: np.array(jax.random.normal(key, (next(sizes),))).astype(float), n=2)
