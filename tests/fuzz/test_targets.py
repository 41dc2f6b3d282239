"""Each target of Python reads its kept seeds, and for a moment what a seeded mutation makes of them."""

import logging
import mmap
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from deeplab_fast.errors import UserError
from tests.fuzz import grow, run
from tests.fuzz.make_seeds import SEEDS
from tests.fuzz.run import NAMES, NATIVE
from tests.fuzz.soak import attack
from tests.fuzz.targets import TARGETS
from tests.fuzz.targets.target import check

INPUTS, SECONDS = 150, 0.7  # all targets together take at most a minute of CPU time

each_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "deeplab_fast")


@each_target
def test_kept_seeds_are_read_or_refused(target, tmp_path):
    files = sorted((SEEDS / target.name).iterdir())
    assert {path.name for path in files} >= {name for name, _ in target.seeds()}
    for path in files:
        check(target, path.read_bytes(), tmp_path)


def test_no_target_is_left_out():
    """Each file of targets is one, under its module's own bounds; each has its seeds, and so have the native ones."""
    files = {path.stem for path in (Path(__file__).parent / "targets").glob("*.py")}
    found = {target.read.__module__.rpartition(".")[2] for target in TARGETS.values()}
    assert files - found == {"__init__", "parts", "target"}
    assert set(NAMES) == {path.name for path in SEEDS.iterdir()}
    assert NATIVE == ["confusion", "jpeg", "loader", "png"]


def test_a_finding_ends_with_status_1_and_the_other_targets_go_on(monkeypatch, tmp_path):
    seen = []

    def fuzz(name, seconds, out):
        seen.append(name)
        return {"findings": ["crash"] if name == "coco" else []}

    monkeypatch.setattr(run, "fuzz", fuzz)
    monkeypatch.setattr("sys.argv", ["run", f"--out={tmp_path}", "coco", "cvat"])
    assert run.main() == 1
    assert seen == ["coco", "cvat"]
    monkeypatch.setattr("sys.argv", ["run", f"--out={tmp_path}", "cvat"])
    assert run.main() == 0


def test_what_takes_too_much_is_a_finding(tmp_path):
    def works(data, folder):
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass

    def takes(data, folder):
        with mmap.mmap(-1, 64 << 20) as memory:  # of the system: the heap may have as much to spare
            for page in range(0, len(memory), mmap.PAGESIZE):
                memory[page] = 1

    target = replace(TARGETS["palettes"], name="busy", cpu_seconds=0.1)
    with pytest.raises(AssertionError, match=r"s of CPU time; expected at most 0\.1 s"):
        check(replace(target, read=works), b"", tmp_path)
    with pytest.raises(AssertionError, match=r"MB; expected at most 16 MB"):
        check(replace(target, read=takes, cpu_seconds=60, megabytes=16), b"", tmp_path)


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_seeds_of_the_native_targets_are_read_or_refused(kind, tmp_path):
    for path in sorted((SEEDS / kind).iterdir()):
        check(TARGETS["images"], path.read_bytes(), tmp_path)


@each_target
def test_mutated_seeds_are_read_or_refused(target, tmp_path):
    findings = list(attack(target, tmp_path, SECONDS, seed=1, inputs=INPUTS))
    assert not findings, "\n".join(f"{data!r}: {wrong}" for data, wrong in findings[:3])


@pytest.mark.long
@pytest.mark.parametrize(
    "target", [target for name, target in TARGETS.items() if name not in grow.LEFT_OUT], ids=lambda target: target.name
)
def test_large_inputs_take_a_time_in_proportion(target, tmp_path):
    findings = list(grow.attack(target, tmp_path, SECONDS, seed=1, inputs=INPUTS))
    assert not findings, "\n".join(findings[:3])


def test_time_that_grows_with_the_square_is_a_finding(tmp_path, monkeypatch):
    monkeypatch.setattr(grow, "LARGE", 1 << 14)
    monkeypatch.setattr(grow, "LEAST_S", 0.02)

    def searches(data, folder):
        re.search(rb"1+x", data)

    def reads(data, folder):
        re.search(rb"1x", data)

    target = replace(TARGETS["palettes"], read=searches, seeds=lambda: iter([("a", b"1")]))
    assert "s for four times as much" in next(grow.attack(target, tmp_path, 60, seed=1))
    assert not list(grow.attack(replace(target, read=reads), tmp_path, 60, seed=1, inputs=40))


def test_what_is_wrong_is_a_finding(tmp_path):
    """The harness itself: another error and a refusal without words do not pass."""

    def fails(data, folder):
        raise KeyError("x")

    def refuses(data, folder):
        raise UserError("")

    for read in (fails, refuses):
        target = replace(TARGETS["palettes"], read=read)
        assert len(list(attack(target, tmp_path, 5, seed=1, inputs=3))) == 3
