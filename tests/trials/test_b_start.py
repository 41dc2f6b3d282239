"""Labels that cannot teach or measure, found before the first step or said in place of a figure."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_fast import eval as evaluation
from deeplab_fast import train
from deeplab_fast.errors import UserError
from tests.trials.samples import small

pytestmark = pytest.mark.usefixtures("tiny")


def relabel(data: Path, value: "dict[int, int]", first: int = 0, last: int = 12) -> None:
    """Write the labels ``first`` up to ``last`` with other values."""
    table = np.array([value.get(v, v) for v in range(256)], np.uint8)
    for i in range(first, last):
        path = data / f"labels/{i:02}.png"
        Image.fromarray(table[np.asarray(Image.open(path))]).save(path)


def run(data: Path, folder: Path, *more: str) -> int:
    lists = [f"--data_lst={data / 'train.txt'}", f"--val_data_lst={data / 'val.txt'}"]
    return train.main([f"--train_dir={folder}", f"--data_root={data}", *lists, *small("--max_steps=2", *more)])


def refuse(data: Path, folder: Path, words: str, *more: str) -> None:
    with pytest.raises(UserError, match=words):
        run(data, folder, *more)
    assert not (folder / "metrics.jsonl").exists()


def test_b1_masks_of_0_and_255_do_not_train(samples, tmp_path):
    relabel(samples, {1: 255, 2: 255})
    refuse(samples, tmp_path / "run", "training data: .* 0 and 255 .*write 1 in its place", "--num_classes=2")


def test_b1_labels_of_one_class_do_not_train(samples, tmp_path):
    relabel(samples, {0: 1, 2: 1}, last=10)
    refuse(samples, tmp_path / "run", "training data: the labels hold class 1 alone")


def test_b1_labels_that_are_no_class_end_the_run_before_its_first_step(samples, tmp_path):
    relabel(samples, {2: 77}, first=3, last=4)
    words = r"training data: the labels hold 77 in [\d,]+ pixels; expected 0 to 2 .*'prepare check' names the files"
    refuse(samples, tmp_path / "run", words)
    assert run(samples, tmp_path / "run", "--on_bad_sample=skip") == 0


def test_b1_training_says_which_classes_the_labels_hold(samples, tmp_path, caplog):
    relabel(samples, {1: 2})
    caplog.set_level("INFO", "deeplab_fast")
    run(samples, tmp_path / "run")
    assert "classes: 2 of 3 occur in all 10 labels; not class 1" in caplog.text


def test_b1_an_evaluation_that_saw_one_class_gives_no_miou(samples, tmp_path, caplog, capsys):
    relabel(samples, {1: 0, 2: 255}, first=10)
    caplog.set_level("INFO", "deeplab_fast")
    assert run(samples, tmp_path / "run") == 0
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [r["miou"] for r in lines if "miou" in r] == [None]
    assert "no mIoU" in caplog.text
    newest = next((tmp_path / "run").glob("deeplab_v3_s16-*.pt"))
    data = [f"--data_root={samples}", f"--data_lst={samples / 'val.txt'}", f"--report={tmp_path / 'figures'}"]
    assert evaluation.main([f"--ckpt_path={newest}", "--batch_size=2", "--device_target=CPU", *data]) == 0
    assert "no mIoU: the truth holds one class only" in capsys.readouterr().out
    assert json.loads(next((tmp_path / "figures").glob("metrics*.json")).read_text())["miou"] is None


def test_b2_labels_that_are_all_ignored_do_not_train(samples, tmp_path):
    relabel(samples, {0: 255, 1: 255, 2: 255}, last=10)
    refuse(samples, tmp_path / "run", "training data: every label pixel is 255, the ignore label")


def test_b2_held_out_labels_that_are_all_ignored_are_named(samples, tmp_path):
    relabel(samples, {0: 255, 1: 255, 2: 255}, first=10)
    refuse(samples, tmp_path / "run", "held-out data: every label pixel is 255, the ignore label")


def test_b2_weights_under_which_nothing_is_learned_are_named(samples, tmp_path):
    refuse(samples, tmp_path / "run", "--class_weights: all 0", "--class_weights=0,0,0")
    relabel(samples, {2: 0}, last=10)
    refuse(samples, tmp_path / "run", "--class_weights are 0 for every class", "--class_weights=0,0,1")
