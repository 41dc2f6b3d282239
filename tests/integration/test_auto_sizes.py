"""``--crop_size=auto`` and ``--batch_size=auto`` from the first step to the last: found, said, stored and kept."""

import json
import logging
import os

import pytest
import torch

from deeplab_fast import train
from deeplab_fast.errors import UserError
from deeplab_fast.training import auto_sizes, fit
from deeplab_fast.training.auto_sizes import batch_within, crop_within
from tests.faults.tiny import make_tiny
from tests.spawning import free_port, in_processes
from tests.trials.samples import CLASSES, write_samples

FLAGS = (
    *("--backbone=resnet18", f"--num_classes={CLASSES}", "--num_workers=0", "--device_target=CPU", "--precision=fp32"),
    *("--eval_epochs=0", "--log_steps=1", "--crop_size=auto", "--batch_size=auto", "--base_lr=0.016"),
)
MUCH, LITTLE, NONE = 10**12, 5 * 10**6, 0


@pytest.mark.parametrize(
    ("side", "stride", "crop"),
    [
        (513, 16, 513),
        (4000, 16, 513),
        (512, 16, 497),
        (500, 16, 497),
        (500, 8, 497),
        (96, 16, 81),
        (96, 8, 89),
        (8, 16, 17),
    ],
)
def test_the_crop_is_the_largest_that_an_image_fills(side, stride, crop):
    assert crop_within(side, stride) == crop


@pytest.mark.parametrize(
    ("fitting", "share", "batch"),
    [
        (1000, 1000, 16),
        (1000, 64, 16),
        (1000, 63, 8),  # 15 would do, were it a power of two
        (7, 1000, 4),
        (1, 1000, 1),
        (0, 1000, 1),  # the estimate may be wrong
        (1000, 7, 2),  # BatchNorm wants more than one
        (1000, 1, 1),
        (1000, 0, 1),
    ],
)
def test_the_batch_is_what_memory_holds_and_an_epoch_has(fitting, share, batch):
    assert batch_within(fitting, share) == batch


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return write_samples(tmp_path_factory.mktemp("data"), count=42)


@pytest.fixture
def start(samples, tmp_path, monkeypatch, caplog):
    """Train with this much memory, in ``tmp_path/run``; returns what the program says."""
    make_tiny(monkeypatch.setattr)
    monkeypatch.setattr(fit, "write_report", lambda folder, *_, **__: folder / "report")

    def one(*flags, memory=MUCH, data=samples):
        caplog.clear()
        monkeypatch.setattr(auto_sizes, "usable_memory", lambda device: memory)
        paths = [f"--train_dir={tmp_path / 'run'}", f"--data_root={data}", f"--data_lst={data}/train.txt"]
        with caplog.at_level(logging.INFO, "deeplab_fast"):
            train.main([*paths, *FLAGS, *flags])
        return caplog.messages

    return one


def sizes_in(folder):
    """Crop, batch and learning rate of a run, by its own configuration and by its newest checkpoint's."""
    newest = max(folder.glob("deeplab_v3_s16-*.pt"), key=lambda path: path.stat().st_mtime)
    names = ("crop_size", "batch_size", "base_lr")
    content = torch.load(newest, weights_only=True)
    stored = tuple(content["config"][name] for name in names)
    assert stored == tuple(json.loads((folder / "config.json").read_text())[name] for name in names)
    return stored


