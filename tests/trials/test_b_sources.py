"""Finding samples, labels that cannot be right, the data's own classes, and files of flags."""

import logging
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_fast import prepare
from deeplab_fast.data.sources import list_source, read_list
from deeplab_fast.errors import UserError


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="deeplab_fast")
    return caplog


def folders(root: Path, *flags: str) -> list[str]:
    return [f"--image_dir={root}/images", f"--label_dir={root}/labels", *flags]


def lists(root: Path, *flags: str) -> list[str]:
    """The lines of the train and the val list that ``prepare lists`` makes."""
    assert prepare.main(["lists", f"--data_root={root}", *folders(root), *flags]) == 0
    names = (root / name for name in ("train_lst.txt", "val_lst.txt"))
    return [line for path in names if path.exists() for line in path.read_text().splitlines()]


def refused(*argv: str) -> str:
    """The one line with which ``prepare`` ends."""
    with pytest.raises(UserError) as caught:
        prepare.main(list(argv))
    assert "\n" not in str(caught.value)
    return str(caught.value)


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
    assert "'lorry' is no class" in refused("check", *folders(samples, "--absent_classes=lorry"))


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


# ---------------------------------------------------------------- B3, B4: what a search finds


def link_four_away(root: Path) -> None:
    """Four of the samples lie in another disk's folder, linked from images/ and labels/."""
    for kind, suffix in (("images", "jpg"), ("labels", "png")):
        far = root.parent / "disk" / kind
        far.mkdir(parents=True)
        for name in ("00", "01", "02", "03"):
            shutil.move(root / kind / f"{name}.{suffix}", far)
        (root / kind / "more").symlink_to(far)


def test_b3_a_linked_subfolder_is_followed_in_lists_and_check(samples, capsys):
    link_four_away(samples)
    assert len(lists(samples)) == 12
    assert prepare.main(["check", *folders(samples, "--num_classes=3")]) == 0
    assert sum("pixels" in line for line in capsys.readouterr().out.splitlines()) == 4


def test_b3_a_linked_subfolder_is_followed_in_predict(samples):
    from deeplab_fast.predict import find_images

    link_four_away(samples)
    assert len(find_images(str(samples / "images"))) == 12


def test_b3_a_link_to_a_folder_above_ends_nothing(samples, log):
    (samples / "images" / "deep").mkdir()
    (samples / "images" / "deep" / "loop").symlink_to(samples / "images")
    (samples / "images" / "up").symlink_to(samples)
    link_four_away(samples)
    assert len(lists(samples)) == 12
    assert "left out: 2 links to a folder above" in log.text


def test_b4_hidden_files_and_shadows_are_left_out_and_counted(samples, log):
    from deeplab_fast.predict import find_images

    images = samples / "images"
    (images / ".ipynb_checkpoints").mkdir()
    shutil.copy(images / "00.jpg", images / ".ipynb_checkpoints" / "00-checkpoint.jpg")
    (images / "__MACOSX").mkdir()
    (images / "__MACOSX" / "00.jpg").write_bytes(b"shadow")
    (images / "._00.jpg").write_bytes(b"shadow")
    (images / ".DS_Store").write_bytes(b"")
    (images / ".loop").symlink_to(images / ".loop")
    (images / "Thumbs.db").write_bytes(b"")
    (images / "notes.txt").write_text("")
    (samples / "labels" / "._00.png").write_bytes(b"shadow")
    assert len(lists(samples)) == 12
    said = f"{images}: left out: 4 hidden files, 2 hidden folders, 1 file of another kind (.txt)"
    assert said in log.messages
    assert f"{samples / 'labels'}: left out: 1 hidden file" in log.messages
    log.clear()
    assert len(find_images(str(images))) == 12
    assert said in log.messages


def test_b4_a_shadow_of_a_shard_is_no_set_of_its_own(samples):
    from deeplab_fast.data.records import RecordSource

    data = [f"--data_root={samples}", f"--data_lst={samples}/train.txt", "--num_classes=3"]
    prepare.main(["records", *data, f"--dst_path={samples}/r/set.tar", "--num_shards=1"])
    (samples / "r" / "._set-00000.tar").write_bytes(b"shadow")
    assert len(RecordSource(samples / "r")) == 10


