"""A failing check made small: the script fails alike, in the same leaf, with plain data."""

from __future__ import annotations

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck.check import script


def loss(p, x, y):
    return jnp.mean((jnp.tanh(x @ p["W"] + p["b"]) - y) ** 2)


def grad(p, x, y):
    t = jnp.tanh(x @ p["W"] + p["b"])
    d = 2 * (t - y) / y.size * (1 - t)
    return {"W": x.T @ d, "b": jax.grad(loss)(p, x, y)["b"]}


@pytest.fixture(scope="module")
def failed():
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return jc.check_grad(loss, {"W": draw(5, 4), "b": draw(4)}, grad, args=(draw(12, 5), draw(12, 4)), where=False)


@pytest.fixture(scope="module")
def text(failed):
    return failed.minimise(20)


def test_the_script_fails_alike(failed, text, capsys):
    names: dict = {}
    exec(text, names)
    report = names["report"]
    assert (report.verdict, report.reason) == (failed.verdict, failed.reason)
    assert [leaf.path for leaf in report.failed] == ["W"]
    assert "FAIL" in capsys.readouterr().out


def test_a_file_to_go_on_from_is_the_first_calls_alone(tmp_path):
    # Every smaller call was refused as another check than that of the file, and the script would have been.
    x = np.linspace(-2, 2, 40, dtype=np.float32)
    report = jc.check_grad(square, x, lambda x: 3 * x, where=False, resume=tmp_path / "evidence")
    text = report.minimise(5)
    assert "resume" not in text and len(text) < 600 and "linspace" not in text
    assert text.count("\n") <= script.LINES


def square(x):
    return jnp.sum(x**2)


def test_its_data_are_few_and_plain(text):
    names: dict = {}
    exec(text, names)
    leaves = jax.tree.leaves((names["params"], names["args"]))
    assert len(text.splitlines()) <= 20
    assert sum(x.size for x in leaves) <= 8
    assert all(np.array_equal(10 * x, np.round(10 * x)) for x in leaves)


def test_a_report_knows_it_only_where_it_was_made(failed, tmp_path):
    failed.save(tmp_path / "r.json")
    for other in (jc.Report.load(tmp_path / "r.json"), pickle.loads(pickle.dumps(failed)), copy.copy(failed)):
        assert other == failed
        with pytest.raises(RuntimeError, match="run the check again"):
            other.minimise()


def test_what_cannot_be_made_small_says_why():
    with pytest.raises(ValueError, match="nothing failed here, the verdict is PASS"):
        jc.check_grad(lambda x: x**2, np.float32(1), lambda x: 2 * x).minimise()
    with pytest.raises(ValueError, match="grad was given as numbers"):
        jc.check_grad(lambda x: x**2, np.float32(1), np.float32(3), where=False).minimise()


def test_a_function_that_cannot_be_imported_is_told_of():
    report = jc.check_grad(lambda x: x**2, np.float32(2), lambda x: x, where=False)
    assert "# loss is test_a_function_that_cannot_be_imported_is_told_of.<locals>.<lambda>, test_minimise.py:" in (
        report.minimise(0)
    )


def test_a_custom_rule():
    report = jc.check_rule(tripled, np.arange(7, dtype=np.float32), level="quick", algebra=False, where=False)
    names: dict = {}
    exec(report.minimise(10), names)
    assert names["report"].verdict is jc.Verdict.FAIL
    assert names["args"][0].shape == (1,)


@jax.custom_vjp
def tripled(x):
    return 3 * x


tripled.defvjp(lambda x: (tripled(x), None), lambda _, ct: (2 * ct,))


@pytest.mark.parametrize(
    "value",
    [
        {"a": [np.float32([[1.5, np.inf]]), None, 2], "b": (np.arange(3),)},
        jnp.ones((2, 2), jnp.bfloat16) * 1.5,
        np.array([1 + 2j]),
        np.zeros((0, 3)),
        (1.0, "x", True),
        jax.random.key(3),
    ],
    ids=lambda v: type(v).__name__,
)
def test_values_are_written_as_they_are(value):
    again = eval(script.written(value), {"jax": jax, "np": np})
    assert jax.tree.structure(again) == jax.tree.structure(value)
    for x, y in zip(jax.tree.leaves(again), jax.tree.leaves(value), strict=True):
        assert getattr(x, "dtype", type(x)) == getattr(y, "dtype", type(y))
        if not isinstance(x, str) and not jax.dtypes.issubdtype(getattr(x, "dtype", float), jax.dtypes.prng_key):
            assert np.array_equal(np.asarray(x), np.asarray(y))
