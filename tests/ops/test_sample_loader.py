"""Ragged batches: the decoded pixels of a batch, finished later, are the crops that threads finish at once."""

import gc
import os
import weakref
import zlib

import numpy as np
import pytest
import torch

from deeplab_fast.data.augment import Augment, colour_matrix
from deeplab_fast.data.philox import AUGMENT, uniform
from deeplab_fast.data.sources import list_source
from deeplab_fast.ops import augment_ragged, extension, normalise
from deeplab_fast.ops.input.sample_loader import CropOptions, Crops, Jobs, Ragged, SampleLoader, ragged_room

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(extension.decoder()[0] is None, reason=f"no native loader: {extension.decoder()[1]}"),
]

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CUDA = extension.cuda()[0] is not None and torch.cuda.is_available()
DEVICES = [torch.device("cpu"), *([torch.device("cuda")] if CUDA else [])]


@pytest.fixture
def source(builtin):
    return list_source(builtin, builtin / "train.txt")


def jobs(source, count, photometric):
    extracts = np.array([[*a, *b] for a, b in map(source.byte_ranges, range(count))], np.int64)
    colours = np.stack([colour_matrix(3, 0, i).ravel() for i in range(count)])
    return Jobs(
        extracts, uniform(3, 0, np.arange(count), AUGMENT), colours if photometric else np.empty((0, 12), np.int32)
    )


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("options", [
    CropOptions(65, 0.5, 2.0, True, 255),
    CropOptions(129, 0.25, 0.5, False, 255),
    CropOptions(33, 3.0, 5.0, True, 7),
], ids=["recipe", "bilinear, shrunk", "enlarged"])  # fmt: skip
@pytest.mark.parametrize("photometric", [False, True])
def test_ragged_equals_crops(source, device, options, photometric):
    loader = SampleLoader(source.files(), options, 256, threads=2)
    work = jobs(source, 12, photometric)
    crops = loader.new_crops(12)
    assert loader.wait(loader.submit(work, crops)) == []
    ragged = loader.new_ragged(ragged_room(options, work.draws[:, 0]))
    assert loader.wait(loader.submit(work, ragged)) == []
    there = Ragged(*(tensor.to(device) for tensor in ragged))
    found = augment_ragged(there, 12, options, MEAN, STD, torch.uint8)
    for tensor, expected in zip(found, crops, strict=True):
        assert torch.equal(tensor.cpu(), expected)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        found = augment_ragged(there, 12, options, MEAN, STD, dtype)
        expected = normalise(crops.images, crops.extents, MEAN, STD, dtype).permute(0, 2, 3, 1)
        assert torch.equal(found.images.cpu(), expected)


class Holder:
    """An object that others can be put into, to make a cycle."""


@pytest.fixture
def only_young():
    """Nothing is collected by itself, so ``gc.collect(0)`` collects what the test made, and at once."""
    gc.disable()
    gc.collect(0)
    yield
    gc.enable()


def test_a_batch_is_not_freed_before_its_threads_have_ended(source, only_young):
    """Not even by Python's collector of cycles, which frees what it finds in an order of its own."""
    options, count, at_release = CropOptions(513, 3.0, 4.0, True, 255), 12, []
    pixels = count * options.crop_size**2
    images, extents = np.empty(3 * pixels, np.uint8), np.empty((count, 4), np.int32)
    labels = np.full(pixels, 77, np.uint8)  # all stay: a late write is only seen
    lent = labels.view()
    weakref.finalize(lent, lambda: at_release.append(labels.copy())).atexit = False
    target = Crops(  # older than the loader: the collector comes to it first
        torch.from_numpy(images).view(count, options.crop_size, options.crop_size, 3),
        torch.from_numpy(lent).view(count, options.crop_size, options.crop_size),
        torch.from_numpy(extents),
    )
    loader = SampleLoader(source.files(), options, 256, threads=2)
    loader.submit(jobs(source, count, True), target)
    holder = Holder()
    holder.itself, holder.target, holder.loader = holder, target, loader
    del lent, target, loader, holder
    gc.collect(0)
    assert len(at_release) == 1
    assert np.array_equal(labels, at_release[0])


def test_a_batch_is_freed_once_it_was_waited_for(source):
    options = CropOptions(33, 0.5, 2.0, True, 255)
    loader = SampleLoader(source.files(), options, 256, threads=0)
    target = loader.new_crops(2)
    held = weakref.ref(target.labels)
    ticket = loader.submit(jobs(source, 2, False), target)
    del target
    assert held() is not None
    assert loader.wait(ticket) == []
    assert held() is None


