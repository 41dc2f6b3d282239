"""What ``make quick`` leaves out, and that something of everything stays."""

import subprocess
import sys

import pytest

from tests.ops import kernels
from tests.quick import choose, names_starter, runs_programs


def test_something_of_each_folder_and_of_each_file_of_kernels_stays(request):
    """Of whatever was collected with this test: in ``make test`` that is all."""
    items = request.session.items
    chosen = choose(items)
    assert {item.path.parent for item in chosen} == {item.path.parent for item in items}
    assert files_with_kernels(chosen) == files_with_kernels(items)
    assert choose(chosen) == chosen


def files_with_kernels(items):
    return {
        item.path for item in items if kernels.needs_kernels.mark in item.iter_markers() and not runs_programs(item)
    }


def run_it():
    subprocess.run([sys.executable, "-c", ""], check=True)


def calls_one_that_does():
    return [run_it for _ in range(2)]


def imports_it_itself():
    from subprocess import run

    return run


def calls_itself(count):
    return calls_itself(count - 1) if count else pytest.approx(1)


@pytest.mark.parametrize(
    ("function", "expected"),
    [(run_it, True), (calls_one_that_does, True), (imports_it_itself, True), (calls_itself, False), (print, False)],
)
def test_what_starts_a_process_is_told_by_its_code(function, expected):
    assert names_starter(function, {}) is expected


def test_coverage_is_measured_in_tests_of_make_quick(request):
    if not request.config.pluginmanager.hasplugin("_cov"):
        pytest.skip("no coverage is measured")
    assert sys.gettrace() is not None


@pytest.mark.no_cover
def test_nothing_is_traced_in_the_others():
    assert sys.gettrace() is None
