"""The tests of ``make quick``: of everything, but nothing that takes a process or interprets kernels for long.

Coverage is measured in them alone, also where all are run: tracing took a third of the suite's time, and a floor that
these reach by themselves holds for all.

What is left out is told by what a test is, not by a list of names:

- a test that says of itself that it takes seconds (``@pytest.mark.long``);
- a test that starts a process: it, a fixture of its or a function of the tests that they call names what does so;
- all but one test of each file of whole programs (by folder), and of those of a file that need kernels, which are
  interpreted where there is no GPU; whole programs with kernels.

Of a file whose tests all start processes none is left; of each folder, and of each file with kernels, some is.
"""

import inspect
import multiprocessing
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

from tests.ops.kernels import needs_kernels

TESTS = Path(__file__).parent
WHOLE_PROGRAMS = {"compare", "compatibility", "compile", "exporting", "faults", "integration", "trials"}
STARTERS = {subprocess, multiprocessing}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="a choice of the tests that takes three minutes")


@pytest.hookimpl(trylast=True)  # of what -m and -k leave
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--quick") and not config.pluginmanager.hasplugin("_cov"):
        return
    chosen = choose(items)
    others = set(items) - set(chosen)
    if config.getoption("--quick"):
        config.hook.pytest_deselected(items=list(others))
        items[:] = chosen
    else:
        for item in others:
            item.add_marker("no_cover")


def choose(items: list[pytest.Item]) -> list[pytest.Item]:
    """Choose of ``items``, in their order."""
    known: dict[Callable[..., Any], bool] = {}
    chosen: set[pytest.Item] = set()
    one_of: dict[Path, list[pytest.Item]] = {}  # by file
    groups: dict[Path, list[pytest.Item]] = {}  # by folder, and by file of those that need kernels
    for item in items:
        is_program, interpreted = runs_programs(item), needs_kernels.mark in item.iter_markers("skipif")
        groups.setdefault(item.path if interpreted and not is_program else item.path.parent, []).append(item)
        is_long = item.get_closest_marker("long") is not None
        if is_long or starts_processes(item, known) or (interpreted and is_program):
            continue
        if interpreted or is_program:
            one_of.setdefault(item.path, []).append(item)
        else:
            chosen.add(item)
    chosen |= {min(of_file, key=shares_fixtures) for of_file in one_of.values()}  # the first without, or the first
    for group in groups.values():
        if not any(item in chosen for item in group):
            chosen.add(group[0])
    return [item for item in items if item in chosen]


def runs_programs(item: pytest.Item) -> bool:
    return item.path.relative_to(TESTS).parts[0] in WHOLE_PROGRAMS


def shares_fixtures(item: pytest.Item) -> bool:
    """Tell whether the test asks for what is made once for several of its folder: too much for it alone."""
    folder = item.path.parent.relative_to(TESTS.parent).as_posix()
    fixtures = [one for of_name in item._fixtureinfo.name2fixturedefs.values() for one in of_name]  # type: ignore[attr-defined]
    return any(one.scope != "function" and one.baseid.startswith(folder) for one in fixtures)


def starts_processes(item: pytest.Item, known: dict[Callable[..., Any], bool]) -> bool:
    """Tell whether the test, or a fixture that it asks for, names what starts a process; ``known`` is kept of each."""
    if not isinstance(item, pytest.Function):
        return False
    fixtures = [definition.func for one in item._fixtureinfo.name2fixturedefs.values() for definition in one]
    return any(names_starter(function, known) for function in (item.function, *fixtures))


def names_starter(function: Callable[..., Any], known: dict[Callable[..., Any], bool]) -> bool:
    """Look through the code of a function of the tests and of those of theirs that it names."""
    function = inspect.unwrap(function)
    if not isinstance(function, FunctionType) or not function.__code__.co_filename.startswith(f"{TESTS}/"):
        return False
    if function not in known:
        known[function] = False  # while it is looked through: it may call itself
        named = [function.__globals__.get(name) for name in names_in(function.__code__)]
        known[function] = any(
            one in STARTERS or getattr(one, "__name__", "") == "torch.multiprocessing"
            if inspect.ismodule(one)
            else callable(one) and names_starter(one, known)
            for one in named
        ) or "subprocess" in names_in(function.__code__)
    return known[function]


def names_in(code: CodeType) -> Iterator[str]:
    """Yield what a function and those within it name."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_in(constant)
