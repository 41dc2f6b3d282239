import json
import logging
import os
import pickle
import shutil
import subprocess
import tarfile

import pytest

from deeplab_fast.data import ranges
from deeplab_fast.data.records import (
    RecordOptions,
    RecordSource,
    dataset_entry,
    find_shards,
    write_records,
)
from deeplab_fast.data.sources import UNVERIFIED, list_source
from deeplab_fast.errors import UserError
from deeplab_fast.storage.locks import lock_file
from tests.fuzz.targets.records import with_size

needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
CLASSES = ("background", "disc", "box", "triangle", "cross", "ring")


def options(shards=3, **change):
    values = {"shuffle": True, "seed": 1, "num_classes": 6, "ignore_label": 255, "classes": CLASSES}
    return RecordOptions(num_shards=shards, **(values | change))


@pytest.fixture
def source(builtin):
    return list_source(builtin, builtin / "train.txt")


def content(source):
    return {source.key(i): (source.read(i).image, source.read(i).label) for i in range(len(source))}


def test_bytes_come_back(source, tmp_path):
    write_records(source, tmp_path / "voc.tar", options())
    assert content(RecordSource(tmp_path / "voc.tar")) == content(source)


def test_the_name_the_folder_a_glob_and_one_shard(source, tmp_path):
    paths = write_records(source, tmp_path / "voc.tar", options())
    assert [p.name for p in paths] == ["voc-00000.tar", "voc-00001.tar", "voc-00002.tar"]
    for name in (tmp_path / "voc.tar", tmp_path, str(tmp_path / "voc-*.tar")):
        assert find_shards(name) == paths
    assert find_shards(paths[1]) == [paths[1]]
    assert len(RecordSource(paths[1])) == 8


