"""What the tests share: small generated data, the real data where it is at hand, torchvision without its kernels."""

import fcntl
import logging
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

# Before torch. Threads of two processes on two cores wait spinning, and how many there are decides the rounding.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.ops.interpreter import speed_up
from tests.untraced import trace_less, untraced

with untraced():
    import torch

os.environ.setdefault("TQDM_DISABLE", "1")
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported: 'fused=on' then runs on the CPU
    speed_up()
trace_less()

REPO = Path(__file__).parent.parent
pytest_plugins = ["tests.faults.plugin", "tests.quick", "tests.state", "pytester"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure no coverage of kernels while they are interpreted, but for one look at each op (``opcheck``).

    Tracing nearly doubles what interpreting takes (51 s became 88 for 21 tests of one op). Files that interpret any
    have their contract from ``tests/ops/kernels.py``.
    """
    contract = {"needs_kernels", "check_contract", "opcheck"}
    for item in items:
        if isinstance(item, pytest.Function) and contract & vars(item.module).keys() and "opcheck" not in item.name:
            item.add_marker("no_cover")


@pytest.hookimpl(wrapper=True, trylast=True)  # within pytest-cov's own
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Measure nothing where ``no_cover`` says so.

    In a process of pytest-xdist pytest-cov starts two measurements, and stops one of them.
    """
    if item.get_closest_marker("no_cover") is None:
        return (yield)
    with untraced():
        return (yield)


@pytest.fixture(autouse=True)
def what_a_program_sets(same_state: None) -> Iterator[None]:
    """Give the next test the log's handlers and the answers to signals as they were: ``cli.run`` sets both."""
    log = logging.getLogger("deeplab_fast")
    handlers, level = log.handlers, log.level
    answers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    log.handlers = handlers
    log.setLevel(level)
    for number, answer in answers.items():
        signal.signal(number, answer)


@pytest.fixture(scope="session")
def builtin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small built-in data set: 24 training and 7 held-out samples."""
    from deeplab_fast.data.synthetic import builtin_data

    return builtin_data(tmp_path_factory.mktemp("cache"), train=24, val=7)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Make a file once for all processes of the tests: ``once(name, make)`` calls ``make(path)`` in the first alone."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def get(name: str, make: Callable[[Path], None]) -> Path:
        target = folder / name
        with open(folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                make(target)
        return target

    return get


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real VOC and SBD images, kept outside the project for their licence."""
    folder = REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs real VOC data in {folder}")
    return folder


@pytest.fixture(scope="session")
def torchvision_segmentation():  # type: ignore[no-untyped-def]
    """``torchvision.models.segmentation``, importable beside a torch that its compiled part does not fit."""
    from benchmarks.peers import import_torchvision

    return import_torchvision().models.segmentation


@pytest.fixture
def run_cli():  # type: ignore[no-untyped-def]
    """Run ``python -m deeplab_fast.NAME ARGS`` and return the finished process."""
    import subprocess

    def run(name: str, *args: str, check: bool = True, **env: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [sys.executable, "-m", f"deeplab_fast.{name}", *args],
            capture_output=True,
            text=True,
            cwd=REPO,
            env={**os.environ, **env},
            timeout=600,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    return run
