"""Every example does what its text says, and each network's check catches a planted mistake."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest

import jaxcheck as jc
from jaxcheck import Reason, Verdict

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blamed(report: jc.Report) -> set[str]:
    return {leaf.path for leaf in report.leaves if leaf.verdict is Verdict.FAIL}


def with_leaf_changed(backprop, path: tuple[str, ...], change):
    """The same backprop, with one leaf of its result passed through `change`."""

    def planted(*args):
        def at(key_path, g):
            return change(g) if tuple(k.key for k in key_path) == path else g

        return jax.tree_util.tree_map_with_path(at, backprop(*args))

    return planted


def test_the_readme_lists_every_example():
    text = (EXAMPLES / "README.md").read_text()
    assert [name for name in NAMES if f"{name}.py" not in text] == []


@pytest.mark.parametrize("name", NAMES)
def test_an_example_teaches_and_has_a_main(name):
    text = (EXAMPLES / f"{name}.py").read_text("utf-8")
    program = ast.parse(text)  # read, not run: its packages may be missing
    taught = ast.get_docstring(program) or ""
    assert len(taught.splitlines()) >= 7
    assert f"python examples/{name}.py" in taught
    assert "main" in {node.name for node in program.body if isinstance(node, ast.FunctionDef)}
    assert len(text.splitlines()) < 60


def passes(*reasons):
    return Verdict.PASS, {Reason.AGREE, *reasons}, set()


def fails(*leaves):
    return Verdict.FAIL, {Reason.MANUAL_WRONG}, set(leaves)


# What each report of a short example is: the verdict, its reasons, the leaves that fail.
SHORT = {
    "physics_loss": [passes()],
    "numpy_backprop": [fails("W2"), passes()],
    "equinox_mlp": [passes()],
    "flax_linen": [passes(), fails("params.layers_0.bias", "params.layers_0.kernel")],
    "flax_nnx": [passes()],
    "optax_training": [fails("W1"), passes()],
    "pallas_kernel": [passes(), fails("x")],
    "implicit_layer": [passes(Reason.CONVERGED), fails("W", "x")],
}
PACKAGE = {"equinox_mlp": "equinox", "flax_linen": "flax", "flax_nnx": "flax", "optax_training": "optax"}
QUICK = {"physics_loss", "numpy_backprop"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in SHORT]
)
def test_a_short_example(name, capsys):
    if name in PACKAGE:
        pytest.importorskip(PACKAGE[name], reason=f"needs {PACKAGE[name]} (extra `examples`)")
    reports = load(name).main()
    for report, (verdict, reasons, leaves) in zip(reports, SHORT[name], strict=True):
        assert (report.verdict, blamed(report)) == (verdict, leaves), report
        assert report.reason in reasons
    if name == "numpy_backprop":
        assert "extra term 0.1 x parameter" in reports[0]["W2"].hint
    if name == "equinox_mlp":
        assert "steps" in dict(reports[0].carried)
    if name == "optax_training":
        assert reports[0].points_passed == 1 and reports[0].difference < 1e-3  # below the textbook's own bound


def test_cube_centred_beats_forward(capsys):
    module = load("cube")
    centred, forward, own = module.main()
    assert centred.leaves[0].norm_numeric == pytest.approx(3.0001, abs=1e-9)
    assert forward.leaves[0].norm_numeric == pytest.approx(3.0301, abs=1e-9)
    assert own.ok and own.difference < 1e-10 and own.leaves[0].error_bar < 1e-8
    out = capsys.readouterr().out
    assert "3.0001" in out and "3.0301" in out
    wrong = jc.check_grad(module.J, module.THETA, grad=lambda theta: 3.001 * theta**2)
    assert wrong.verdict is Verdict.FAIL


def test_classifier_gives_the_textbook_number_and_names_both_mistakes(capsys):
    wrong, textbook, default = load("classifier").main()
    assert wrong.difference == pytest.approx(0.2850931567, abs=1e-9)
    assert wrong.verdict is Verdict.FAIL
    assert blamed(wrong) == {"W2", "b1"}
    assert "2.000" in wrong.leaf("W2").hint and "4.000" in wrong.leaf("b1").hint
    assert [leaf.path for leaf in wrong.leaves] == ["W1", "b1", "W2", "b2", "W3", "b3"]
    # What the exercise reports for the right gradient, and calls wrong at its threshold of 1e-7.
    assert textbook.ok and textbook.difference == pytest.approx(1.189e-7, rel=0.01)
    assert default.ok and default.difference < 1e-9


@pytest.mark.slow
def test_digits_before_and_after_training(capsys, monkeypatch):
    pytest.importorskip("sklearn", reason="the handwritten digits come from scikit-learn (extra `examples`)")
    module = load("digits_cnn")
    kept, train = [], module.train
    monkeypatch.setattr(module, "train", lambda *args: kept.append(train(*args)) or kept[-1])
    before, after = module.main()
    assert before.ok and before.reason is Reason.KINK
    assert before.leaf("conv.b").reason is Reason.KINK
    assert after.ok and after.reason is Reason.AGREE
    X, Y, (trained,) = module.X, module.Y, kept
    assert np.mean(module.forward(trained, X[1500:])[-1].argmax(axis=1) == Y[1500:].argmax(axis=1)) > 0.8

    planted = with_leaf_changed(module.backprop, ("conv", "K"), lambda g: g.at[4, 2].multiply(1.01))
    report = jc.check_grad(module.loss, trained, grad=planted, args=(X[:32], Y[:32]))
    assert report.verdict is Verdict.FAIL and blamed(report) == {"conv.K"}
    assert report.leaf("conv.K").worst[0].index == (4, 2)


@pytest.mark.slow
def test_transformer_block(capsys):
    (report,) = load("transformer_block").main()
    assert report.ok and report.reason is Reason.AGREE
    assert len(report.leaves) == 11 and report.difference < 1e-9
    assert "norm1.scale" in {leaf.path for leaf in report.leaves}


# Its text says: change any line below, and the report names it.
@pytest.mark.where
@pytest.mark.parametrize(
    ("line", "change"),
    [
        pytest.param("dscores = weights", (" / q.shape[-1] ** 0.5", ""), marks=pytest.mark.slow),
        pytest.param("dz = (g @", (" + z * normal.pdf(z)", ""), marks=pytest.mark.slow),
        ('d = {"query"', ("weights.mT @ dmixed", "weights @ dmixed")),
        ("g = g + dy", ("g + dy", "dy")),
        pytest.param("d = d - d.mean", (" - d.mean(-1, keepdims=True)", ""), marks=pytest.mark.slow),
    ],
    ids=["no scale", "GELU's second term", "values not transposed", "residual not added", "layer norm's mean"],
)
def test_transformer_block_with_a_mistake(tmp_path, monkeypatch, capsys, line, change):
    lines = (EXAMPLES / "transformer_block.py").read_text("utf-8").splitlines()
    (number,) = [n for n, text in enumerate(lines) if text.strip().startswith(line)]
    assert change[0] in lines[number]
    lines[number] = lines[number].replace(*change)
    (tmp_path / "transformer_block.py").write_text("\n".join(lines) + "\n", "utf-8")
    monkeypatch.setattr(f"{__name__}.EXAMPLES", tmp_path)
    (report,) = load("transformer_block").main()
    assert report.verdict is Verdict.FAIL
    assert not blamed(report) & {"down"}
    assert [culprit.line for culprit in report.culprits] == [number + 1], report


@pytest.mark.slow
def test_dropout_random_and_fixed(capsys):
    module = load("dropout")
    state = np.random.get_state()
    from_numpy, moving, fixed = module.main()
    np.random.set_state(state)
    for report in (from_numpy, moving):
        assert report.verdict is Verdict.INCONCLUSIVE and report.reason is Reason.NONDETERMINISTIC
    assert fixed.ok and fixed.reason is Reason.AGREE

    loss, backprop = module.network(lambda: module.mask_from(jax.random.key(0)))
    planted = with_leaf_changed(backprop, ("W1",), lambda g: g * module.KEEP)  # dropout's scaling forgotten
    report = jc.check_grad(loss, module.PARAMS, grad=planted, args=module.BATCH)
    assert report.verdict is Verdict.FAIL and blamed(report) == {"W1"}
