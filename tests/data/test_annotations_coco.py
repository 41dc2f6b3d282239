"""COCO's outlines and run lengths become index maps as pycocotools has them."""

import json
import sys

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.data.annotated import (
    HEIGHT,
    WIDTH,
    agreement,
    convert,
    damaged,
    inside,
    make_image,
    names,
    near,
    refused,
    survives,
    without_sheet,
    write,
)

STAR = [80, 5, 100, 50, 150, 60, 105, 75, 120, 115, 80, 85, 30.5, 110.25, 60, 70, 10, 55, 62, 48]
OVER = [-500, 60, 90, -400, 700, 1000, 60, 130]  # far over every edge
FAR = [-5e7, 60, 90, -4e7, 7e7, 1e8, 60, 130]
SQUARE = [20, 20, 60, 20, 60, 60, 20, 60]


def content(*annotations, categories=((7, "cat"), (3, "dog"))):
    """COCO's JSON of two images; annotations are numbered and of image 1 unless they say otherwise."""
    return {
        "images": [
            {"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 2, "file_name": "b.jpg", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": number, "name": name} for number, name in categories],
        "annotations": [{"id": 100 + i, "image_id": 1, "iscrowd": 0, **a} for i, a in enumerate(annotations)],
    }


def outline(*parts, category=3, **more):
    return {"category_id": category, "segmentation": list(parts), **more}


@pytest.fixture
def root(tmp_path, monkeypatch):
    without_sheet(monkeypatch)
    for name in ("a.jpg", "b.jpg"):
        make_image(tmp_path / "images" / name)
    return tmp_path


def converted(root, *annotations, flags=(), **more):
    write(root / "coco.json", content(*annotations, **more))
    return convert(root, "coco.json", *flags)


def of_pycocotools(parts):
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, HEIGHT, WIDTH))).astype(bool)


def test_outlines_are_those_of_pycocotools_and_of_their_definition(root):
    found = converted(root, outline(STAR, SQUARE))
    assert np.array_equal(found["a"], of_pycocotools([STAR, SQUARE]).astype(np.uint8))
    star, square = np.reshape(STAR, (-1, 2)), np.reshape(SQUARE, (-1, 2))
    far = ~(near(star, limit=0.2) | near(square, limit=0.2))  # pycocotools counts in fifths of a pixel
    assert far.mean() > 0.98
    assert np.array_equal(found["a"][far], (inside(star) | inside(square))[far])
    assert not found["b"].any()
    assert names(root) == ["background", "dog", "cat"]


def test_outlines_are_cut_at_the_image(root):
    assert np.array_equal(converted(root, outline(OVER))["a"], of_pycocotools([OVER]))
    assert agreement(converted(root, outline(FAR))["a"], inside(np.reshape(FAR, (-1, 2)))) >= 0.999
    assert not converted(root, outline([-9, -9, -5, -9, -5, -5]), outline([1e8, 0, 1e8, 9, 2e8, 9]))["a"].any()


