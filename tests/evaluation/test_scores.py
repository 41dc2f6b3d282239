"""Scores of classes, images and boundaries, and the interval of the mIoU, against scikit-learn and plain loops."""

import json
import threading

import cv2
import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from deeplab_fast.distributed import World
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.bootstrap import miou_interval, resampled_mious
from deeplab_fast.evaluation.boundary import boundary_counts, width_of
from deeplab_fast.evaluation.metrics import Scores
from deeplab_fast.evaluation.metrics_file import deliver, write_metrics
from deeplab_fast.evaluation.per_image import ImageCounts
from deeplab_fast.evaluation.settings import Settings
from deeplab_fast.evaluation.table import table_of
from deeplab_fast.evaluation.tally import Tally

CPU = torch.device("cpu")
CLASSES = 5


def labelled(seed, count=12, size=(30, 40)):
    """Truths in patches of three of five classes each, some ignored, and predictions that are mostly right."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(count):
        cells = rng.choice(rng.permutation(CLASSES)[:3], (3, 4)).astype(np.uint8)
        truth = np.kron(cells, np.ones((size[0] // 3, size[1] // 4), np.uint8))
        wrong = np.kron(rng.random((6, 8)) < 0.2, np.ones((size[0] // 6, size[1] // 8), bool))
        found.append(np.where(wrong, rng.integers(CLASSES), truth).astype(np.uint8))
        truth[:, 9:11] = 255
        truths.append(truth)
    return truths, found


def tallied(truths, found, world=None, share=slice(None), boundary=True, skip=()):
    settings = Settings(CLASSES, 255, CPU, 4, world=world or World(), per_image=True, boundary=boundary)
    tally = Tally(settings)
    numbers = [i for i in range(len(truths))[share] if i not in skip]
    for begin in range(0, len(numbers), 4):
        part = numbers[begin : begin + 4]
        tally.add(part, [truths[i] for i in part], [torch.from_numpy(found[i]) for i in part])
    return tally.scores(len(truths), ())


def test_scores_of_classes_equal_scikit_learn_s():
    truths, found = labelled(0)
    scores = tallied(truths, found)
    truth, prediction = (np.concatenate([a.ravel() for a in arrays]) for arrays in (truths, found))
    truth, prediction = truth[truth != 255], prediction[truth != 255]
    given = {"labels": range(CLASSES), "average": None}
    assert scores.precision == pytest.approx(precision_score(truth, prediction, **given))
    assert scores.recall == pytest.approx(recall_score(truth, prediction, **given))
    assert scores.dice == pytest.approx(f1_score(truth, prediction, **given))
    assert scores.mean_accuracy == pytest.approx(recall_score(truth, prediction, average="macro"))
    assert scores.frequency_weighted_iou == pytest.approx(jaccard_score(truth, prediction, average="weighted"))


def test_scores_of_images_equal_scikit_learn_s():
    truths, found = labelled(1)
    images = tallied(truths, found).per_image
    assert images.samples.tolist() == list(range(12))
    for i, (truth, prediction) in enumerate(zip(truths, found, strict=True)):
        valid = truth != 255
        assert images.miou[i] == pytest.approx(jaccard_score(truth[valid], prediction[valid], average="macro"))
        assert images.pixel_accuracy[i] == pytest.approx((truth == prediction)[valid].mean())
        assert images.labelled[i] == valid.sum()


def test_an_image_without_labelled_pixels_has_no_scores():
    truths, found = labelled(2, count=3)
    truths[1][:] = 255
    images = tallied(truths, found).per_image
    assert np.isnan(images.miou).tolist() == [False, True, False]
    assert np.isnan(images.pixel_accuracy).tolist() == [False, True, False]
    assert images.labelled[1] == 0


def test_counts_of_images_take_little_memory():
    rng = np.random.default_rng(0)
    matrices = np.zeros((1000, 150, 150), np.int64)
    for matrix in matrices:
        some = rng.integers(150, size=5)
        matrix[some, some] = 1000
    images = ImageCounts.of(range(1000), matrices)
    assert sum(a.nbytes for a in (images.samples, images.starts, images.classes, images.pixels)) <= 90 * 1000


def plain_boundary(mask):
    """The paper's: what 3 x 3 erosions take away from a mask, the outside being none of it."""
    height, width = mask.shape
    times = max(1, round(0.02 * np.sqrt(height**2 + width**2)))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return mask & ~cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=times)[1:-1, 1:-1].astype(bool)


@pytest.mark.parametrize("size", [(60, 80), (300, 200), (12, 8)])
def test_boundaries_equal_the_paper_s(size):
    truths, found = labelled(3, count=6, size=size)
    for truth, prediction in zip(truths, found, strict=True):
        counts = boundary_counts(truth, prediction, CLASSES, 255)
        valid = truth != 255
        for c in range(CLASSES):
            a, b = plain_boundary((truth == c) & valid), plain_boundary((prediction == c) & valid)
            assert counts[c].tolist() == [(a & b).sum(), a.sum(), b.sum()]


