"""A run killed at a random step and resumed ends with the same bits as one that was never interrupted."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from deeplab_fast import train
from deeplab_fast.cli import run as run_program
from deeplab_fast.data.records import RecordOptions, write_records
from deeplab_fast.data.sources import list_source

STEPS = 15


@pytest.fixture(scope="module")
def records(builtin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    options = RecordOptions(2, True, 1, 6, 255, ())
    for name in ("train", "val"):
        write_records(list_source(builtin, builtin / f"{name}.txt"), folder / f"{name}.tar", options)
    return folder


def command(records, run, *extra):
    # 24 images in batches of 4: 6 steps an epoch; checkpoints every 4 steps fall in mid-epoch.
    return [
        sys.executable,
        "-m",
        "deeplab_fast.train",
        f"--data_file={records}/train.tar",
        f"--val_data_file={records}/val.tar",
        f"--train_dir={run}",
        "--backbone=resnet18",
        "--num_classes=6",
        "--crop_size=65",
        "--batch_size=4",
        f"--max_steps={STEPS}",
        "--save_steps=4",
        "--log_steps=3",
        "--num_workers=2",
        "--ema_decay=0.9",
        "--base_lr=0.01",
        "--precision=fp32",
        *extra,
    ]


def last_step(run):
    try:
        return len([r for r in (run / "metrics.jsonl").read_text().splitlines() if '"loss"' in r])
    except FileNotFoundError:
        return 0


def ended_here(flags, monkeypatch, capsys):
    """Exit status and what is said of the same command in this process."""
    monkeypatch.setattr(sys, "argv", ["train", *flags])
    capsys.readouterr()
    try:
        run_program(train.main)
        status = 0
    except SystemExit as ended:
        status = ended.code or 0
    said = capsys.readouterr()
    return status, said.out, said.err


def finish(cmd):
    done = subprocess.run(cmd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def uninterrupted(records, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    finish(command(records, run))
    return run


def assert_same_run(run, expected):
    assert (run / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    name = "deeplab_v3_s16-3_3.pt"
    a, b = (torch.load(folder / name, weights_only=True) for folder in (run, expected))
    for part in ("model", "average"):
        assert a[part].keys() == b[part].keys()
        assert all(torch.equal(a[part][k], b[part][k]) for k in a[part])
    for s, t in zip(a["optimiser"]["state"].values(), b["optimiser"]["state"].values(), strict=True):
        assert torch.equal(s["momentum_buffer"], t["momentum_buffer"])
    assert torch.equal(a["rng"]["cpu"], b["rng"]["cpu"])


@pytest.mark.fault("killed at a file operation")
@pytest.mark.parametrize("moments", [(3,), (None,), (6, None)], ids=["before any checkpoint", "once", "twice"])
def test_sigkill(moments, records, uninterrupted, tmp_path):
    run = tmp_path / "run"
    rng = random.Random()
    for wanted in moments:
        wanted = wanted or rng.randint(5, 12)
        print(f"kill after step {wanted}")
        process = subprocess.Popen(
            command(records, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while last_step(run) < wanted - 3 and process.poll() is None:  # lines appear in blocks of three
            time.sleep(0.01)
        time.sleep(rng.random() * 0.5)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    continues = (run / "last.pt").exists() or any(run.glob("deeplab_v3_s16-*.pt"))
    done = finish(command(records, run))
    assert ("continuing from" in done.stderr) == continues
    assert_same_run(run, uninterrupted)


def test_sigterm_saves_and_the_next_run_continues(records, uninterrupted, tmp_path):
    run = tmp_path / "run"
    process = subprocess.Popen(
        command(records, run), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while last_step(run) < 3:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)  # as a batch system does: threads too
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM at step" in stderr
    assert "Traceback" not in stderr
    assert (run / "last.pt").exists()
    finish(command(records, run, "--resume=True"))
    assert_same_run(run, uninterrupted)


def test_a_finished_run_is_only_reported_again(records, uninterrupted, monkeypatch, capsys):
    before = (uninterrupted / "metrics.jsonl").read_bytes()
    status, out, err = ended_here(command(records, uninterrupted)[3:], monkeypatch, capsys)
    assert status == 0, err
    assert "held-out mIoU" in out
    assert (uninterrupted / "metrics.jsonl").read_bytes() == before


def test_what_a_run_leaves(uninterrupted):
    records = [json.loads(line) for line in (uninterrupted / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "loss" in r] == list(range(1, STEPS + 1))
    assert [(r["step"], r["epoch"]) for r in records if "miou" in r] == [(6, 1), (12, 2), (15, 3)]
    timing = [json.loads(line) for line in (uninterrupted / "timing.jsonl").read_text().splitlines()]
    assert {"step", "step_ms", "data_ms", "images_per_s", "max_memory_mb"} <= timing[0].keys()
    names = {p.name for p in uninterrupted.iterdir()}
    assert {"config.json", "best.pt", "report", "deeplab_v3_s16-1_4.pt", "deeplab_v3_s16-3_3.pt"} <= names
    assert not {"last.pt", "run.lock"} & names  # of a run that is not complete
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert {p.name for p in (uninterrupted / "report").iterdir()} == {"report.html", "evaluation.json"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batch_size=5"], "was trained by 1 process x --batch_size=4 x .*; this run has 1 process x --batch_size=5"),
        (["--aspp_rates=6,12"], r"--aspp_rates=\(6, 12\): .*was trained with"),
        (["--precision=bf16"], "--precision=bf16: .*was trained with fp32"),
        (["--data_file={records}/val.tar"], "was trained on other samples"),
        (["--model=deeplab_v3_s8"], "holds deeplab_v3_s16-1_4.pt of another --model"),
    ],
)
def test_a_run_that_cannot_be_continued(flags, words, records, uninterrupted, monkeypatch, capsys):
    import re

    before = {p.name: p.read_bytes() for p in uninterrupted.iterdir() if p.is_file()}
    flags = [flag.replace("{records}", str(records)) for flag in flags]
    status, _, err = ended_here(command(records, uninterrupted, *flags)[3:], monkeypatch, capsys)
    assert status == 2
    assert {p.name: p.read_bytes() for p in uninterrupted.iterdir() if p.is_file()} == before
    assert re.search(words, err.splitlines()[-1])
