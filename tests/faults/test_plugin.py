"""The table of faults counts what was tried, and a fault that did harm fails its test."""

import re

import pytest

from tests.conftest import REPO

TESTS = """
import pytest
from tests.faults.plugin import Lost

@pytest.mark.fault("survived")
def test_cases(cases):
    for i in cases.of(range(100), 5):
        with cases.case(i):
            assert i != 1

@pytest.mark.fault("lost")
def test_lost(cases):
    with cases.case("this one"):
        raise Lost("a checkpoint")

@pytest.mark.fault("in two tests")
def test_passes():
    pass

@pytest.mark.fault("in two tests")
def test_fails():
    assert False

@pytest.mark.fault("no case")
def test_none(cases):
    pass

@pytest.mark.fault("skipped")
def test_skipped():
    pytest.skip("not here")
"""


def table(result):
    lines = result.stdout.str().split("= faults =")[1].splitlines()
    found = (re.fullmatch(r"(.+?)\s+(\d+)\s+(\d+)\s+(\d+)\s+\d+", line.strip()) for line in lines)
    return {match[1]: tuple(map(int, match.groups()[1:])) for match in found if match}


@pytest.fixture
def project(pytester, monkeypatch):
    """A project of its own that has the plugin."""
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    for name in ("CI", "BUILD_NUMBER"):  # pytest's summary would say every failure a second time, in full
        monkeypatch.delenv(name, raising=False)
    pytester.makeconftest('pytest_plugins = ["tests.faults.plugin"]')
    return pytester


@pytest.mark.parametrize("processes", [(), ("-n", "1")], ids=["one", "xdist"])
def test_what_was_tried_is_counted(processes, project):
    project.makepyfile(TESTS)
    result = project.runpytest_subprocess("--all-faults", "-p", "no:cacheprovider", *processes)
    assert table(result) == {
        "survived": (100, 99, 0),
        "lost": (1, 0, 1),
        "in two tests": (2, 1, 0),
        "no case": (1, 0, 0),
        "skipped": (0, 0, 0),
        "all": (104, 100, 1),
    }
    result.assert_outcomes(passed=1, failed=4, skipped=1)
    assert "this one: Lost: a checkpoint" in result.stdout.str()


def test_a_few_are_tried_unless_all_are_asked_for(project):
    project.makepyfile(
        "def test_it(cases):\n    for i in cases.of(range(100), 5):\n        with cases.case(i): assert not i"
    )
    result = project.runpytest_subprocess("-p", "no:cacheprovider")
    assert re.findall(r"^(\d+): AssertionError", result.stdout.str(), re.M) == ["25", "50", "74", "99"]


@pytest.mark.parametrize(("least", "status"), [(100, 0), (101, 1)])
def test_fewer_cases_than_the_page_says_fail_a_whole_run(least, status, project):
    project.makeconftest(
        f"""
        pytest_plugins = ["tests.faults.plugin"]
        from pathlib import Path
        from tests.faults import plugin
        plugin.PAGE = Path({str(project.path)!r}) / "docs/page.md"
        """
    )
    project.mkdir("docs").joinpath("page.md").write_text(f"| it | goes on | {least} | `tests/test_it.py` |\n")
    project.makepyfile(
        """
        import pytest
        @pytest.mark.fault("it")
        def test_it(cases):
            for i in cases.of(range(100), 5):
                with cases.case(i): pass
        """
    )
    result = project.runpytest_subprocess("--all-faults", "-p", "no:cacheprovider")
    assert result.ret == status
    assert ("it: 100 tried, expected 101 or more (page.md)" in result.stdout.str()) == (status == 1)
    assert project.runpytest_subprocess("-p", "no:cacheprovider").ret == 0
    assert project.runpytest_subprocess("--all-faults", "-p", "no:cacheprovider", "-k", "it").ret == 0
