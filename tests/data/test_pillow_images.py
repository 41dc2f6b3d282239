"""BMP, TIFF and WebP images among JPEG and PNG in the loaders, records and folders: the same bits everywhere."""

import logging
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_fast.data import native_jobs
from deeplab_fast.data.augment import Augment
from deeplab_fast.data.check import check_source
from deeplab_fast.data.dataset import BadSamples, TrainingSet
from deeplab_fast.data.native_loader import GpuAugment, NativeLoader
from deeplab_fast.data.records import RecordOptions, RecordSource, write_records
from deeplab_fast.data.reference_loader import ReferenceLoader
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.data.sources import folder_source
from deeplab_fast.errors import UserError
from deeplab_fast.ops import Decoding, decode_image, extension, normalise
from tests.data.test_gpu_ring import as_if_on_gpu
from tests.native.mutations import picture

needs_native = pytest.mark.skipif(extension.decoder()[0] is None, reason=f"no native loader: {extension.decoder()[1]}")
CPU = torch.device("cpu")
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SUFFIXES = ("jpg", "png", "bmp", "tif", "tiff", "webp", "WEBP", "jpg")


@pytest.fixture
def source(tmp_path):
    """Eight samples, one turned by EXIF; the last is a WebP that is named as a JPEG."""
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for i, suffix in enumerate(SUFFIXES):
        exif = Image.Exif()
        exif[0x0112] = 6 if suffix in ("tiff", "webp") else 1
        image = Image.fromarray(picture(50 + i, 70, i))
        formats = {"tif": "TIFF", "jpg": "JPEG" if i == 0 else "WEBP"}
        image.save(tmp_path / "images" / f"{i}.{suffix}", formats.get(suffix, suffix.upper()), exif=exif)
        size = (70, 50 + i) if suffix in ("tiff", "webp") else (50 + i, 70)
        label = np.random.default_rng(i).integers(0, 6, size, np.uint8)
        Image.fromarray(label).save(tmp_path / "labels" / f"{i}.png")
    return folder_source(tmp_path / "images", tmp_path / "labels")


