"""Labels that cannot be right, and those that ``prepare lists`` converts, again and beside the user's own."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_fast import prepare
from deeplab_fast.errors import UserError
from tests.trials.preparing import folders, refused


def relabel(root: Path, change) -> None:  # type: ignore[no-untyped-def]
    for path in (root / "labels").iterdir():
        Image.fromarray(change(np.asarray(Image.open(path))).astype(np.uint8)).save(path)


# ---------------------------------------------------------------- B1, B2: labels that cannot be right


def test_b1_masks_of_0_and_255_end_the_check_and_the_line_says_what_to_do(samples, capsys):
    relabel(samples, lambda label: np.where(label == 0, 0, 255))
    assert "would break training" in refused("check", *folders(samples, "--num_classes=2"))
    out = capsys.readouterr().out
    assert "problem: the labels hold 0 and 255 alone, and 255 is the ignore label" in out
    assert "write 1 in its place" in out


def test_b1_records_of_one_class_are_said(samples, log):
    relabel(samples, lambda label: np.where(label == 0, 0, 255))
    prepare.main(["records", *folders(samples, "--num_classes=2"), f"--dst_path={samples}/r/set.tar"])
    assert "the labels hold 0 and 255 alone" in log.text


def test_b1_one_class_ends_the_check(samples, capsys):
    relabel(samples, np.ones_like)
    refused("check", *folders(samples, "--num_classes=2"))
    assert "problem: the labels hold class 1 alone" in capsys.readouterr().out


def test_b1_an_absent_class_must_be_listed_by_number_or_name(samples, capsys):
    (samples / "classes.txt").write_text("road\nsky\ntree\ncar\nbus\n")
    refused("check", *folders(samples))
    assert "no pixel of 2 of 5 classes: 3, 4." in (out := capsys.readouterr().out)
    assert "--absent_classes=3,4;" in out
    assert "no pixel of 1 of 5" in (
        refused("check", *folders(samples, "--absent_classes=3")) and capsys.readouterr().out
    )
    assert prepare.main(["check", *folders(samples, "--absent_classes=3,bus")]) == 0
    assert "'lorry' is not a class" in refused("check", *folders(samples, "--absent_classes=lorry"))


def test_b2_labels_that_are_ignored_whole_are_named(samples, capsys):
    path = samples / "labels" / "03.png"
    Image.fromarray(np.full((80, 96), 255, np.uint8)).save(path)
    assert prepare.main(["check", *folders(samples, "--num_classes=3")]) == 0
    assert f"1 label holds nothing but the ignore label: {path}" in capsys.readouterr().out
    relabel(samples, lambda label: np.full_like(label, 255))
    refused("check", *folders(samples, "--num_classes=3"))
    assert "problem: every label pixel is 255, the ignore label (--ignore_label)" in capsys.readouterr().out


def test_b2_held_out_labels_that_are_all_ignored_end_the_check(samples, capsys):
    for name in ("10", "11"):
        Image.fromarray(np.full((80, 96), 255, np.uint8)).save(samples / "labels" / f"{name}.png")
    refused("check", f"--data_root={samples}", f"--data_lst={samples}/train.txt", f"--val_data_lst={samples}/val.txt",
            "--num_classes=3")  # fmt: skip
    assert "problem: held-out data: every label pixel is 255" in capsys.readouterr().out


def test_b2_class_weights_that_are_all_0_are_refused():
    from deeplab_fast.config import TrainConfig, validate_train

    validate_train(TrainConfig(num_classes=3, class_weights=(0.0, 1.0, 0.0)))
    with pytest.raises(UserError, match="--class_weights: all 0"):
        validate_train(TrainConfig(num_classes=3, class_weights=(0.0, 0.0, 0.0)))


# ---------------------------------------------------------------- B7: run again


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """Four VOC images, three of them in the train list, with palette labels."""
    voc = tmp_path / "VOCdevkit/VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    (voc / "ImageSets/Segmentation/train.txt").write_text("a\nb\nc\n")
    (voc / "ImageSets/Segmentation/val.txt").write_text("d\n")
    for name in "abcd":
        Image.new("RGB", (8, 6)).save(voc / "JPEGImages" / f"{name}.jpg")
        write_label(tmp_path, name, 1)
    return tmp_path


def write_label(root: Path, name: str, value: int) -> Path:
    path = root / "VOCdevkit/VOC2012/SegmentationClass" / f"{name}.png"
    label = Image.fromarray(np.full((6, 8), value, np.uint8)).convert("P")
    label.putpalette(list(range(256)) * 3)
    label.save(path)
    return path


def grey(root: Path, name: str) -> Path:
    return root / "VOCdevkit/VOC2012/SegmentationClassGray" / f"{name}.png"


def value(path: Path) -> int:
    return int(np.asarray(Image.open(path))[0, 0])


def voc_lists(root: Path) -> None:
    assert prepare.main(["lists", f"--data_root={root}"]) == 0


def test_b7_a_repaired_label_is_converted_again(devkit, log):
    voc_lists(devkit)
    repaired = write_label(devkit, "a", 7)
    os.utime(repaired, (0, 0))  # as where it was unpacked from an archive: not newer, but other content
    kept = grey(devkit, "b").stat().st_mtime_ns
    voc_lists(devkit)
    assert value(grey(devkit, "a")) == 7
    assert grey(devkit, "b").stat().st_mtime_ns == kept
    assert "1 made again, whose source changed" in log.text


def test_b7_a_label_of_which_nothing_is_known_is_kept_and_said(devkit, log):
    """It may be the user's, unpacked with its old time, or what an earlier version left: who made it can delete it."""
    voc_lists(devkit)
    (devkit / ".deeplab_fast_lists.json").unlink(missing_ok=True)
    write_label(devkit, "a", 7)
    os.utime(grey(devkit, "a"), (1e9, 1e9))
    before = value(grey(devkit, "a"))
    voc_lists(devkit)
    assert value(grey(devkit, "a")) == before != 7
    assert "delete them to have them made" in log.text
    grey(devkit, "a").unlink()
    voc_lists(devkit)
    assert value(grey(devkit, "a")) == 7


