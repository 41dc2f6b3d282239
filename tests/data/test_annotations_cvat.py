"""CVAT's polygons, boxes and masks become index maps as its own export of masks has them."""

import json
import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.data.annotated import (
    HEIGHT,
    WIDTH,
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
META = "<meta><task><labels>{}</labels></task></meta>".format(
    "".join(f"<label><name>{name}</name><color>#00ff00</color></label>" for name in ("road", "car", "sign"))
)


def document(*shapes, meta=META, height=HEIGHT):
    image = f'<image id="0" name="a.jpg" width="{WIDTH}" height="{height}">{"".join(shapes)}</image>'
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{image}</annotations>'


def polygon(label, points=STAR, z=0):
    pairs = ";".join(f"{x},{y}" for x, y in np.reshape(points, (-1, 2)))
    return f'<polygon label="{label}" source="manual" occluded="0" points="{pairs}" z_order="{z}"></polygon>'


def box(label, corners, z=0, more=""):
    left, top, right, bottom = corners
    return f'<box label="{label}" xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}" z_order="{z}" {more}></box>'


def run_lengths(values):
    """Lengths of runs along the rows, of 0 first."""
    flat = values.ravel().astype(int)
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=1 - flat[-1]))
    return np.diff(edges, prepend=0).tolist()


def mask(label, values, left, top, z=0):
    height, width = values.shape
    rle = ", ".join(map(str, run_lengths(values)))
    place = f'left="{left}" top="{top}" width="{width}" height="{height}"'
    return f'<mask label="{label}" rle="{rle}" {place} z_order="{z}"></mask>'


@pytest.fixture
def root(tmp_path, monkeypatch):
    without_sheet(monkeypatch)
    make_image(tmp_path / "images/a.jpg")
    return tmp_path


def converted(root, *shapes, flags=(), **more):
    write(root / "cvat.xml", document(*shapes, **more))
    return convert(root, "cvat.xml", *flags)["a"]


def of_pycocotools(points):
    return coco_mask.decode(coco_mask.frPyObjects([list(map(float, np.ravel(points)))], HEIGHT, WIDTH))[:, :, 0] == 1


def test_polygons_are_those_of_pycocotools_and_of_their_definition(root):
    found = converted(root, polygon("car"))
    assert np.array_equal(found, 2 * of_pycocotools(STAR).astype(np.uint8))
    star = np.reshape(STAR, (-1, 2))
    far = ~near(star, limit=0.2)
    assert np.array_equal(found[far] == 2, inside(star)[far])
    assert names(root) == ["background", "road", "car", "sign"]