def losses_in(folder):
    return [json.loads(line).get("loss") for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_new_run_says_and_stores_what_it_found(start, tmp_path):
    said = start("--max_steps=1")
    assert "--crop_size=81: the median of the longer sides of 40 images is 96" in said
    assert any(line.startswith("--batch_size=8: memory holds about ") for line in said)
    assert "--base_lr=0.008: 0.016 is meant for 16 images a step, of which there are 8" in said
    assert sizes_in(tmp_path / "run") == (81, 8, 0.008)


def test_little_memory_makes_a_small_batch(start, tmp_path):
    start("--max_steps=1", memory=LITTLE)
    assert sizes_in(tmp_path / "run")[1] < 8
    said = start("--max_steps=1", "--resume=False", memory=NONE)
    assert "memory may not be enough for one image: try a smaller --crop_size or --backbone" in said
    assert sizes_in(tmp_path / "run") == (81, 1, 0.001)


def test_the_rate_is_for_the_images_of_all_batches_of_a_step(start, tmp_path):
    start("--max_steps=1", "--accumulate_steps=2")
    assert sizes_in(tmp_path / "run") == (81, 4, 0.008)


def test_one_size_may_be_given(start, tmp_path):
    start("--max_steps=1", "--crop_size=33")
    assert sizes_in(tmp_path / "run") == (33, 8, 0.008)
    start("--max_steps=1", "--batch_size=2", "--resume=False")
    assert sizes_in(tmp_path / "run") == (81, 2, 0.016)


def test_a_run_goes_on_with_its_sizes_to_the_bit_where_memory_is_another(start, tmp_path):
    start("--max_steps=4", "--lr_type=exp")
    whole = losses_in(tmp_path / "run")
    start("--max_steps=2", "--lr_type=exp", "--resume=False")
    said = start("--max_steps=4", "--lr_type=exp", memory=NONE)
    assert not [line for line in said if line.startswith(("--crop_size", "--batch_size", "--base_lr"))]
    assert sizes_in(tmp_path / "run") == (81, 8, 0.008)
    assert losses_in(tmp_path / "run") == whole
    assert len(whole) == 4


def test_its_configuration_continues_it_too(start, tmp_path):
    start("--max_steps=1")
    config = json.loads((tmp_path / "run/config.json").read_text())
    numbers = [f"--{name}={config[name]}" for name in ("crop_size", "batch_size", "base_lr")]
    assert not [line for line in start("--max_steps=2", *numbers) if line.startswith("--base_lr")]


def test_another_size_than_the_runs_is_said_or_refused(start):
    start("--max_steps=1")
    said = start("--max_steps=2", "--crop_size=33")
    assert "--crop_size was 81 and is now 33: the run is not the one that was interrupted" in said
    with pytest.raises(
        UserError, match=r"was trained by 1 process x --batch_size=8 .* this run has 1 process x --batch_size=4"
    ):
        start("--max_steps=3", "--batch_size=4")


def test_elsewhere_the_images_of_a_step_stay(start, tmp_path):
    start("--max_steps=1")
    start("--max_steps=2", "--resume_elsewhere=True", "--batch_size=4", "--base_lr=0.008")
    assert sizes_in(tmp_path / "run")[1:] == (4, 0.008)
    start("--max_steps=3", "--resume_elsewhere=True", memory=NONE)
    assert sizes_in(tmp_path / "run")[1:] == (4, 0.008)


def test_images_that_cannot_be_read_end_it_before_any_step(start, tmp_path):
    data = write_samples(tmp_path / "bad", count=5)
    for path in (data / "images").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"^--crop_size=auto: none of 3 images can be read, the first: .*00\.jpg"):
        start("--max_steps=1", data=data)
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_too_few_samples_are_said_as_ever(start, tmp_path):
    data = write_samples(tmp_path / "few", count=5)
    with pytest.raises(UserError, match="a step takes 4 images and the training data has only 3"):
        start("--max_steps=1", "--accumulate_steps=4", data=data)


def train_as_rank(rank, port, samples, folder, memory):
    """One of two processes of a run, on a host with this much memory."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ.update(place, RANK=str(rank), LOCAL_RANK=str(rank))
    make_tiny()
    auto_sizes.usable_memory = lambda device: memory[rank]
    fit.write_report = lambda folder, *_, **__: folder / "report"
    paths = [f"--train_dir={folder}", f"--data_root={samples}", f"--data_lst={samples}/train.txt"]
    train.main([*paths, *FLAGS, "--max_steps=1"])


def test_processes_take_what_the_smallest_can(samples, tmp_path):
    in_processes(train_as_rank, free_port(), samples, tmp_path / "run", (MUCH, NONE))
    assert sizes_in(tmp_path / "run") == (81, 1, 0.002)