def test_the_webdataset_library_reads_them(source, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    paths = write_records(source, tmp_path / "voc.tar", options())
    read = {
        s["__key__"]: (s["jpg"], s["png"]) for s in webdataset.WebDataset([str(p) for p in paths], shardshuffle=False)
    }
    assert read == content(source)


def test_tar_lists_them(source, tmp_path):
    paths = write_records(source, tmp_path / "voc.tar", options())
    names = subprocess.run(["tar", "tf", str(paths[0])], capture_output=True, text=True, check=True).stdout.split()
    assert len(names) == 16
    assert names[0].endswith(".jpg")


def test_without_index_the_shards_are_scanned(source, tmp_path):
    write_records(source, tmp_path / "voc.tar", options())
    for index in tmp_path.glob("*.idx"):
        index.unlink()
    assert content(RecordSource(tmp_path / "voc.tar")) == content(source)


def test_the_same_bytes_every_time_and_another_order_with_another_seed(source, tmp_path):
    shas = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_records(source, tmp_path / folder / "voc.tar", options(seed=seed))
        shas.append(
            [s["sha256"] for s in json.loads((tmp_path / folder / "dataset.json").read_text())["sets"]["voc"]["shards"]]
        )
    assert shas[0] == shas[1] != shas[2]


def test_interrupted_and_run_again(source, tmp_path):
    """Complete shards are kept, the rest are made; nothing half written is ever under a shard's name."""

    class Interrupted(Exception):
        pass

    class Failing:
        def __init__(self):
            self.reads = 0

        def __len__(self):
            return len(source)

        def key(self, i):
            return source.key(i)

        def read(self, i):
            self.reads += 1  # each sample is read for its digest, then to be packed: shard 1 is packed from read 25 on
            if self.reads > 28:
                raise Interrupted
            return source.read(i)

    with pytest.raises(Interrupted):
        write_records(Failing(), tmp_path / "voc.tar", options())
    assert [p.name for p in tmp_path.glob("*.tar")] == ["voc-00000.tar"]
    assert not list(tmp_path.glob("*.partial"))
    first = (tmp_path / "voc-00000.tar").stat()
    write_records(source, tmp_path / "voc.tar", options())
    assert (tmp_path / "voc-00000.tar").stat().st_mtime_ns == first.st_mtime_ns
    assert content(RecordSource(tmp_path / "voc.tar")) == content(source)


def test_a_changed_file_is_packed_again(source, builtin, tmp_path):
    shutil.copytree(builtin, tmp_path / "data")
    copy = list_source(tmp_path / "data", tmp_path / "data" / "train.txt")
    write_records(copy, tmp_path / "voc.tar", options(1))
    (tmp_path / "data" / "images" / "00003.jpg").write_bytes((builtin / "images" / "00003.jpg").read_bytes() + b"\0")
    write_records(copy, tmp_path / "voc.tar", options(1))
    assert content(RecordSource(tmp_path / "voc.tar")) == content(copy)


def downgrade(index):
    """Make an index one of the first format: without checksums and without the set."""
    content = json.loads(index.read_text()) | {"format": "deeplab_fast.index/1"}
    del content["part"]
    for sample in content["samples"]:
        del sample["image_crc32"], sample["label_crc32"]
    index.write_text(json.dumps(content))


def test_records_of_the_first_format_are_read_and_given_checksums(source, tmp_path, caplog):
    """Without writing the shards again."""
    paths = write_records(source, tmp_path / "voc.tar", options())
    indexes = [path.with_suffix(".idx") for path in paths]
    expected, written = [index.read_text() for index in indexes], [path.stat().st_mtime_ns for path in paths]
    for index in indexes:
        downgrade(index)
    with caplog.at_level(logging.INFO, "deeplab_fast"):
        assert content(RecordSource(tmp_path / "voc.tar")) == content(source)
        assert len(RecordSource(paths[0])) == 8
    lines = [record.getMessage() for record in caplog.records]
    assert [f"{paths[0]} and 2 more: no checksums" in lines[0], "1 of 3 shards of voc" in lines[1]] == [True, True]
    write_records(source, tmp_path / "voc.tar", options())
    assert [index.read_text() for index in indexes] == expected
    assert [path.stat().st_mtime_ns for path in paths] == written


def test_a_source_goes_to_another_process(source, tmp_path):
    write_records(source, tmp_path / "voc.tar", options())
    records = RecordSource(tmp_path / "voc.tar")
    first = records.read(0)
    assert pickle.loads(pickle.dumps(records)).read(0) == first


@needs_proc
def test_more_shards_than_may_stay_open(source, tmp_path, monkeypatch):
    monkeypatch.setattr(ranges, "_MOST_OPEN", 2)
    write_records(source, tmp_path / "voc.tar", options(12))
    records = RecordSource(tmp_path / "voc.tar")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert content(records) == content(source)
        assert len(os.listdir("/proc/self/fd")) - before == 2
    del records
    assert len(os.listdir("/proc/self/fd")) == before


def test_checksums_can_be_left_aside(source, tmp_path):
    paths = write_records(source, tmp_path / "voc.tar", options())
    records = RecordSource(tmp_path / "voc.tar", verify="never")
    assert {part.checksum for i in range(24) for part in records.byte_ranges(i)} == {UNVERIFIED}
    expected = records.read(0).image
    entry = json.loads(paths[0].with_suffix(".idx").read_text())["samples"][0]
    with paths[0].open("r+b") as file:
        file.seek(entry["image_offset"] + 700)
        file.write(b"x")
    assert RecordSource(tmp_path / "voc.tar", verify="never").read(0).image != expected
    with pytest.raises(UserError, match="checksum"):
        RecordSource(tmp_path / "voc.tar", verify="always").read(0)


def test_two_processes_do_not_write_one_set(source, tmp_path):
    with lock_file(tmp_path / "voc.lock", "the other's"):
        with pytest.raises(UserError, match=rf"voc\.tar: another run is writing there \(process {os.getpid()} on "):
            write_records(source, tmp_path / "voc.tar", options())
        assert [path.name for path in tmp_path.iterdir()] == ["voc.lock"]
    write_records(source, tmp_path / "voc.tar", options())
    assert not (tmp_path / "voc.lock").exists()


def test_names_with_a_second_dot_are_mentioned(source, tmp_path, caplog):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("a.jpg", "a.png", "a.json", "2007.01.jpg", "2007.01.png"):
            tar.addfile(tarfile.TarInfo(name))
    with caplog.at_level(logging.WARNING, "deeplab_fast"):
        assert len(RecordSource(tmp_path / "x.tar")) == 1
    assert "x.tar: 2 files are no sample's, such as '2007.01.jpg'" in caplog.text


def test_what_else_lies_in_the_folder_is_mentioned(source, tmp_path, caplog):
    write_records(source, tmp_path / "voc.tar", options())
    (tmp_path / "extra.tar").write_bytes(b"")
    (tmp_path / "voc-00003.tar").write_bytes(b"")
    with caplog.at_level(logging.WARNING, "deeplab_fast"):
        assert len(RecordSource(tmp_path)) == 24
    assert "extra.tar: without a number, so no shard of voc; left out" in caplog.text
    assert "voc-00003.tar: dataset.json does not list it; left out" in caplog.text
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "train.tar").write_bytes(b"")
    with pytest.raises(UserError, match=r"no NAME-NUMBER\.tar in this folder; name one of .*one/train\.tar"):
        find_shards(tmp_path / "one")


