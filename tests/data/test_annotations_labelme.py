"""labelme's shapes become index maps as its converter has them: Pillow's outlines, theirs included."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

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

STAR = [[80, 5], [100, 50], [150, 60], [105, 75], [120, 115], [80, 85], [30.5, 110.25], [60, 70], [10, 55], [62, 48]]
OVER = [[-500, 60], [90, -400], [700, 1000], [60, 130]]
FAR = [[-5e7, 60], [90, -4e7], [7e7, 1e8], [60, 130]]


def shape(label, points, kind="polygon"):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}}


def described(*shapes, height=HEIGHT, width=WIDTH):
    return {
        "version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": "..\\images\\a.jpg", "imageData": None,
        "imageHeight": height, "imageWidth": width,
    }  # fmt: skip


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two images; the second, in a subfolder, has a JSON without shapes."""
    without_sheet(monkeypatch)
    for name in ("a.jpg", "deep/b.png"):
        make_image(tmp_path / "images" / name)
    write(tmp_path / "json/deep/b.json", described())
    return tmp_path


def converted(root, *shapes, flags=()):
    write(root / "json/a.json", described(*shapes))
    return convert(root, "json", *flags)


def test_polygons_are_those_of_pillow_and_of_their_definition(root):
    found = converted(root, shape("cat", STAR))
    picture = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(picture).polygon([tuple(point) for point in STAR], outline=1, fill=1)
    assert np.array_equal(found["a"], np.asarray(picture))
    clear = ~near(STAR, at=0, limit=1)
    assert clear.mean() > 0.9
    assert np.array_equal(found["a"][clear], inside(STAR, at=0)[clear])
    assert not found["deep/b"].any()
    assert names(root) == ["background", "cat"]


def test_polygons_are_cut_at_the_image(root):
    picture = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(picture).polygon([tuple(point) for point in OVER], outline=1, fill=1)
    assert np.array_equal(converted(root, shape("cat", OVER))["a"], np.asarray(picture))
    assert agreement(converted(root, shape("cat", FAR))["a"], inside(FAR, at=0)) >= 0.99
    assert not converted(root, shape("cat", [[1e8, 0], [1e9, 0], [1e9, 5]]))["a"].any()


def test_rectangles_and_circles(root):
    found = converted(
        root, shape("cat", [[60.7, 50], [20, 10.2]], "rectangle"), shape("dog", [[100, 60], [100, 90]], "circle")
    )
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    expected = ((x >= 20) & (x <= 60) & (y >= 10) & (y <= 50)).astype(np.uint8)
    away = np.hypot(x - 100, y - 60)
    expected[away <= 30] = 2
    clear = abs(away - 30) > 1  # Pillow's circles are half a pixel larger, their edge included
    assert np.array_equal(found["a"][clear], expected[clear])
    picture = Image.new("L", (WIDTH, HEIGHT))
    ImageDraw.Draw(picture).rectangle([20, 10, 60, 50], fill=1)
    ImageDraw.Draw(picture).ellipse([70, 30, 130, 90], fill=2)
    assert np.array_equal(found["a"], np.asarray(picture))


def test_shapes_over_the_edge(root):
    found = converted(
        root, shape("cat", [[-50, -9], [3, 4]], "rectangle"), shape("dog", [[-5e4, 0], [0, 6e4]], "circle")
    )
    assert found["a"].all()
    found = converted(
        root, shape("cat", [[-50, -9], [-3, -4]], "rectangle"), shape("cat", [[900, 0], [901, 5]], "rectangle")
    )
    assert not found["a"].any()


def test_labelmes_own_labels_and_the_order_of_the_shapes(root):
    square, hole, edge = [[9, 9], [90, 9], [90, 90], [9, 90]], [[20, 20], [30, 30]], [[40, 40], [50, 50]]
    found = converted(
        root, shape("zebra", square), shape("_background_", hole, "rectangle"), shape("__ignore__", edge, "rectangle"),
        shape("ape", [[60, 60], [70, 70]], "rectangle"),
    )["a"]  # fmt: skip
    assert (found[15, 15], found[25, 25], found[45, 45], found[65, 65]) == (2, 0, 255, 1)
    assert names(root) == ["_background_", "ape", "zebra"]