def test_b7_the_users_own_grey_label_is_kept_and_said(devkit, log):
    voc_lists(devkit)
    Image.fromarray(np.full((6, 8), 3, np.uint8)).save(grey(devkit, "a"))
    voc_lists(devkit)
    assert value(grey(devkit, "a")) == 3
    assert "1 kept that differ from their source" in log.text
    assert str(grey(devkit, "a")) in log.text


def test_b7_the_users_own_classes_stay(devkit, log):
    (devkit / "classes.txt").write_text("road\nsky\n")
    voc_lists(devkit)
    assert (devkit / "classes.txt").read_text() == "road\nsky\n"
    assert f"{devkit / 'classes.txt'}: kept, your own" in log.text


@pytest.mark.parametrize("kind", ["voc", "own"])
def test_b7_a_list_of_the_users_is_never_written_over(devkit, samples, kind):
    root, name = (devkit, "voc_train_lst.txt") if kind == "voc" else (samples, "train_lst.txt")
    argv = ["lists", f"--data_root={root}", *(folders(root) if kind == "own" else [])]
    (root / name).write_text("mine\n")
    assert "this program did not write what is in it" in refused(*argv)
    assert (root / name).read_text() == "mine\n"
    (root / name).unlink()
    assert prepare.main(argv) == 0
    assert prepare.main(argv) == 0  # equal: nothing to do
    with (root / name).open("a") as file:
        file.write("more\n")
    refused(*argv)
    assert (root / name).read_text().endswith("more\n")


# ---------------------------------------------------------------- B14: of SBD


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        (np.full((6, 8), 300, np.uint16), "label value 300; expected whole numbers from 0 to 255"),
        (np.full((6, 8), -1, np.int16), "label value -1;"),
        (np.full((6, 8), np.nan), "label value nan;"),
        (np.full((6, 8), 1.5), "label value 1.5;"),
        (np.zeros((6, 8, 3), np.uint8), r"\(uint8 \[6, 8, 3\]\); expected numbers in two dimensions"),
        (np.zeros((0, 0), np.uint8), r"\[0, 0\]\); expected numbers in two dimensions"),
    ],
    ids=["300", "negative", "nan", "fraction", "three dimensions", "empty"],
)
def test_b14_an_sbd_label_that_is_none_is_refused(segmentation, words, tmp_path):
    from scipy.io import savemat

    from deeplab_fast.data.voc import sbd_label

    def saved(values: np.ndarray) -> bytes:
        structure = np.zeros((1, 1), dtype=[("Segmentation", object)])
        structure[0, 0]["Segmentation"] = values
        savemat(tmp_path / "x.mat", {"GTcls": structure})
        return (tmp_path / "x.mat").read_bytes()

    assert (sbd_label(saved(np.full((6, 8), 7.0)), "x.mat") == 7).all()
    with pytest.raises(UserError, match=rf"x\.mat: .*{words}"):
        sbd_label(saved(segmentation), "x.mat")
