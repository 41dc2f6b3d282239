"""confusion_matrix and upsample_confusion: native against plain torch and NumPy."""

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_fast.errors import UserError
from deeplab_fast.ops import ConfusionCounter, confusion_matrix, extension, upsample_confusion
from deeplab_fast.ops.metrics.confusion import confusion_matrix_reference
from deeplab_fast.ops.upsample_confusion import upsample_confusion_reference

pytestmark = pytest.mark.gpu

DTYPES = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


CUDA = extension.cuda()[0] is not None and torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(not CUDA, reason="no CUDA GPU, or no CUDA part in the extension")


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


# ---------------------------------------------------------------- from low-resolution logits


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(("low", "high"), [((5, 7), (33, 41)), ((1, 1), (9, 4)), ((9, 9), (9, 9)), ((17, 3), (4, 30))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_upsample_confusion(align_corners, low, high, dtype):
    """Sums in another order may turn a near tie: fp32 rounding moves at most a few pixels of 10,000."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 21, *low, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 21, (3, *high), generator=generator).to(torch.uint8)
    labels[0, 0] = 255
    found = upsample_confusion(logits, labels, align_corners, 255)
    expected = upsample_confusion_reference(logits, labels, align_corners, 255)
    assert found.sum() == expected.sum() == (labels != 255).sum()
    assert torch.equal(found.sum(1), expected.sum(1))
    assert (found - expected).abs().sum() <= 2e-3 * labels.numel()


@pytest.fixture(params=["", "AVX2", "generic"], ids=["best", "AVX2", "generic"])
def native(request):
    """The extension, held down to an instruction set."""
    module, reason = extension.load()
    if module is None:
        pytest.skip(reason)
    module.limit_vector_extension(request.param)
    yield module
    module.limit_vector_extension("")


def one_by_one(logits, labels, align_corners, ignore):
    """upsample_confusion's arithmetic in NumPy, each step rounded to fp32: rows first, then columns."""
    one = np.float32(1)

    def between(source, target):
        i = np.arange(target, dtype=np.float32)
        if align_corners:
            position = i * (np.float32(source - 1) / np.float32(target - 1) if target > 1 else np.float32(0))
        else:
            position = np.float32(source) / np.float32(target) * (i + np.float32(0.5)) - np.float32(0.5)
        position = np.maximum(position, np.float32(0))
        low = np.minimum(position.astype(np.int64), source - 1)
        return low, np.minimum(low + 1, source - 1), position - low.astype(np.float32)

    low, high, t = between(logits.shape[1], labels.shape[1])
    t = t[:, None, None]
    rows = logits[:, low] * (one - t) + logits[:, high] * t
    low, high, t = between(logits.shape[2], labels.shape[2])
    t = t[:, None]
    full = rows[:, :, low] * (one - t) + rows[:, :, high] * t
    assert full.dtype == np.float32
    return plain(labels, full.argmax(-1), logits.shape[3], ignore)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(
    ("low", "high"), [((5, 7), (33, 41)), ((1, 1), (9, 4)), ((3, 5), (70, 101)), ((17, 3), (4, 30))]
)
@pytest.mark.parametrize("classes", [2, 21, 150, 256])
def test_upsample_confusion_is_the_same_for_every_instruction_set(native, align_corners, low, high, classes):
    """No step is left out or fused: equal in every count to arithmetic written out, as the GPU's is."""
    generator = np.random.default_rng(classes)
    logits = generator.standard_normal((2, *low, classes), np.float32)
    labels = generator.integers(0, min(classes, 255), (2, *high)).astype(np.uint8)
    labels[generator.random(labels.shape) < 0.1] = 255
    ignore = 255 if classes < 256 else 0
    counts = np.zeros((classes, classes), np.int64)
    assert native.count_upsampled(logits, labels, align_corners, ignore, 2, counts) is None
    assert np.array_equal(counts, one_by_one(logits, labels, align_corners, ignore))


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_upsample_confusion_does_not_depend_on_the_threads(native, threads):
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((3, 9, 9, 21), np.float32)
    labels = generator.integers(0, 21, (3, 100, 80)).astype(np.uint8)
    found = np.zeros((21, 21), np.int64)
    assert native.count_upsampled(logits, labels, True, 255, threads, found) is None
    assert np.array_equal(found, one_by_one(logits, labels, True, 255))
    labels[2, 5, 5], labels[1, 90, 7], labels[1, 90, 6], labels[1, 91, 0] = 70, 72, 71, 73
    wrong = native.count_upsampled(logits, labels, True, 255, threads, found)
    assert wrong == (True, (100 + 90) * 80 + 6, 71)


@needs_gpu
@pytest.mark.parametrize("classes", [3, 21, 150])
def test_upsample_confusion_is_the_same_on_the_gpu(classes):
    """The same arithmetic in the same order: equal in every count, shared memory or not."""
    logits = torch.randn(3, classes, 17, 13, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, classes, (3, 129, 97), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    for align_corners in (True, False):
        expected = upsample_confusion(logits, labels, align_corners, 255)
        for layout in (logits, logits.contiguous(memory_format=torch.channels_last)):
            found = upsample_confusion(layout.cuda(), labels.cuda(), align_corners, 255)
            assert torch.equal(found.cpu(), expected)


def test_upsample_confusion_takes_the_lower_class_in_a_tie():
    logits = torch.zeros(1, 3, 2, 2)
    counts = upsample_confusion(logits, torch.full((1, 5, 5), 2, dtype=torch.uint8), True, 255)
    assert counts.tolist() == [[0, 0, 0], [0, 0, 0], [25, 0, 0]]


def test_upsample_confusion_of_more_classes_than_a_byte_names():
    logits = torch.randn(1, 300, 3, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 255, (1, 9, 9), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    found = upsample_confusion(logits, labels, True, 255)
    assert torch.equal(found, upsample_confusion_reference(logits, labels, True, 255))


def test_upsample_confusion_names_a_bad_label():
    labels = torch.zeros(1, 5, 5, dtype=torch.uint8)
    labels[0, 3, 3] = 77
    with pytest.raises(UserError, match="label 77: expected 0 to 2"):
        upsample_confusion(torch.zeros(1, 3, 2, 2), labels, True, 255)


def test_upsample_confusion_names_wrong_shapes():
    with pytest.raises(UserError, match=r"expected fp32, fp16 or bf16 \[N, C, h, w\] and uint8 \[N, H, W\]"):
        upsample_confusion(torch.zeros(1, 3, 2, 2), torch.zeros(1, 5, 5), True, 255)
