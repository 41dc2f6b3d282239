"""Means, deviations, ratios, and what the page says of them."""

import json

import pytest

from deeplab_fast.compare.config import CompareConfig
from deeplab_fast.compare.page import write_page
from deeplab_fast.compare.summary import Spread, summarise


def result(who, seed, miou, seconds=10.0, **more):
    return {
        **{"implementation": who, "seed": seed, "miou": miou, "pixel_accuracy": 0.5, "seconds": seconds},
        **{"images_per_s": 80 / seconds, "cpu_seconds": 2 * seconds, "peak_memory_mb": 500.0, "steps": 10},
        **{"images_seen": 80, "loss": 1.0},
        "environment": {"device": "a CPU", "commit": "abc", "date": "2026-01-01", "torch": "2"},
        "training": {"precision": "fp32", "min_scale": 0.25, "max_scale": 1.0, "interpolation": "bicubic"},
        **({"networks_differ_by": 1e-6} if who == "reference" else {}),
        **more,
    }


def both(ours, reference, **more):
    sides = (("ours", ours), ("reference", reference))
    return [result(who, seed, miou, **more) for who, side in sides for seed, miou in enumerate(side, 1)]


def test_means_and_deviations_are_of_the_seeds():
    summary = summarise(both([0.1, 0.2, 0.3], [0.2, 0.2, 0.2]))
    assert summary.ours["miou"].mean == pytest.approx(0.2)
    assert summary.ours["miou"].deviation == pytest.approx(0.1)
    assert summary.miou_difference == pytest.approx(0)
    assert summary.miou_spread == pytest.approx(0.1 / 3**0.5)  # of the difference of two means of three
    assert summary.ratios["seconds"] == 1


@pytest.mark.parametrize(
    ("ours", "reference", "words"),
    [
        ([0.30, 0.32], [0.30, 0.32], "+0.00 points, within two standard deviations (2.83)"),
        ([0.40, 0.42], [0.30, 0.32], "+10.00 points, beyond two"),
        ([0.20, 0.22], [0.30, 0.32], "-10.00 points, beyond two"),
        ([0.3], [0.2], "+10.00 points; of one seed, which says little"),
        ([None, None], [None, None], "There is no mIoU"),
    ],
)
def test_the_verdict_says_what_the_spread_allows(ours, reference, words):
    assert words in summarise(both(ours, reference)).verdict


def test_a_ratio_is_ours_over_theirs():
    runs = [result("ours", 1, 0.3, seconds=5.0), result("reference", 1, 0.3, seconds=10.0)]
    found = summarise(runs).ratios
    assert (found["seconds"], found["images_per_s"]) == (0.5, 2.0)
    assert summarise(runs).ours["seconds"] == Spread(5.0, None)


@pytest.mark.parametrize("mious", [([0.1, 0.2], [0.2, 0.2]), ([0.1], [0.2]), ([None], [None])])
def test_the_page_has_a_line_for_each_run_and_says_where(mious, tmp_path):
    runs = both(*mious)
    page = write_page(tmp_path, CompareConfig(num_workers=3), runs, (290, 110))
    assert page == (tmp_path / "compare.md").read_text()
    assert page.count("\n| ours | ") + page.count("\n| torchvision's reference | ") == len(runs)
    for words in ("290 images, 110 held out", "a CPU; torch 2; commit abc; 2026-01-01", "3 loading processes"):
        assert words in page
    assert page.count("not defined") == (4 if None in mious[0] else 0)
    record = json.loads((tmp_path / "compare.json").read_text())
    assert len(record["runs"]) == len(runs)
    assert record["summary"]["ours"]["seconds"][0] == 10
    assert (tmp_path / "compare.svg").read_text().startswith("<?xml")


def test_a_page_names_every_commit_and_what_was_changed(tmp_path):
    runs = both([0.1], [0.2])
    runs[1]["environment"] = runs[1]["environment"] | {"commit": "def", "dirty": True}
    assert "commit abc, def with changes;" in write_page(tmp_path, CompareConfig(), runs, (1, 1))
