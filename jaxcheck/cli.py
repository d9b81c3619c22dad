"""The command line: `jaxcheck demo`, `jaxcheck run FILE.py[::NAME]`, `jaxcheck show report.json`.

JAX is imported by the commands that need it, when they run: `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import inspect
import io
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from jaxcheck.case import CaseInfo, case_info

# 2 is click's, for a command or a file that could not be run.
_PASS, _FAIL, _UNUSABLE, _INCONCLUSIVE, _INTERRUPTED = 0, 1, 2, 3, 130
_MODULE = "jaxcheck_run_file"
_EXPECTED = (
    "expected functions marked with @jaxcheck.case that return the arguments of a check, "
    "or functions named check_* without parameters that return a Report"
)

_epilog = "Exit code: 0 PASS, 1 FAIL, 2 could not be run, 3 INCONCLUSIVE; the worst of several wins."


@click.group(epilog=_epilog, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jaxcheck")
def main() -> None:
    """Check gradients of JAX programs, and say which leaf is wrong."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a lost ± must not lose the report


@main.command()
def demo() -> None:
    """Find two planted mistakes in a small network's backprop."""
    from jaxcheck import demo as demonstration

    wrong, right = demonstration.reports()
    click.echo("A 3-layer network whose hand-written backprop has two mistakes: dW2 doubled, db1 times 4.\n")
    _show(wrong)
    click.echo("\nThe same network with the right backprop.\n")
    _show(right)
    if not demonstration.as_designed(wrong, right):
        click.echo("\nThis did not go as it should: please report it, with the text above.", err=True)
        sys.exit(_FAIL)
    found = " and ".join(demonstration.PLANTED)
    click.echo(f"\nBoth mistakes were found ({found}), and nothing was found where there is none.")


@main.command()
@click.argument("target", metavar="FILE.py[::NAME]")
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Write the reports to this file, as a list.")
@click.option("--device", help="Where to run: cpu, gpu, tpu, or one of several, e.g. gpu:1.")
@click.option("--traceback", "with_traceback", is_flag=True, help="Show tracebacks of errors in FILE.")
def run(target: str, json_path: str | None, device: str | None, with_traceback: bool) -> None:
    """Run the checks that a file declares.

    These are its functions marked with @jaxcheck.case, and its functions named check_* that take no
    parameters and return a Report. FILE.py::NAME runs one of them.
    """
    path, _, name = target.partition("::")
    if not Path(path).is_file():
        raise click.UsageError(f"no such file: {path}")
    reports: list[Any] = []
    errors = 0
    try:
        with _on_device(device), _loaded(Path(path), with_traceback) as module:
            for info, function in _cases(module, path, name):
                click.echo(f"case {info.name}")
                try:
                    report = _check(info, function)
                except (Exception, SystemExit) as error:
                    errors += 1
                    _complain(f"case {info.name}", error, with_traceback)
                else:
                    _show(report)
                    reports.append(dataclasses.replace(report, name=info.name))
                click.echo("")
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(_INTERRUPTED)
    _summarise(reports, errors)
    if json_path is not None:
        _write(json_path, reports)
    sys.exit(_UNUSABLE if errors else _exit_code(reports))


@main.command()
@click.argument("path", metavar="REPORT.json", type=click.Path(exists=True, dir_okay=False))
def show(path: str) -> None:
    """Print a saved report, or the list that `run --json` wrote."""
    from jaxcheck.result import Report

    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        reports = [Report.from_json(item) for item in (data if isinstance(data, list) else [data])]
    except ValueError as error:  # also what json and utf-8 raise
        raise click.UsageError(f"{path}: {error}") from error
    for report in reports:
        _show(report)
        click.echo("")
    sys.exit(_exit_code(reports))


@contextlib.contextmanager
def _on_device(wanted: str | None) -> Iterator[None]:
    if wanted is None:
        yield
        return
    import jax

    kind, _, index = wanted.partition(":")
    try:
        device = dict(enumerate(jax.devices(kind or "unnamed")))[int(index or 0)]
    except (RuntimeError, KeyError, ValueError) as error:
        known = {f"{device.platform}:{device.id}": None for device in [*jax.devices(), *jax.devices("cpu")]}
        raise click.UsageError(f"no device {wanted!r} here; there is {', '.join(known)}") from error
    with jax.default_device(device):
        yield


@contextlib.contextmanager
def _loaded(path: Path, with_traceback: bool) -> Iterator[ModuleType]:
    """The file as a module, able to import its neighbours as a script is; undone at the end."""
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # dataclasses and pickle look their module up
    sys.path.insert(0, str(path.resolve().parent))
    try:
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            _complain(str(path), error, with_traceback)
            sys.exit(_UNUSABLE)
        yield module
    finally:
        sys.path.remove(str(path.resolve().parent))
        del sys.modules[_MODULE]


def _cases(module: ModuleType, path: str, wanted: str) -> list[tuple[CaseInfo, Callable[[], Any]]]:
    """What to run, in the order of the file."""
    found: list[tuple[CaseInfo, Callable[[], Any]]] = []
    for name, member in vars(module).items():
        info = case_info(member)
        own = inspect.isfunction(member) and member.__module__ == _MODULE and not _needs_arguments(member)
        if info is None and own and (name.startswith("check_") or name == wanted):
            info = CaseInfo(name, "grad")
        if info is not None and all(member is not other for _, other in found):
            found.append((info, member))
    if not found:
        raise click.UsageError(f"nothing to check in {path}: {_EXPECTED}")
    if not wanted:
        return found
    chosen = [case for case in found if wanted in (case[0].name, getattr(case[1], "__name__", ""))]
    if not chosen:
        raise click.UsageError(f"no case {wanted!r} in {path}; it has {', '.join(info.name for info, _ in found)}")
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
    from jaxcheck import check

    door = {"grad": check.check_grad, "rule": check.check_rule, "batch": check.check_batch}[info.check]
    if isinstance(returned, tuple):
        return door(*returned)
    keywords = dict(returned)
    if info.check == "rule":  # check_rule(f, *args): the function and its arguments have no keywords
        return door(keywords.pop("f"), *keywords.pop("args", ()), **keywords)
    return door(**keywords)


def _complain(where: str, error: BaseException, with_traceback: bool) -> None:
    if with_traceback:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    hint = "" if with_traceback else " (--traceback shows where)"
    click.echo(f"error in {where}: {type(error).__name__}: {error}{hint}", err=True)


def _show(report: Any) -> None:
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(report)
    else:
        click.echo(str(report))


def _summarise(reports: list[Any], errors: int) -> None:
    if len(reports) + errors < 2:
        return
    verdicts = [report.verdict.value for report in reports]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts)]
    counts += [f"{errors} in error"] if errors else []
    click.echo(f"{len(reports) + errors} checks: {', '.join(counts)}")


def _write(path: str, reports: list[Any]) -> None:
    from jaxcheck.report import save

    try:
        save.write(path, save.dumps([report.to_json() for report in reports]))
    except OSError as error:
        raise click.UsageError(f"cannot write {path}: {error}") from error


def _exit_code(reports: list[Any]) -> int:
    from jaxcheck.result import Verdict

    verdicts = {report.verdict for report in reports}
    if Verdict.FAIL in verdicts:
        return _FAIL
    return _INCONCLUSIVE if Verdict.INCONCLUSIVE in verdicts else _PASS
