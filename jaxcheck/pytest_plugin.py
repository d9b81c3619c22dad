"""The pytest plugin: one fixture and one marker.

It is loaded by every pytest run of every environment that has jaxcheck, so it must not import JAX:
a conftest that configures JAX (number of CPU devices, x64) has to come first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from jaxcheck.result import Report


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs an accelerator; skip it where there is none")


@pytest.fixture
def assert_gradients() -> Callable[..., Report]:
    """`assert_gradients(loss, params, grad=...)`: `check_grad`, and the test fails unless it passes."""

    def check(*args: Any, **kwargs: Any) -> Report:
        __tracebackhide__ = True
        from jaxcheck.check import check_grad

        return check_grad(*args, **kwargs).assert_ok()

    return check
