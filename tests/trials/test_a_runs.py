"""Runs and checkpoints: what is killed, copied, full or interrupted."""

import errno
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from deeplab_fast import train
from deeplab_fast.cli import run
from deeplab_fast.errors import UserError
from deeplab_fast.training import trainer
from tests.conftest import REPO
from tests.trials.run_files import MODEL, lines, without_seal
from tests.trials.samples import small

pytestmark = pytest.mark.usefixtures("tiny", "without_pictures")


def at_step(monkeypatch, step, action):
    """Call ``action`` in place of update ``step``, counted from 1."""
    whole = trainer.choose_step

    def choose(state):
        do, plan = whole(state)
        return lambda batches: action() if state.step + 1 == step else do(batches), plan

    monkeypatch.setattr(trainer, "choose_step", choose)


class Killed(BaseException):
    """Ends a run as SIGKILL does: nothing handles it."""


def killed():
    raise Killed


@pytest.mark.fault("killed at a file operation")
def test_a1_a_run_killed_before_its_first_numbered_checkpoint_goes_on(start, folder, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 4, killed)
        with pytest.raises(Killed):
            start("--max_steps=6")
    assert not list(folder.glob(f"{MODEL}-*.pt"))
    before = lines(folder)
    said = start("--max_steps=6")
    assert f"continuing from {folder / 'last.pt'}, step 2 of 6" in said
    assert lines(folder)[: len(before)] == before
    assert [r["step"] for r in lines(folder) if "loss" in r] == [1, 2, 3, 4, 5, 6]


def test_a1_minutes_bound_what_is_lost(start, folder, monkeypatch):
    at_step(monkeypatch, 6, killed)
    with pytest.raises(Killed):
        start("--max_steps=9", "--eval_epochs=0", "--save_minutes=1e-9")
    assert torch.load(folder / "last.pt", weights_only=True)["step"] == 5


@pytest.mark.parametrize("left", ["best.pt", "metrics.jsonl"])
def test_a1_results_without_a_checkpoint_are_not_written_over(left, start, folder):
    start("--max_steps=2")
    kept = (folder / left).read_bytes()
    for path in folder.iterdir():
        if path.is_file() and path.name != left:
            path.unlink()
    with pytest.raises(UserError, match=rf"holds {left} but no checkpoint to continue from; --resume=False"):
        start("--max_steps=2")
    assert (folder / left).read_bytes() == kept
    (folder / "notes.txt").write_text("the user's")
    said = start("--max_steps=2", "--resume=False")
    assert f"what was in {folder} is now in {folder / 'previous-1'}" in said
    assert (folder / "previous-1" / left).read_bytes() == kept
    assert (folder / "notes.txt").exists()
    start("--max_steps=2", "--resume=False")
    assert (folder / "previous-2" / "best.pt").exists()
    assert len([r for r in lines(folder) if "loss" in r]) == 2


def test_a1_fewer_steps_than_were_done_lose_none(start, folder, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 6, killed)
        with pytest.raises(Killed):
            start("--max_steps=9", "--save_steps=3", "--save_minutes=1e-9")
    assert "already complete" in start("--max_steps=4", "--save_steps=3")
    assert torch.load(folder / "last.pt", weights_only=True)["step"] == 5


def test_a1_a_resume_without_validation_keeps_what_was_measured(start, folder):
    start("--max_steps=4")
    best = (folder / "best.pt").read_bytes()
    measured = [r for r in lines(folder) if "miou" in r]
    start("--max_steps=5", "--val_data_lst=")
    start("--max_steps=6", "--base_lr=1e-9")  # too slow to be better
    assert [r for r in lines(folder) if "miou" in r][: len(measured)] == measured
    content = torch.load(folder / "best.pt", weights_only=True)
    assert (folder / "best.pt").read_bytes() == best or content["miou"] > max(r["miou"] for r in measured)


