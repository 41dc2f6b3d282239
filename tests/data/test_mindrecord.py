"""MindRecord files: MindSpore's own give their rows, damage is refused with its byte, training is that from tar."""

import hashlib
import json
import random
import shutil
import sqlite3
import tarfile
import time
from pathlib import Path

import pytest
import torch

from deeplab_fast import prepare
from deeplab_fast.data.augment import Augment
from deeplab_fast.data.dataset import TrainingSet
from deeplab_fast.data.loader import LoaderOptions, open_loader
from deeplab_fast.data.mindrecord import MindRecordSource, read_header, rows_of
from deeplab_fast.data.open_records import open_records
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.errors import UserError
from tests.mindrecord_writer import write_mindrecord
from tests.trials.samples import CLASSES, write_samples

FILES = Path(__file__).parent.parent / "mindspore_files"


def digest(data):
    return hashlib.sha256(data).hexdigest()


def expected_rows(stem, folder=FILES, shards=2):
    tables = [(folder / f"{stem}.mindrecord{i}.expected.tsv").read_text() for i in range(shards)]
    return [line.split("\t") for table in tables for line in table.splitlines()]


@pytest.mark.parametrize("stem", ["voc_small", "voc_calls"])
@pytest.mark.parametrize("named", [0, 1])
def test_the_recipe_s_files_give_its_rows(stem, named):
    source = MindRecordSource(FILES / f"{stem}.mindrecord{named}")
    found = [[source.where(i)[0], *map(digest, source.read(i)[1:3])] for i in range(len(source))]
    assert [[where.split("row ")[1].removesuffix(", image"), *rest] for where, *rest in found] == expected_rows(stem)
    assert source.key(0) == expected_rows(stem)[0][0].removesuffix(".jpg")


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="Python 3.11.4 checks archives")
def test_the_recipe_s_large_header_and_pages(tmp_path):
    with tarfile.open(FILES / "voc_default_16MiB_header.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    (first,) = tmp_path.rglob("voc_tiny.mindrecord0")
    source = MindRecordSource(first)
    found = [[digest(sample.image), digest(sample.label)] for sample in map(source.read, range(len(source)))]
    assert found == [row[1:] for row in expected_rows("voc_tiny")]


def test_a_file_of_one_blob_field():
    """Its bytes come without a length of their own."""
    path = FILES / "one_blob.mindrecord"
    content, rows = path.read_bytes(), rows_of(read_header(path))
    found = [{**row.fields, "data": digest(content[row.blobs["data"][0] : sum(row.blobs["data"])])} for row in rows]
    assert found == [
        json.loads(line) for line in path.with_name(f"{path.name}.expected.jsonl").read_text().splitlines()
    ]
    with pytest.raises(UserError, match="has the fields data, file_name, id, of these bytes: data; expected, as the"):
        MindRecordSource(path)


def copied(tmp_path, stem="voc_small"):
    for path in FILES.glob(f"{stem}.mindrecord?*"):
        shutil.copy(path, tmp_path)
    return tmp_path / f"{stem}.mindrecord0"


def test_the_database_is_not_needed_but_must_agree(tmp_path):
    first = copied(tmp_path)
    database = first.with_name(f"{first.name}.db")
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE INDEXES SET PAGE_OFFSET_BLOB_END = PAGE_OFFSET_BLOB_END + 1 WHERE ROW_ID = 2")
    connection.close()
    with pytest.raises(
        UserError, match=r"row 2 lies elsewhere than where it was found; remove voc_small.mindrecord0.db"
    ):
        MindRecordSource(first)
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM INDEXES WHERE ROW_ID = 3")
    connection.close()
    with pytest.raises(UserError, match="has 3 rows, the file itself 4"):
        MindRecordSource(first)
    database.write_bytes(b"no database")
    with pytest.raises(UserError, match="cannot be read"):
        MindRecordSource(first)
    database.unlink()
    assert len(MindRecordSource(first)) == 8


@pytest.mark.parametrize(
    ("make", "said"),
    [
        ("CREATE VIEW INDEXES AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT x AS ROW_ID, x AS"
         " PAGE_ID_RAW, x AS PAGE_OFFSET_RAW, x AS PAGE_OFFSET_RAW_END, x AS PAGE_ID_BLOB, x AS PAGE_OFFSET_BLOB, x AS"
         " PAGE_OFFSET_BLOB_END FROM n", "interrupted"),
        ("CREATE VIEW INDEXES AS SELECT 1 AS ROW_ID, hex(zeroblob(400000000)) AS PAGE_ID_RAW, 1 AS PAGE_OFFSET_RAW, 1"
         " AS PAGE_OFFSET_RAW_END, 1 AS PAGE_ID_BLOB, 1 AS PAGE_OFFSET_BLOB, 1 AS PAGE_OFFSET_BLOB_END", "too big"),
        ("CREATE TABLE INDEXES (\"n\udcff\")", "codec can't decode|no such column"),
    ],
    ids=["endless", "large", "not text"],
)  # fmt: skip
def test_a_hostile_database_is_refused_at_once(make, said, tmp_path):
    first = copied(tmp_path)
    database = first.with_name(f"{first.name}.db")
    database.unlink()
    connection = sqlite3.connect(database)
    connection.execute(make.replace("\udcff", "\u00ff\u00ff"))
    connection.commit()
    connection.close()
    if "\udcff" in make:
        database.write_bytes(database.read_bytes().replace("\u00ff\u00ff".encode(), b"\xff\xfe\xff\xfe"))
    begin = time.process_time()
    with pytest.raises(UserError, match=rf"cannot be read \(.*({said}).*; remove voc_small.mindrecord0.db"):
        MindRecordSource(first)
    assert time.process_time() - begin < 1


def test_a_set_must_be_whole(tmp_path):
    first = copied(tmp_path)
    second = first.with_name("voc_small.mindrecord1")
    second.rename(tmp_path / "away")
    with pytest.raises(UserError, match=r"voc_small.mindrecord1: missing; .* says that it is file 1 of 2"):
        MindRecordSource(first)
    shutil.copy(first, second)
    with pytest.raises(UserError, match=r"calls it|not file 1 of the set"):
        MindRecordSource(first)
    with pytest.raises(UserError, match=r"its header calls it voc_small.mindrecord0, one of 2"):
        MindRecordSource(second)


def test_files_of_a_set_have_the_same_fields(tmp_path):
    def one_field(header):
        header["schema"][0]["blob_fields"] = ["data", "label"] if header["shard_id"] == 0 else ["data"]

    first = write_mindrecord(tmp_path / "x.mindrecord", [("a.jpg", b"i", b"l")] * 4, shards=2, change=one_field)
    with pytest.raises(UserError, match=r"x.mindrecord1: not file 1 of the set"):
        MindRecordSource(first)


def test_a_file_alone_may_be_renamed(tmp_path):
    write_mindrecord(tmp_path / "old", [("a.jpg", b"i", b"l")]).rename(tmp_path / "new.mindrecord")
    assert MindRecordSource(tmp_path / "new.mindrecord").read(0)[:3] == ("a", b"i", b"l")


ROWS = [(f"{i}.jpg", bytes([i]) * 900, bytes([i]) * 300) for i in range(7)]


def test_the_tests_own_writer_cuts_pages():
    """Else the damage below would be tried on files of one page."""
    header = read_header(FILES / "voc_calls.mindrecord0")
    assert {page.type for page in header.pages} == {"BLOB_DATA", "RAW_DATA"}
    assert [page.type for page in header.pages].index("RAW_DATA") < len(header.pages) - 1


def broken(**values):
    return lambda header: header.update(values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (broken(version="2.0"), "header at byte 8: version '2.0'; expected 3.0"),
        (broken(compression_size=9), "its rows are compressed"),
        (broken(schema=[]), "0 schemas; expected one"),
        (broken(shard_id=4), "file 4 of 1"),
        (broken(shard_addresses=["a/"]), "a file of the set is named 'a/'"),
        (broken(shard_addresses=["x", "a\0"]), "a file of the set is named"),
        (broken(shard_addresses=[".."]), "a file of the set is named '..'"),
        (broken(header_size=100), "header_size 100; expected at least"),
        (broken(header_size=-1), "byte 8: not a MindRecord's header"),
        (broken(page=[{}]), "byte 8: not a MindRecord's header"),
        (broken(page=None), "byte 8: not a MindRecord's header"),
        (lambda header: header["page"][0].update(page_size=1 << 20), "page 0 ends at byte"),
        (lambda header: header["page"][0].update(page_type="OTHER"), "a page of type 'OTHER'"),
        (lambda header: header["page"][0].update(page_id=1), "not numbered in order"),
        (lambda header: header["page"][0].update(end_row_id=9), "page 0 has rows up to 3; its header says 9"),
        (lambda header: header["page"][2].update(start_row_id=4), "page 2 begins with row 4; expected 3"),
        (
            lambda header: header["page"][0].update(page_size=1250),
            "byte 5,320: a row of 1,216 bytes, where 18 are left",
        ),
        (lambda header: header["page"].pop(), "6 rows of fields and 7 of blobs; expected as many"),
        (lambda header: header["schema"][0].update(blob_fields=["data"]), "has the fields"),
        (
            lambda header: header["schema"][0].update(blob_fields=["data", "label", "x"]),
            "of these bytes: data, label, x",
        ),
        (
            lambda header: header["schema"][0].update(blob_fields=["data", "label", "a\nb"]),
            r"of these bytes: data, label, a\\nb",
        ),
    ],
)
def test_a_header_that_cannot_be_is_refused(change, said, tmp_path):
    path = write_mindrecord(tmp_path / "x.mindrecord", ROWS, page_size=4096, change=change)
    with pytest.raises(UserError, match=said) as refused:
        MindRecordSource(path)
    assert "\n" not in str(refused.value)


