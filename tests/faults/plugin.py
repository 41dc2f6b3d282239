"""Count the cases of every test of a fault, choose among many, and print a table of them all at the end.

A test marked ``@pytest.mark.fault("what is done to the program")`` tries one fault. Where it tries it in many cases it
takes the fixture ``cases``; a test without it is one case. ``make faults`` is ``pytest -m fault --all-faults``; without
``--all-faults`` each test tries a few of its cases. docs/reliability.md says how many cases of each fault there are at
least: a run of them all that tries fewer fails.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from tests.promises import PAGE, promises

T = TypeVar("T")
_PROPERTY = "fault"  # of a test's report: what its fault is called, and how many cases were tried, survived and lost
_HEADS = ("fault", "tried", "survived", "lost", "seconds")


class Lost(AssertionError):
    """Something that was saved is gone, or a result is another one, and nobody was told."""


class Cases:
    """The cases of one test: each is tried, whatever became of those before it, and the test fails at its end."""

    def __init__(self, take_all: bool) -> None:
        self.take_all = take_all
        self.tried = self.lost = 0
        self.failures: list[str] = []

    def of(self, every: Sequence[T], quick: int) -> Sequence[T]:
        """Choose every case, or ``quick`` of them spread over all, the first and the last among them."""
        if self.take_all or len(every) <= quick:
            return every
        last = len(every) - 1
        return [every[round(i * last / max(quick - 1, 1))] for i in range(quick)]

    @contextmanager
    def case(self, what: object) -> Iterator[None]:
        """Count a case; an error in the block is kept until the end of the test. ``what`` names it there."""
        self.tried += 1
        try:
            yield
        except Exception as error:
            self.lost += isinstance(error, Lost)
            self.failures.append(f"{what}: {type(error).__name__}: {error}")

    def check(self) -> None:
        """Fail where a case did, or where there was none."""
        if self.failures or not self.tried:
            shown = "\n".join(self.failures[:10])
            pytest.fail(f"{len(self.failures)} of {self.tried} cases failed\n{shown}", pytrace=False)


@pytest.fixture
def cases(request: pytest.FixtureRequest) -> Cases:
    """Count the cases of this test (:class:`Cases`); whatever failed is told when the test is through."""
    return Cases(request.config.getoption("--all-faults"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-faults", action="store_true", help="try every case of each fault, not a few")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[Any]:
    result = yield
    counted = pyfuncitem.funcargs.get("cases")
    if isinstance(counted, Cases):
        counted.check()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    report = yield
    mark = item.get_closest_marker("fault")
    if mark is None or not (report.when == "call" or report.failed):
        return report
    counted = getattr(item, "funcargs", {}).get("cases")
    if report.skipped:
        counts = (0, 0, 0)
    elif isinstance(counted, Cases):
        failed = max(len(counted.failures), report.failed)  # it may have ended before the next case
        counts = (max(counted.tried, failed), max(counted.tried, failed) - failed, counted.lost)
    else:
        lost = call.excinfo is not None and call.excinfo.errisinstance(Lost)
        counts = (1, int(not report.failed), int(lost))
    report.user_properties.append((_PROPERTY, (mark.args[0], *counts)))
    return report


class Table:
    """Counts what was tried of each fault, and what became of it; tells of each test that fails as it does."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._rows: dict[str, list[float]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for fault, *counts in (value for name, value in report.user_properties if name == _PROPERTY):
            row = self._rows.setdefault(fault, [0, 0, 0, 0.0])
            row[:] = (a + b for a, b in zip(row, (*counts, report.duration), strict=True))
        if report.failed:
            self._terminal.write_line(f"\nFAILED {report.nodeid}\n{report.longreprtext}", red=True)

    def _too_few(self) -> list[str]:
        """Say of which faults fewer cases were tried than docs/reliability.md says; of a run of all tests alone."""
        config = self._config
        is_whole = config.args_source is not pytest.Config.ArgsSource.ARGS and not config.option.keyword
        if not is_whole or config.rootpath != PAGE.parent.parent:
            return []
        tried = {fault: row[0] for fault, row in self._rows.items()}
        return [
            f"{one.fault}: {tried.get(one.fault, 0):.0f} tried, expected {one.cases:,} or more ({PAGE.name})"
            for one in promises(PAGE.read_text())
            if tried.get(one.fault, 0) < one.cases
        ]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.OK and self._too_few():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self) -> None:
        """Print one line for each fault."""
        rows, terminal = self._rows, self._terminal
        total = [sum(column) for column in zip(*rows.values(), strict=True)] or [0, 0, 0, 0.0]
        width = max(map(len, (*rows, "all", _HEADS[0])))
        terminal.section("faults")
        terminal.write_line(f"{_HEADS[0]:{width}}  " + "  ".join(f"{head:>8}" for head in _HEADS[1:]))
        for fault, row in (*sorted(rows.items()), ("all", total)):
            counts = "  ".join(f"{count:8.0f}" for count in row)
            terminal.write_line(f"{fault:{width}}  {counts}")
        for line in self._too_few():
            terminal.write_line(line, red=True)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--all-faults") and config.pluginmanager.has_plugin("terminalreporter"):
        config.pluginmanager.register(Table(config))
