"""The pytest plugin: fixtures, options, a cause on the summary line, and a closing section.

It is loaded by every pytest run of every environment that has jaxcheck, so it must not import JAX:
a conftest that configures JAX (number of CPU devices, x64) has to come first.
"""

from __future__ import annotations

import dataclasses
import functools
import shlex
import sys
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

from jaxcheck import session
from jaxcheck.faces import pytest_section
from jaxcheck.faces.pytest_grads import Replacement
from jaxcheck.faces.pytest_section import Entry
from jaxcheck.reasons import Reason

if TYPE_CHECKING:
    from jaxcheck.result import Report

_COLLECTION = "(collection)"
# Before a line of an exception: "E" and blanks.
_MARGIN = 8
_REPLACEMENT = pytest.StashKey[Replacement]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("jaxcheck", "gradient checks")
    group.addoption(
        "--jaxcheck-report", metavar="FILE", help="write every report of the run: .html, .json, .xml or .sarif"
    )
    group.addoption("--jaxcheck-seed", type=int, metavar="N", help="seed of every check that does not give its own")
    group.addoption(
        "--jaxcheck-level",
        choices=("quick", "full"),
        help="level of every check_rule that does not give its own; default: full where that is fast",
    )
    group.addoption(
        "--jaxcheck-inconclusive",
        choices=("fail", "skip", "warn"),
        default="fail",
        help="what a test is that ends in GradientInconclusive (default: fail)",
    )
    group.addoption(
        "--jaxcheck-grads",
        action="store_true",
        help="answer jax.test_util's check_grads, check_jvp and check_vjp by jaxcheck's in the whole run",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    # Before a conftest can say `from jax.test_util import check_grads`.
    if early_config.known_args_namespace.jaxcheck_grads:
        early_config.stash[_REPLACEMENT] = Replacement()
        early_config.stash[_REPLACEMENT].install()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Run(config), "jaxcheck-run")


