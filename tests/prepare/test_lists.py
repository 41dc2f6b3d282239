"""``prepare lists`` from its command line: given splits, groups, and a data folder that stays as it is."""

import json
import logging
import os
import shutil

import pytest

from deeplab_fast import prepare
from deeplab_fast.data.sources import list_source


@pytest.fixture
def data(builtin, tmp_path):
    root = tmp_path / "the data"
    for name in ("images", "labels"):
        shutil.copytree(builtin / name, root / name)
    return root


def lists(root, *flags):
    where = [f"--data_root={root}", f"--image_dir={root}/images", f"--label_dir={root}/labels"]
    return prepare.main(["lists", *where, *flags])


def state(folder):
    return {path: os.lstat(path).st_mtime_ns for path in (folder, *folder.rglob("*"))}


def test_lists_of_a_data_folder_that_is_only_read(data, tmp_path, capsys):
    before = state(data)
    assert lists(data, f"--output={tmp_path}/made/here", "--val_share=0.25", "--test_share=0.1") == 0
    assert state(data) == before
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{tmp_path}/made/here/{name}_lst.txt: {n} samples" for name, n in zip(
        ("train", "val", "test"), (20, 8, 3), strict=True)]  # fmt: skip
    assert len(list_source(data, tmp_path / "made/here/test_lst.txt")) == 3


def test_a_given_split(data, tmp_path, caplog, capsys):
    names = sorted(path.stem for path in (data / "images").iterdir())
    (tmp_path / "train.txt").write_text("\n".join(names[:20] + names[:1]))
    (tmp_path / "val.txt").write_text("\n".join(names[20:28]))
    with caplog.at_level(logging.INFO, "deeplab_fast"):
        assert lists(data, f"--split={tmp_path}/train.txt,{tmp_path}/val.txt") == 0
    assert "train.txt: 1 line repeats another; each sample is listed once" in caplog.text
    assert f"3 of 31 samples are in no list: {names[28]}.jpg" in caplog.text
    assert capsys.readouterr().out.endswith("val_lst.txt: 8 samples\n")
    content = json.loads((data / "split_lst.json").read_text())
    assert [one["file"] for one in content["made"]["split"]] == ["train.txt", "val.txt"]
    assert content["samples"] == {"train": 20, "val": 8, "in no list": 3}


def test_groups_of_an_expression(data):
    assert lists(data, r"--group_by=(\d)\.jpg", "--val_share=0.3") == 0
    last = [{path[-5] for path in list_source(data, data / f"{name}_lst.txt").images} for name in ("train", "val")]
    assert not last[0] & last[1]
