"""Exit statuses: each program's, and that the table of docs/runs.md names them all."""

import re
import shutil
import signal

import pytest

from tests.conftest import REPO
from tests.faults.processes.conftest import command

PROGRAMS = ["train", "predict", "eval", "export", "prepare records", "prepare lists", "prepare labels"]


@pytest.fixture
def start(programs, commands, tmp_path):
    """Run a program by name, with more flags and faults."""

    def run(name, *faults, more=()):
        if name == "train":
            return programs.train(tmp_path / "run", *faults, more=tuple(more))
        if not (tmp_path / "run").is_dir():
            program, argv = command(commands, name, tmp_path / "run")
            return programs(program, [*argv, *more], *faults)
        raise AssertionError("one a test")

    return run


@pytest.mark.parametrize("name", PROGRAMS)
def test_done(name, start):
    ended = start(name)
    assert ended.status == 0, ended.said
    assert ended.errors == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_mistake(name, start):
    ended = start(name, more=["--no_such_flag=1"])
    assert ended.status == 2, ended.said
    assert ended.said.splitlines()[-1].startswith("error: --no_such_flag: unknown flag")
    assert len(ended.said.splitlines()) == 1


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_signal(program, name, start):
    ended = start(program, ("signals_in", "deeplab_fast.config.flags:check_value", 1, name))
    assert ended.status == 128 + signal.Signals[name], ended.said
    assert ended.said == "interrupted\n"


def test_a_training_that_diverges(start):
    ended = start("train", more=["--base_lr=1e30"])
    assert ended.status == 1, ended.said
    assert "loss is" in ended.errors[0]


def test_a_prediction_that_leaves_an_image_out(programs, commands, tmp_path):
    shutil.copytree(programs.data / "images", tmp_path / "images")
    (tmp_path / "images/00.jpg").write_bytes(b"no image")
    program, argv = command(commands, "predict", tmp_path / "run")
    ended = programs(program, [*argv, f"--input={tmp_path / 'images'}"])
    assert ended.status == 1, ended.said


def test_the_documents_name_them_all():
    table = (REPO / "docs/runs.md").read_text().split("## Exit status")[1]
    assert re.findall(r"^\| ([\d, ]+) \|", table, re.M) == ["0", "1", "2", "129, 130, 143"]