def test_flips_and_cuts_are_refused_or_read_and_nothing_else(tmp_path):
    path = write_mindrecord(tmp_path / "x.mindrecord", ROWS, page_size=4096, header_size=1600)
    original, draw, said = path.read_bytes(), random.Random(1), []
    for i in range(500):
        damaged = bytearray(original)
        if i % 3 == 0:
            del damaged[draw.randrange(len(damaged)) :]
        for _ in range(draw.randrange(1, 4) if damaged else 0):
            damaged[draw.randrange(min(len(damaged), 1600) if i % 2 else len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        said.append(outcome_of(path))
    assert sum(map(bool, said)) > 175
    assert not any("\n" in one for one in said)


def outcome_of(path):
    """What reading all rows of a file is refused with, or nothing; anything but a refusal goes through."""
    try:
        source = MindRecordSource(path)
        for i in range(len(source)):
            source.read(i)
    except UserError as error:
        return str(error)
    return ""


@pytest.fixture
def both(tmp_path):
    """The same samples as MindRecord, of three files, and as the tar shards that prepare makes of them."""
    data = write_samples(tmp_path / "data")
    lines = [line.split() for line in (data / "train.txt").read_text().splitlines()]
    rows = [(Path(i).name, (data / i).read_bytes(), (data / label).read_bytes()) for i, label in lines]
    (tmp_path / "records").mkdir()
    first = write_mindrecord(tmp_path / "records/train.mindrecord", rows, shards=3)
    (tmp_path / "records/classes.txt").write_text("red\ngreen\nblue\n")
    tar = tmp_path / "tar/train.tar"
    assert (
        prepare.main(["records", f"--data_file={first}", f"--dst_path={tar}", "--num_shards=2", "--shuffle=False"]) == 0
    )
    return first, tar


def batches(data_file, threads, count=6):
    source = open_records(data_file)
    dataset = TrainingSet(source, Augment(65, 0.5, 2.0, 255), CLASSES, seed=3)
    loader = open_loader(dataset, Schedule(len(source), 4, seed=3), LoaderOptions(threads=threads))
    return list(loader.batches(0, count))


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_are_those_of_the_tar_made_of_it(both, threads):
    mindrecord, tar = (batches(file, threads) for file in both)
    for one, other in zip(mindrecord, tar, strict=True):
        assert one.keys == other.keys
        for a, b in zip(one[:3], other[:3], strict=True):
            assert torch.equal(a, b)


def test_the_conversion_carries_the_classes(both):
    _, tar = both
    entry = json.loads(tar.with_name("dataset.json").read_text())["sets"]["train"]
    assert (entry["classes"], entry["num_classes"], entry["samples"]) == (["red", "green", "blue"], 3, 10)


def test_check_reads_it(both, capsys):
    assert prepare.main(["check", f"--data_file={both[0]}", "--num_classes=3"]) == 0
    assert "green" in capsys.readouterr().out


def test_what_cannot_be_asked_of_it(both):
    first, tar = both
    with pytest.raises(UserError, match=r"--verify=always: .*MindRecord has no checksums"):
        open_records(first, verify="always")
    with pytest.raises(UserError, match="--data_file and --data_lst: expected one of them"):
        prepare.main(["records", f"--data_file={first}", "--data_lst=x", f"--dst_path={tar}"])
    with pytest.raises(UserError, match="is the set that --data_file names"):
        prepare.main(["records", f"--data_file={tar}", f"--dst_path={tar}"])


def test_a_file_that_changes_under_a_run_is_noticed(both):
    source = open_records(both[0])
    source.read(0)
    content = both[0].read_bytes()
    both[0].write_bytes(content[:-1] + b"x")
    with pytest.raises(UserError, match="written to while it was in use"):
        source.read(0)
