"""Shards whose numbers have any width."""

import logging
import tarfile
from pathlib import Path

import pytest

from deeplab_fast.data.records import RecordSource
from deeplab_fast.errors import UserError


def named_shards(samples: Path, folder: Path, names: list[str]) -> None:
    """One sample in each; the key is the place in ``names``."""
    folder.mkdir()
    for i, name in enumerate(names):
        with tarfile.open(folder / name, "w") as tar:
            tar.add(samples / f"images/{i:02}.jpg", f"{i}.jpg")
            tar.add(samples / f"labels/{i:02}.png", f"{i}.png")


@pytest.mark.parametrize("names", [
    ["name-000000.tar"],
    ["name-000000.tar", "name-000001.tar", "name-000002.tar"],
    ["name-1.tar", "name-2.tar", "name-10.tar"],
    ["name-8.tar", "name-00009.tar", "name-000010.tar"],
    ["coco-2017-0.tar", "coco-2017-1.tar"],
], ids="-".join)  # fmt: skip
def test_e3_numbers_of_any_width_are_one_set_in_order(samples, tmp_path, names):
    named_shards(samples, tmp_path / "wds", names)
    stem = names[0].rpartition("-")[0]
    for named in (tmp_path / "wds", tmp_path / "wds" / f"{stem}.tar", f"{tmp_path}/wds/{stem}-*.tar"):
        source = RecordSource(named)
        assert [source.key(i) for i in range(len(source))] == [str(i) for i in range(len(names))]


def test_e3_two_shards_of_one_number_are_refused(samples, tmp_path):
    """Two writings of one set, by two tools: the samples would count twice."""
    named_shards(samples, tmp_path / "wds", ["name-00000.tar", "name-000000.tar"])
    with pytest.raises(UserError, match="two shards of one number"):
        RecordSource(tmp_path / "wds" / "name.tar")


def test_e3_a_gap_in_the_numbers_is_said(samples, tmp_path, caplog):
    named_shards(samples, tmp_path / "wds", ["name-000000.tar", "name-000001.tar", "name-000003.tar"])
    with caplog.at_level(logging.WARNING, "deeplab_fast"):
        assert len(RecordSource(tmp_path / "wds")) == 3
    assert "name: 3 shards; name-000002.tar is missing" in caplog.text
