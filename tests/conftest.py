"""The policy of the whole suite: several devices, x64 off, nothing left changed, a seed that is shown."""

from __future__ import annotations

import gc
import itertools
import math
import os
import zlib

import jax
import pytest
from sampled import ONE, PARTS

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
    # The search's own limit of ten seconds is not what they are about, however many run beside them.
    session.defaults["where"] = 60.0 if where.STRICT else False


def _thin(items: list[pytest.Item]) -> None:
    def family(item: pytest.Item) -> str:
        return item.nodeid.partition("[")[0]

    drawn = [i for i in items if "[" in i.nodeid and (i.nodeid.partition("::")[0] in PARTS or family(i) in ONE)]
    fast = sorted((item for item in drawn if not item.get_closest_marker("slow")), key=family)
    for name, members in itertools.groupby(fast, family):
        order = sorted(members, key=lambda item: zlib.crc32(item.nodeid.encode()))
        kept = 1 if name in ONE else math.ceil(PARTS[name.partition("::")[0]] * len(order))
        for item in order[kept:]:
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
