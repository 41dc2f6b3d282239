"""confusion_matrix: native against plain torch and NumPy."""

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_fast.errors import UserError
from deeplab_fast.ops import ConfusionCounter, confusion_matrix, extension
from deeplab_fast.ops.metrics.confusion import confusion_matrix_reference

pytestmark = pytest.mark.gpu

DTYPES = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


CUDA = extension.cuda()[0] is not None and torch.cuda.is_available()


def on_gpu(labels, predictions, classes, ignore):
    return confusion_matrix(labels.cuda(), predictions.cuda(), classes, ignore).cpu()


COUNTERS = {"CPU": confusion_matrix, "reference": confusion_matrix_reference, **({"GPU": on_gpu} if CUDA else {})}


@pytest.fixture(params=COUNTERS.values(), ids=COUNTERS.keys())
def count(request):
    return request.param


def plain(labels, predictions, classes, ignore):
    counts = np.zeros((classes, classes), np.int64)
    keep = labels != ignore
    np.add.at(counts, (labels[keep], predictions[keep]), 1)
    return counts


@pytest.mark.parametrize("label_type", DTYPES)
@pytest.mark.parametrize("prediction_type", DTYPES)
@pytest.mark.parametrize("classes", [2, 21, 100])
def test_counts_pairs_of_any_type(count, label_type, prediction_type, classes):
    generator = np.random.default_rng(classes)
    labels, predictions = generator.integers(0, classes, (2, 3, 57, 61))
    ignore = 120 if label_type == torch.int8 else 255
    labels[generator.random(labels.shape) < 0.1] = ignore
    found = count(
        torch.from_numpy(labels).to(label_type), torch.from_numpy(predictions).to(prediction_type), classes, ignore
    )
    assert np.array_equal(found.numpy(), plain(labels, predictions, classes, ignore))


@pytest.mark.parametrize("pixels", [0, 1, 7, 31, 32, 33, 64, 4095, 4096, 4097, 10000])
@pytest.mark.parametrize("run", [1, 5, 40, 3000])
def test_runs_and_ends_of_every_length(count, pixels, run):
    """Flat stretches are counted at once: their ends must fall right."""
    generator = np.random.default_rng(pixels + run)
    labels = np.repeat(generator.integers(0, 5, pixels // run + 1), run)[:pixels]
    predictions = np.roll(labels, 3)
    labels = np.where(labels == 4, 255, labels)
    found = count(torch.from_numpy(labels), torch.from_numpy(predictions), 5, 255)
    assert np.array_equal(found.numpy(), plain(labels, predictions, 5, 255))


def test_256_classes(count):
    labels = torch.arange(256).repeat(40).to(torch.uint8)
    predictions = labels.flip(0)
    found = count(labels, predictions, 256, -1)
    assert found.shape == (256, 256)
    assert torch.equal(found.flip(1).diagonal(), torch.full((256,), 40))


def test_an_ignore_label_that_is_a_class_is_ignored(count):
    assert count(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2, 1).tolist() == [[1, 0], [0, 0]]


def test_a_negative_ignore_label(count):
    assert count(torch.tensor([0, -100, 1]), torch.tensor([0, 0, 1]), 2, -100).tolist() == [[1, 0], [0, 1]]


def test_strided_views(count):
    labels, predictions = torch.randint(0, 4, (2, 40, 60), generator=torch.Generator().manual_seed(0))
    found = count(labels[::2, 3:].T, predictions[::2, 3:].T, 4, 255)
    assert np.array_equal(found.numpy(), plain(labels[::2, 3:].numpy(), predictions[::2, 3:].numpy(), 4, 255))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_label_out_of_range_is_named(count, dtype):
    labels = torch.zeros(5000, dtype=dtype)
    labels[4500], labels[4700] = 7, 9
    with pytest.raises(UserError, match="label 7: expected 0 to 2 or the ignore label 255"):
        count(labels, torch.zeros(5000, dtype=torch.int64), 3, 255)


@pytest.mark.parametrize("value", [-1, 300, 2**40])
def test_values_that_are_no_byte_are_named(count, value):
    labels = torch.zeros(100, dtype=torch.int64)
    labels[50] = value
    with pytest.raises(UserError, match=f"label {value}: expected 0 to 2"):
        count(labels, torch.zeros(100, dtype=torch.int64), 3, 255)


def test_a_prediction_out_of_range_is_named_where_it_counts(count):
    labels, predictions = torch.tensor([255, 0]), torch.tensor([9, 0])
    assert count(labels, predictions, 3, 255)[0, 0] == 1
    with pytest.raises(UserError, match="prediction 9: expected 0 to 2"):
        count(torch.tensor([1, 0]), predictions, 3, 255)


DEVICES = ["cpu", *(["cuda"] if CUDA else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_a_counter_adds_up_batches_of_any_shape(device, dtype):
    counter = ConfusionCounter(4, 255, torch.device(device))
    labels, predictions = torch.randint(0, 4, (2, 1000), generator=torch.Generator().manual_seed(0)).to(dtype)
    labels[::7] = 255
    for a, b in ((0, 10), (10, 10), (10, 700), (700, 1000)):
        counter.add(labels[a:b].to(device), predictions[a:b].to(device))
    assert np.array_equal(
        counter.total().cpu().numpy(), plain(labels.long().numpy(), predictions.long().numpy(), 4, 255)
    )


@pytest.mark.parametrize("device", DEVICES)
def test_a_counter_refuses_what_is_out_of_range(device):
    counter = ConfusionCounter(3, 255, torch.device(device))
    labels = torch.tensor([0, 7], device=device)

    def count():
        counter.add(labels, torch.zeros_like(labels))
        counter.total()

    with pytest.raises(UserError, match="expected 0 to 2"):
        count()


def test_shapes_must_agree():
    with pytest.raises(UserError, match="expected one shape"):
        confusion_matrix(torch.zeros(3), torch.zeros(4), 3, 255)


def test_real_labels(shared_data):
    files = sorted((shared_data / "VOCdevkit/VOC2012/SegmentationClass").glob("*.png"))[:40]
    for path in files:
        label = np.array(Image.open(path))
        shifted = np.roll(np.where(label == 255, 0, label), (3, 5), (0, 1))
        found = confusion_matrix(torch.from_numpy(label), torch.from_numpy(shifted), 21, 255)
        assert np.array_equal(found.numpy(), plain(label, shifted, 21, 255))