@pytest.mark.parametrize("as_file", [False, True])
def test_classes_may_be_given(root, as_file):
    given = ["__ignore__", "_background_", "zebra", "cat"]
    write(root / "names.txt", "\r\n".join(given))
    flag = f"--classes={root / 'names.txt' if as_file else ','.join(given)}"
    found = converted(root, shape("cat", STAR), flags=[flag])
    assert set(np.unique(found["a"])) == {0, 2}
    assert names(root) == ["_background_", "zebra", "cat"]
    said = refused(root, "json", "--classes=zebra")
    assert "a.json: shape 0: label 'cat' is no class; expected one of background, zebra (--classes)" in said


def test_json_beside_the_images(root):
    for name in ("a", "deep/b"):
        write(root / f"images/{name}.json", described(shape("cat", STAR)))
    assert convert(root, "images")["deep/b"].any()


def test_shapes_without_an_area_are_refused_or_left_out(root):
    line = shape("lane", [[0, 0], [9, 9]], "linestrip")
    write(root / "json/a.json", described(shape("cat", STAR), line))
    said = refused(root, "json")
    assert "a.json: shape 1 ('lane'): shape type 'linestrip'; expected polygon, rectangle, circle" in said
    convert(root, "json", "--unsupported=skip")
    assert json.loads((root / "counts.json").read_text())["left_out"] == {"shape of type linestrip": 1}


def test_a_kind_of_shape_that_cannot_be_written_is_counted_all_the_same(root, capsys):
    converted(root, shape("cat", STAR), shape("cat", STAR, "half \ud800"), flags=["--unsupported=skip"])
    assert json.loads((root / "counts.json").read_text())["left_out"] == {r"shape of type 'half \ud800'": 1}
    capsys.readouterr().out.encode()
    assert names(root) == ["background", "cat"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (described(shape("cat", [[1, 2], [3, 4]])), "shape 0 ('cat'): 2 points; expected at least 3"),
        (described(shape("cat", [[1, 2], [3, "x"], [5, 6]])), "shape 0 ('cat'): coordinates that are no numbers"),
        (described(shape("cat", [[1, 2], [3], [5, 6]])), "shape 0 ('cat'): coordinates that are no numbers"),
        (described(shape("cat", [[1, 2, 3], [3, 4, 5], [5, 6, 7]])), "coordinates that are no pairs"),
        (described(shape("cat", [[], []], "circle")), "shape 0 ('cat'): coordinates that are no pairs"),
        (described(shape("cat", [[], [], []])), "shape 0 ('cat'): coordinates that are no pairs"),
        (described(shape("cat", [])), "shape 0 ('cat'): 0 points; expected at least 3"),
        (described(shape("cat", [[1, 2], [3, float("nan")], [5, 6]])), "shape 0 ('cat'): coordinate nan"),
        (described(shape("cat", [[1, 2]], "circle")), "shape 0 ('cat'): 1 point; expected at least 2"),
        (described(shape("cat", [[1, 2], [1, 1e6]], "circle")), "radius 999998; expected at most 100000"),
        (described(shape(5, STAR)), "shape 0: 'label': 5; expected text"),
        (described(shape("a\nb", STAR)), "class name 'a\\nb'; expected text on one line"),
        (described(height=HEIGHT + 1), "160x121 pixels; expected 160x120 as its image"),
        (described(height="x"), "'imageHeight': 'x'; expected a whole number"),
        ({"images": []}, "'shapes': missing; expected a list"),
    ],
)
def test_a_bad_file_is_named(root, content, said):
    write(root / "json/a.json", content)
    error = refused(root, "json")
    assert said in error
    assert "\n" not in error


def test_an_image_without_json_is_refused_made_background_or_left_out(root):
    make_image(root / "images/c.jpg")
    write(root / "json/a.json", described(shape("cat", STAR)))
    assert "1 of 3 images have no label: c.jpg; --unlabelled=background" in refused(root, "json")
    assert convert(root, "json", "--unlabelled=background").keys() == {"a", "c", "deep/b"}


def test_damaged_json_gives_a_result_or_one_line(root):
    write(
        root / "json/a.json",
        described(shape("cat", STAR), shape("dog", [[9, 9], [50, 50]], "circle"), shape("x", OVER)),
    )
    data = (root / "json/a.json").read_bytes()
    found = [survives(root, "json", damaged(data, seed), "json/a.json") for seed in range(240)]
    assert any(found)
    assert not all(found)
