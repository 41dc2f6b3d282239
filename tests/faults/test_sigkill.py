"""A run killed at any operation on its files, or whose newest checkpoint was damaged, ends equal to the bit.

The runs are of a tiny network (:mod:`tests.faults.driver`) that saves at every step. A dozen operations spread over the
run are tried; all of them with ``-m slow``.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import REPO
from tests.faults.equal import assert_equal
from tests.trials.samples import write_samples

HERE = Path(__file__).parent
SPREAD = 12
FLAGS = [
    *("--backbone=resnet18", "--crop_size=33", "--batch_size=4", "--num_classes=3", "--num_workers=1"),
    *("--device_target=CPU", "--precision=fp32", "--ema_decay=0.9", "--log_steps=2", "--max_steps=5", "--save_steps=2"),
    *("--keep_checkpoint_max=2", "--save_minutes=1e-9"),  # a checkpoint to continue from after each step
]


@pytest.fixture(scope="session")
def killer(tmp_path_factory):
    """The library that kills, or None where it cannot be built: the driver then counts Python's own operations."""
    library = tmp_path_factory.mktemp("library") / "kill_at.so"
    compiler = shutil.which(os.environ.get("CC", "cc"))
    command = [str(compiler), "-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "kill_at.c"), "-ldl"]
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    subprocess.run(command, check=True)
    return library


@pytest.fixture(scope="module")
def run(killer, tmp_path_factory):
    """Run in ``folder``, killed at operation ``at`` (0: never); returns exit status and number of operations."""
    data = write_samples(tmp_path_factory.mktemp("data"))
    given = [f"--data_root={data}", f"--data_lst={data}/train.txt", f"--val_data_lst={data}/val.txt", *FLAGS]
    preload = {} if killer is None else {"LD_PRELOAD": str(killer)}
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.driver"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPO, env={**os.environ, **preload},
    )  # fmt: skip

    def one(folder, at=0):
        print(at, folder, *given, file=driver.stdin, flush=True)
        status, count = driver.stdout.readline().split()
        return int(status), int(count)

    yield one
    driver.stdin.close()
    assert driver.wait(60) == 0


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """A run that was never interrupted, and how many operations it took."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    status, count = run(folder)
    assert status == 0, said(folder)
    assert count > 20
    return folder, count


def said(folder):
    return folder.with_name(f"{folder.name}.log").read_text()


def without_place(content):
    """All of a checkpoint or configuration but the names that no two runs share."""
    config = {k: v for k, v in content.get("config", {}).items() if k != "train_dir"}
    return {**{k: v for k, v in content.items() if k not in ("run", "train_dir")}, "config": config}


def assert_same_run(folder, expected):
    """The same files, and in each the same; TensorBoard has one more file for each start."""
    names, wanted = (
        sorted(str(p.relative_to(f)) for p in f.rglob("*") if ".tfevents." not in p.name) for f in (folder, expected)
    )
    assert names == wanted
    assert (folder / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    steps, wanted_steps = (
        [json.loads(line)["step"] for line in (f / "timing.jsonl").read_text().splitlines()] for f in (folder, expected)
    )
    assert steps[-1] == wanted_steps[-1]
    assert steps == sorted(set(steps))
    for name in (n for n in names if n.endswith(".pt")):
        a, b = (torch.load(f / name, weights_only=True) for f in (folder, expected))
        assert_equal(without_place(a), without_place(b), name)
    a, b = (json.loads((f / "config.json").read_text()) for f in (folder, expected))
    assert without_place(a) == without_place(b)
    assert (folder / "report/evaluation.json").read_bytes() == (expected / "report/evaluation.json").read_bytes()


def kill_and_run_again(run, whole, at, folder):
    expected, _ = whole
    status, _ = run(folder, at)
    assert status == -9, f"operation {at}: {said(folder)}"
    status, _ = run(folder)
    assert status == 0, f"operation {at}: {said(folder)}"
    assert "Traceback" not in said(folder)
    assert_same_run(folder, expected)


@pytest.mark.parametrize("part", range(SPREAD))
def test_killed_at_an_operation(part, run, whole, tmp_path):
    _, count = whole
    kill_and_run_again(run, whole, 1 + (2 * part + 1) * count // (2 * SPREAD), tmp_path / "run")


@pytest.mark.parametrize("before_the_end", [0, 8, 16])
def test_killed_as_it_ends(before_the_end, run, whole, tmp_path):
    """The report is written, last.pt goes."""
    _, count = whole
    kill_and_run_again(run, whole, count - before_the_end, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_killed_at_every_operation(part, run, whole, tmp_path):
    _, count = whole
    for at in range(1 + part, count + 1, 8):
        kill_and_run_again(run, whole, at, tmp_path / f"run{at}")
        shutil.rmtree(tmp_path / f"run{at}")


def test_killed_again_and_again(run, whole, tmp_path):
    """Each time a little further."""
    expected, count = whole
    rng = random.Random(1)
    for _ in range(6):
        run(tmp_path / "run", rng.randrange(1, count // 2))
    status, _ = run(tmp_path / "run")
    assert status == 0, said(tmp_path / "run")
    assert_same_run(tmp_path / "run", expected)


def test_ten_flipped_bits(run, whole, tmp_path):
    """Each is named, and the checkpoint before continues the run to the same weights."""
    expected, _ = whole
    newest, before = (f"deeplab_v3_s16-{number}.pt" for number in ("3_1", "2_2"))
    content = (expected / newest).read_bytes()
    for i, bit in enumerate(random.Random(2).sample(range(8 * len(content)), 10)):
        folder = tmp_path / f"run{i}"
        shutil.copytree(expected, folder)
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (folder / newest).write_bytes(damaged)
        status, _ = run(folder)
        assert status == 0, said(folder)
        assert f"warning: {folder / newest}: damaged (" in said(folder)
        assert f"continuing from {folder / before}, step 4 of 5" in said(folder)
        assert_same_run(folder, expected)
