import pytest
import torch

from deeplab_fast.data.augment import Augment
from deeplab_fast.data.loader import Schedule, TrainingSet, training_batches
from deeplab_fast.data.sources import list_source
from deeplab_fast.errors import UserError


@pytest.fixture
def dataset(builtin):
    return TrainingSet(list_source(builtin, builtin / "train.txt"), Augment(65, 0.5, 2.0, 255), 6, seed=3)


def load(dataset, schedule, start, stop, workers):
    return list(training_batches(dataset, schedule, start, stop, workers, pin_memory=False))


def assert_equal(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.keys == y.keys
        for t, u in zip(x[:3], y[:3], strict=True):
            assert torch.equal(t, u)


def test_any_number_of_workers_gives_the_same_batches(dataset):
    schedule = Schedule(24, 5, 3)
    expected = load(dataset, schedule, 0, 9, 0)
    for workers in (1, 3):
        assert_equal(load(dataset, schedule, 0, 9, workers), expected)


def test_starting_in_the_middle_continues_the_same_run(dataset):
    schedule = Schedule(24, 5, 3)
    assert_equal(load(dataset, schedule, 6, 11, 2), load(dataset, schedule, 0, 11, 0)[6:])


def test_processes_share_the_global_batch():
    whole = Schedule(50, 8, 3)
    parts = [Schedule(50, 4, 3, rank, 2) for rank in (0, 1)]
    for step, batch in enumerate(whole.batches(0, 13)):
        halves = [next(iter(p.batches(step, step + 1))) for p in parts]
        assert batch == halves[0] + halves[1]


def test_an_epoch_is_a_permutation_without_its_incomplete_end():
    schedule = Schedule(23, 4, 1, accumulate=2)
    assert schedule.steps_per_epoch == 2
    assert schedule.batches_per_epoch == 4
    seen = [place for batch in schedule.batches(0, 8) for place in batch]
    assert [epoch for epoch, _ in seen] == [0] * 16 + [1] * 16
    assert len({index for epoch, index in seen if epoch == 0}) == 16


def test_shapes_and_types(dataset):
    batch = load(dataset, Schedule(24, 4, 3), 0, 1, 0)[0]
    assert batch.images.shape == (4, 65, 65, 3)
    assert batch.labels.shape == (4, 65, 65)
    assert batch.images.dtype == batch.labels.dtype == torch.uint8
    assert batch.extents.shape == (4, 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_sample_stops_with_its_name_and_no_traceback(dataset, builtin, workers):
    small = TrainingSet(dataset.source, dataset.augment, 2, seed=3)
    with pytest.raises(UserError) as caught:
        load(small, Schedule(24, 4, 3), 0, 6, workers)
    assert str(builtin) in str(caught.value)
    assert "Traceback" not in str(caught.value)