def assert_equal(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.keys == y.keys
        assert all(torch.equal(t, u) for t, u in zip(x[:3], y[:3], strict=True))


@needs_native
@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("photometric", [False, True])
def test_native_crops_equal_the_reference_s(source, threads, photometric):
    dataset = TrainingSet(source, Augment(33, 0.5, 2.0, 255, photometric=photometric), 6, seed=5)
    expected = list(ReferenceLoader(dataset, Schedule(8, 4, 5), 0, BadSamples()).batches(0, 8))
    assert_equal(list(NativeLoader(dataset, Schedule(8, 4, 5), threads, CPU, BadSamples()).batches(0, 8)), expected)


@needs_native
@pytest.mark.parametrize("gpu_augment", [None, GpuAugment(MEAN, STD, torch.float32)], ids=["crops", "ragged"])
@pytest.mark.parametrize("threads", [0, 2])
def test_batches_for_a_gpu(source, gpu_augment, threads, monkeypatch):
    dataset, schedule = TrainingSet(source, Augment(33, 0.5, 2.0, 255), 6, seed=5), Schedule(8, 3, 5)
    expected = list(ReferenceLoader(dataset, schedule, 0, BadSamples()).batches(0, 8))
    loader = as_if_on_gpu(NativeLoader(dataset, schedule, threads, CPU, BadSamples(), gpu_augment), monkeypatch)
    found = list(loader.batches(0, 8))
    if gpu_augment is not None:
        plain = [normalise(b.images, b.extents, MEAN, STD, torch.float32).permute(0, 2, 3, 1) for b in expected]
        expected = [b._replace(images=images) for b, images in zip(expected, plain, strict=True)]
    assert_equal(found, expected)


@needs_native
def test_an_image_named_as_another_is_found_out_once(source, monkeypatch):
    calls = []
    real = native_jobs.pillow_format
    monkeypatch.setattr(native_jobs, "pillow_format", lambda data: calls.append(1) or real(data))
    dataset = TrainingSet(source, Augment(33, 0.5, 2.0, 255), 6, seed=5)
    list(NativeLoader(dataset, Schedule(8, 8, 5), 2, CPU, BadSamples()).batches(0, 12))
    assert 1 <= len(calls) <= 5  # batches that were begun before are not told


@needs_native
@pytest.mark.parametrize("threads", [0, 2])
def test_bad_images_are_replaced_as_the_reference_does(source, threads, caplog):
    for index, keep in ((2, 900), (4, 300), (7, 200)):
        data = source.read(index).image
        (source.root / source.images[index]).write_bytes(data[: min(keep, len(data) // 2)])
    dataset, schedule = TrainingSet(source, Augment(33, 0.5, 2.0, 255), 6, seed=5), Schedule(8, 4, 5)
    with caplog.at_level(logging.WARNING, "deeplab_fast"):
        expected = list(ReferenceLoader(dataset, schedule, 0, BadSamples(skip=True)).batches(0, 8))
        reference, _ = caplog.messages[:], caplog.clear()
        found = list(NativeLoader(dataset, schedule, threads, CPU, BadSamples(skip=True)).batches(0, 8))
    assert_equal(found, expected)
    assert len(reference) == 3
    assert caplog.messages == reference
    with pytest.raises(UserError, match="cannot be decoded"):
        list(NativeLoader(dataset, schedule, threads, CPU, BadSamples()).batches(0, 8))


@needs_native
def test_a_label_of_another_size_is_said_in_full(source):
    Image.fromarray(np.zeros((50, 61), np.uint8)).save(source.labels[3])
    dataset, schedule = TrainingSet(source, Augment(33, 0.5, 2.0, 255), 6, seed=5), Schedule(8, 8, 5)
    for loader in (
        NativeLoader(dataset, schedule, 2, CPU, BadSamples()), ReferenceLoader(dataset, schedule, 0, BadSamples()),
    ):  # fmt: skip
        with pytest.raises(UserError, match=r"3\.png: 61x50 pixels; expected 70x53 as its image"):
            list(loader.batches(0, 1))


@needs_native
def test_a_loader_with_such_images_may_be_left_in_the_middle(source):
    dataset = TrainingSet(source, Augment(33, 0.5, 2.0, 255), 6, seed=5)
    batches = NativeLoader(dataset, Schedule(8, 4, 5), 2, CPU, BadSamples()).batches(0, 100)
    next(batches)
    batches.close()


@pytest.mark.parametrize("apply_exif", [True, False])
def test_records_hold_them_as_png(source, tmp_path, caplog, apply_exif):
    decoding = Decoding(apply_exif)
    if not apply_exif:
        for index in (4, 5):
            label = Image.open(source.labels[index])
            label.resize(label.size[::-1]).save(source.labels[index])
    options = RecordOptions(2, False, 1, 6, 255, ("a", "b", "c", "d", "e", "f"), decoding)
    with caplog.at_level(logging.INFO, "deeplab_fast"):
        paths = write_records(source, tmp_path / "r" / "x.tar", options)
    said = "stored as PNG, which keeps the pixels: images of 1 BMP, 2 TIFF, 3 WebP"
    assert [said in message for message in caplog.messages] == [True]
    names = []
    for path in paths:
        with tarfile.open(path) as tar:
            names += tar.getnames()
    assert sorted(name for name in names if "." in name.partition(".")[2]) == [f"{i}.img.png" for i in range(1, 8)]
    records = RecordSource(tmp_path / "r" / "x.tar")
    for i in range(len(source)):
        file, record = source.read(i), records.read(i)
        assert file.label == record.label
        for way in (Decoding(True), Decoding(False)):
            assert np.array_equal(decode_image(file.image, "x", way), decode_image(record.image, "x", way))
    before = [path.stat().st_mtime_ns for path in paths]
    write_records(source, tmp_path / "r" / "x.tar", options)
    assert [path.stat().st_mtime_ns for path in paths] == before


def test_a_check_reads_them(source):
    findings = check_source(source, 6, 255)
    assert findings.problems == []
    assert findings.samples == 8
    assert any("2 images are turned by their EXIF orientation" in note for note in findings.notes)


def test_images_of_one_name_are_mentioned(source, caplog, tmp_path):
    (tmp_path / "images" / "0.bmp").write_bytes(source.read(2).image)
    with caplog.at_level(logging.WARNING, "deeplab_fast"):
        assert len(folder_source(tmp_path / "images", tmp_path / "labels")) == 9
    assert "2 images have the name of another, but for the suffix, and the same label: 0.bmp, 0.jpg" in caplog.text