def test_the_boundary_of_a_perfect_prediction_is_1_whatever_it_says_where_the_truth_is_ignored():
    truths, _ = labelled(4)
    guessed = [np.where(truth == 255, 2, truth).astype(np.uint8) for truth in truths]
    scores = tallied(truths, guessed)
    assert (scores.boundary_iou == 1).all()
    shifted = tallied(truths, [np.roll(g, 2, axis=1) for g in guessed])
    assert (shifted.boundary_iou < shifted.iou).all()


def test_the_boundary_s_width_is_2_percent_of_the_diagonal():
    assert (width_of(375, 500), width_of(10, 10)) == (12, 1)


def test_resamples_equal_a_plain_loop_s():
    truths, found = labelled(5)
    images = tallied(truths, found, boundary=False).per_image
    matrices = [tallied([t], [f], boundary=False).confusion for t, f in zip(truths, found, strict=True)]
    draws = np.random.default_rng(7).integers(12, size=(50, 12))
    expected = [Scores(sum(matrices[i] for i in drawn)).miou for drawn in draws]
    assert resampled_mious(images, CLASSES, 50, 7) == pytest.approx(expected)


def test_the_interval_is_seeded_and_holds_the_miou():
    truths, found = labelled(6, count=60)
    scores = tallied(truths, found, boundary=False)
    interval = scores.interval
    assert interval == miou_interval(scores.per_image, CLASSES)
    assert interval != miou_interval(scores.per_image, CLASSES, seed=1)
    assert interval.low < scores.miou < interval.high
    assert (interval.resamples, interval.seed, interval.level) == (1000, 0, 0.95)
    assert f"mIoU {scores.miou:.4f} (95 % {interval.low:.4f}-{interval.high:.4f})" in table_of(scores, list("abcde"))


def test_the_interval_covers_what_other_images_give():
    """Most of forty sets of the same kind have the long run's mIoU in their interval."""
    everything = tallied(*labelled(100, count=1200), boundary=False).miou
    sets = [tallied(*labelled(seed, count=40), boundary=False).interval for seed in range(40)]
    assert 32 <= sum(s.low <= everything <= s.high for s in sets) <= 40
    assert max(s.high - s.low for s in sets) < 0.2


def test_one_image_has_no_interval():
    truths, found = labelled(8, count=1)
    scores = tallied(truths, found)
    assert scores.interval is None
    assert "95 %" not in table_of(scores, list("abcde"))


def test_processes_together_count_what_one_does():
    truths, found = labelled(9, count=11)
    alone = tallied(truths, found, skip=(4,))
    meet, given = threading.Barrier(3), {}

    class Thread(World):
        def gather(self, value):
            turn = given.setdefault(threading.get_ident(), [])
            turn.append((self.rank, value))
            meet.wait(30)
            everyone = sorted((parts[len(turn) - 1] for parts in list(given.values())), key=lambda part: part[0])
            meet.wait(30)
            return [value for _, value in everyone]

        def sum(self, tensor):
            return sum(self.gather(tensor.clone()))

    results = {}

    def work(rank):
        results[rank] = tallied(truths, found, Thread(rank, 3), slice(rank, None, 3), skip=(4,))

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for scores in results.values():
        assert np.array_equal(scores.confusion, alone.confusion)
        assert np.array_equal(scores.boundary, alone.boundary)
        assert np.array_equal(scores.per_image.samples, alone.per_image.samples)
        assert np.array_equal(scores.per_image.miou, alone.per_image.miou)
        assert scores.interval == alone.interval
    assert len(results) == 3


def test_the_images_file_replaces_none_that_is_not_its_own(tmp_path):
    (tmp_path / "metrics-a-images.csv").write_text("mine")
    for _ in range(2):
        deliver("table", tmp_path, "metrics-a", {"provenance": {"weights": "x"}}, [(0, "a, ü", "", "0.5", 3)])
    assert (tmp_path / "metrics-a-images.csv").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "metrics-a-2-images.csv",
        "metrics-a-2.json",
        "metrics-a-images.csv",
    ]
    assert (tmp_path / "metrics-a-2-images.csv").read_text("utf-8").splitlines()[1] == '0,"a, ü",,0.5,3'
    assert json.loads((tmp_path / "metrics-a-2.json").read_text())["images_file"] == "metrics-a-2-images.csv"


def test_the_metrics_are_there_where_the_images_file_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("deeplab_fast.evaluation.metrics_file.write_images", lambda path, rows: refuse(path))

    def refuse(path):
        raise UserError(f"{path}: cannot be written (No space left on device)")

    with pytest.raises(UserError, match="figures are printed above"):
        deliver("table", tmp_path, "metrics-a", {"provenance": {"weights": "x"}}, [])
    assert (tmp_path / "metrics-a.json").exists()
    path = write_metrics(tmp_path, "metrics-a", {"provenance": {"weights": "x"}})
    assert path == tmp_path / "metrics-a.json"
