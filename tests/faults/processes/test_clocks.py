"""Clocks that jump: results stay as they are, and no duration is negative or absurd: none is of the wall clock."""

import json
import os
import time

import pytest

from tests.faults.processes.conftest import command, files, same

YEAR = 365.25 * 86400
CLOCKS = {"a year back": [-YEAR], "ten years forward": [10 * YEAR], "to and fro": [0.0, 10 * YEAR, -YEAR, 3600.0]}


@pytest.mark.fault("a clock that jumps")
@pytest.mark.parametrize("name", CLOCKS)
def test_training(name, programs, whole_run, tmp_path):
    folder, clock = tmp_path / "run", ("clock", *CLOCKS[name])
    stopped = programs.train(folder, clock, ("signals_in", "deeplab_fast.training.step:update", 2, "SIGTERM"))
    assert stopped.status == 143, stopped.said
    ended = programs.train(folder, clock)
    assert ended.status == 0, ended.said
    assert ended.counts[0] > 0, "nobody looked at the clock"
    assert "Traceback" not in ended.said
    assert (folder / "metrics.jsonl").read_bytes() == (whole_run / "metrics.jsonl").read_bytes()
    for line in (folder / "timing.jsonl").read_text().splitlines():
        assert all(0 <= value < 3.6e6 for value in json.loads(line).values()), line
    steps = [line.split()[-1] for line in (stopped.said + ended.said).splitlines() if line.startswith("saved")]
    assert steps == ["2", "3", "4", "5"]  # one of --save_steps, evaluations, and the signal's: none for --save_minutes


@pytest.mark.fault("files of another time")
@pytest.mark.parametrize("offset", [-20 * YEAR, 20 * YEAR], ids=["past", "future"])
@pytest.mark.parametrize("name", ["predict", "prepare records", "prepare lists"])
def test_files_of_another_time(name, offset, programs, commands, tmp_path):
    """Files that are there already are found by what is in them."""
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert programs(*command(commands, name, whole)).status == 0
    program, argv = command(commands, name, folder)
    before = programs(program, argv, ("clock", offset))
    assert before.status == 0, before.said
    for path in folder.rglob("*"):
        os.utime(path, (time.time() + offset,) * 2)
    again = programs(program, argv)
    assert again.status == 0, again.said
    assert files(folder) == files(whole)
    assert all(same(folder / path, whole / path) for path in files(whole))
    if name == "predict":
        assert "by an earlier run" in again.said
