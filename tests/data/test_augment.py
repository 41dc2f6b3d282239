"""The augmentation against the recipe's own: cv2.resize, copyMakeBorder, slicing, flip."""

import cv2
import numpy as np
import pytest

from deeplab_fast.data.augment import Augment, Draws, colour_matrix, draws
from deeplab_fast.ops import apply_colour, decode_image, decode_label, extension, resize_bilinear
from deeplab_fast.ops.input.augment import resample_label_reference, resample_reference, taps


def opencv(image, label, draw, augment):
    """The MindSpore recipe's preprocessing with the same draws, before normalisation."""
    size = augment.crop_size
    scale = augment.min_scale + (augment.max_scale - augment.min_scale) * draw.scale
    h, w = int(scale * image.shape[0]), int(scale * image.shape[1])
    kernel = cv2.INTER_CUBIC if augment.bicubic else cv2.INTER_LINEAR
    image = cv2.resize(image, (w, h), interpolation=kernel)
    label = cv2.resize(label, (w, h), interpolation=cv2.INTER_NEAREST)
    down, right = max(h, size) - h, max(w, size) - w
    image = cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_CONSTANT, value=0)
    label = cv2.copyMakeBorder(label, 0, down, 0, right, cv2.BORDER_CONSTANT, value=augment.ignore_label)
    top = int(draw.top * (image.shape[0] - size + 1))
    left = int(draw.left * (image.shape[1] - size + 1))
    image, label = image[top : top + size, left : left + size], label[top : top + size, left : left + size]
    return (image[:, ::-1], label[:, ::-1]) if draw.flip >= 0.5 else (image, label)


def real_or_generated(shared_data_folder, builtin):
    if shared_data_folder is None:
        pairs = [(f"images/{i:05d}.jpg", f"labels/{i:05d}.png") for i in range(24)]
        return [(builtin / a, builtin / b) for a, b in pairs]
    voc = shared_data_folder / "VOCdevkit" / "VOC2012"
    images = sorted((voc / "JPEGImages").glob("*.jpg"))[:12]
    return [(p, voc / "SegmentationClass" / f"{p.stem}.png") for p in images]


@pytest.mark.parametrize("source", ["generated", "real"])
@pytest.mark.parametrize("bicubic", [True, False])
@pytest.mark.parametrize("crop_size", [129, 513])
def test_equals_opencv(source, bicubic, crop_size, builtin, request):
    folder = request.getfixturevalue("shared_data") if source == "real" else None
    augment = Augment(crop_size, 0.5, 2.0, 255, bicubic)
    far, total = 0, 0
    for index, (image_path, label_path) in enumerate(real_or_generated(folder, builtin)):
        image = decode_image(image_path.read_bytes(), str(image_path))
        label = decode_label(label_path.read_bytes(), str(label_path))
        for epoch in range(3):
            draw = draws(1, epoch, index)
            crop = augment(image, label, draw)
            expected, expected_label = opencv(image, label, draw, augment)
            assert np.array_equal(crop.label, expected_label)
            top, bottom, left, right = crop.extent
            difference = np.abs(crop.image.astype(int) - expected)[top:bottom, left:right].max(axis=2)
            far += int((difference > 1).sum())
            total += difference.size
            outside = np.ones(crop.label.shape, bool)
            outside[top:bottom, left:right] = False
            assert not crop.image[outside].any()
            assert (crop.label[outside] == 255).all()
    assert far <= 0.001 * total


@pytest.mark.parametrize("size", [(65, 65), (33, 97), (200, 11), (1, 1)])
def test_bilinear_resize_equals_opencv(size):
    image = np.random.default_rng(0).integers(0, 256, (57, 83, 3), np.uint8)
    ours, theirs = resize_bilinear(image, size), cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_only_the_crop_is_computed():
    """The crop of a resized image equals the crop of the whole resized image."""
    image = np.random.default_rng(1).integers(0, 256, (60, 90, 3), np.uint8)
    label = np.random.default_rng(2).integers(0, 21, (60, 90), np.uint8)
    whole = Augment(257, 2.0, 2.0, 255)(image, label, Draws(0, 0, 0, 0))
    part = Augment(33, 2.0, 2.0, 255)(image, label, Draws(0, 0.5, 0.7, 0))
    top, left = int(0.5 * (120 - 33 + 1)), int(0.7 * (180 - 33 + 1))
    assert np.array_equal(part.image, whole.image[top : top + 33, left : left + 33])
    assert np.array_equal(part.label, whole.label[top : top + 33, left : left + 33])