class _Run:
    """One run of pytest: what it sets for all checks, and the reports they make."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.entries: list[Entry] = []  # of the whole run; empty in xdist's workers
        self.made: list[Entry] = []  # since the last phase of a test ended
        self.test = _COLLECTION
        self.written = ""  # what became of the file of reports
        self.is_worker = hasattr(config, "workerinput")
        self.is_copy = self.is_worker and vars(config)["workerinput"]["workerid"] != "gw0"
        seed, path = config.getoption("jaxcheck_seed"), config.getoption("jaxcheck_report")
        if seed is not None and seed < 0:
            raise pytest.UsageError(f"--jaxcheck-seed={seed}: a whole number, not negative")
        if path and not self.is_worker:
            pytest_section.usable(path)
        if seed is not None:
            session.defaults["seed"] = seed
        if level := config.getoption("jaxcheck_level"):
            session.defaults["level"] = functools.partial(_level, level)
        self.replacement = config.stash.get(_REPLACEMENT, None)
        if self.replacement is None and config.getoption("jaxcheck_grads"):
            # In a worker of xdist, or with `-p jaxcheck.pytest_plugin`: too late for that hook.
            self.replacement = Replacement()
            self.replacement.install()
        if self.replacement is not None:
            self.replacement.called = self._called
        self.stop = session.listen(self._heard)

    def _heard(self, report: Report) -> None:
        self.made.append(Entry(self.test, report.to_json()))
        if report.cost.stopped == "user":
            raise KeyboardInterrupt  # whoever presses Ctrl-C in a run means the run

    def _called(self, beyond: bool) -> None:
        if self.made:
            self.made[-1].drop_in, self.made[-1].beyond = True, beyond

    def pytest_unconfigure(self) -> None:
        self.stop()
        session.columns, session.again = None, ""
        session.defaults.pop("seed", None)
        session.defaults.pop("level", None)
        if self.replacement is not None:
            self.replacement.undo()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        reporter: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        if self.is_worker:
            session.columns = vars(self.config)["workerinput"].get("jaxcheck_columns")
        elif getattr(reporter, "isatty", False):  # what is written goes to a terminal, though tests print to a file
            session.columns = reporter._tw.fullwidth - _MARGIN

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """A worker of xdist has no terminal, and its texts are shown on that of the run."""
        node.workerinput["jaxcheck_columns"] = session.columns

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.test = nodeid
        seed = self.config.getoption("jaxcheck_seed")
        given = () if seed is None else (f"--jaxcheck-seed={seed}",)
        session.again = shlex.join(["pytest", *given, pytest_section.from_here(self.config, nodeid)])

    def pytest_runtest_logfinish(self) -> None:
        session.again = ""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> Generator[None, Any, Any]:
        outcome = yield
        made, self.made = self.made, []
        if self.is_copy:  # every worker of xdist collects everything
            made = [entry for entry in made if entry.test != _COLLECTION]
        error = call.excinfo.value if call.excinfo else None
        report = _report_of(error)
        if error is not None:
            _hold_to_reason(item, outcome, made, report)
        if isinstance(getattr(outcome, "wasxfail", None), Reason):
            outcome.wasxfail = str(outcome.wasxfail)  # xdist sends plain strings only
        expected = outcome.skipped and hasattr(outcome, "wasxfail")
        excused = ""
        if outcome.failed and report is not None and report.verdict == "INCONCLUSIVE":
            self._excuse(item, outcome, f"INCONCLUSIVE: {_cause(report)}", call.when == "setup")
            excused = (
                "" if outcome.failed else f"--jaxcheck-inconclusive={self.config.getoption('jaxcheck_inconclusive')}"
            )
        outcome.jaxcheck = [
            dataclasses.asdict(entry) | {"expected": expected, "excused": excused if _is_of(entry, report) else ""}
            for entry in made
        ]
        if outcome.failed and report is not None:
            _name_cause(outcome, f"{type(error).__name__}: {_cause(report)}")
        elif outcome.failed:
            _show(outcome, made)
        return outcome

    def _excuse(self, item: pytest.Item, outcome: Any, said: str, before: bool) -> str:
        """Make of a test that ended in GradientInconclusive what was asked for; by which option, where it is no failure
        then. One that ended `before` its own code has no fixture to run on: it is skipped."""
        wanted = self.config.getoption("jaxcheck_inconclusive")
        if wanted == "warn":
            from jaxcheck.result import GradientCheckWarning

            try:
                item.warn(GradientCheckWarning(f"{said}; the test ended there"))
            except GradientCheckWarning:  # the suite's filters make errors of warnings: it stays one
                return ""
            outcome.outcome, outcome.longrepr = "passed", None
        if wanted == "skip" or (wanted == "warn" and before):
            path, line, _ = item.reportinfo()
            outcome.outcome = "skipped"
            outcome.longrepr = (str(path), 1 if line is None else line + 1, f"Skipped: {said}")
        return "" if outcome.failed else f"--jaxcheck-inconclusive={wanted}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not self.is_worker:
            self.entries += [Entry(**entry) for entry in getattr(report, "jaxcheck", ())]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        path = self.config.getoption("jaxcheck_report")
        if not path or self.is_worker:
            return
        done, self.written = pytest_section.written(path, self.entries)
        if session.exitstatus == pytest.ExitCode.OK and not done:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not (self.entries or self.replacement or self.written):
            return
        verbosity = self.config.option.verbose
        said = pytest_section.title(self.entries) if self.entries else "gradient checks: none"
        terminalreporter.write_sep("=", said)
        if verbosity >= 0:
            width = terminalreporter._tw.fullwidth
            for line, name in pytest_section.lines(self.entries, width, verbosity > 0):
                colour = {name: True} if name else {}
                terminalreporter.write_line(line, **colour)
        if self.replacement is not None:
            terminalreporter.write_line(pytest_section.drop_in(self.entries))
        if self.written:
            terminalreporter.write_line(self.written)


def _level(wanted: str, given: dict[str, Any]) -> str | None:
    """The level of a call: one that asks for the second order is not for a quick look."""
    return None if wanted == "quick" and given.get("order") == 2 else wanted


def _report_of(error: BaseException | None) -> Report | None:
    """The report that an exception of ours carries. Who raised one has imported `jaxcheck.result`."""
    result = sys.modules.get("jaxcheck.result")
    if result is None or not isinstance(error, (result.GradientMismatch, result.GradientInconclusive)):
        return None
    return getattr(error, "report", None)


def _is_of(entry: Entry, report: Report | None) -> bool:
    """Whether it is the report that ended the test."""
    return report is not None and entry.report["verdict"] == report.verdict.value != "PASS"


def _cause(report: Report) -> str:
    from jaxcheck.report import line

    return line.cause(report)


def _name_cause(outcome: Any, said: str) -> None:
    """On pytest's summary line and in JUnit's `message`; the whole report stays in the text."""
    crash = getattr(outcome.longrepr, "reprcrash", None)
    if crash is not None:
        crash.message = said


def _show(outcome: Any, made: list[Entry]) -> None:
    """The reports behind a plain `assert report`, which shows only its own line."""
    from jaxcheck.result import Report

    for entry in made:
        if entry.report["verdict"] != "PASS":
            outcome.sections.append(("gradient check", str(Report.from_json(entry.report))))


def _hold_to_reason(item: pytest.Item, outcome: Any, made: list[Entry], report: Report | None) -> None:
    """`xfail(reason=Reason.X)` expects that reason and no other failure."""
    mark = item.get_closest_marker("xfail")
    expected = mark.kwargs.get("reason") if mark is not None else None
    if not isinstance(expected, Reason) or not hasattr(outcome, "wasxfail"):
        return
    found = [report.reason] if report is not None else [entry.report["reason"] for entry in made]
    if expected not in found:
        del outcome.wasxfail
        outcome.outcome = "failed"
        met = f"the checks ended in {', '.join(found)}" if found else "no check was made"
        outcome.sections.append(("xfail", f"this test was expected to end in {expected}, but {met}"))


def _fixture(name: str) -> Callable[..., Any]:
    def check(*args: Any, **kwargs: Any) -> Report:
        __tracebackhide__ = True
        from jaxcheck.check import calls as doors

        return getattr(doors, name)(*args, **kwargs).assert_ok()

    return check


@pytest.fixture
def gradcheck() -> Callable[..., Report]:
    """`gradcheck(loss, params, grad=...)`: `jaxcheck.check_grad`, and the test fails unless it passes."""
    return _fixture("check_grad")


@pytest.fixture
def rulecheck() -> Callable[..., Report]:
    """`rulecheck(f, *args)`: `jaxcheck.check_rule`, and the test fails unless it passes."""
    return _fixture("check_rule")


@pytest.fixture
def batchcheck() -> Callable[..., Report]:
    """`batchcheck(loss, points, grad=...)`: `jaxcheck.check_batch`, and the test fails unless it passes."""
    return _fixture("check_batch")