# ---------------------------------------------------------------- B5: lists as people have them


def test_b5_a_byte_order_mark_is_no_part_of_a_name(samples):
    from deeplab_fast.data.classes import class_names
    from deeplab_fast.data.voc import read_ids

    for encoding in ("utf-8-sig", "utf-16"):
        (samples / "bom.txt").write_text((samples / "train.txt").read_text(), encoding=encoding)
        assert len(list_source(samples, samples / "bom.txt")) == 10
        (samples / "classes.txt").write_text("road\nsky\n", encoding=encoding)
        assert class_names(2, data_root=str(samples)) == ["road", "sky"]
        (samples / "ids.txt").write_text("2007_000032\n", encoding=encoding)
        assert read_ids(samples / "ids.txt") == ["2007_000032"]


@pytest.mark.parametrize(
    "line",
    ["/images/00.jpg /labels/00.png", "images\\00.jpg labels\\00.png", "\\images\\00.jpg \\labels\\00.png"],
    ids=["leading slashes", "backslashes", "both"],
)
def test_b5_slashes_of_the_widely_used_lists(samples, line):
    (samples / "l.txt").write_text(f"{line}\n")
    source = list_source(samples, samples / "l.txt")
    assert source.read(0).image == (samples / "images/00.jpg").read_bytes()
    assert source.where(0)[1] == str(samples / "labels/00.png")


def test_b5_names_with_a_space_from_lists_to_records(samples):
    from deeplab_fast.data.records import RecordSource

    for kind, suffix in (("images", "jpg"), ("labels", "png")):
        (samples / kind / f"00.{suffix}").rename(samples / kind / f"my photo 00.{suffix}")
    every = lists(samples)
    assert "images/my photo 00.jpg\tlabels/my photo 00.png" in every
    (samples / "all.txt").write_text("\n".join(every))
    data = [f"--data_root={samples}", f"--data_lst={samples}/all.txt", "--num_classes=3"]
    assert prepare.main(["check", *data]) == 0
    prepare.main(["records", *data, f"--dst_path={samples}/r/set.tar", "--num_shards=1"])
    for scanned in (False, True):
        source = RecordSource(samples / "r" / "set.tar")
        keys = [source.key(i) for i in range(len(source))]
        assert source.read(keys.index("my photo 00")).image == (samples / "images/my photo 00.jpg").read_bytes()
        if not scanned:
            (samples / "r" / "set-00000.idx").unlink()


# ---------------------------------------------------------------- B6: labels by name


def test_b6_suffixes_in_capitals_are_read(samples):
    (samples / "images/00.jpg").rename(samples / "images/00.JPG")
    for path in (samples / "labels").iterdir():
        path.rename(path.with_suffix(".PNG"))
    assert len(lists(samples)) == 12
    assert len(list_source(samples, samples / "train.txt")) == 10  # which has them in small letters


@pytest.mark.parametrize("one_folder", [False, True], ids=["two folders", "one folder"])
def test_b6_labels_with_a_suffix(samples, one_folder):
    target = samples / ("images" if one_folder else "labels")
    for path in list((samples / "labels").iterdir()):
        path.rename(target / f"{path.stem}_mask.png")
    for path in list((samples / "images").glob("0[0-3].jpg")):
        Image.open(path).save(path.with_suffix(".png"))  # an image may be PNG
        path.unlink()
    where = [f"--image_dir={samples}/images", f"--label_dir={target}", "--label_suffix=_mask"]
    assert prepare.main(["check", *where, "--num_classes=3"]) == 0
    assert prepare.main(["lists", *where, f"--data_root={samples}"]) == 0
    images, labels = read_list(samples / "train_lst.txt")
    assert len(images) == 11
    assert all(Path(label).name == f"{Path(image).stem}_mask.png" for image, label in zip(images, labels, strict=True))


def test_b6_a_suffix_that_was_not_given_is_suggested(samples):
    for path in list((samples / "labels").iterdir()):
        path.rename(path.with_stem(f"{path.stem}_mask"))
    assert "00_mask.png is there: --label_suffix=_mask?" in refused("check", *folders(samples))