def test_all_shards_that_cannot_be_used_are_counted(source, tmp_path):
    for path in write_records(source, tmp_path / "voc.tar", options())[1:]:
        os.truncate(path, 1000)
    with pytest.raises(UserError, match=r"voc-00001\.tar: 1,000 bytes; its index says .* \(1 more of 3 shards"):
        RecordSource(tmp_path / "voc.tar")


def test_a_shard_whose_index_was_lost_counts_by_its_number(source, tmp_path):
    paths = write_records(source, tmp_path / "voc.tar", options())
    (tmp_path / "dataset.json").unlink()
    paths[1].with_suffix(".idx").unlink()
    assert content(RecordSource(tmp_path / "voc.tar")) == content(source)
    paths[1].unlink()
    with pytest.raises(UserError, match=r"voc-00001\.tar: missing; voc has 3 shards"):
        RecordSource(tmp_path / "voc.tar")


def test_a_copy_of_a_shard_does_not_count_twice(source, tmp_path):
    paths = write_records(source, tmp_path / "voc.tar", options())
    for suffix in (".tar", ".idx"):
        shutil.copy(paths[0].with_suffix(suffix), tmp_path / f"copy{suffix}")
    with pytest.raises(UserError, match=r"voc-00000\.tar: the same shard as .*copy\.tar \(number 0\)"):
        RecordSource(f"{tmp_path}/*.tar")


@pytest.mark.parametrize("part", [
    7, {}, {"set": 1, "shard": 0, "shards": 1, "samples": 1}, {"set": "x", "shard": 1, "shards": 1, "samples": 1},
    {"set": "x", "shard": 0, "shards": 1 << 40, "samples": 1}, {"set": "x", "shard": True, "shards": 2, "samples": 1},
], ids=str)  # fmt: skip
def test_an_index_that_is_no_part_of_a_set_is_not_believed(shard, part):
    index = shard.with_suffix(".idx")
    index.write_text(json.dumps(json.loads(index.read_text()) | {"part": part}))
    assert len(RecordSource(shard)) == 24


def test_description(source, tmp_path):
    paths = write_records(source, tmp_path / "voc.tar", options())
    write_records(source, tmp_path / "val.tar", options(1))
    entry = dataset_entry(paths)
    assert entry["classes"] == list(CLASSES)
    assert entry["samples"] == 24
    assert len(entry["class_pixels"]) == 6
    assert entry["ignored_pixels"] > 0
    assert set(json.loads((tmp_path / "dataset.json").read_text())["sets"]) == {"voc", "val"}
    with pytest.raises(UserError, match="several sets"):
        find_shards(tmp_path)


