"""The page of an evaluation: one file, nothing from elsewhere, nothing unescaped, no other page lost."""

import os
import re

import pytest

from deeplab_fast.errors import UserError
from deeplab_fast.report.evaluation import evaluation_of
from deeplab_fast.report.page import write_page
from tests.report.pages import HOSTILE, Reader, evaluation_page, record_of


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return evaluation_page(tmp_path_factory.mktemp("one") / "a folder ü").read_text(encoding="utf-8")


def test_it_parses_and_refers_to_nothing_outside(page):
    reader = Reader(page)
    named = [v for _, name, v in reader.attributes if name in ("src", "href", "srcset", "action", "data", "poster")]
    assert len(named) > 20
    assert [v[:40] for v in named if not v.startswith(("data:", "#"))] == []
    assert re.findall(r"https?://|url\(|@import", page) == []
    ids = [v for _, name, v in reader.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    assert {v[1:] for v in named if v.startswith("#")} == set(ids)
    assert len(page) < 500_000


def test_names_are_text_whatever_they_hold(page):
    reader = Reader(page)
    assert len(reader.texts("script")) == 1
    shown = "".join(reader.texts("th"))
    assert all(name in shown for name in HOSTILE)
    assert "49" not in shown


def test_figures_come_with_their_protocol(page):
    shown = dict(zip((t for t in Reader(page).texts("dt")), (t for t in Reader(page).texts("dd")), strict=True))
    assert shown["Mean IoU"] == "58.6%"  # of 80/105, 90/160 and 50/115
    assert shown["scales"] == "0.5, 1"
    assert shown["flip"] == "yes"
    assert shown["precision"] == "fp32"


def test_every_image_is_shown_once_with_truth_prediction_and_error(page):
    alts = [v for tag, name, v in Reader(page).attributes if (tag, name) == ("img", "alt")]
    assert len(alts) == len(set(alts)) == 4 * 6
    assert "Chosen among all images" in page


def test_the_same_evaluation_replaces_its_page_and_another_s_stays(tmp_path):
    folder = tmp_path / "r"
    first = evaluation_page(folder)
    before = first.read_bytes()
    assert evaluation_page(folder) == first
    assert evaluation_page(folder, metrics="metrics-other-<val>.json").name == "report-2.html"
    assert evaluation_page(folder, metrics="metrics-other-<val>.json").name == "report-2.html"
    assert first.read_bytes() == before
    first.write_text("mine")
    assert evaluation_page(folder).name == "report-3.html"
    assert first.read_text() == "mine"


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    evaluation_page(tmp_path / "r")
    os.rename(tmp_path / "r", tmp_path / "gone")
    with pytest.raises(UserError, match=r"report\.html: cannot be written"):
        write_page(tmp_path / "r" / "report.html", "x")


@pytest.mark.parametrize("matrix", [[[1, 2]], [[1, 2], [3, -4]], [[1.5, 0], [0, 1]], []])
def test_a_matrix_that_does_not_fit_is_refused(matrix):
    with pytest.raises(ValueError, match=r"confusion matrix|shape"):
        evaluation_of(record_of("ab", matrix), None)


def test_one_class_alone_has_no_miou_and_says_why():
    evaluation = evaluation_of(record_of("ab", [[5, 1], [0, 0]], skipped=["x.jpg: broken"]), None)
    assert (evaluation.miou, evaluation.no_miou) == (None, "the truth holds one class only")
    nothing = evaluation_of(record_of("ab", [[0, 0], [0, 0]]), None)
    assert (nothing.pixel_accuracy, nothing.mean_accuracy, nothing.heat_map.names) == (0, None, ())


def test_skipped_images_are_named(tmp_path):
    text = evaluation_page(tmp_path / "r", skipped=["<b>.jpg: cannot be decoded"]).read_text()
    assert "&lt;b&gt;.jpg: cannot be decoded" in text
