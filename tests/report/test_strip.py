"""The picture of a few samples for trackers."""

import numpy as np
import pytest

from deeplab_fast.report.pictures import class_colours
from deeplab_fast.report.strip import spread, strip_of
from tests.report.pages import subject_of


@pytest.mark.parametrize(("count", "indexes"), [(1, [0]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (100, [0, 33, 66, 99])])
def test_samples_are_spread(count, indexes):
    assert spread(count) == indexes


def test_rows_hold_image_truth_and_prediction(tmp_path):
    subject = subject_of(tmp_path)
    subject.model.train()
    picture = strip_of(subject, [0, 2])
    assert subject.model.training
    assert (picture.dtype, picture.shape[2]) == (np.uint8, 3)
    image, truth = subject.sample(2)
    height, width = truth.shape
    panels = [picture[196 : 196 + height, 196 * k : 196 * k + width] for k in range(3)]
    colours = class_colours(255)
    subject.model.eval()
    for panel, expected in zip(
        panels, (image, colours[truth], colours[subject.predict(image, truth.shape)]), strict=True
    ):
        assert np.array_equal(panel, expected)
    assert (picture[height:196] == 255).all()


def test_a_broken_sample_leaves_its_row_white(tmp_path):
    subject = subject_of(tmp_path)
    (tmp_path / "images/00.jpg").write_bytes(b"no picture")
    picture = strip_of(subject, [0, 1])
    assert (picture[:192] == 255).all()
    assert (picture[196:] != 255).any()
