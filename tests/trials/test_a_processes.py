"""Held-out data that cannot be used, processes that fail, stop or die, and a run that goes on elsewhere."""

import json
import logging
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from deeplab_fast import eval as evaluation
from deeplab_fast import train
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.errors import UserError
from tests.trials.processes import child_of_rank, end, end_all, start_all
from tests.trials.samples import small

pytestmark = pytest.mark.usefixtures("tiny")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def records(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be half written


@pytest.fixture
def start():
    """Start processes of a run (:func:`start_all`); none outlives the test."""
    started = []

    def run(*args, **options):
        started.append(start_all(*args, **options))
        return started[-1]

    yield run
    for processes in started:
        end_all(processes)


def flags(run: Path, data: Path, *more: str) -> list[str]:
    lists = [f"--data_lst={data / 'train.txt'}", f"--val_data_lst={data / 'val.txt'}"]
    return [f"--train_dir={run}", f"--data_root={data}", *lists, *small(*more)]


@pytest.mark.fault("a sample that cannot be used")
def test_a10_a_corrupt_held_out_image_is_named_before_the_first_step(samples, tmp_path):
    truncate(samples / "images/11.jpg")
    with pytest.raises(UserError, match=r"held-out data: .*11\.jpg: .*--on_bad_sample=skip"):
        train.main(flags(tmp_path / "run", samples, "--max_steps=2"))
    assert records(tmp_path / "run") == []


def test_a10_skip_leaves_it_out_of_every_evaluation(samples, tmp_path, caplog, capsys):
    truncate(samples / "images/11.jpg")
    skip = "--on_bad_sample=skip"
    assert train.main(flags(tmp_path / "run", samples, "--max_steps=2", skip)) == 0
    assert [r["images"] for r in records(tmp_path / "run") if "miou" in r] == [1]
    assert "11.jpg" in caplog.text
    assert "over 1 of 2 held-out samples" in caplog.text
    of_eval = [f"--ckpt_path={tmp_path / 'run/best.pt'}", f"--data_root={samples}", f"--data_lst={samples / 'val.txt'}"]
    of_eval += ["--batch_size=2", "--device_target=CPU"]
    with pytest.raises(UserError, match=r"11\.jpg"):
        evaluation.main(of_eval)
    assert evaluation.main([*of_eval, skip]) == 0
    assert "over 1 images; 1 could not be used" in capsys.readouterr().out


@pytest.mark.fault("a sample that cannot be used")
def test_a10_a_held_out_file_lost_in_mid_run_loses_no_step(samples, tmp_path, caplog):
    caplog.set_level("INFO", "deeplab_fast")

    class Remover(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("epoch 1:"):
                (samples / "images/11.jpg").unlink()

    logger, remover = logging.getLogger("deeplab_fast"), Remover()
    logger.addHandler(remover)
    try:
        with pytest.raises(UserError, match=r"11\.jpg"):
            train.main(flags(tmp_path / "run", samples, "--train_epochs=3"))
    finally:
        logger.removeHandler(remover)
    assert torch.load(tmp_path / "run/last.pt", weights_only=True)["step"] == 4


def met_by_rank_1(first_step: int) -> tuple[int, int]:
    """A sample that no process meets before ``first_step``, then rank 1 alone at the step returned."""
    ranks = [list(Schedule(10, 2, 1, rank, 2).batches(0, 20)) for rank in range(2)]
    for index in range(10):
        met = [(step, rank) for step in range(20) for rank in range(2) for _, i in ranks[rank][step] if i == index]
        if met[0][1] == 1 and met[0][0] >= first_step:
            return index, met[0][0]
    raise AssertionError("no such sample")


@pytest.mark.fault("one of several processes fails")
def test_a11_a_bad_sample_of_one_process_ends_all_and_loses_no_step(samples, tmp_path, start):
    index, step = met_by_rank_1(1)
    truncate(samples / f"images/{index:02}.jpg")
    statuses, said = end(start(tmp_path / "run", samples, "--train_epochs=20", "--eval_epochs=0"), 240)
    assert statuses == [2, 2], said
    errors = [line for text in said for line in text.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert f"{index:02}.jpg" in errors[0]
    assert "Traceback" not in "".join(said)
    assert max(r["step"] for r in records(tmp_path / "run")) == step
    assert torch.load(tmp_path / "run/last.pt", weights_only=True)["step"] == step


def wait_for_steps(run: Path, count: int, processes: list) -> None:
    until = time.monotonic() + 240
    while len(records(run)) < count:
        assert time.monotonic() < until, "no step was done"
        assert all(p.poll() is None for p in processes), end(processes, 1)[1]
        time.sleep(0.05)


LONG = ("--train_epochs=2000", "--eval_epochs=0", "--log_steps=1", "--save_steps=2", "--keep_checkpoint_max=2")


@pytest.mark.fault("one of several processes fails")
def test_a12_a_process_that_no_longer_answers_is_named(samples, tmp_path, start):
    processes = start(tmp_path / "run", samples, *LONG, "--process_timeout=4")
    wait_for_steps(tmp_path / "run", 2, processes)
    processes[1].send_signal(signal.SIGSTOP)
    try:
        statuses, (stderr,) = end(processes[:1], 120)
    finally:
        processes[1].kill()
    assert statuses == [2], stderr
    last = stderr.splitlines()[-1]
    where = f"error: rank 1 (process {processes[1].pid} on {socket.gethostname()})"
    assert last.startswith(f"{where} did not answer for 4 s (--process_timeout)")
    assert "Traceback" not in stderr


@pytest.mark.fault("one of several processes fails")
def test_a12_a_signal_to_one_process_stops_all_and_loses_no_step(samples, tmp_path, start):
    """Stop one process alone, as where one host of several is taken away."""
    processes = start(tmp_path / "run", samples, *LONG, "--save_steps=1000000")
    wait_for_steps(tmp_path / "run", 2, processes)
    processes[1].send_signal(signal.SIGTERM)
    statuses, said = end(processes, 240)
    assert statuses == [128 + signal.SIGTERM] * 2, said
    step = torch.load(tmp_path / "run/last.pt", weights_only=True)["step"]
    assert step == max(r["step"] for r in records(tmp_path / "run")) > 0
    assert f"stopped by SIGTERM at step {step}" in said[0]
    assert "error:" not in "".join(said)


@pytest.mark.fault("one of several processes fails")
def test_a13_torchrun_restarts_a_run_whose_process_died(samples, tmp_path, start):
    """The new processes must not meet the addresses and notes of those before, which torchrun's store still holds."""
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "--max-restarts=1"]
    flags = [*LONG, "--max_steps=24"]
    processes = start(tmp_path / "run", samples, *flags, launcher=torchrun)
    wait_for_steps(tmp_path / "run", 4, processes)
    os.kill(child_of_rank(processes[0].pid, 1), signal.SIGKILL)
    statuses, (said,) = end(processes, 240)
    assert statuses == [0], said
    assert said.count("continuing from") == 1
    assert [r["step"] for r in records(tmp_path / "run")] == list(range(1, 25))


@pytest.mark.fault("a signal, or two, to a training run")
def test_a9_ctrl_c_in_a_terminal_with_torchrun_loses_no_step(samples, tmp_path, start):
    """The terminal sends SIGINT to all processes, and torchrun hands its own on to them: they get it twice."""
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    processes = start(tmp_path / "run", samples, *LONG, "--save_steps=1000000", launcher=torchrun)
    wait_for_steps(tmp_path / "run", 4, processes)
    os.killpg(processes[0].pid, signal.SIGINT)
    for rank in range(2):
        with suppress(AssertionError, OSError):  # torchrun starts each in a session of its own
            os.kill(child_of_rank(processes[0].pid, rank), signal.SIGINT)
    _, (said,) = end(processes, 90)
    step = torch.load(tmp_path / "run/last.pt", weights_only=True)["step"]
    assert step == max(r["step"] for r in records(tmp_path / "run")) > 0
    assert f"stopped by SIGINT at step {step}" in said


def losses(run: Path) -> list[float]:
    return [r["loss"] for r in records(run) if "loss" in r]


def test_a14_a_run_goes_on_with_another_batch_size_and_the_same_images_a_step(samples, tmp_path):
    """With BatchNorm frozen and no dropout nothing depends on how a step's images are dealt out, but for rounding."""
    same = ["--freeze_bn=True", "--dropout=0", "--eval_epochs=0", "--lr_type=exp"]
    train.main(flags(tmp_path / "whole", samples, "--max_steps=4", *same))
    train.main(flags(tmp_path / "run", samples, "--max_steps=2", *same))
    more = flags(tmp_path / "run", samples, "--max_steps=4", "--batch_size=3", *same)
    with pytest.raises(UserError, match=r"--batch_size=4 x .*--batch_size=3 x .*--resume_elsewhere=True.* 4 images"):
        train.main(more)
    assert train.main([*more, "--resume_elsewhere=True"]) == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert (config["batch_size"], config["accumulate_steps"]) == (2, 2)
