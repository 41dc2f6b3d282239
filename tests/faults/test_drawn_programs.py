"""Flags and images drawn at random: programs agree pixel by pixel, or say in one line what is wrong."""

import json
import math
import sys

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from PIL import Image

from deeplab_fast import eval as eval_program
from deeplab_fast import predict, train
from deeplab_fast.cli import run
from tests.faults.drawn import FAULT, settings_of
from tests.faults.tiny import make_tiny


@pytest.fixture
def tiny(monkeypatch):
    make_tiny(monkeypatch.setattr)
    return monkeypatch


@st.composite
def program_flags(draw):
    """Flags of a training run on images of drawn sizes, and what the images and labels are."""
    classes = draw(st.integers(1, 6))
    flags = {
        "num_classes": classes,
        "ignore_label": draw(st.sampled_from([0, classes - 1, 200, 255])),
        "crop_size": draw(st.integers(17, 65)),
        "batch_size": draw(st.integers(1, 4)),
        "accumulate_steps": draw(st.integers(1, 2)),
        "min_scale": draw(st.sampled_from([0.25, 0.5, 1.0])),
        "max_scale": draw(st.sampled_from([0.5, 1.0, 3.0])),
        "interpolation": draw(st.sampled_from(["bicubic", "bilinear"])),
        "photometric": draw(st.booleans()),
        "ohem": draw(st.booleans()),
        "num_workers": draw(st.integers(0, 2)),
    }
    sizes = draw(st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=4, max_size=6))
    return flags, sizes, draw(st.integers(1, 6))


def write_set(folder, sizes, values, ignored):
    """Images of noise, labels of ``values`` classes and ``ignored``; returns the labels."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines, labels = [], []
    for i, (width, height) in enumerate(sizes):
        label = rng.integers(0, values, (height, width)).astype(np.uint8)
        label[rng.random(label.shape) < 0.2] = ignored
        Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8)).save(folder / f"{i}.png")
        Image.fromarray(label).save(folder / f"{i}-label.png")
        lines.append(f"{i}.png {i}-label.png\n")
        labels.append(label)
    (folder / "all.txt").write_text("".join(lines))
    return labels


def ended(patch, capsys, program, *flags):
    """Exit status of a program, and its errors."""
    patch.setattr(sys, "argv", [program.__name__.rpartition(".")[2], *flags])
    with pytest.raises(SystemExit) as end:
        run(program.main)
    return end.value.code, [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


def confusion_of(truth, seen, classes, ignored):
    counted = truth != ignored
    return np.bincount(truth[counted].astype(int) * classes + seen[counted], minlength=classes**2).reshape(classes, -1)


@FAULT
def test_programs_count_what_they_predict_or_say_what_is_wrong(tiny, cases, tmp_path_factory, capsys):
    """Training, evaluation and prediction agree pixel by pixel, whatever the sizes; a refusal is one line."""

    @settings_of(cases, quick=5, every=60)
    @given(program_flags())
    def try_one(given_):
        flags, sizes, values = given_
        cases.tried += 1
        folder = tmp_path_factory.mktemp("drawn")
        labels = write_set(folder / "data", sizes, values, flags["ignore_label"])
        data = [f"--data_root={folder}/data", f"--data_lst={folder}/data/all.txt"]
        shared = [f"--{key}={flags[key]}" for key in ("num_classes", "ignore_label", "crop_size", "num_workers")]
        own = [f"--{key}={value}" for key, value in flags.items() if f"--{key}={value}" not in shared]
        kind = ["--backbone=resnet18", "--device_target=CPU", "--precision=fp32"]
        status, errors = ended(
            tiny, capsys, train, *data, *shared, *own, *kind, f"--train_dir={folder}/run", "--max_steps=2", "--track=",
            "--log_steps=1",
        )  # fmt: skip
        assert (status, len(errors)) in ((0, 0), (2, 1)), errors
        if status:
            event("refused")
            return
        losses = [json.loads(line)["loss"] for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
        assert len(losses) == 2
        assert all(map(math.isfinite, losses))
        (checkpoint,) = folder.glob("run/deeplab_v3_s16-*.pt")
        same = [f"--ckpt_path={checkpoint}", "--device_target=CPU", "--precision=fp32"]
        status, errors = ended(tiny, capsys, eval_program, *same, *data, *shared[1:], f"--report={folder}/report")
        assert (status, len(errors)) in ((0, 0), (2, 1)), errors
        if status:
            event("evaluation refused")
            return
        (record,) = folder.glob("report/metrics-*.json")
        found = np.array(json.loads(record.read_text())["confusion_matrix"])
        status, errors = ended(
            tiny, capsys, predict, *same, f"--crop_size={flags['crop_size']}", f"--input={folder}/data",
            f"--output={folder}/masks", "--save=",
        )  # fmt: skip
        assert (status, errors) == (0, [])
        expected = sum(
            confusion_of(label, np.asarray(Image.open(folder / f"masks/{i}.png")), len(found), flags["ignore_label"])
            for i, label in enumerate(labels)
        )
        assert (found == expected).all()
        event("evaluated")

    try_one()
