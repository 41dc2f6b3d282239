import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from deeplab_fast import ops
from deeplab_fast.evaluation.metrics import Scores
from deeplab_fast.evaluation.table import table_of


@pytest.mark.parametrize("present", [21, 5])
def test_against_scikit_learn(present):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, present, 5000)
    prediction = np.where(rng.random(5000) < 0.6, truth, rng.integers(0, present, 5000))
    counts = ops.confusion_matrix(torch.tensor(truth), torch.tensor(prediction), 21, 255).numpy()
    scores = Scores(counts)
    labels = np.arange(present)
    assert np.array_equal(counts[:present, :present], confusion_matrix(truth, prediction, labels=labels))
    assert scores.iou[:present] == pytest.approx(jaccard_score(truth, prediction, average=None, labels=labels))
    assert np.isnan(scores.iou[present:]).all()
    assert scores.miou == pytest.approx(jaccard_score(truth, prediction, average="macro", labels=labels))
    assert scores.pixel_accuracy == pytest.approx(accuracy_score(truth, prediction))


def test_a_class_only_predicted_counts_as_zero():
    scores = Scores(np.array([[4, 0, 1], [0, 5, 0], [0, 0, 0]]))
    assert scores.iou.tolist() == [0.8, 1.0, 0.0]
    assert scores.miou == pytest.approx(0.6)


def test_one_true_class_gives_no_mean():
    scores = Scores(np.array([[4, 1], [0, 0]]))
    assert np.isnan(scores.miou)
    assert scores.as_record()["miou"] is None
    assert "no mIoU: the truth holds one class only" in table_of(scores, ["sky", "grass"])


def test_nothing_counted():
    scores = Scores(np.zeros((3, 3), np.int64))
    assert np.isnan(scores.miou)
    assert scores.pixel_accuracy == 0
    assert scores.as_record()["per_class_iou"] == [None] * 3


def test_table():
    text = table_of(Scores(np.array([[4, 1, 0], [0, 5, 0], [0, 0, 0]])), ["sky", "grass", "dog"])
    assert "sky" in text
    assert "80.0%" in text
    assert "absent" in text.splitlines()[3]
    assert len({len(line) for line in text.splitlines()[:4]}) == 1