def test_the_room_is_enough_for_any_size_and_scale():
    """Of every source size that the crop can read, at every scale: as many pixels as the crop's window has."""
    generator = np.random.default_rng(0)
    for _ in range(3000):
        low, high = sorted(generator.uniform(0.2, 4.0, 2))
        options = CropOptions(int(generator.integers(17, 200)), low, high, True, 255)
        draw = generator.random()
        side = int(generator.integers(1, 700))
        scale = low + (high - low) * draw
        resized = max(1, int(scale * side))
        kept = min(resized, options.crop_size)
        step = 1.0 / (resized / side)
        begin = (resized - kept) // 2
        positions = (np.arange(begin, begin + kept) + 0.5) * step - 0.5
        window = min(side, int(np.floor(positions[-1])) + 3) - max(0, int(np.floor(positions[0])) - 1)
        assert ragged_room(options, np.array([draw]))[0, 3] >= window**2


def test_a_batch_without_room_is_refused_not_overrun(source):
    options = CropOptions(65, 0.5, 2.0, True, 255)
    loader = SampleLoader(source.files(), options, 256, threads=0)
    work = jobs(source, 2, False)
    room = ragged_room(options, work.draws[:, 0])
    room[1, 1] = 10
    failures = loader.wait(loader.submit(work, loader.new_ragged(room)))
    assert [(f.place, f.text) for f in failures] == [(1, "the batch has too little room for this sample's pixels")]


def test_memory_serves_again_once_nobody_holds_it(source):
    loader = SampleLoader(source.files(), CropOptions(65, 0.5, 2.0, True, 255), 256, threads=0)
    first = loader.new_crops(3)
    address, view = first.images.data_ptr(), first.images[1:, 5]
    del first
    assert loader.new_crops(3).images.data_ptr() != address  # the view still holds it
    del view
    assert loader.new_crops(3).images.data_ptr() == address


@pytest.mark.parametrize("portable", [False, True])
def test_the_checksum_is_zlib_s(portable):
    crc32 = extension.decoder()[0].crc32
    data = np.random.default_rng(0).integers(0, 256, 4096, np.uint8).tobytes()
    for first in range(4):
        for size in (*range(70), 255, 4000):
            part = data[first : first + size]
            assert crc32(part, portable) == zlib.crc32(part)


def parts_of_files(source, folder, count):
    """Each sample's files as parts of files of their own, with checksums."""
    names, extracts = [], []
    for i in range(count):
        sample = source.read(i % len(source))
        names.append(str(folder / f"{i}"))
        (folder / f"{i}").write_bytes(b"before" + sample.image + sample.label)
        image, label = len(sample.image), len(sample.label)
        extracts.append([i, 6, image, zlib.crc32(sample.image), i, 6 + image, label, zlib.crc32(sample.label)])
    return names, np.array(extracts, np.int64)


def failures_of(loader, extracts):
    count = len(extracts)
    work = Jobs(extracts, np.full((count, 4), 0.5), np.empty((0, 12), np.int32))
    return [(f.place, f.fault, f.text) for f in loader.wait(loader.submit(work, loader.new_crops(count)))]


@needs_proc
def test_more_files_than_may_stay_open(source, tmp_path):
    """Those that were closed are opened again, and must be as they were unless a checksum says more."""
    names, extracts = parts_of_files(source, tmp_path, 300)
    loader = SampleLoader(names, CropOptions(33, 0.5, 2.0, True, 255), 256, threads=2)
    before = len(os.listdir("/proc/self/fd"))
    assert failures_of(loader, extracts) == []
    assert len(os.listdir("/proc/self/fd")) - before == 256
    assert failures_of(loader, extracts) == []
    extracts[:, [3, 7]] = -1
    assert failures_of(loader, extracts) == []
    os.utime(names[7], (1, 1))
    assert failures_of(loader, extracts[6:9]) == [(1, "image", "the shard was written to while it was in use")]
    loader.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_bytes_that_are_not_there_or_not_those_are_a_failure_of_the_sample(source, tmp_path):
    names, extracts = parts_of_files(source, tmp_path, 4)
    loader = SampleLoader(names, CropOptions(33, 0.5, 2.0, True, 255), 256, threads=1)
    extracts[0, 7] ^= 1
    os.truncate(names[1], 100)
    extracts[2, 0] = extracts[2, 4] = 3
    (tmp_path / "3").unlink()
    found = failures_of(loader, extracts)
    assert [(place, fault) for place, fault, _ in found] == [(0, "label"), (1, "image"), (2, "image"), (3, "image")]
    assert found[0][2].startswith(f"checksum {extracts[0, 7] ^ 1:08x}; its index says {extracts[0, 7]:08x}: damaged")
    assert found[1][2] == "the file ends before its bytes: it became shorter"
    assert found[3][2] == "No such file or directory"


def test_stages_are_timed(source):
    options = CropOptions(65, 0.5, 2.0, True, 255)
    loader = SampleLoader(source.files(), options, 256, threads=1)
    loader.wait(loader.submit(jobs(source, 8, False), loader.new_crops(8)))
    seconds = loader.seconds()
    assert list(seconds) == ["read", "decode image", "decode label", "augment"]
    assert all(value > 0 for value in seconds.values())


def test_crop_options_are_fields_of_the_augmentation():
    assert CropOptions._fields == ("crop_size", "min_scale", "max_scale", "bicubic", "ignore_label")
    assert {*CropOptions._fields} < {*Augment.__dataclass_fields__}
