"""The policy of the whole suite: several devices, x64 off, nothing left changed, a seed that is shown."""

from __future__ import annotations

import gc
import itertools
import math
import os
import zlib

import jax
import pytest

from jaxcheck import session
from jaxcheck.check import where

# Before any backend starts. Two CPU devices, so that what is said of several devices is tested everywhere.
jax.config.update("jax_num_cpu_devices", 2)
# Tests are many small programs that run once: time goes into compiling them, so compile less hard. XLA ends the process
# at a flag that it does not know, so the last two, which may go, are for the versions that have them.
_FLAGS = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
if jax.__version_info__ < (0, 11):
    _FLAGS += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS]).strip()

SEED = int(os.environ.get("JAXCHECK_TEST_SEED", "0"))


def _global_state() -> dict[str, object]:
    """What a check may change while it works and must have put back when it returns: every option of
    JAX, and what is in force in this thread (a context manager that was left open changes only that)."""
    return {
        **jax.config.values,
        "x64 in this thread": jax.config.jax_enable_x64,
        "default float": str(jax.dtypes.canonicalize_dtype(float)),
        "default device in this thread": jax.config.jax_default_device,
    }


@pytest.fixture(autouse=True)
def _configuration_is_restored():
    before = _global_state()
    yield
    after = _global_state()
    changed = {name: (before[name], after[name]) for name in before if after[name] != before[name]}
    for name in changed.keys() & jax.config.values.keys():
        jax.config.update(name, before[name])  # one culprit must not fail the tests after it
    if changed:
        pytest.fail(f"the test left JAX's configuration changed (before, after): {changed}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    # Before any fixture is made. After a FAIL the search for the wrong line takes more than all else, and most tests
    # of a FAIL are not about it: those that are say so, by the mark or by `where=True`.
    where.STRICT = bool(item.get_closest_marker("where"))
    if where.STRICT:
        session.defaults.pop("where", None)
    else:
        session.defaults["where"] = False


# Families so large that a part of their members, chosen by name, stands for all: the others run with `-m slow`. Most of
# the suite's time went into these files.
PARTS = {
    "tests/generated/test_generated.py": 1 / 20,
    "tests/ordinary/test_by_type.py": 1 / 2,
    "tests/ordinary/test_decided_as_run.py": 1 / 4,
    "tests/ordinary/test_error_checks.py": 1 / 4,
    "tests/ordinary/test_fields_held.py": 1 / 2,
    "tests/ordinary/test_findings.py": 1 / 3,
    "tests/ordinary/test_full_length.py": 1 / 2,
    "tests/ordinary/test_given_by_functions.py": 1 / 2,
    "tests/ordinary/test_held_back.py": 1 / 2,
    "tests/ordinary/test_held_otherwise.py": 1 / 2,
    "tests/ordinary/test_host.py": 1 / 2,
    "tests/ordinary/test_host_edges.py": 1 / 2,
    "tests/ordinary/test_integers_inside.py": 1 / 12,
    "tests/ordinary/test_in_place.py": 1 / 2,
    "tests/ordinary/test_matrix.py": 1 / 20,
    "tests/ordinary/test_max_pooling.py": 1 / 6,
    "tests/ordinary/test_python_branches.py": 1 / 12,
    "tests/ordinary/test_python_numbers.py": 1 / 2,
    "tests/ordinary/test_rules_in_functions.py": 1 / 4,
    "tests/ordinary/test_stateful.py": 1 / 3,
    "tests/ordinary/test_ties_large.py": 1 / 6,
    "tests/ordinary/test_whole_numbers.py": 1 / 12,
    "tests/program/test_eagerly.py": 1 / 4,
    "tests/program/test_exact.py": 1 / 2,
    "tests/program/test_jaxpr.py": 1 / 12,
    "tests/program/test_perturbed.py": 1 / 3,
    "tests/program/test_signed.py": 1 / 2,
    "tests/test_algebra.py": 1 / 4,
    "tests/test_around.py": 1 / 2,
    "tests/test_batch.py": 1 / 6,
    "tests/test_batch_mixed.py": 1 / 6,
    "tests/test_batched_by_hand.py": 1 / 3,
    "tests/test_batching.py": 1 / 4,
    "tests/test_bits.py": 1 / 2,
    "tests/test_check_grad.py": 1 / 4,
    "tests/test_check_grads.py": 1 / 6,
    "tests/test_check_rule.py": 1 / 3,
    "tests/test_cli.py": 1 / 3,
    "tests/test_cli_apart.py": 1 / 2,
    "tests/test_coarse_products.py": 1 / 2,
    "tests/test_columns.py": 1 / 8,
    "tests/test_custom_vjp3.py": 1 / 2,
    "tests/test_dead_units.py": 1 / 4,
    "tests/test_devices.py": 1 / 3,
    "tests/test_draws.py": 1 / 6,
    "tests/test_eager_rules.py": 1 / 4,
    "tests/test_explicit_axes.py": 1 / 2,
    "tests/test_few_wrong.py": 1 / 2,
    "tests/test_flat.py": 1 / 4,
    "tests/test_floors.py": 1 / 6,
    "tests/test_generated_rules.py": 1 / 4,
    "tests/test_handed_derivatives.py": 1 / 3,
    "tests/test_identity.py": 1 / 6,
    "tests/test_implicit.py": 1 / 3,
    "tests/test_kernels.py": 1 / 3,
    "tests/test_kinks_hide_nothing.py": 1 / 3,
    "tests/test_left_behind.py": 1 / 2,
    "tests/test_line_search.py": 1 / 3,
    "tests/test_loops.py": 1 / 20,
    "tests/test_near_kinks.py": 1 / 5,
    "tests/test_own_scale.py": 1 / 16,
    "tests/test_path.py": 1 / 12,
    "tests/test_planted.py": 1 / 32,
    "tests/test_plot.py": 1 / 2,
    "tests/test_power_pattern.py": 1 / 8,
    "tests/test_precision.py": 1 / 4,
    "tests/test_real_rules.py": 1 / 24,
    "tests/test_refusals.py": 1 / 6,
    "tests/test_resume.py": 1 / 2,
    "tests/test_rule_findings.py": 1 / 12,
    "tests/test_saturated.py": 1 / 8,
    "tests/test_second_order_bars.py": 1 / 4,
    "tests/test_second_order_smooth.py": 1 / 2,
    "tests/test_shadow.py": 1 / 16,
    "tests/test_side_by_side.py": 1 / 2,
    "tests/test_staircase.py": 1 / 2,
    "tests/test_strip.py": 1 / 16,
    "tests/test_ties.py": 1 / 10,
    "tests/test_symbolic_zeros.py": 1 / 3,
    "tests/test_tiny_parameters.py": 1 / 2,
    "tests/test_tolerance.py": 1 / 6,
    "tests/test_transforms.py": 1 / 4,
    "tests/test_underflow.py": 1 / 2,
    "tests/test_units.py": 1 / 4,
    "tests/test_units_closer.py": 1 / 4,
    "tests/test_unusual_cotangents.py": 1 / 2,
    "tests/test_wide_bars.py": 1 / 6,
    "tests/test_zero_gradients.py": 1 / 4,
    "tests/test_zeros.py": 1 / 6,
    "tests/where/test_complex.py": 1 / 4,
    "tests/where/test_cones.py": 1 / 2,
    "tests/where/test_culprits.py": 1 / 6,
    "tests/where/test_decisions.py": 1 / 2,
    "tests/where/test_foreign.py": 1 / 3,
    "tests/where/test_forms.py": 1 / 4,
    "tests/where/test_innocent.py": 1 / 3,
    "tests/where/test_large.py": 1 / 4,
}


def _thin(items: list[pytest.Item]) -> None:
    def family(item: pytest.Item) -> str:
        return item.nodeid.partition("[")[0]

    drawn = [item for item in items if "[" in item.nodeid and item.nodeid.partition("::")[0] in PARTS]
    fast = sorted((item for item in drawn if not item.get_closest_marker("slow")), key=family)
    for name, members in itertools.groupby(fast, family):
        order = sorted(members, key=lambda item: zlib.crc32(item.nodeid.encode()))
        part = PARTS[name.partition("::")[0]]
        for item in order[math.ceil(part * len(order)) :]:
            item.add_marker(pytest.mark.slow)


class _Seed(int):
    """An int whose repr says how to run the same test again."""

    def __repr__(self) -> str:
        return f"{int(self)} (repeat with JAXCHECK_TEST_SEED={SEED})"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    value = _Seed(SEED)
    request.node.user_properties.append(("seed", int(value)))
    return value


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" and report.failed and "seed" in getattr(item, "funcargs", {}):
        report.sections.append(("seed", repr(item.funcargs["seed"])))
    return report


def pytest_report_header() -> list[str]:
    return [
        f"jax {jax.__version__}, {jax.device_count()} {jax.default_backend()} devices, seed {SEED} (JAXCHECK_TEST_SEED)"
    ]


def pytest_collection_finish() -> None:
    # Thousands of tests, and JAX, are there to stay: looking through them for garbage again and again takes a twentieth
    # of the time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.hookimpl(tryfirst=True)  # before what is slow is left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    _thin(items)
    # With JAXCHECK_REHEARSE they run all the same: so that they do not fail by themselves the day a GPU is there.
    if not any("gpu" in item.keywords for item in items) or os.environ.get("JAXCHECK_REHEARSE"):
        return
    if jax.default_backend() != "cpu":
        # What the others say of float32 is of all its bits; the tests of what a device leaves out ask for that.
        jax.config.update("jax_default_matmul_precision", "highest")
        return
    skip = pytest.mark.skip(reason=f"needs an accelerator; JAX's default backend is {jax.default_backend()}")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)
