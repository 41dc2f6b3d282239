"""Images with an EXIF orientation in the loaders: native, ragged and reference crops are the same bits."""

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_fast.data.augment import Augment
from deeplab_fast.data.dataset import BadSamples, TrainingSet
from deeplab_fast.data.native_loader import NativeLoader
from deeplab_fast.data.reference_loader import ReferenceLoader
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.data.sources import FileSource
from deeplab_fast.errors import UserError
from deeplab_fast.ops import Decoding, SampleLoader, augment_ragged, extension
from deeplab_fast.ops.input.sample_loader import CropOptions, Jobs, ragged_room
from tests.native.mutations import picture

pytestmark = pytest.mark.skipif(extension.decoder()[0] is None, reason=f"no native loader: {extension.decoder()[1]}")


@pytest.fixture(params=[(90, 140), (150, 70)], ids=["landscape", "portrait"])
def source(tmp_path, request):
    """Eight images, one for each orientation, with labels of the turned size; one of them a PNG."""
    height, width = request.param
    images, labels = [], []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        images.append(f"{orientation}.{'png' if orientation == 7 else 'jpg'}")
        Image.fromarray(picture(height, width, orientation)).save(tmp_path / images[-1], exif=exif)
        labels.append(f"{orientation}-label.png")
        size = (height, width) if orientation < 5 else (width, height)
        label = np.random.default_rng(orientation).integers(0, 6, size, np.uint8)
        Image.fromarray(label).save(tmp_path / labels[-1])
    return FileSource(tmp_path, images, labels, [str(i) for i in range(1, 9)])


@pytest.mark.parametrize("augment", [Augment(33, 0.5, 2.0, 255), Augment(200, 0.5, 1.0, 255)], ids=["small", "large"])
def test_native_crops_equal_the_reference_s(source, augment):
    dataset = TrainingSet(source, augment, 6, seed=5)
    schedule = Schedule(8, 4, 5)
    native = NativeLoader(dataset, schedule, 2, torch.device("cpu"), BadSamples()).batches(0, 12)
    reference = ReferenceLoader(dataset, schedule, 0, BadSamples()).batches(0, 12)
    for a, b in zip(native, reference, strict=True):
        assert a.keys == b.keys
        assert all(torch.equal(x, y) for x, y in zip(a[:3], b[:3], strict=True))


def test_ragged_crops_equal_finished_ones(source):
    """What a GPU finishes are pixels already turned."""
    options = CropOptions(33, 0.5, 2.0, True, 255)
    loader = SampleLoader(source.files(), options, 6, threads=2)
    draws = np.random.default_rng(0).random((8, 4))
    extracts = np.array([[*image, *label] for image, label in map(source.byte_ranges, range(8))])
    jobs = Jobs(extracts, draws, np.empty((0, 12), np.int32))
    finished, ragged = loader.new_crops(8), loader.new_ragged(ragged_room(options, draws[:, 0]))
    assert loader.wait(loader.submit(jobs, finished)) == []
    assert loader.wait(loader.submit(jobs, ragged)) == []
    other = augment_ragged(ragged, 8, options, (0.0,) * 3, (1.0,) * 3, torch.uint8)
    assert torch.equal(
        other.images.permute(0, 2, 3, 1) if other.images.shape[1] == 3 else other.images, finished.images
    )
    assert torch.equal(other.labels, finished.labels)


def test_both_say_the_same_of_a_label_that_fits_the_stored_image(source):
    """With the orientation ignored, the labels of the last four are of the wrong size."""
    one = FileSource(source.root, source.images[5:6], source.labels[5:6], source.keys[5:6])
    dataset = TrainingSet(one, Augment(33, 0.5, 2.0, 255), 6, 5, Decoding(apply_exif=False))
    texts = []
    for loader in (
        NativeLoader(dataset, Schedule(1, 1, 5), 0, torch.device("cpu"), BadSamples()),
        ReferenceLoader(dataset, Schedule(1, 1, 5), 0, BadSamples()),
    ):
        with pytest.raises(UserError, match="--exif=apply") as error:
            list(loader.batches(0, 1))
        texts.append(str(error.value))
    assert texts[0] == texts[1]
