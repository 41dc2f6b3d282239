"""The evaluation protocol against an independent version in OpenCV and NumPy."""

import cv2
import numpy as np
import pytest
import torch

from deeplab_fast.config import EvalConfig, ModelConfig
from deeplab_fast.data.loader import decode_pair
from deeplab_fast.data.sources import list_source
from deeplab_fast.errors import UserError
from deeplab_fast.evaluator import Protocol, evaluate, longest_side_to
from deeplab_fast.model import build_model

CPU = torch.device("cpu")
MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # RGB
STD = np.array([58.395, 57.12, 57.375], np.float32)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(ModelConfig(backbone="resnet18", num_classes=6, multi_grid=(1, 2, 4))).eval()


def recipe_probabilities(model, image, size, flip):
    """One scale of the MindSpore recipe's eval.py, image by image, in OpenCV and NumPy."""
    height, width = image.shape[:2]
    if height > width:
        h, w = size, int(1.0 * size * width / height)
    else:
        h, w = int(1.0 * size * height / width), size
    x = (cv2.resize(image, (w, h)).astype(np.float32) - MEAN) / STD
    x = cv2.copyMakeBorder(x, 0, size - h, 0, size - w, cv2.BORDER_CONSTANT, value=0)
    total = 0
    for mirrored in (False, True) if flip else (False,):
        batch = torch.from_numpy(np.ascontiguousarray(x[:, ::-1] if mirrored else x)).permute(2, 0, 1)[None]
        with torch.no_grad():
            out = model.predict(batch)[0].softmax(0).numpy()
        total = total + (out[:, :, ::-1] if mirrored else out)
    return cv2.resize(np.ascontiguousarray(total[:, :h, :w].transpose(1, 2, 0)), (width, height))


def recipe_confusion(model, source, crop_size, scales, flip):
    counts = np.zeros((6, 6), np.int64)
    for i in range(len(source)):
        image, label = decode_pair(source.read(i))
        sizes = [int((crop_size - 1) * s) + 1 for s in scales]
        prediction = sum(recipe_probabilities(model, image, size, flip) for size in sizes).argmax(2)
        valid = label != 255
        counts += np.bincount(label[valid].astype(int) * 6 + prediction[valid], minlength=36).reshape(6, 6)
    return counts


def protocol(crop_size=97, scales=(1.0,), flip=False):
    config = EvalConfig(crop_size=crop_size)
    return Protocol.of(config, "fp32", scales, flip)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 0.75, 1.0, 1.25, 1.75)], ids=["single", "multi"])
def test_equals_the_recipe_s(model, builtin, scales, flip):
    source = list_source(builtin, builtin / "val.txt")
    ours = evaluate(model, source, protocol(97, scales, flip), 6, 255, CPU, batch_size=3).confusion
    theirs = recipe_confusion(model, source, 97, scales, flip)
    assert ours.sum() == theirs.sum()
    assert np.array_equal(ours.sum(1), theirs.sum(1))
    assert np.abs(ours - theirs).sum() <= 0.002 * theirs.sum()  # uint8 rounding of the resize moves a few argmaxes


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (2, 2), (7, 1)])
def test_batches_and_workers_do_not_matter(model, builtin, batch_size, workers):
    source = list_source(builtin, builtin / "val.txt")
    expected = evaluate(model, source, protocol(), 6, 255, CPU, 4).confusion
    actual = evaluate(model, source, protocol(), 6, 255, CPU, batch_size, workers).confusion
    assert actual.sum() == expected.sum()
    assert np.abs(actual - expected).sum() <= 4  # convolutions of another batch size round differently


def test_the_training_mode_is_restored(model, builtin):
    source = list_source(builtin, builtin / "val.txt")
    model.train()
    evaluate(model, source, protocol(33), 6, 255, CPU, 4)
    assert model.training
    model.eval()


def test_a_bad_label_is_named(model, builtin):
    source = list_source(builtin, builtin / "val.txt")
    with pytest.raises(UserError, match=r"labels/\d+\.png: label value"):
        evaluate(model, source, protocol(33), 3, 255, CPU, 4)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((375, 500), (384, 513)), ((500, 375), (513, 384)), ((9, 9), (513, 513)), ((1, 2000), (1, 513))],
)
def test_longest_side(size, expected):
    assert longest_side_to(513, *size) == expected
