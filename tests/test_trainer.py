"""One process: what a step computes, what stops it, options of the loop."""

import logging

import pytest
import torch

from deeplab_fast import train
from deeplab_fast.cli import run
from deeplab_fast.config import TrainConfig
from deeplab_fast.data.augment import Augment
from deeplab_fast.data.dataset import TrainingSet
from deeplab_fast.data.loader import LoaderOptions, open_loader
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.data.sources import list_source
from deeplab_fast.distributed import World
from deeplab_fast.errors import UserError
from deeplab_fast.model import build_model
from deeplab_fast.training.loss_log import LossBlock
from deeplab_fast.training.state import build_state
from deeplab_fast.training.step import train_step

CPU = torch.device("cpu")


def make(builtin, **flags):
    base = {
        "backbone": "resnet18",
        "num_classes": 6,
        "crop_size": 33,
        "batch_size": 4,
        "max_steps": 20,
        "base_lr": 0.01,
        "precision": "fp32",
    }
    config = TrainConfig(**(base | flags))
    source = list_source(builtin, builtin / "train.txt")
    schedule = Schedule(len(source), config.batch_size, config.seed, accumulate=config.accumulate_steps)
    torch.manual_seed(config.seed)
    state = build_state(config, build_model(config), CPU, World(), schedule)
    data = TrainingSet(source, Augment(config.crop_size, 0.5, 2.0, 255), 6, config.seed)
    batches = open_loader(data, schedule, LoaderOptions(threads=0)).batches(0, 1000)
    return state, batches


def steps(state, batches, count):
    k = state.config.accumulate_steps
    return [train_step(state, [next(batches) for _ in range(k)]).item() for _ in range(count)]


@pytest.mark.parametrize(
    "flags",
    [
        {"precision": "bf16"},
        {"class_weights": (1.0, 2.0, 1.0, 1.0, 1.0, 1.0), "label_smoothing": 0.1},
        {"ohem": True, "ohem_min_kept": 500},
        {"clip_grad_norm": 1.0, "accumulate_steps": 2},
        {"freeze_bn": True, "lr_type": "poly"},
        {"head": "torchvision", "model": "deeplab_v3_s8", "lr_type": "exp"},
    ],
    ids=lambda f: "+".join(f),
)
def test_options_train(flags, builtin):
    state, batches = make(builtin, **flags)
    before = state.model.backbone.conv1.weight.detach().clone()
    losses = steps(state, batches, 2)
    assert all(0 < loss < 100 for loss in losses)
    assert not torch.equal(before, state.model.backbone.conv1.weight)
    assert state.step == 2


def test_accumulation_equals_the_large_batch(builtin):
    """Without BatchNorm's and dropout's dependence on the batch; unequal numbers of labelled pixels."""
    common = {"freeze_bn": True, "dropout": 0.0}
    large, large_batches = make(builtin, batch_size=8, **common)
    small, small_batches = make(builtin, batch_size=4, accumulate_steps=2, **common)
    assert steps(small, small_batches, 1) == pytest.approx(steps(large, large_batches, 1), rel=1e-5)
    for a, b in zip(small.model.parameters(), large.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_compiled_network_gives_the_same_loss(builtin):
    plain, batches = make(builtin)
    expected = steps(plain, batches, 1)
    state, batches = make(builtin, speed="compile")
    state.network = torch.compile(state.model, backend="aot_eager", fullgraph=True)
    assert steps(state, batches, 1) == pytest.approx(expected, rel=1e-4)


def test_ema_follows_the_weights(builtin):
    state, batches = make(builtin, ema_decay=0.9)
    initial = state.model.classifier[-1].weight.detach().clone()
    steps(state, batches, 1)  # the first update starts the average
    steps(state, batches, 1)
    average = state.evaluation_model.classifier[-1].weight
    assert not torch.equal(average, state.model.classifier[-1].weight)
    assert not torch.equal(average, initial)


def test_a_batch_without_labels_gives_zero_and_leaves_finite_weights(builtin):
    state, batches = make(builtin)
    batch = next(batches)
    empty = batch._replace(labels=torch.full_like(batch.labels, 255))
    assert train_step(state, [empty]).item() == 0
    assert all(p.isfinite().all() for p in state.model.parameters())


def status_of_training(monkeypatch, *flags):
    """Exit status of the program, run in this process."""
    monkeypatch.setattr("sys.argv", ["train", *flags])
    with pytest.raises(SystemExit) as ended:
        run(train.main)
    return ended.value.code


def test_divergence_ends_the_program_with_status_1_and_keeps_the_checkpoint(builtin, tmp_path, monkeypatch, capsys):
    flags = [
        f"--data_root={builtin}", f"--data_lst={builtin}/train.txt", f"--train_dir={tmp_path}", "--backbone=resnet18",
        "--num_classes=6", "--crop_size=33", "--batch_size=8", "--num_workers=0", "--save_steps=1", "--eval_epochs=0",
    ]  # fmt: skip
    assert status_of_training(monkeypatch, *flags, "--max_steps=1") == 0
    assert status_of_training(monkeypatch, *flags, "--max_steps=12", "--base_lr=1e30") == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith(
        "error: step 2: its update made weights infinite, or larger than 1e19. A lower"
    )
    assert "Traceback" not in said
    assert (tmp_path / "deeplab_v3_s16-1_1.pt").exists()


def test_too_few_images(builtin):
    with pytest.raises(UserError, match="--batch_size=25: a step takes 25 images and the training data has only 24"):
        make(builtin, batch_size=25)


def test_state_dict_round_trip_and_changed_flags(builtin, caplog):
    state, batches = make(builtin)
    steps(state, batches, 2)
    saved = state.state_dict()
    again, _ = make(builtin)
    again.load_state_dict(saved, "x.pt")
    assert again.step == 2
    other, _ = make(builtin, seed=9)
    with pytest.raises(UserError, match=r"--seed=9: x\.pt was trained with 1"):
        other.load_state_dict(saved, "x.pt")
    saved["config"]["base_lr"] = 0.5
    with caplog.at_level(logging.WARNING):
        again.load_state_dict(saved, "x.pt")
    assert "--base_lr was 0.5 and is now 0.01" in caplog.text
    with pytest.raises(UserError, match=r"trained by 2 processes x .*; this run has 1 process x .*--resume_elsewhere"):
        again.load_state_dict(saved | {"world_size": 2}, "x.pt")


def test_labels_that_are_no_class_are_reported_at_the_log_point(builtin, caplog):
    """The loader refuses such files; a loss must not index with what reaches it another way."""
    state, batches = make(builtin)
    block = LossBlock(state)
    batch = next(batches)
    clean = train_step(state, [batch]).item()
    batch.labels[0, :3, :5], batch.labels[1, 0, 0] = 77, 200
    block.add(train_step(state, [batch]), batch.keys)
    assert clean > 0
    with caplog.at_level(logging.WARNING, "deeplab_fast"):
        block.fetch()
    assert "16 labels are neither a class (0 to 5) nor the ignore label 255, the largest 200" in caplog.text
    caplog.clear()
    block.add(train_step(state, [next(batches)]), batch.keys)
    block.fetch()
    assert not caplog.text
