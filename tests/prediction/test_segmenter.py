"""A trained model as a function: every kind of image, what a result gives, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

import deeplab_fast
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.inference import trained_model
from deeplab_fast.evaluation.protocol import Protocol, segment_images
from deeplab_fast.predict import PredictConfig
from tests.prediction.networks import NAMES, picture, save_network

FLAGS = {"device_target": "CPU", "precision": "fp32"}


@pytest.fixture(scope="module")
def segment(weights):
    return deeplab_fast.Segmenter(weights, **FLAGS)


def expected_classes(weights, image, scales=(1.0,), flip=False):
    config, model = trained_model(PredictConfig, {"ckpt_path": str(weights)})
    return segment_images(model, [image], Protocol.of(config, "fp32", scales, flip), torch.device("cpu"))[0]


def test_classes_are_those_of_the_evaluation_s_protocol(weights):
    image = picture(60, 90)
    for flags, how in (
        ({}, {}),
        ({"scales_type": 1, "flip": True}, {"scales": (0.5, 0.75, 1.0, 1.25, 1.75), "flip": True}),
    ):
        found = deeplab_fast.Segmenter(weights, **FLAGS, **flags)(image)
        assert found.classes.dtype == np.uint8
        assert np.array_equal(found.classes, expected_classes(weights, image, **how))
        assert len(np.unique(found.classes)) > 1


def test_every_kind_of_image_gives_the_same(segment, tmp_path):
    image = picture(50, 70)
    Image.fromarray(image).save(tmp_path / "ä b.png")
    chw = torch.from_numpy(image).permute(2, 0, 1)
    kinds = [
        image, image[:, ::-1][:, ::-1], Image.fromarray(image), Image.fromarray(image).convert("RGBA"),
        torch.from_numpy(image), chw, tmp_path / "ä b.png", str(tmp_path / "ä b.png"),
    ]  # fmt: skip
    expected = segment(image).classes
    for found in segment(kinds):
        assert np.array_equal(found.classes, expected)


def test_it_says_what_it_is(segment, weights):
    assert repr(segment) == f"Segmenter({str(weights)!r}: resnet18, {len(segment.names)} classes)"


def test_a_list_of_mixed_sizes_in_batches_gives_a_list_in_its_order(weights, segment):
    images = [picture(h, w, i) for i, (h, w) in enumerate([(60, 90), (33, 40), (90, 60), (65, 65), (1, 7)])]
    batched = deeplab_fast.Segmenter(weights, **FLAGS, batch_size=3)
    found = batched(images)
    assert [one.classes.shape for one in found] == [image.shape[:2] for image in images]
    for one, image in zip(found, images, strict=True):
        assert (one.classes != segment(image).classes).mean() < 0.01  # another batch size rounds differently
    assert segment([]) == []
    assert isinstance(segment((images[0],)), list)


def test_probabilities_are_the_protocol_s_and_kept_where_asked_for(weights, segment):
    image = picture(60, 90)
    found = segment(image)
    p = found.probabilities
    assert p.dtype == np.float32
    assert p.shape == (3, 60, 90)
    assert p is not found.probabilities  # not kept
    assert np.allclose(p.sum(0), 1, atol=1e-5)
    assert (p.argmax(0) != found.classes).mean() < 0.001
    both = deeplab_fast.Segmenter(weights, **FLAGS, flip=True)(image).probabilities
    mirrored = segment(np.ascontiguousarray(image[:, ::-1])).probabilities[..., ::-1]
    assert not np.allclose(both, p, atol=1e-2)
    inner = (slice(None), slice(None), slice(8, -33))  # padding stands to the right: a mirrored file has it elsewhere
    assert np.abs(both - (p + mirrored) / 2)[inner].mean() < 0.1
    kept = deeplab_fast.Segmenter(weights, **FLAGS, probabilities=True)(image)
    assert kept.probabilities is kept.probabilities
    assert np.array_equal(kept.probabilities, p)


def test_a_result_keeps_no_more_than_the_image_needs(weights):
    found = deeplab_fast.Segmenter(weights, **FLAGS, batch_size=2)([picture(65, 65), picture(60, 65)])[0]
    stored = sum(view.logits.untyped_storage().nbytes() for view in found.scored.views)
    assert stored == 3 * 5 * 5 * 4  # one image's, not the batch's


def test_names_areas_and_files(segment, tmp_path):
    found = segment(picture(60, 90))
    assert found.names == segment.names == tuple(NAMES)
    areas = found.areas()
    assert [area.name for area in areas] == NAMES
    assert [area.pixels for area in areas] == [int((found.classes == c).sum()) for c in range(3)]
    assert sum(area.share for area in areas) == pytest.approx(1)
    saved = Image.open(found.save(tmp_path / "m ü.png"))
    assert saved.mode == "P"
    assert np.array_equal(np.asarray(saved), found.classes)
    arrays = np.load(found.save(tmp_path / "p.npz"))
    assert arrays["probabilities"].dtype == np.float16
    assert np.allclose(arrays["probabilities"], found.probabilities, atol=1e-3)
    assert list(arrays["names"]) == NAMES
    for name, message in (("m.gif", "ends in .png"), ("none/m.png", "cannot be written")):
        with pytest.raises(UserError, match=message):
            found.save(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m ü.png", "p.npz"]


def test_a_file_without_names_numbers_its_classes(unnamed, tiny, tmp_path):
    assert deeplab_fast.Segmenter(unnamed, **FLAGS).names == ("class 0", "class 1", "class 2")
    for names in (["one"], "abc", [1, 2, 3]):
        with pytest.raises(UserError, match="damaged: 'names' does not hold the names of 3 classes"):
            deeplab_fast.Segmenter(save_network(tmp_path / "x.pt", names=names), **FLAGS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"image: float32 \[4, 4, 3\]; expected uint8 \[H, W, 3\]"),
        (np.zeros((4, 4), np.uint8), r"image: uint8 \[4, 4\]; expected uint8"),
        (np.zeros((2, 4, 4, 3), np.uint8), "expected uint8"),
        (np.zeros((0, 4, 3), np.uint8), "4x0 pixels; expected at least one"),
        (np.zeros((100, 101, 3), np.uint8), "101x100 pixels; expected at most 10000"),
        (torch.zeros(3, 4, 4), r"torch.float32 tensor; expected torch.uint8, .* neither scaled nor normalised"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "expected uint8"),
        (Image.new("F", (4, 4)), "Pillow image of mode F"),
        (None, "of type NoneType; expected a path"),
        ("no such.png", "no such.png: No such file"),
    ],
)
def test_what_is_no_image_is_one_line(given, message, weights):
    segment = deeplab_fast.Segmenter(weights, **FLAGS, max_pixels=10000)
    with pytest.raises(UserError, match=message) as caught:
        segment(given)
    assert "\n" not in str(caught.value)


def test_a_bad_image_of_a_list_is_named_by_its_place(segment):
    with pytest.raises(UserError, match=r"image 1: torch\.float32"):
        segment([picture(9, 9), torch.zeros(3, 4, 4)])


def test_images_come_one_batch_after_the_other(segment):
    asked = []

    def images():
        for i in range(3):
            asked.append(i)
            yield picture(9, 9, i)

    results = segment.each(images())
    next(results)
    assert asked == [0]


def test_a_pillow_image_is_turned_as_a_file_is(weights, segment, tmp_path):
    image = Image.fromarray(picture(40, 60))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert segment(Image.open(tmp_path / "turned.jpg")).classes.shape == (60, 40)
    assert segment(tmp_path / "turned.jpg").classes.shape == (60, 40)
    as_stored = deeplab_fast.Segmenter(weights, **FLAGS, exif="ignore")
    assert as_stored(Image.open(tmp_path / "turned.jpg")).classes.shape == (40, 60)
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "turned.jpg").read_bytes()[:-60])
    with pytest.raises(UserError, match="image: cannot be decoded"):
        segment(Image.open(tmp_path / "cut.jpg"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"flipp": True}, "flipp: unknown flag; did you mean flip?"),
        ({"flip": 2}, "--flip=2: expected True or False"),
        ({"scales_type": 3}, "--scales_type=3: expected one of 0, 1"),
        ({"batch_size": 0}, "--batch_size=0: expected at least 1"),
        ({"device_target": "TPU"}, "--device_target=TPU: expected one of auto, GPU, CPU"),
        ({"precision": "fp16"}, "--precision=fp16: needs a GPU"),
        ({"image_std": [1.0]}, "expected 3 numbers"),
        ({"output": "x"}, "output: unknown flag"),
    ],
)
def test_flags_are_checked_as_the_command_line_s(flags, message, weights):
    with pytest.raises(UserError) as caught:
        deeplab_fast.Segmenter(weights, **({"device_target": "CPU"} | flags))
    assert message in str(caught.value)


def test_a_run_folder_stands_for_its_best(weights):
    assert deeplab_fast.Segmenter(weights.parent, **FLAGS).names == tuple(NAMES)
    with pytest.raises(UserError, match=r"none\.pt"):
        deeplab_fast.Segmenter(weights.parent / "none.pt", **FLAGS)