def test_fewer_shards_than_before_leaves_no_stale_ones_in_use(source, tmp_path):
    write_records(source, tmp_path / "voc.tar", options(3))
    write_records(source, tmp_path / "voc.tar", options(2))
    assert len(RecordSource(tmp_path / "voc.tar")) == 24


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.tar", "no such file or set of shards"),
        ("pictures", "no tar shard in this folder"),
        ("pictures/a.jpg", "is not a tar shard"),
        ("broken.tar", "not a readable tar shard"),
        ("lonely.tar", "sample a has no label"),
        ("none-*.tar", "no file matches"),
    ],
)
def test_what_is_no_record(name, words, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").write_bytes(b"x")
    (tmp_path / "broken.tar").write_bytes(b"not a tar" * 100)
    with tarfile.open(tmp_path / "lonely.tar", "w") as tar:
        tar.add(tmp_path / "pictures" / "a.jpg", "a.jpg")
    with pytest.raises(UserError, match=words):
        RecordSource(tmp_path / name)


def test_a_long_name_survives(builtin, tmp_path):
    name = "n" * 180
    shutil.copy(builtin / "images/00000.jpg", tmp_path / f"{name}.jpg")
    shutil.copy(builtin / "labels/00000.png", tmp_path / f"{name}.png")
    (tmp_path / "l.txt").write_text(f"{name}.jpg {name}.png\n")
    copy = list_source(tmp_path, tmp_path / "l.txt")
    write_records(copy, tmp_path / "x.tar", options(1))
    assert content(RecordSource(tmp_path / "x.tar")) == content(copy)
    (tmp_path / "x-00000.idx").unlink()
    assert content(RecordSource(tmp_path / "x.tar")) == content(copy)


def test_a_truncated_image_is_refused(builtin, tmp_path):
    shutil.copytree(builtin, tmp_path / "data")
    path = tmp_path / "data/images/00005.jpg"
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(UserError, match=r"00005\.jpg: cannot be decoded"):
        write_records(list_source(tmp_path / "data", tmp_path / "data/train.txt"), tmp_path / "x.tar", options())


def test_label_out_of_range_is_named(source, tmp_path):
    with pytest.raises(UserError, match=r"labels/\d+\.png: label value \d; expected 0 to 1 .*--num_classes=2"):
        write_records(source, tmp_path / "voc.tar", options(num_classes=2))


# ---------------------------------------------------------------- what fuzzing found: hostile indexes and shards


@pytest.fixture
def shard(builtin, tmp_path):
    source = list_source(builtin, builtin / "train.txt")
    options = RecordOptions(1, False, 1, 6, 255, ("a", "b", "c", "d", "e", "f"))
    return write_records(source, tmp_path / "x.tar", options)[0]


@pytest.mark.parametrize("change", [
    {"image_offset": "12"}, {"image_offset": 1.5}, {"label_size": None}, {"label_offset": -1}, {"image_size": 1 << 60},
    {"image_offset": True}, {"key": 7}, {"key": "\ud800"}, {"image_crc32": 1 << 32}, {"label_crc32": -2},
], ids=str)  # fmt: skip
def test_an_index_that_names_no_bytes_is_not_believed(shard, change):
    """The shard is scanned instead, and gives the same samples."""
    expected = RecordSource(shard).read(3)
    index = shard.with_suffix(".idx")
    content = json.loads(index.read_text())
    content["samples"][5] |= change
    index.write_text(json.dumps(content))
    source = RecordSource(shard)
    assert len(source) == 24
    assert source.read(3) == expected


@pytest.mark.parametrize("text", ["7", '"x"', "null", "[]", "[" * 100_000, "{}", ""])
def test_an_index_of_another_kind_is_not_believed(shard, text):
    shard.with_suffix(".idx").write_text(text)
    assert len(RecordSource(shard)) == 24


@pytest.mark.parametrize("shards", [7, [7], [{}], [{"file": ""}], [{"file": 3}], [{"file": "../x.tar"}], None])
def test_a_description_without_shard_names_is_refused(shard, shards):
    description = shard.with_name("dataset.json")
    content = json.loads(description.read_text())
    content["sets"]["x"]["shards"] = shards
    description.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"dataset\.json: the shards of x are not named; run prepare records again"):
        RecordSource(shard.with_name("x.tar"))


@pytest.mark.parametrize("size", [-512, 1 << 70])
def test_a_size_below_0_or_beyond_the_shard_is_refused(size, shard):
    shard.write_bytes(with_size(shard.read_bytes(), 0, size))
    shard.with_suffix(".idx").unlink()
    with pytest.raises(UserError, match="not a readable tar shard"):
        RecordSource(shard)