def test_boxes_and_turned_boxes(root):
    found = converted(root, box("road", (10, 20, 50, 40)))
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[20:40, 10:50] = 1
    assert np.array_equal(found, expected)
    found = converted(root, box("road", (40, 50, 120, 70), more='rotation="30.0"'))
    along, across = (
        np.array([math.cos(math.radians(a)), math.sin(math.radians(a))]) for a in (30, 120)
    )  # right and down, clockwise
    corners = [np.array([80, 60]) + i * 40 * along + j * 10 * across for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    far = ~near(corners, limit=0.2)
    assert np.array_equal(found[far] == 1, inside(corners)[far])


@pytest.mark.parametrize(("left", "top"), [(30, 25), (-20, -10), (140, 100), (500, 0)])
def test_masks_are_read_exactly_and_cut_at_the_image(root, left, top):
    values = np.random.default_rng(4).integers(0, 2, (40, 50)).astype(bool)
    whole = np.zeros((HEIGHT + 600, WIDTH + 600), np.uint8)
    whole[100 + top : 140 + top, 100 + left : 150 + left] = values
    assert np.array_equal(
        converted(root, mask("road", values, left, top)), whole[100 : 100 + HEIGHT, 100 : 100 + WIDTH]
    )


def test_z_order_decides_and_then_the_order_in_the_file(root):
    square = (10, 10, 60, 60)
    assert converted(root, box("car", square, z=1), box("road", square, z=0))[30, 30] == 2
    assert converted(root, box("car", square, z=-1), box("road", square, z=-1))[30, 30] == 1
    full = np.ones((20, 20), bool)
    assert converted(root, mask("sign", full, 20, 20, z=3), box("road", square, z=2))[30, 30] == 3


def test_shapes_without_an_area_are_refused_or_left_out(root):
    line = '<polyline label="road" points="1,2;3,4" z_order="0"></polyline>'
    write(root / "cvat.xml", document(line, line, box("car", (1, 1, 9, 9)), '<tag label="road"></tag>'))
    assert "a.jpg: <polyline> of 'road'; expected polygon, box, mask" in refused(root, "cvat.xml")
    assert convert(root, "cvat.xml", "--unsupported=skip")["a"].any()
    assert json.loads((root / "counts.json").read_text())["left_out"] == {"<polyline>": 2}


def test_without_a_list_of_labels_those_found_are_the_classes(root):
    converted(root, box("b", (1, 1, 9, 9)), box("a", (1, 1, 9, 9)), meta="")
    assert names(root) == ["background", "a", "b"]


ENTITY = '<!DOCTYPE a [<!ENTITY x "aaaa"><!ENTITY y "&x;&x;&x;">]>'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ENTITY + "<annotations>&y;</annotations>", "line 1: declares a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>', "line 1: declares a document type"),
        ("", "no XML (no element found"),
        ("<annotations><image></annotations>", "no XML (mismatched tag"),
        ("<annotation><object/></annotation>", "holds <annotation>; expected XML of 'CVAT for images 1.1'"),
        ("<annotations><track id='0'/></annotations>", "holds <track>: CVAT for video"),
        ("<annotations/>", "none of its 0 images is in"),
        ("<annotations><image name='a.jpg' width='x' height='2'/></annotations>", "<image> has width='x'"),
        ("<annotations><image width='1' height='2'/></annotations>", "<image> has no 'name'"),
        (document(height=HEIGHT + 1), "160x121 pixels; expected 160x120 as its image"),
        (
            document(box("plane", (1, 1, 2, 2))),
            "label 'plane' is no class; expected one of background, road, car, sign",
        ),
        (document(box("car", (1, 1, "nan", 2))), "<box> has xbr='nan'; expected a finite number"),
        (document(polygon("car", [1, 2, 3, 4])), "<polygon> of 'car': 2 points; expected at least 3"),
        (document(polygon("car", [1, 2, 3, math.inf, 5, 6])), "<polygon> of 'car': coordinate inf"),
        (document('<polygon label="car" points="1;2,x;3"/>'), "coordinates that are no numbers"),
        (document('<polygon points="1,2;2,3;3,3"/>'), "<polygon> has no 'label'"),
        (
            document('<mask label="car" rle="1,2" left="0" top="0" width="2" height="2"/>'),
            "runs of 3 pixels; expected 4",
        ),
        (document('<mask label="car" rle="1,x" left="0" top="0" width="2" height="2"/>'), "'rle' is no list of whole"),
        (
            document('<mask label="car" rle="1" left="0" top="0" width="99999" height="99999"/>'),
            "99999x99999 pixels at",
        ),
        (
            document('<mask label="car" rle="900000000" left="0" top="0" width="30000" height="30000"/>'),
            "a mask of 30000x30000 pixels; expected one in the image",
        ),
        (document(box("car", (1, 1, 2, 2)).replace('z_order="0"', 'z_order="0.5"')), "z_order=0.5; expected a whole"),
    ],
)
def test_a_bad_file_is_named(root, text, said):
    write(root / "cvat.xml", text)
    assert said in refused(root, "cvat.xml")
    assert not (root / "labels").exists()


def test_damaged_xml_gives_a_result_or_one_line(root):
    values = np.random.default_rng(4).integers(0, 2, (6, 9)).astype(bool)
    turned = box("road", (40, 50, 120, 70), more='rotation="30.0"')
    write(root / "cvat.xml", document(polygon("car"), turned, mask("sign", values, 3, 4)))
    data = (root / "cvat.xml").read_bytes()
    found = [survives(root, "cvat.xml", damaged(data, seed)) for seed in range(240)]
    assert any(found)
    assert not all(found)
