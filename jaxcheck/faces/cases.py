"""Checks that files declare: found, loaded and run, for `jaxcheck run`."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import inspect
import itertools
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import click

from jaxcheck import session
from jaxcheck.case import CaseInfo, Marked, case_info, listening

_MODULE = "jaxcheck_run_file"
# What a directory is searched for: to import every file of a project would run its scripts.
_OTHERS = ("node_modules", "site-packages", "__pycache__")
_PATTERNS = ("check_*.py", "*_check.py", "*_checks.py", "checks.py")
_EXPECTED = (
    "expected functions marked with @jaxcheck.case that return the arguments of a call, "
    "or functions named check_* without parameters that return a Report"
)


@dataclasses.dataclass(frozen=True)
class File:
    """A file to run, and which case of it ("" for all). `named`: it was named, and has to hold a case. `path` is as the
    caller wrote it, `place` where it is whatever a case makes the working directory."""

    path: Path
    case: str = ""
    named: bool = True
    place: Path = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", self.path.absolute())


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one case, or of a file that could not be loaded: a report, or what was raised.

    `error` is a line, "" without one, and `trace` the whole of it; `printed` is what a case in another process printed.
    """

    name: str
    report: Any = None
    error: str = ""
    trace: str = ""
    printed: str = ""

    @staticmethod
    def raised(name: str, error: BaseException) -> Outcome:
        trace = "".join(traceback.format_exception(error))
        return Outcome(name, error=f"{type(error).__name__}: {error}", trace=trace)


class Found(NamedTuple):
    """A case: what it is called, what runs it, and where it is: the how many-th of which file, -1 for a file that
    could not be loaded."""

    name: str
    start: Callable[[], Outcome]
    file: File
    position: int


class Case(NamedTuple):
    """What is marked, by what it is marked, and how many cases of that name the file has before it."""

    info: CaseInfo
    function: Callable[[], Any]
    earlier: int = 0


def files(targets: tuple[str, ...]) -> list[File]:
    """What `FILE.py`, `FILE.py::NAME` and directories stand for. Raises UsageError for what is not there."""
    found: list[File] = []
    for target in targets:
        text, _, case = target.partition("::")
        path = Path(text)
        if path.is_dir() and not case:
            inside = sorted({one for pattern in _PATTERNS for one in path.rglob(pattern) if not _foreign(path, one)})
            if not inside:
                raise click.UsageError(f"nothing to check in {path}: no file is called {' or '.join(_PATTERNS)}")
            found += [File(one, named=False) for one in inside]
        elif path.is_file():
            found.append(File(path, case))
        else:
            raise click.UsageError(f"no such file: {path}")
    return list(dict.fromkeys(found))


def _foreign(folder: Path, file: Path) -> bool:
    """Whether a file below a folder is of an environment or a tool that lies in it: its import runs others' code."""
    between = [folder / above for above in file.relative_to(folder).parents][:-1]
    return any(one.name.startswith(".") or one.name in _OTHERS or (one / "pyvenv.cfg").exists() for one in between)


def run(wanted: list[File], keyword: str, resume: str | None = None) -> Generator[Found, None, None]:
    """Every case whose name holds `keyword`, file by file.

    Args:
        resume: a folder, in which every check of a case keeps its evidence in a file (`resume=`); None for none.
    """
    for file in wanted:
        prefix = f"{file.path}::" if len({one.path for one in wanted}) > 1 else ""
        with loaded(file) as (found, error):
            names = [info.name for info, _ in found]
            if error is not None:
                name = str(file.path)
                yield Found(name, lambda name=name, error=error: Outcome.raised(name, error), file, -1)
                continue
            for position, (info, function) in enumerate(found):
                name = prefix + info.name
                if keyword.casefold() in f"{file.path}::{info.name}".casefold():
                    case = Case(info, function, names[:position].count(info.name))
                    start = lambda name=name, file=file, case=case: outcome(name, file, case, resume)  # noqa: E731
                    yield Found(name, start, file, position)


def outcome(name: str, file: File, case: Case, resume: str | None) -> Outcome:
    """Run one case."""
    info, function, earlier = case
    report, raised = _resumed(resume, f"{file.path}::{info.name}" + f"::{earlier}" * (earlier > 0), info, function)
    if raised is not None:
        return Outcome.raised(name, raised)
    # By the case's name, which is known before it is run: by it others were chosen, and what is in error goes by it.
    made = dataclasses.replace(report.made, again=f"jaxcheck run {shlex.quote(f'{file.path}::{info.name}')}")
    return Outcome(name, dataclasses.replace(report, name=name, made=made))


def _resumed(folder: str | None, case: str, info: CaseInfo, function: Callable[[], Any]) -> tuple[Any, Any]:
    """(report, what was raised) of a case with its files. One that holds the evidence of what the case was before it
    was mended is put aside: nobody chose its name who could give another."""
    from jaxcheck.store import OfAnotherCheck

    while True:
        with _kept(folder, case) as given:
            report, raised = _tried(_check, info, function)
        if not (isinstance(raised, OfAnotherCheck) and raised.path in given and Path(raised.path).is_file()):
            return report, raised
        Path(raised.path).replace(f"{raised.path}.old")