@pytest.mark.parametrize("bicubic", [True, False])
@pytest.mark.parametrize(("source", "target"), [(1, 1), (1, 9), (9, 1), (2, 3), (500, 999), (513, 256)])
def test_weights_sum_to_one_exactly_and_indexes_stay_inside(bicubic, source, target):
    index, weight = taps(source, target, 0, target, bicubic)
    assert index.min() >= 0
    assert index.max() < source
    assert (weight.sum(1) == 1 << 14).all()


def test_flip_moves_the_extent():
    image, label = np.full((10, 12, 3), 200, np.uint8), np.zeros((10, 12), np.uint8)
    augment = Augment(17, 1.0, 1.0, 255)
    assert augment(image, label, Draws(0, 0, 0, 0.0)).extent.tolist() == [0, 10, 0, 12]
    assert augment(image, label, Draws(0, 0, 0, 0.9)).extent.tolist() == [0, 10, 5, 17]


# ---------------------------------------------------------------- the native loops against the NumPy reference

NATIVE = extension.load()[0]


@pytest.mark.skipif(NATIVE is None, reason=f"no extension: {extension.load()[1]}")
@pytest.mark.parametrize("limit", ["generic", "AVX2", "AVX-512", ""], ids=["generic", "AVX2", "AVX-512", "best"])
@pytest.mark.parametrize("bicubic", [True, False])
def test_native_loops_equal_the_reference_bit_for_bit(limit, bicubic):
    """Any size, enlarged or shrunk up to 10 times, any window; rows that end inside a vector."""
    generator = np.random.default_rng(7)
    NATIVE.limit_vector_extension(limit)
    if limit and NATIVE.vector_extension() != limit:
        pytest.skip(f"this processor has no {limit}")
    try:
        for _ in range(120):
            h, w = generator.integers(1, 60), generator.integers(1, 300)
            scale = np.exp(generator.uniform(np.log(0.1), np.log(5)))
            size = max(1, int(h * scale)), max(1, int(w * scale * generator.uniform(0.7, 1.4)))
            top, left = generator.integers(0, size[0]), generator.integers(0, size[1])
            bottom, right = generator.integers(top + 1, size[0] + 1), generator.integers(left + 1, size[1] + 1)
            window = (int(top), int(bottom), int(left), int(right))
            image = generator.integers(0, 256, (h, w, 3), np.uint8)
            label = generator.integers(0, 256, (h, w), np.uint8)
            found = NATIVE.resample_image(image, size, window, bicubic)
            assert np.array_equal(found, resample_reference(image, size, window, bicubic))
            assert np.array_equal(
                NATIVE.resample_label(label, size, window), resample_label_reference(label, size, window)
            )
    finally:
        NATIVE.limit_vector_extension("")


@pytest.mark.parametrize("value", [0, 1, 127, 255])
def test_a_flat_image_stays_flat(value):
    """The weights sum to 1 exactly."""
    image = np.full((20, 30, 3), value, np.uint8)
    for bicubic in (True, False):
        assert (resample_reference(image, (47, 71), (0, 47, 0, 71), bicubic) == value).all()


def test_colours_change_as_their_names_say():
    """Greys keep their hue, a hue turned back gives the image, and draws are in their ranges."""
    grey = np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[:, None, None], 3, axis=2)
    identity, greys = 0, 0
    for sample in range(200):
        matrix = colour_matrix(1, 0, sample)
        assert matrix.shape == (3, 4)
        changed = apply_colour(grey, matrix).astype(int)
        greys += int((np.ptp(changed, axis=2) <= 1).all())
        identity += int(np.array_equal(apply_colour(grey, matrix), grey))
        assert np.abs(matrix[:, 3]).max() <= 1.5 * 32 * 4096
    assert greys == 200
    assert 5 < identity < 100  # neither brightness nor contrast: a quarter
