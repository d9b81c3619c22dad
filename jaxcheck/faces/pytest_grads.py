"""`--jaxcheck-grads`: `jax.test_util` answers with jaxcheck's drop-in for one run of pytest.

JAX is not imported for it: the functions are put in place when `jax.test_util` is imported by somebody.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_MODULE = "jax.test_util"
_NAMES = ("check_grads", "check_jvp", "check_vjp")


class Replacement(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The drop-in in place of JAX's functions, from `install` to `undo`.

    `called` is what each call tells: whether the drop-in failed where JAX's own function passes.
    """

    called: Callable[[bool], None]

    def __init__(self) -> None:
        self.called = lambda beyond: None
        self._theirs: dict[str, Callable] = {}
        self._loader: Any = None

    def install(self) -> None:
        if _MODULE in sys.modules:
            self._replace(sys.modules[_MODULE])
        else:
            sys.meta_path.insert(0, self)

    def undo(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for name, function in self._theirs.items():
            setattr(sys.modules[_MODULE], name, function)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None:
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._replace(module)

    def _replace(self, module: ModuleType) -> None:
        for name in _NAMES:
            self._theirs[name] = getattr(module, name)
            setattr(module, name, self._instead(name, self._theirs[name]))

    def _instead(self, name: str, theirs: Callable) -> Callable:
        @functools.wraps(theirs)
        def instead(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            from jaxcheck import test_util

            try:
                getattr(test_util, name)(*args, **kwargs)
            except AssertionError:
                self.called(_passes(theirs, *args, **kwargs))
                raise
            self.called(False)

        return instead


def _passes(f: Callable, *args: Any, **kwargs: Any) -> bool:
    from jaxcheck.program.ask import Refused, ask

    try:
        ask(f, *args, **kwargs)
    except Refused:
        return False
    return True