@contextlib.contextmanager
def _kept(folder: str | None, case: str) -> Iterator[list[str]]:
    """A file in the folder for every check of a case that gives none: the first, the second. With those given out."""
    given: list[str] = []
    if folder is None:
        yield given
        return
    plain = re.sub(r"[^\w.-]+", "_", case).strip("_.")[-100:]
    stem, count = f"{plain}-{hashlib.sha256(os.fsencode(case)).hexdigest()[:8]}", itertools.count(1)

    def next_one(_: Any) -> str:
        given.append(str(Path(folder) / f"{stem}-{next(count)}.sqlite"))
        return given[-1]

    session.defaults["resume"] = next_one
    try:
        yield given
    finally:
        session.defaults.pop("resume")


@contextlib.contextmanager
def loaded(file: File) -> Iterator[tuple[list[tuple[CaseInfo, Callable[[], Any]]], BaseException | None]]:
    """The cases of a file, and what it raised. While this is open it is a module that is able to import its neighbours
    as a script is."""
    spec = importlib.util.spec_from_file_location(_MODULE, file.place)
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{file.path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # dataclasses and pickle look their module up
    folder = str(file.place.resolve().parent)
    for name in [name for other, names in _neighbours.items() if other != folder for name in names]:
        sys.modules.pop(name, None)
    sys.path.insert(0, folder)
    before = set(sys.modules)
    try:
        with listening() as marked:
            _, raised = _tried(spec.loader.exec_module, module)
        yield [] if raised is not None else _cases(module, file, marked), raised
    finally:
        _neighbours[folder] = _neighbours.get(folder, set()) | _beside(folder, set(sys.modules) - before)
        with contextlib.suppress(ValueError):  # by the file itself
            sys.path.remove(folder)
        sys.modules.pop(_MODULE, None)


# Modules that lie beside the files that were run, by their folder: the next file, of another folder, may have others of
# those names, and one of the same folder has these.
_neighbours: dict[str, set[str]] = {}


def _beside(folder: str, imported: set[str]) -> set[str]:
    """Those of the modules that lie in a folder."""
    beside = set()
    for name in imported:
        spec = getattr(sys.modules[name], "__spec__", None)
        at = list(getattr(spec, "submodule_search_locations", None) or [getattr(spec, "origin", None) or ""])
        if "." not in name and any(os.path.dirname(one) == folder for one in at):
            beside.add(name)
    return {name for name in imported if name.partition(".")[0] in beside}


def _tried(f: Callable, *args: Any) -> tuple[Any, BaseException | None]:
    """(result, None), or (None, what a file or a case raised): the others are run all the same."""
    try:
        return f(*args), None
    except (Exception, SystemExit) as error:
        return None, error


def _cases(module: ModuleType, file: File, marked: list[Marked]) -> list[tuple[CaseInfo, Callable[[], Any]]]:
    """What to run, in the order of the file: what its module holds, and what was `marked` in it and is held otherwise
    (in a list, a class, by a name that a loop gave to the next one)."""
    found: list[tuple[CaseInfo, Callable[[], Any]]] = []
    members = list(vars(module).items())
    held = {id(member) for _, member in members}
    own = {id(one.function): k for k, one in enumerate(marked) if _MODULE in one.modules}
    waiting = [(one.info, one.function) for one in marked if id(one.function) in own.keys() - held]
    for name, member in members:
        info = case_info(member)
        plain = inspect.isfunction(member) and member.__module__ == _MODULE and not _needs_arguments(member)
        if info is None and plain and (name.startswith("check_") or name == file.case):
            info = CaseInfo(name, "grad")
        if info is not None and all(member is not other for _, other in found):
            while waiting and own[id(waiting[0][1])] < own.get(id(member), 0):
                found.append(waiting.pop(0))
            found.append((info, member))
    found += waiting
    if not found and file.named:
        raise click.UsageError(f"nothing to check in {file.path}: {_EXPECTED}")
    if not file.case:
        return found
    chosen = [case for case in found if file.case in (case[0].name, getattr(case[1], "__name__", ""))]
    if not chosen:
        names = ", ".join(info.name for info, _ in found)
        raise click.UsageError(f"no case {file.case!r} in {file.path}; it has {names}")
    return chosen


def _needs_arguments(function: Any) -> bool:
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return any(p.default is inspect.Parameter.empty and p.kind not in free for p in parameters)


def _check(info: CaseInfo, function: Callable[[], Any]) -> Any:
    """Call a case and, unless it made its own report, the front door it asks for."""
    from jaxcheck.result import Report

    returned = function()
    if isinstance(returned, Report):
        return returned
    if case_info(function) is None or not isinstance(returned, (dict, tuple)):
        also = "" if case_info(function) is None else "a dict or tuple of a check's arguments, or "
        raise TypeError(f"expected {also}a Report, but {info.name} returned {type(returned).__name__}")
    from jaxcheck.check import calls

    door = {"grad": calls.check_grad, "rule": calls.check_rule, "batch": calls.check_batch}[info.check]
    if isinstance(returned, tuple):
        return door(*returned)
    keywords = dict(returned)
    if info.check == "rule" and "f" not in keywords:
        has = ", ".join(map(repr, keywords)) or "nothing"
        raise TypeError(f"expected the function as 'f', but the dict that {info.name} returned has {has}")
    if info.check == "rule":  # check_rule(f, *args): the function and its arguments have no keywords
        return door(keywords.pop("f"), *keywords.pop("args", ()), **keywords)
    return door(**keywords)
