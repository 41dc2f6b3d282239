"""Finding samples: in folders, in lists, by name; and dealing them to lists."""

import shutil
import time
from pathlib import Path

import pytest
from PIL import Image

from deeplab_fast import prepare
from deeplab_fast.data.sources import list_source, read_list
from deeplab_fast.errors import UserError
from tests.trials.preparing import folders, lists, refused

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
    from deeplab_fast.predict import find_inputs

    link_four_away(samples)
    assert len(find_inputs(str(samples / "images"))) == 12


def test_b3_a_link_to_a_folder_above_ends_nothing(samples, log):
    (samples / "images" / "deep").mkdir()
    (samples / "images" / "deep" / "loop").symlink_to(samples / "images")
    (samples / "images" / "up").symlink_to(samples)
    link_four_away(samples)
    assert len(lists(samples)) == 12
    assert "left out: 2 links to a folder above" in log.text


def test_b4_hidden_files_and_shadows_are_left_out_and_counted(samples, log):
    from deeplab_fast.predict import find_inputs

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
    assert len(find_inputs(str(images))) == 12
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


# ---------------------------------------------------------------- B9, B15: shares, and lines that are repeated


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


def test_b15_a_line_repeated_20000_times(samples):
    """Took time that grew with the square: minutes."""
    (samples / "many.txt").write_text("images/00.jpg labels/00.png\n" * 20_000)
    start = time.process_time()
    source = list_source(samples, samples / "many.txt")
    assert time.process_time() - start < 3
    assert source.keys[:3] == ["images/00", "images/00_2", "images/00_3"]
    assert len(set(source.keys)) == 20_000
