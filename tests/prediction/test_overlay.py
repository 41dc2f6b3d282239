"""Classes over an image: what stays clear, where outlines are, the legend."""

import numpy as np
import pytest
from PIL import Image

from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.palette import palette
from deeplab_fast.prediction.overlay import Style, draw_overlay, outlines
from deeplab_fast.prediction.segmentation import Segmentation

NAMES = ["ground", "Bäume", "海"]


@pytest.fixture
def classes():
    found = np.zeros((20, 30), np.uint8)
    found[4:16, 5:20] = 1
    found[8:12, 15:25] = 2
    return found


def by_pixel(classes, thickness):
    """Outlines by their definition: another class within so many steps along rows and columns."""
    height, width = classes.shape
    near = np.zeros(classes.shape, bool)
    for y in range(height):
        for x in range(width):
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                if 0 <= y + dy < height and 0 <= x + dx < width and classes[y, x] != classes[y + dy, x + dx]:
                    near[y, x] = True
    edge = near.copy()
    for y, x in np.argwhere(near):
        for dy in range(-thickness + 1, thickness):
            for dx in range(-thickness + 1, thickness):
                if abs(dy) + abs(dx) < thickness and 0 <= y + dy < height and 0 <= x + dx < width:
                    edge[y + dy, x + dx] = True
    return edge & (classes != 0)


@pytest.mark.parametrize("thickness", [1, 2, 3])
def test_outlines_are_the_pixels_near_another_class(classes, thickness):
    assert np.array_equal(outlines(classes, thickness), by_pixel(classes, thickness))


def test_outlines_of_the_smallest_images():
    for shape in ((1, 1), (1, 5), (5, 1)):
        assert not outlines(np.ones(shape, np.uint8), 2).any()


def test_class_0_stays_clear_and_edges_have_their_colour(classes):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    colours = palette()
    found = np.asarray(draw_overlay(image, classes, colours, NAMES, Style(0.5)))
    edge = outlines(classes, 1)
    assert np.array_equal(found[classes == 0], image[classes == 0])
    assert np.array_equal(found[edge], colours[classes[edge]])
    inner = (classes != 0) & ~edge
    assert np.abs(found[inner].astype(int) - (image[inner].astype(int) + colours[classes[inner]]) / 2).max() <= 1
    plain = draw_overlay(image, classes, colours, NAMES, Style(0.5, clear=False, outlines=False))
    assert np.array_equal(plain, Image.blend(Image.fromarray(image), Image.fromarray(colours[classes]), 0.5))


@pytest.mark.parametrize("width", [1, 30, 400])
def test_the_legend_stands_below_the_picture(classes, width):
    classes = np.resize(classes, (20, width))
    image = np.full((20, width, 3), 120, np.uint8)
    style = Style(0.5, legend=True)
    whole = np.asarray(draw_overlay(image, classes, palette(), NAMES, style))
    alone = np.asarray(draw_overlay(image, classes, palette(), NAMES, Style(0.5)))
    assert whole.shape[0] > 20
    assert np.array_equal(whole[:20, :width], alone)
    below = {tuple(colour) for colour in whole[20:].reshape(-1, 3)}
    for index in np.unique(classes):
        assert tuple(palette()[index]) in below
    others = np.asarray(draw_overlay(image, classes, palette(), ["x", "y", "z"], style))
    assert whole.shape != others.shape or not np.array_equal(whole[20:], others[20:])  # the names are there


def test_an_opacity_out_of_range_is_refused(classes):
    result = Segmentation(classes, tuple(NAMES), np.zeros((20, 30, 3), np.uint8), palette(), None)
    with pytest.raises(UserError, match=r"opacity=1\.5: expected a number from 0 to 1"):
        result.overlay(1.5)


@pytest.mark.parametrize("thickness_of", [30, 3000])
def test_strips_give_the_picture_that_is_drawn_at_once(monkeypatch, thickness_of):
    """Strips of any height, with edges that reach from one into the next."""
    generator = np.random.default_rng(0)
    found = np.kron(generator.integers(0, 3, (12, 8)), np.ones((5, 7))).astype(np.uint8)
    image = generator.integers(0, 256, (*found.shape, 3), np.uint8)
    monkeypatch.setattr("deeplab_fast.prediction.overlay._LINES", max(found.shape) ** 2 / thickness_of)
    style = Style(0.4, clear=True, outlines=True, legend=True)
    whole = np.asarray(draw_overlay(image, found, palette(), NAMES, style))
    for pixels in (1, 150, 1000):
        monkeypatch.setattr("deeplab_fast.prediction.overlay._STRIP_PIXELS", pixels)
        assert np.array_equal(np.asarray(draw_overlay(image, found, palette(), NAMES, style)), whole)
