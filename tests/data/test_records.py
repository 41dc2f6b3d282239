import json
import subprocess
import tarfile

import pytest

from deeplab_fast.data.records import (
    RecordOptions,
    RecordSource,
    dataset_entry,
    find_shards,
    write_records,
)
from deeplab_fast.data.sources import list_source
from deeplab_fast.errors import UserError

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
    assert [p.name for p in tmp_path.glob("*.partial")] == ["voc-00001.tar.partial"]
    first = (tmp_path / "voc-00000.tar").stat()
    write_records(source, tmp_path / "voc.tar", options())
    assert (tmp_path / "voc-00000.tar").stat().st_mtime_ns == first.st_mtime_ns
    assert content(RecordSource(tmp_path / "voc.tar")) == content(source)


def test_a_changed_file_is_packed_again(source, builtin, tmp_path):
    import shutil

    shutil.copytree(builtin, tmp_path / "data")
    copy = list_source(tmp_path / "data", tmp_path / "data" / "train.txt")
    write_records(copy, tmp_path / "voc.tar", options(1))
    (tmp_path / "data" / "images" / "00003.jpg").write_bytes((builtin / "images" / "00003.jpg").read_bytes() + b"\0")
    write_records(copy, tmp_path / "voc.tar", options(1))
    assert content(RecordSource(tmp_path / "voc.tar")) == content(copy)


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
    import shutil

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
    import shutil

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
    {"image_offset": True}, {"key": 7}, {"key": "\ud800"},
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


def test_a_size_beyond_the_shard_is_refused(shard):
    """In a tar header, as a base-256 number."""
    data = bytearray(shard.read_bytes())
    data[124:136] = b"\x80" + (1 << 70).to_bytes(11, "big")
    shard.write_bytes(data)
    shard.with_suffix(".idx").unlink()
    with pytest.raises(UserError, match="not a readable tar shard"):
        RecordSource(shard)