@pytest.mark.fault("two programs in one folder")
def test_a3_a_second_run_in_the_same_folder_is_refused(start, folder):
    start("--max_steps=2")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with (folder / "run.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write("process 7 on there\n")
        other.flush()
        with pytest.raises(UserError, match=r"another run is writing there \(process 7 on there\)"):
            start("--max_steps=4")
    (folder / "run.lock").write_text("a dead process leaves the file, not the lock")
    assert {n: (folder / n).read_bytes() for n in before} == before
    start("--max_steps=4")
    assert not (folder / "run.lock").exists()


def test_a4_copies_of_the_users_are_neither_removed_nor_taken_for_the_newest(start, folder):
    flags = ("--save_steps=1", "--keep_checkpoint_max=1")
    start("--max_steps=1", *flags)
    copies = [folder / f"{MODEL}-before-lr-change-1_1.pt", folder / f"{MODEL}-copy-9_9.pt", folder / f"{MODEL}-9_9.pt"]
    for copy in copies:
        shutil.copy(folder / f"{MODEL}-1_1.pt", copy)
    start("--max_steps=2", *flags)
    said = start("--max_steps=3", *flags)
    assert f"continuing from {folder}/{MODEL}-1_2.pt, step 2 of 3" in said
    assert all(copy.exists() for copy in copies)
    assert {p.name for p in folder.glob("*.pt")} == {f"{MODEL}-2_1.pt", "best.pt", *(copy.name for copy in copies)}


@pytest.mark.fault("a disk that is full, dead or turns read-only")
def test_a8_a_write_that_fails_says_the_systems_reason(start, folder):
    """A limit on the size of files stands for the full disk; torch itself would speak of an unexpected position."""
    start("--max_steps=2")
    before = {p.name: p.read_bytes() for p in folder.glob("*.pt")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(UserError, match=rf"{folder}/.*\.pt: cannot be written \(File too large\)") as caught:
            start("--max_steps=4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert {p.name: p.read_bytes() for p in folder.glob("*.pt")} == before
    assert not list(folder.glob(".*"))
    start("--max_steps=4")


@pytest.mark.fault("a disk that is full, dead or turns read-only")
def test_a8_events_that_cannot_be_written_neither_end_the_run_nor_print_a_traceback(start, folder, monkeypatch, capsys):
    from tensorboard.summary.writer.record_writer import RecordWriter

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    monkeypatch.setattr(RecordWriter, "flush", full)
    said = start("--max_steps=4")
    assert said.count("nothing more goes to TensorBoard (No space left on device)") == 1
    assert "Traceback" not in capsys.readouterr().err
    assert len([r for r in lines(folder) if "loss" in r]) == 4


@pytest.mark.fault("a folder moved away or replaced while it is in use")
def test_a8_a_folder_removed_in_mid_run_is_one_line(start, folder, monkeypatch):
    at_step(monkeypatch, 2, lambda: shutil.rmtree(folder) or torch.zeros(()))
    with pytest.raises(UserError, match=rf"{folder}/.*: cannot be written \(No such file or directory\)"):
        start("--max_steps=4", "--save_steps=1", "--log_steps=1")


def test_a8_a_path_is_printed_as_text(monkeypatch, capsys):
    def fail(argv):
        raise OSError(errno.EIO, "Input/output error", b"/a/b")

    monkeypatch.setattr("sys.argv", ["x"])
    with pytest.raises(SystemExit):
        run(fail)
    assert capsys.readouterr().err == "error: /a/b: Input/output error\n"


def test_a9_two_signals_within_a_save_let_it_end(start, folder, samples, monkeypatch, capsys):
    whole = torch.save

    def interrupted(content, file, **options):
        if content.get("step") == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)  # here Python calls the handlers
        whole(content, file, **options)

    monkeypatch.setattr(torch, "save", interrupted)
    flags = small(
        f"--train_dir={folder}",
        f"--data_root={samples}",
        f"--data_lst={samples}/train.txt",
        "--crop_size=33",
        "--save_steps=1",
        "--max_steps=3",
    )
    monkeypatch.setattr("sys.argv", ["train", *flags])
    with pytest.raises(SystemExit) as ended:
        run(train.main)
    assert ended.value.code == 128 + signal.SIGTERM
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "error:" not in err
    assert torch.load(folder / f"{MODEL}-1_1.pt", weights_only=True)["step"] == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a9_ctrl_c_while_torch_is_imported_prints_no_traceback():
    process = subprocess.Popen(
        [sys.executable, "-m", "deeplab_fast.train"], stderr=subprocess.PIPE, text=True, cwd=REPO
    )
    try:
        with open(f"/proc/{process.pid}/maps") as maps:
            while "libtorch" not in maps.read():
                time.sleep(0.01)
                maps.seek(0)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert "Traceback" not in err
    assert process.returncode == 130


def test_d4_a_run_resumed_without_validation_prints_no_old_figure(start, capsys):
    start("--max_steps=2")
    assert "held-out mIoU" in capsys.readouterr().out
    start("--max_steps=4", "--val_data_lst=")
    assert "held-out" not in capsys.readouterr().out


def test_d4_other_held_out_samples_are_evaluated_anew(start, samples, folder, capsys):
    start("--max_steps=2")
    shutil.copy(samples / "train.txt", samples / "val.txt")
    said = start("--max_steps=2")
    assert "the held-out samples are not those of before" in said
    figures = [r["miou"] for r in lines(folder) if "miou" in r]
    assert len(figures) == 2
    assert f"held-out mIoU {figures[1]:.4f} at the end; best {figures[1]:.4f}" in capsys.readouterr().out


def decays(content):
    return [group["weight_decay"] for group in content["optimiser"]["param_groups"]]


def test_e10_batch_norms_weights_do_not_decay_and_an_older_run_goes_on_as_it_began(start, folder):
    newest = folder / f"{MODEL}-1_2.pt"
    start("--max_steps=2", "--resume=False")
    assert decays(torch.load(newest, weights_only=True)) == [1e-4, 0.0]
    start("--max_steps=2", "--resume=False", "--decay_norm=True")
    assert decays(torch.load(newest, weights_only=True)) == [1e-4]
    without_seal(newest, lambda content: content["config"].pop("decay_norm"))
    said = start("--max_steps=4")
    assert "--decay_norm=True: the run began so, and goes on so" in said
    assert decays(torch.load(folder / f"{MODEL}-2_2.pt", weights_only=True)) == [1e-4]
    with pytest.raises(UserError, match=r"--decay_norm=False: .* was trained with True"):
        start("--max_steps=6")
