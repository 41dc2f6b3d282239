"""The native loader equals the reference, whatever the number of threads and the starting point."""

import logging

import numpy as np
import pytest
import torch

from deeplab_fast.data.augment import Augment
from deeplab_fast.data.dataset import BadSamples, TrainingSet
from deeplab_fast.data.loader import LoaderOptions, open_loader
from deeplab_fast.data.records import RecordOptions, RecordSource, write_records
from deeplab_fast.data.reference_loader import ReferenceLoader
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.data.sources import FileSource, list_source
from deeplab_fast.errors import UserError
from deeplab_fast.ops import extension

needs_native = pytest.mark.skipif(extension.decoder()[0] is None, reason=f"no native loader: {extension.decoder()[1]}")


@pytest.fixture
def dataset(builtin):
    return TrainingSet(list_source(builtin, builtin / "train.txt"), Augment(65, 0.5, 2.0, 255), 6, seed=3)


def load(dataset, schedule, start, stop, threads, **options):
    loader = open_loader(dataset, schedule, LoaderOptions(threads=threads, **options))
    return list(loader.batches(start, stop))


def assert_equal(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.keys == y.keys
        for t, u in zip(x[:3], y[:3], strict=True):
            assert t.dtype == u.dtype
            assert torch.equal(t, u)


@needs_native
@pytest.mark.parametrize("augment", [
    Augment(65, 0.5, 2.0, 255),
    Augment(129, 0.25, 0.7, 255, bicubic=False),
    Augment(65, 0.5, 2.0, 255, photometric=True),
    Augment(33, 3.0, 6.0, 255),
], ids=["recipe", "bilinear, mostly padding", "photometric", "far enlarged"])  # fmt: skip
def test_native_equals_the_reference(builtin, augment):
    dataset = TrainingSet(list_source(builtin, builtin / "train.txt"), augment, 6, seed=5)
    schedule = Schedule(24, 5, 5)
    expected = list(ReferenceLoader(dataset, schedule, 0, BadSamples()).batches(0, 10))
    assert_equal(load(dataset, schedule, 0, 10, 2), expected)


@needs_native
def test_native_equals_the_reference_on_real_files(shared_data):
    root = shared_data / "VOCdevkit" / "VOC2012"
    keys = (root / "ImageSets/Segmentation/val.txt").read_text().split()[:24]
    source = FileSource(root, [f"JPEGImages/{k}.jpg" for k in keys], [f"SegmentationClass/{k}.png" for k in keys], keys)
    dataset = TrainingSet(source, Augment(257, 0.5, 2.0, 255), 21, seed=5)
    expected = list(ReferenceLoader(dataset, Schedule(24, 4, 5), 0, BadSamples()).batches(0, 6))
    assert_equal(load(dataset, Schedule(24, 4, 5), 0, 6, 2), expected)


def test_any_number_of_threads_gives_the_same_batches(dataset):
    schedule = Schedule(24, 5, 3)
    expected = load(dataset, schedule, 0, 9, 0)
    for threads in (1, 3):
        assert_equal(load(dataset, schedule, 0, 9, threads), expected)


def test_the_reference_too_may_have_threads(dataset):
    schedule = Schedule(24, 5, 3)
    expected = list(ReferenceLoader(dataset, schedule, 0, BadSamples()).batches(0, 9))
    assert_equal(list(ReferenceLoader(dataset, schedule, 3, BadSamples()).batches(0, 9)), expected)


def test_starting_in_the_middle_continues_the_same_run(dataset):
    schedule = Schedule(24, 5, 3)
    assert_equal(load(dataset, schedule, 6, 11, 2), load(dataset, schedule, 0, 11, 0)[6:])


def test_a_loader_may_be_left_in_the_middle(dataset):
    batches = open_loader(dataset, Schedule(24, 5, 3), LoaderOptions(threads=2)).batches(0, 100)
    first = next(batches)
    kept = first.images.clone()
    batches.close()
    assert torch.equal(first.images, kept)


def test_records_give_the_same_as_files(dataset, tmp_path):
    options = RecordOptions(2, False, 1, 6, 255, ("a", "b", "c", "d", "e", "f"))
    write_records(dataset.source, tmp_path / "x.tar", options)
    records = TrainingSet(RecordSource(tmp_path / "x.tar"), dataset.augment, 6, seed=3)
    assert_equal(load(records, Schedule(24, 5, 3), 0, 4, 2), load(dataset, Schedule(24, 5, 3), 0, 4, 2))


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


# ---------------------------------------------------------------- bad samples


@pytest.fixture
def with_bad_files(builtin, tmp_path):
    """Ten samples of which three are bad: an image cut off, a label of another size, one with a value too large."""
    from PIL import Image

    keys = [f"{i:05d}" for i in range(10)]
    source = FileSource(tmp_path, [f"{k}.jpg" for k in keys], [f"{k}.png" for k in keys], keys)
    for key in keys:
        (tmp_path / f"{key}.jpg").write_bytes((builtin / "images" / f"{key}.jpg").read_bytes())
        (tmp_path / f"{key}.png").write_bytes((builtin / "labels" / f"{key}.png").read_bytes())
    cut = (tmp_path / "00002.jpg").read_bytes()
    (tmp_path / "00002.jpg").write_bytes(cut[: len(cut) // 2])
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "00005.png")
    label = np.array(Image.open(tmp_path / "00007.png"))
    label[-1, -1] = 9
    Image.fromarray(label).save(tmp_path / "00007.png")
    return TrainingSet(source, Augment(33, 0.5, 2.0, 255), 6, seed=3)


def reference(dataset, schedule, start, stop, threads, bad):
    return list(ReferenceLoader(dataset, schedule, threads, bad).batches(start, stop))


def native(dataset, schedule, start, stop, threads, bad):
    return load(dataset, schedule, start, stop, threads, bad=bad)


@pytest.mark.parametrize("loader", [reference, pytest.param(native, marks=needs_native)])
@pytest.mark.parametrize(("index", "message"), [
    (2, r"00002\.jpg: cannot be decoded"),
    (5, r"00005\.png: 3x3 pixels; expected \d+x\d+ as its image"),
    (7, r"00007\.png: label value 9; expected 0 to 5 \(--num_classes=6\) or 255 \(--ignore_label\)"),
])  # fmt: skip
@pytest.mark.parametrize("threads", [0, 2])
def test_a_bad_sample_stops_with_its_name(with_bad_files, loader, index, message, threads):
    source = with_bad_files.source
    one = FileSource(source.root, [source.images[index]], [source.labels[index]], [source.keys[index]])
    dataset = TrainingSet(one, with_bad_files.augment, 6, seed=3)
    with pytest.raises(UserError, match=message):
        loader(dataset, Schedule(1, 1, 3), 0, 1, threads, BadSamples())


@pytest.mark.parametrize("loader", [reference, pytest.param(native, marks=needs_native)])
def test_a_missing_file_is_named(with_bad_files, loader):
    (with_bad_files.source.root / "00001.jpg").unlink()
    with pytest.raises(UserError, match=r"00001\.jpg: No such file"):
        loader(with_bad_files, Schedule(10, 10, 3), 0, 1, 1, BadSamples(skip=True, limit=0))


@needs_native
def test_skipping_takes_the_same_others_in_both_loaders(with_bad_files, caplog):
    schedule = Schedule(10, 5, 3)
    with caplog.at_level(logging.WARNING, "deeplab_fast"):
        skipped = native(with_bad_files, schedule, 0, 8, 2, BadSamples(skip=True))
    assert_equal(skipped, reference(with_bad_files, schedule, 0, 8, 0, BadSamples(skip=True)))
    keys = {key for batch in skipped for key in batch.keys}
    assert keys == {f"{i:05d}" for i in range(10)} - {"00002", "00005", "00007"}
    lines = [r.getMessage() for r in caplog.records]
    assert sum("skipped" in line for line in lines) == 6  # three each
    assert any("bad sample 3 of at most 100 skipped: " in line for line in lines)
    # Resuming in the middle takes the same others.
    assert_equal(native(with_bad_files, schedule, 4, 8, 2, BadSamples(skip=True)), skipped[4:])


@pytest.mark.parametrize("loader", [reference, pytest.param(native, marks=needs_native)])
def test_too_many_bad_samples_stop_the_run(with_bad_files, loader):
    with pytest.raises(UserError, match="more than the 2 bad samples of --max_bad_samples"):
        loader(with_bad_files, Schedule(10, 10, 3), 0, 2, 1, BadSamples(skip=True, limit=2))


def test_the_gpu_is_refused_with_the_reason(dataset):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match=r"--augment_on=gpu: training does not run on a CUDA GPU"):
        open_loader(dataset, Schedule(24, 4, 3), LoaderOptions(augment_on="gpu"))


def test_the_plan_names_the_threads_and_the_place(dataset):
    plan = open_loader(dataset, Schedule(24, 4, 3), LoaderOptions(threads=2, augment_on="auto")).plan
    assert "2 " in plan
    assert "augmentation on the CPU" in plan