def test_an_outline_that_goes_to_and_fro_for_ever_is_refused(root):
    """pycocotools takes memory for each pixel along it."""
    to_and_fro = [-1e6, 0, 1e6, 10] * 200
    converted(root, outline(to_and_fro))
    write(root / "coco.json", content(outline(to_and_fro * 5)))
    said = refused(root, "coco.json")
    assert "annotation 100: an outline of 16,704,000 pixels; expected at most 4,194,304" in said


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_are_read_exactly(root, compressed):
    expected = np.random.default_rng(2).integers(0, 9, (HEIGHT, WIDTH)) > 6
    expected[:, 40:90] = True  # long runs too
    encoded = coco_mask.encode(np.asfortranarray(expected.astype(np.uint8)))
    counts = encoded["counts"].decode()
    if not compressed:
        flat = expected.ravel(order="F").astype(int)
        edges = np.flatnonzero(np.diff(flat, prepend=0, append=1 - flat[-1]))
        counts = np.diff(edges, prepend=0).tolist()
    found = converted(root, {"category_id": 7, "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}})
    assert np.array_equal(found["a"], 2 * expected.astype(np.uint8))


def test_later_annotations_are_over_earlier_ones_and_crowds_are_ignored(root):
    found = converted(root, outline(STAR), outline(SQUARE, category=7), outline([0, 0, 9, 0, 9, 9, 0, 9], iscrowd=1))[
        "a"
    ]
    expected = of_pycocotools([STAR]).astype(np.uint8)
    expected[of_pycocotools([SQUARE])] = 2
    expected[:9, :9] = 255
    assert np.array_equal(found, expected)


def test_a_category_named_background_is_number_0(root):
    found = converted(root, outline(SQUARE, category=5), categories=((5, "Background"), (2, "cat")))
    assert names(root) == ["Background", "cat"]
    assert not found["a"].any()


def test_classes_may_be_given(root):
    found = converted(root, outline(SQUARE), flags=["--classes=background,cat,dog"])
    assert set(np.unique(found["a"])) == {0, 2}
    assert "label 'dog' is no class" in refused(root, "coco.json", "--classes=background,cat")
    assert "'background' is not the first class" in refused(root, "coco.json", "--classes=cat,background,dog")


def test_images_are_found_in_subfolders_and_by_other_spellings(root):
    make_image(root / "images/deep/c.jpg")
    described = content(outline(SQUARE))
    for image, name in zip(described["images"], ("train\\deep\\c.jpg", "./a.jpg"), strict=True):
        image["file_name"] = name
    write(root / "coco.json", described)
    found = convert(root, "coco.json", "--unlabelled=background")
    assert {name: bool(label.any()) for name, label in found.items()} == {"a": False, "b": False, "deep/c": True}


def test_images_that_are_not_there_are_counted(root):
    (root / "images/b.jpg").unlink()
    assert converted(root, outline(SQUARE)).keys() == {"a"}
    assert json.loads((root / "counts.json").read_text())["left_out"] == {"annotated image that is not there": 1}


def test_names_with_line_ends_stay_on_one_line(root):
    described = content({**outline([1, 2]), "id": "a\nb"})
    write(root / "coco.json", described)
    assert "annotation number 0: 1 point;" in refused(root, "coco.json")
    for image in described["images"]:
        image["file_name"] = "a\nb.jpg"
    write(root / "coco.json", {**described, "annotations": []})
    assert "none of its 2 images, such as 'a\\nb.jpg', is in" in refused(root, "coco.json")


def test_one_name_of_two_images_is_refused(root):
    make_image(root / "images/x/c.jpg")
    make_image(root / "images/y/c.jpg")
    described = content()
    described["images"][0]["file_name"] = "c.jpg"
    write(root / "coco.json", described)
    assert "'c.jpg' may be" in refused(root, "coco.json")


def runs(counts, size=(HEIGHT, WIDTH)):
    return {"category_id": 3, "segmentation": {"size": list(size), "counts": counts}}


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (outline([1, 2, 3, 4]), "annotation 100: 2 points; expected at least 3"),
        (outline([1, 2, 3, 4, 5]), "annotation 100: coordinates that are no pairs"),
        (outline([[], [], []]), "annotation 100: coordinates that are no pairs"),
        (outline(["x", 2, 3, 4, 5, 6]), "annotation 100: coordinates that are no numbers"),
        (outline([1, 2, float("nan"), 4, 5, 6]), "annotation 100: coordinate nan"),
        (outline([1, 2, float("inf"), 4, 5, 6]), "annotation 100: coordinate inf"),
        (outline([1, 2, 1e300, 4, 5, 6]), "annotation 100: coordinate 1e+300"),
        (outline(), "annotation 100: no 'segmentation'"),
        ({"category_id": 3, "bbox": [1, 2, 3, 4]}, "annotation 100: no 'segmentation'"),
        (outline(SQUARE, category=9), "annotation 100: 'category_id' 9 is no category"),
        (outline(SQUARE, image_id=9), "annotation 100: 'image_id' 9 is no image"),
        (runs([5, 5]), "annotation 100: runs of 10 pixels; expected 19,200"),
        (runs([-1, HEIGHT * WIDTH + 1]), "annotation 100: run lengths that are no whole numbers"),
        (
            runs([HEIGHT * WIDTH], (WIDTH, HEIGHT)),
            "annotation 100: run lengths of size [160, 120]; expected [120, 160]",
        ),
        (runs("~~~"), "annotation 100: 'counts' is no compressed RLE"),
        (runs("0P"), "annotation 100: 'counts' is no compressed RLE: cut off"),
        (runs(None), "annotation 100: run lengths that are no whole numbers"),
    ],
)
def test_a_bad_annotation_is_named_by_its_id(root, annotation, said):
    write(root / "coco.json", content(annotation))
    assert said in refused(root, "coco.json")
    assert not (root / "labels").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON"),
        ('{"shapes": []}', "labelme's JSON of one image; expected the folder"),
        ("[]", "holds no JSON object"),
        ("{}", "'categories': missing; expected a list"),
        ("[" * 200_000, "no JSON"),
        ('{"images": [], "annotations": [], "categories": []}', "none of its 0 images is in"),
        ('{"images": 3, "annotations": [], "categories": []}', "'images': 3; expected a list"),
        ('{"images": [], "annotations": [], "categories": [5]}', "'categories', number 0: 5; expected an object"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": true, "name": "x"}]}',
            "'id': True; expected a whole",
        ),
    ],
)
def test_another_json_is_refused(root, text, said):
    write(root / "coco.json", text)
    assert said in refused(root, "coco.json")


def test_without_pycocotools_one_line_says_how_to_install_it(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    write(root / "coco.json", content(outline(SQUARE)))
    assert "pip install 'deeplab_fast[labels]'" in refused(root, "coco.json")


def test_a_size_that_is_not_the_images_is_refused(root):
    make_image(root / "images/a.jpg", HEIGHT, WIDTH + 1)
    write(root / "coco.json", content())
    assert "a.jpg: 160x120 pixels; expected 161x120 as its image" in refused(root, "coco.json")


def test_a_label_of_the_image_as_it_is_stored_is_refused_until_that_is_asked_for(root):
    make_image(root / "images/a.jpg", orientation=6)
    write(root / "coco.json", content(outline(SQUARE)))
    said = refused(root, "coco.json")
    assert (
        "expected 120x160 as its image after EXIF orientation 6; it fits the image as it is stored: --exif=ignore"
        in said
    )
    assert convert(root, "coco.json", "--exif=ignore")["a"].shape == (HEIGHT, WIDTH)


def test_damaged_json_gives_a_result_or_one_line(root):
    encoded = coco_mask.encode(np.asfortranarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8)))["counts"].decode()
    write(root / "coco.json", content(outline(STAR, SQUARE), runs(encoded), outline(OVER, category=7)))
    data = (root / "coco.json").read_bytes()
    found = [survives(root, "coco.json", damaged(data, seed)) for seed in range(240)]
    assert any(found)
    assert not all(found)
