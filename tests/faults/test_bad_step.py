"""A run whose loss or gradients are no numbers ends before they reach the weights, and saves the state before them."""

import json
import sys

import pytest
import torch

from deeplab_fast import train
from deeplab_fast.cli import run
from deeplab_fast.storage.checkpoint import load
from tests.faults.bad_step import KINDS, spoil
from tests.faults.plugin import Lost
from tests.faults.same import assert_equal
from tests.faults.tiny import make_tiny
from tests.trials.processes import end, start_all
from tests.trials.samples import small, write_samples

STEPS = 7
FLAGS = (f"--max_steps={STEPS}", "--log_steps=3", "--save_steps=100", "--eval_epochs=0", "--track=", "--num_workers=0")
VARIANTS = {
    "fp32": (),
    "bf16": ("--precision=bf16",),
    "average": ("--ema_decay=0.9",),
    "accumulated, clipped": ("--accumulate_steps=2", "--batch_size=2", "--clip_grad_norm=1"),
}
WEIGHTS = ("model", "average", "optimiser", "scaler", "rng", "step", "epoch")


@pytest.fixture
def tiny(monkeypatch):
    make_tiny(monkeypatch.setattr)
    return monkeypatch


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return write_samples(tmp_path_factory.mktemp("data"))


def status_of(patch, samples, folder, *flags):
    given = small(f"--data_root={samples}", f"--data_lst={samples}/train.txt", f"--train_dir={folder}", *FLAGS, *flags)
    patch.setattr(sys, "argv", ["train", *given])
    with pytest.raises(SystemExit) as ended:
        run(train.main)
    return ended.value.code


def newest(folder):
    return max((load(path) for path in folder.glob("deeplab_v3_s16-*.pt")), key=lambda content: content["step"])


def assert_weights_equal(found, expected):
    for key in WEIGHTS:
        try:
            assert_equal(found[key], expected[key], key)
        except AssertionError as error:
            raise Lost(f"not what an undisturbed run has: {error}") from None


@pytest.mark.fault("a loss or gradients that are no numbers")
def test_the_run_ends_before_the_update_and_goes_on_to_the_same_bits(tiny, cases, samples, tmp_path, capsys):
    """At each step of a run, in each kind of run."""
    every = [(name, kind, at) for name in VARIANTS for kind in KINDS for at in range(1, STEPS + 1)]
    wholes = {}
    for name, kind, at in cases.of(every, quick=8):
        with cases.case((name, kind, at)), pytest.MonkeyPatch.context() as patch:
            flags, folder = VARIANTS[name], tmp_path / f"{name}-{kind}-{at}"
            if name not in wholes:
                wholes[name] = tmp_path / name
                assert status_of(patch, samples, wholes[name], *flags) == 0
            whole = newest(wholes[name])
            capsys.readouterr()
            with pytest.MonkeyPatch.context() as bad:
                spoil(kind, (at - 1) * (2 if "--accumulate_steps=2" in flags else 1) + 1, bad.setattr)
                assert status_of(patch, samples, folder, *flags) == 1
            (error,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
            assert error.startswith(f"error: step {at}: loss is ")
            saved = newest(folder) if at > 1 else load(folder / "last.pt")
            assert saved["step"] == at - 1
            assert all(t.isfinite().all() for t in saved["model"].values())
            lines = (folder / "metrics.jsonl").read_text().splitlines()
            assert [json.loads(line)["step"] for line in lines] == list(range(1, at))
            assert status_of(patch, samples, folder, *flags) == 0
            assert_weights_equal(newest(folder), whole)
            assert (folder / "metrics.jsonl").read_bytes() == (wholes[name] / "metrics.jsonl").read_bytes()


@pytest.mark.fault("a loss or gradients that are no numbers")
def test_one_of_two_processes(cases, samples, tmp_path):
    """Both end, and both go on to the bits of an undisturbed run."""
    statuses, said = end(start_all(tmp_path / "whole", samples, *FLAGS), 240)
    assert statuses == [0, 0], said
    for kind, rank in cases.of([(kind, rank) for kind in KINDS for rank in (0, 1)], quick=1):
        with cases.case((kind, rank)):
            folder = tmp_path / f"{kind}-{rank}"
            program = ("tests.faults.bad_step", kind, "5", str(rank))
            statuses, said = end(start_all(folder, samples, *FLAGS, program=program), 240)
            assert statuses == [1, 1], said
            assert said[0].splitlines()[-1].startswith("error: step 5: loss is ")
            assert "error" not in said[1]
            assert "Traceback" not in "".join(said)
            assert newest(folder)["step"] == 4
            statuses, said = end(start_all(folder, samples, *FLAGS), 240)
            assert statuses == [0, 0], said
            assert_weights_equal(newest(folder), newest(tmp_path / "whole"))


@pytest.mark.fault("an absurd learning rate")
def test_a_learning_rate_that_makes_weights_infinite(tiny, cases, samples, tmp_path, capsys):
    """No checkpoint holds anything but numbers, and all saved before stands."""
    for rate in cases.of([f"--base_lr=1e{n}" for n in range(4, 39, 2)], quick=3):
        for saving in ("--save_steps=1", "--save_steps=100"):
            with cases.case((rate, saving)):
                folder = tmp_path / f"{rate}{saving}"
                status = status_of(tiny, samples, folder, rate, saving)
                said = capsys.readouterr().err
                assert status in (0, 1), said
                assert "Traceback" not in said
                assert status == 0 or said.splitlines()[-1].startswith("error: step ")
                for path in folder.glob("*.pt"):
                    content = load(path)
                    tensors = [*content["model"].values()]
                    tensors += [t for one in content["optimiser"]["state"].values() for t in one.values()]
                    if not all(torch.as_tensor(t).isfinite().all() for t in tensors):
                        raise Lost(f"{path} holds NaN or infinity")
