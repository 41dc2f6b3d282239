"""Any number of processes and batch size of the same product take the same samples at each step."""

import logging

import pytest

from deeplab_fast.config import TrainConfig
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.errors import UserError
from deeplab_fast.training.resume_elsewhere import check_dealt_alike, dealt_anew

SAVED = {"world_size": 4, "config": {"batch_size": 3, "accumulate_steps": 2, "sync_bn": False}}


def samples_of_step(step, world, batch, accumulate):
    ranks = [Schedule(100, batch, 7, rank, world, accumulate) for rank in range(world)]
    found = [pair for rank in ranks for b in rank.batches(step * accumulate, (step + 1) * accumulate) for pair in b]
    return sorted(found)


@pytest.mark.parametrize(
    ("processes", "asked", "batch", "accumulate"),
    [(1, 12, 12, 2), (1, 32, 24, 1), (2, 5, 4, 3), (8, 3, 3, 1), (24, 9, 1, 1)],
)
def test_the_same_samples(processes, asked, batch, accumulate):
    config = dealt_anew(TrainConfig(batch_size=asked), SAVED, processes, "x.pt")
    assert (config.batch_size, config.accumulate_steps) == (batch, accumulate)
    for step in (0, 3, 4, 9):
        assert samples_of_step(step, processes, batch, accumulate) == samples_of_step(step, 4, 3, 2)


def test_what_does_not_divide_is_refused_with_what_does():
    with pytest.raises(
        UserError, match=r"24 images a step, .* among 5 processes; expected one of 1, 2, 3, 4, 6, 8, 12, 24"
    ):
        dealt_anew(TrainConfig(), SAVED, 5, "x.pt")


def test_other_statistics_are_said(caplog):
    caplog.set_level(logging.INFO, "deeplab_fast")
    dealt_anew(TrainConfig(batch_size=12), SAVED, 1, "x.pt")
    assert "BatchNorm's statistics are now over 12 images, before over 3" in caplog.text


@pytest.mark.parametrize("elsewhere", [False, True])
def test_another_dealing_is_refused_without_the_flag(elsewhere):
    config = TrainConfig(batch_size=12, accumulate_steps=2, resume_elsewhere=elsewhere)
    if elsewhere:
        check_dealt_alike(config, SAVED, 1, "x.pt")
        return
    with pytest.raises(UserError, match=r"4 processes x --batch_size=3 .* --resume_elsewhere=True .* 24 images"):
        check_dealt_alike(config, SAVED, 1, "x.pt")