def test_b6_a_label_is_never_taken_for_an_image_of_the_same_folder(samples):
    for path in list((samples / "labels").iterdir()):
        path.rename(samples / "images" / path.name)
    where = [f"--image_dir={samples}/images", f"--label_dir={samples}/images"]
    assert prepare.main(["lists", *where, f"--data_root={samples}"]) == 0
    images, _ = read_list(samples / "train_lst.txt")
    assert len(images) == 11
    assert all(image.endswith(".jpg") for image in images)


def test_b6_all_missing_labels_are_counted_and_five_named(samples):
    for i in range(7):
        (samples / "labels" / f"{i:02}.png").unlink()
    line = refused("check", *folders(samples))
    assert "7 of 12 images have no label: 00.jpg, 01.jpg, 02.jpg, 03.jpg, 04.jpg and 2 more" in line
    with pytest.raises(UserError, match=r"labels/00\.png does not exist, nor do 6 others: .*labels/04.png and 2 more"):
        list_source(samples, samples / "train.txt")


def test_b6_orphan_labels_and_repeated_lines_are_said(samples, log):
    for i in range(2):
        (samples / "images" / f"{i:02}.jpg").unlink()
    lists(samples)
    assert f"{samples / 'labels'}: 2 labels have no image: 00.png, 01.png" in log.messages
    text = (samples / "val.txt").read_text()
    (samples / "twice.txt").write_text(text + text + "images/10.jpg labels/11.png\n")
    assert len(list_source(samples, samples / "twice.txt")) == 5
    assert "twice.txt: 2 lines repeat others, and count again: images/10.jpg, images/11.jpg" in log.text
    assert "twice.txt: 1 image has several labels: images/10.jpg" in log.text


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


# ---------------------------------------------------------------- B9, B10: shares and classes


@pytest.mark.parametrize(("count", "share", "held_out"), [(4, "0.1", 1), (2, "0.9", 1)])
def test_b9_each_list_has_at_least_one_sample(samples, count, share, held_out):
    for i in range(count, 12):
        (samples / "images" / f"{i:02}.jpg").unlink()
    assert len(lists(samples, f"--val_share={share}")) == count
    assert len((samples / "val_lst.txt").read_text().splitlines()) == held_out


def test_b9_one_sample_cannot_be_shared(samples):
    for i in range(1, 12):
        (samples / "images" / f"{i:02}.jpg").unlink()
    assert "--val_share=0.1: one sample cannot be in both lists" in refused(
        "lists", f"--data_root={samples}", *folders(samples)
    )
    assert len(lists(samples, "--val_share=0")) == 1
    assert not (samples / "val_lst.txt").exists()


def test_b10_the_number_of_classes_comes_from_the_data(samples, capsys):
    from deeplab_fast.train import resolve

    (samples / "classes.txt").write_text("road\nsky\ntree\n")
    of_list = {"data_root": str(samples), "data_lst": str(samples / "train.txt")}
    data = [f"--{name}={text}" for name, text in of_list.items()]
    prepare.main(["records", *data, f"--dst_path={samples}/r/set.tar", "--ignore_label=254"])
    assert prepare.main(["check", f"--data_file={samples}/r/set.tar"]) == 0
    assert prepare.main(["check", *data]) == 0
    assert "tree" in capsys.readouterr().out
    assert resolve(of_list, on_gpu=False).num_classes == 3
    config = resolve({"data_file": f"{samples}/r/set.tar"}, on_gpu=False)
    assert (config.num_classes, config.ignore_label) == (3, 254)


@pytest.mark.parametrize("described", ["classes.txt", "dataset.json"])
def test_b10_a_contradiction_is_an_error(samples, described):
    from deeplab_fast.train import resolve

    (samples / "classes.txt").write_text("road\nsky\ntree\n")
    data = {"data_root": str(samples), "data_lst": str(samples / "train.txt")}
    if described == "dataset.json":
        flags = [f"--{name}={text}" for name, text in data.items()]
        prepare.main(["records", *flags, f"--dst_path={samples}/r/set.tar", "--num_classes=3"])
        data = {"data_file": f"{samples}/r/set.tar"}
    words = f"--num_classes=4: .*{described} names 3 classes; expected --num_classes=3"
    with pytest.raises(UserError, match=words):
        resolve({**data, "num_classes": 4}, on_gpu=False)
    with pytest.raises(UserError, match=words):
        prepare.main(["check", *(f"--{name}={text}" for name, text in data.items()), "--num_classes=4"])


