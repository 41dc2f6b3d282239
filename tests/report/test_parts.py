"""Parts of a page: charts, tables, the choice of images, their pictures."""

import logging
import math

import numpy as np
import pytest
from PIL import Image

from deeplab_fast.report.chart import MOST_POINTS, Series, line_chart, running_mean, short, thinned, ticks
from deeplab_fast.report.curves import compared_charts
from deeplab_fast.report.gallery import as_gallery, as_record, gallery_of
from deeplab_fast.report.page import NONE, duration, flag_text, percent
from deeplab_fast.report.per_class import class_rows, heat_map
from deeplab_fast.report.pictures import IGNORED, WRONG, error_picture, picture_of
from deeplab_fast.report.ranking import image_miou, score_images, worst_and_best
from deeplab_fast.report.runs import read_run
from tests.report.pages import subject_of, write_run


def test_the_worst_and_best_share_no_image():
    scores = {3: 0.5, 1: 0.1, 2: math.nan, 0: 0.9, 7: 0.1}
    assert worst_and_best(scores, 2) == ([1, 7], [0, 3])
    assert worst_and_best({5: 0.3, 6: 0.2, 7: 0.1}, 6) == ([7, 6], [5])
    assert worst_and_best({4: 1.0}, 6) == ([4], [])
    assert worst_and_best({}, 6) == ([], [])


def test_an_image_s_score_is_over_the_classes_that_it_holds():
    assert image_miou(np.array([[6, 2, 0], [0, 0, 0], [0, 0, 4]])) == pytest.approx((6 / 8 + 0 + 1) / 3)
    assert image_miou(np.array([[9, 0], [0, 0]])) == 1
    assert math.isnan(image_miou(np.zeros((2, 2), np.int64)))


def test_images_are_scored_over_the_whole_set_and_a_broken_one_is_left_out(tmp_path, caplog):
    subject = subject_of(tmp_path)
    subject.model.train()
    assert sorted(score_images(subject, 3)) == [0, 2, 5]
    (tmp_path / "images/02.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        scores = score_images(subject, 100)
    assert sorted(scores) == [0, 1, 3, 4, 5]
    assert "02.jpg" in caplog.text
    assert subject.model.training


def test_known_scores_choose_the_images_and_a_gallery_comes_back_from_json(tmp_path):
    subject = subject_of(tmp_path)
    gallery = gallery_of(subject, {0: 0.4, 1: 0.1, 2: 0.8}, "last weights")
    assert [p.key for p in gallery.worst] == ["01", "00"]
    assert [p.key for p in gallery.best] == ["02"]
    assert (gallery.scored, gallery.total) == (3, 6)
    assert as_gallery(as_record(gallery)) == gallery
    for damage in ({"worst": 1}, {"names": ["a"]}, {"best": [{"key": "x"}]}, {"scored": None}):
        with pytest.raises(ValueError, match=r"."):
            as_gallery(as_record(gallery) | damage)


def test_errors_are_coloured_and_ignored_pixels_grey():
    truth, found = np.array([[0, 1, 255]], np.uint8), np.array([[0, 2, 1]], np.uint8)
    picture = np.asarray(error_picture(Image.new("RGB", (3, 1), "white"), truth, found, 255))
    assert [tuple(pixel) for pixel in picture[0]] == [(107, 107, 107), WRONG, IGNORED]


def test_a_picture_of_a_very_wide_image(tmp_path):
    subject = subject_of(tmp_path)
    Image.new("RGB", (2000, 2), "red").save(tmp_path / "images/00.jpg")
    Image.new("L", (2000, 2), 0).save(tmp_path / "labels/00.png")
    picture = picture_of(subject, 0)
    assert (picture.width, picture.height, picture.classes) == (400, 1, (0,))


def test_a_class_s_figures():
    rows = class_rows(np.array([[80, 20, 0, 0], [10, 10, 20, 0], [0, 0, 0, 0], [0, 0, 0, 0]]), "abcd")
    first, second, third, absent = rows
    assert (first.iou, first.precision, first.recall) == pytest.approx((80 / 110, 80 / 90, 0.8))
    assert (first.share, first.mistaken_for, first.mistaken) == pytest.approx((100 / 140, "b", 0.2))
    assert (second.mistaken_for, second.mistaken) == ("c", 0.5)
    assert (third.iou, third.precision, third.recall, third.mistaken_for) == (0, 0, None, "")
    assert (absent.iou, absent.precision, absent.share) == (None, None, 0)


def test_the_heat_map_has_the_rows_shares_of_classes_that_occur():
    found = heat_map(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]]), ["a", "b", "c"])
    assert (found.names, found.absent) == (("a", "b"), 1)
    assert [(c.row, c.column, c.share, c.pixels) for c in found.cells] == [(0, 0, 0.75, 3), (0, 1, 0.25, 1)]


def test_of_nine_runs_each_has_a_colour_of_the_style_sheet(tmp_path):
    runs = [read_run(write_run(tmp_path / str(i))) for i in range(9)]
    for chart in compared_charts(runs, [run.folder.name for run in runs]):
        assert [line.colour for line in chart.lines] == [*range(8), 0]


def test_the_heat_map_of_many_classes_stays_small():
    assert len(heat_map(np.ones((256, 256), np.int64) + 999 * np.eye(256, dtype=np.int64), ["x"] * 256).cells) < 70_000
    assert heat_map(np.eye(256, dtype=np.int64), ["x"] * 256).side == 4


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.00037), (0, 40), (0, 1e7), (5, 5.5), (0, 3.2)])
def test_ticks_are_few_round_and_reach_the_end(low, high):
    found = ticks(low, high)
    assert 3 <= len(found) <= 6
    assert found[-1] >= high * (1 - 1e-9)
    assert found[0] == pytest.approx(low, abs=(high - low) / 3)


def test_a_chart_of_many_steps_keeps_its_spikes_and_leaves_out_what_is_no_number():
    points = [(float(i), 1.0) for i in range(100_000)]
    points[50_000], points[7] = (50_000.0, 9.0), (7.0, math.nan)
    found = thinned(points)
    assert len(found) <= MOST_POINTS + 2
    assert (50_000.0, 9.0) in found
    assert found == sorted(found)


def test_a_chart_of_one_point_or_of_none():
    chart = line_chart("t", "n", [Series("a", [(40, 0.0)]), Series("b", [])])
    assert [line.label for line in chart.lines] == ["a"]
    assert line_chart("t", "n", [Series("a", [])]) is None
    assert line_chart("t", "n", [Series("a", [(1, math.nan)])]) is None


def test_a_running_mean():
    assert running_mean([(1, 1.0), (2, 3.0), (3, 8.0)], 2) == [(2, 2.0), (3, 5.5)]


def test_words():
    assert [short(v) for v in (0, 0.015, 9999, 12_000, 1.5e6)] == ["0", "0.015", "9999", "12k", "1.5M"]
    assert [duration(v) for v in (None, 4.25, 200, 7500)] == [NONE, "4.2 s", "3 min 20 s", "2 h 05 min"]
    assert (percent(None), percent(math.nan), percent(0.7125)) == (NONE, NONE, "71.2%")
    assert [flag_text(v) for v in ([1, 2.5], "", None, True, 0.02)] == ["1,2.5", NONE, NONE, "True", "0.02"]