def test_b10_held_out_classes_in_another_order_are_refused(samples):
    from deeplab_fast.train import open_sources, resolve

    (samples / "held_out").mkdir()
    shutil.copy(samples / "val.txt", samples / "held_out")
    (samples / "classes.txt").write_text("road\nsky\ntree\n")
    (samples / "held_out/classes.txt").write_text("sky\nroad\ntree\n")
    flags = {"data_root": str(samples), "data_lst": f"{samples}/train.txt"}
    with pytest.raises(UserError, match=r"held_out/classes\.txt: class 0 is 'sky'; expected 'road'"):
        open_sources(resolve({**flags, "val_data_lst": f"{samples}/held_out/val.txt", "num_classes": 3}, on_gpu=False))


def test_b10_no_description_is_said(samples, log):
    from deeplab_fast.train import resolve

    data = {"data_root": str(samples), "data_lst": str(samples / "train.txt")}
    assert resolve(data, on_gpu=False).num_classes == 21
    assert "--num_classes: not given, and no classes.txt or dataset.json with the data: 21 classes" in log.text


# ---------------------------------------------------------------- B14, B15, B17


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


def test_b15_a_line_repeated_20000_times(samples):
    """Took time that grew with the square: minutes."""
    (samples / "many.txt").write_text("images/00.jpg labels/00.png\n" * 20_000)
    start = time.process_time()
    source = list_source(samples, samples / "many.txt")
    assert time.process_time() - start < 3
    assert source.keys[:3] == ["images/00", "images/00_2", "images/00_3"]
    assert len(set(source.keys)) == 20_000


def yaml_flags(folder: Path, text: str) -> dict[str, object]:
    from deeplab_fast.cli import parse_flags
    from deeplab_fast.config import TrainConfig

    (folder / "c.yaml").write_text(text, encoding="utf-8")
    return parse_flags(TrainConfig, [f"--config={folder}/c.yaml"], "x", "")


def test_b17_words_are_the_flags_to_read(tmp_path):
    text = "fused: off\nsync_bn: on\nprofile: no\nbase_lr: 1e-3\nresume: true\ndropout:\nbatch_size: 010\n"
    assert yaml_flags(tmp_path, text) == {
        "fused": "off", "sync_bn": True, "profile": False, "base_lr": 0.001, "resume": "True", "batch_size": 10,
    }  # fmt: skip


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcd", "bcde", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "line 2: key b: holds a list within a list"),
        ("base_lr: " + "[" * 10_000, "nested too deeply"),
        ("base_lr: 1\nbase-lr: 2\n", "line 2: key base-lr again; expected each flag once"),
        ("#" * 100_000, "larger than 64 KiB"),
        ("base_lr: .inf", "'.inf': expected a number"),
        ("base_lr: inf", "'inf': expected a finite number"),
        ("class_weights: [1, nan]", "'nan': expected a finite number"),
        ("config: other.yaml", "a file of flags cannot name another"),
    ],
    ids=["aliases", "nesting", "duplicate", "size", "yaml's inf", "inf", "nan in a list", "config"],
)
def test_b17_what_is_no_file_of_flags_is_one_line(text, words, tmp_path):
    with pytest.raises(UserError) as caught:
        yaml_flags(tmp_path, text)
    assert words in str(caught.value)
    assert "c.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["inf", "nan", "-inf"])
def test_b17_numbers_are_finite_on_the_command_line_and_in_python(text):
    from deeplab_fast.cli import parse_flags
    from deeplab_fast.config import TrainConfig, validate

    with pytest.raises(UserError, match=r"--base_lr: .*expected a finite number"):
        parse_flags(TrainConfig, [f"--base_lr={text}"], "x", "")
    with pytest.raises(UserError, match=r"--image_mean: .*expected a finite number"):
        parse_flags(TrainConfig, [f"--image_mean={text},1,1"], "x", "")
    with pytest.raises(UserError, match=r"--image_mean=.*expected a finite number"):
        validate(TrainConfig(image_mean=(float(text), 1.0, 1.0)))
