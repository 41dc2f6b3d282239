"""Records elsewhere: the same samples as from a disk, whatever the server does, each shard fetched once."""

import logging
import os
import shutil
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from deeplab_fast.data.records import RecordOptions, RecordSource, write_records
from deeplab_fast.data.remote import RecordCache, find_records, label_values
from deeplab_fast.data.sources import keys_digest, list_source
from deeplab_fast.errors import UserError
from deeplab_fast.storage import arrivals, download
from tests.data.remote_records import NAMES, SHARDS, as_served, opened, write_sets
from tests.file_server import Answer, serving
from tests.trials.samples import CLASSES, write_samples


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "PAUSES_S", (0.01, 0.02, 0.03))


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture
def server(sets):
    with serving(as_served(sets)) as state:
        yield state


def braces(server):
    return f"{server.url}/r/train-{{00000..0000{SHARDS - 1}}}.tar"


def samples(source):
    return [source.read(i)[:3] for i in range(len(source))]


def shards_of(cache, name="train"):
    return sorted(path.name for path in cache.glob(f"{name}-*/*.tar"))


@pytest.mark.parametrize("name", ["train-{00000..00003}.tar", "train.tar", "train-{00000,00001,00002,00003}.tar"])
def test_the_samples_are_those_of_a_disk(name, server, sets, tmp_path):
    here, there = RecordSource(sets / "train.tar"), opened(f"{server.url}/r/{name}", tmp_path / "cache é x")
    assert keys_digest(here) == keys_digest(there)
    assert samples(here) == samples(there)
    assert sorted(server.asked_for(".tar")) == [f"/r/train-0000{i}.tar" for i in range(SHARDS)]


def test_one_shard_is_a_part_of_the_set(server, sets, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    source = opened(f"{server.url}/r/train-00002.tar", tmp_path)
    assert samples(source) == samples(RecordSource(sets / "train-00002.tar"))
    assert "1 of 4 shards of train: 4 of its 16 samples" in caplog.text


def test_a_folder_is_its_only_set(server, tmp_path):
    with pytest.raises(UserError, match=r"2 sets in this folder; expected one, or the name of one: http.*/r/train.tar"):
        opened(f"{server.url}/r/", tmp_path)
    with serving({k: v for k, v in server.files.items() if "train" not in k and "json" not in k}) as other:
        with pytest.raises(UserError, match=r"HTTP status 404.*expected dataset.json there, or shards' names"):
            opened(f"{other.url}/r/", tmp_path)


def test_a_file_url_is_read_too(sets, tmp_path):
    source = opened(f"{sets.as_uri()}/train.tar", tmp_path)
    assert samples(source) == samples(RecordSource(sets / "train.tar"))


def test_no_shard_is_asked_for_again(server, tmp_path):
    for _ in range(2):
        samples(opened(braces(server), tmp_path))
        assert len(server.asked_for(".tar")) == SHARDS
        assert len(server.asked_for(".idx")) == SHARDS


def test_a_server_that_hangs_does_not_keep_the_program(server, tmp_path, monkeypatch):
    monkeypatch.setattr(arrivals, "_END_S", 0.2)
    server.by_path = {"/r/train-00000.tar": Answer(hold=threading.Event())}
    source = opened(braces(server), tmp_path)
    del source
    assert server.spoke == []


def test_samples_of_a_shard_that_is_here_do_not_wait_for_others(server, sets, tmp_path):
    server.by_path = {"/r/train-00001.tar": Answer(hold=threading.Event())}
    source = opened(braces(server), tmp_path)
    assert source.read(0)[:3] == RecordSource(sets / "train.tar").read(0)[:3]
    assert server.spoke == []
    assert shards_of(tmp_path) == ["train-00000.tar"]


def test_the_order_is_that_of_first_use(server, tmp_path):
    server.by_path = {"/r/train-00000.tar": Answer(hold=threading.Event())}
    source = opened(braces(server), tmp_path)
    source.expect([15, 4, 14, 8])
    server.by_path["/r/train-00000.tar"].hold.set()
    until = time.monotonic() + 60
    while len(server.asked_for(".tar")) < SHARDS and time.monotonic() < until:
        time.sleep(0.02)
    assert [path[-5] for path in server.asked_for(".tar")] == ["0", "3", "1", "2"]


def test_a_server_that_drops_every_third_connection_is_borne(server, sets, tmp_path):
    server.every_third = Answer(stop_after=2_000)
    assert samples(opened(braces(server), tmp_path)) == samples(RecordSource(sets / "train.tar"))
    assert any(begin for _, begin in server.requests)  # gone on with, not begun again


def test_a_slow_server_is_waited_for(server, sets, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(arrivals, "_SAID_S", 0.05)
    caplog.set_level(logging.INFO)
    server.by_path = {"/r/val-00000.tar": Answer(pause_s=0.3, slow=True)}
    assert samples(opened(f"{server.url}/r/val.tar", tmp_path)) == samples(RecordSource(sets / "val.tar"))
    assert "waiting for val-00000.tar: 0 of 1 files are here" in caplog.text


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(content=b"x" * 99), r"has 99 bytes; expected [0-9,]+"),
        (Answer(status=503), r"HTTP status 503 Service Unavailable \(4 tries\)"),
        (Answer(status=403), r"HTTP status 403 Forbidden"),
        (Answer(stop_after=10, knows_ranges=False), r"ended after 10 of [0-9,]+ bytes \(4 tries\)"),
    ],
)
def test_a_shard_that_does_not_come_is_named_where_it_is_needed(answer, words, server, tmp_path):
    server.by_path = {"/r/train-00002.tar": answer}
    source = opened(braces(server), tmp_path)
    source.require(range(8))
    with pytest.raises(UserError, match=rf"train-00002.tar: cannot be downloaded \({server.url}/r/.*: {words}\)"):
        source.require([9])
    source.require([15])  # the others came all the same
    server.by_path = {}
    if answer.status != 403:
        source.require([9])  # and so does this one, now that it can


def test_other_bytes_of_the_same_size_are_refused(server, tmp_path):
    path = "/r/train-00001.tar"
    server.by_path = {path: Answer(content=bytes(reversed(server.files[path])))}
    source = opened(braces(server), tmp_path)
    with pytest.raises(UserError, match=r"its SHA-256 is [0-9a-f]{64}; expected it to be [0-9a-f]{64}"):
        samples(source)
    assert "train-00001.tar" not in shards_of(tmp_path)


def test_an_index_of_another_shard_is_refused(server, tmp_path):
    good = server.files["/r/train-00000.idx"]
    server.files["/r/train-00000.idx"] = server.files["/r/train-00001.idx"]
    with pytest.raises(UserError, match=r"not the shard that dataset\.json describes"):
        opened(braces(server), tmp_path)
    server.files["/r/train-00000.idx"] = good
    assert len(samples(opened(braces(server), tmp_path))) == 16


def test_without_a_description_the_indexes_are_enough(server, sets, tmp_path):
    del server.files["/r/dataset.json"]
    for _ in range(2):
        source = opened(braces(server), tmp_path)
        assert samples(source) == samples(RecordSource(sets / "train.tar"))
        assert len(server.asked_for(".tar")) == SHARDS


def test_without_an_index_a_shard_is_fetched_at_the_start_and_scanned(server, sets, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    server.files = {path: data for path, data in server.files.items() if path.endswith(".tar")}
    source = opened(braces(server), tmp_path)
    assert len(server.asked_for(".tar")) == SHARDS
    assert samples(source) == samples(RecordSource(sets / "train.tar"))
    assert "no index beside train-00000.tar and 3 more: fetched whole before anything else" in caplog.text
    assert "no checksums" in caplog.text
    assert label_values(source) is None


def test_an_index_that_is_none_is_not_kept(server, tmp_path, caplog):
    good, server.files["/r/val-00000.idx"] = server.files["/r/val-00000.idx"], b"{"
    samples(opened(f"{server.url}/r/val.tar", tmp_path))
    assert "val-00000.idx: not an index; the shard is read without it" in caplog.text
    server.files["/r/val-00000.idx"] = good
    caplog.clear()
    samples(opened(f"{server.url}/r/val.tar", tmp_path))
    assert "index" not in caplog.text


def test_a_server_that_is_gone_is_done_without_where_the_cache_has_all(server, sets, tmp_path, caplog):
    url = braces(server)
    samples(opened(url, tmp_path))
    with serving({}) as gone:
        pass
    server.default = Answer(status=503)
    assert samples(opened(url, tmp_path)) == samples(RecordSource(sets / "train.tar"))
    assert "HTTP status 503" in caplog.text
    assert f"going on with what is in {tmp_path}" in caplog.text
    with pytest.raises(UserError, match=r"dataset.json: cannot be downloaded .*Connection refused"):
        opened(f"{gone.url}/r/train.tar", tmp_path)


def test_another_writing_of_a_set_is_another_set(server, tmp_path):
    first = opened(braces(server), tmp_path / "cache")
    again = list_source(tmp_path / "samples", write_samples(tmp_path / "samples", count=18) / "train.txt")
    write_records(again, tmp_path / "again/train.tar", RecordOptions(SHARDS, True, 2, CLASSES, 255, NAMES))
    first.require(range(16))
    server.files |= as_served(tmp_path / "again")
    second = opened(braces(server), tmp_path / "cache")
    assert sorted(samples(first)) == sorted(samples(second))
    assert samples(first) != samples(second)
    assert len(shards_of(tmp_path / "cache")) == 2 * SHARDS


def test_a_shard_cut_short_in_the_cache_is_fetched_again(server, sets, tmp_path, caplog):
    samples(opened(f"{server.url}/r/val.tar", tmp_path))
    shard = next(tmp_path.glob("val-*/val-00000.tar"))
    shard.write_bytes(shard.read_bytes()[:1000])
    assert samples(opened(f"{server.url}/r/val.tar", tmp_path)) == samples(RecordSource(sets / "val.tar"))
    assert "has 1000 bytes" in caplog.text


def test_what_came_is_gone_on_with(server, tmp_path):
    server.by_path = {"/r/val-00000.tar": Answer(stop_after=5_000, knows_ranges=False)}
    with pytest.raises(UserError, match="ended after 5,000"):
        samples(opened(f"{server.url}/r/val.tar", tmp_path))
    server.by_path, server.requests = {}, []
    samples(opened(f"{server.url}/r/val.tar", tmp_path))
    assert ("/r/val-00000.tar", "bytes=5000-") in server.requests


def test_unverified_samples_are_compared_with_the_shard_that_came(server, tmp_path):
    source = opened(f"{server.url}/r/val.tar", tmp_path, verify="never")
    source.read(0)
    shard = Path(source.files()[0])
    os.utime(shard, ns=(1, 1))
    with pytest.raises(UserError, match="was written to while it was in use"):
        source.read(1)


def test_label_values_are_known_before_any_shard_is_here(server, sets, tmp_path):
    server.by_path = {f"/r/train-0000{i}.tar": Answer(status=503) for i in range(SHARDS)}
    known = label_values(opened(braces(server), tmp_path))
    assert label_values(RecordSource(sets / "train.tar")) is None
    assert known is not None
    assert known.sum() == 16 * 96 * 80
    assert np.flatnonzero(known).tolist() == [0, 1, 2]


def size_of(sets, name):
    return sum(path.stat().st_size for path in sets.glob(f"{name}-*.tar"))


def test_a_set_over_the_limit_is_refused_with_the_size_it_takes(server, sets, tmp_path):
    size = size_of(sets, "train")
    with pytest.raises(UserError, match=rf"its shards take {size:,} bytes; expected --record_cache_gb=0\.\d+ or more"):
        opened(braces(server), tmp_path, limit=size - 1)
    assert shards_of(tmp_path) == []
    assert server.asked_for(".tar") == []
    samples(opened(braces(server), tmp_path, limit=size + 100_000))


def test_shards_of_unknown_size_count_too(server, tmp_path):
    server.files = {path: data for path, data in server.files.items() if path.endswith(".tar")}
    with pytest.raises(UserError, match="expected --record_cache_gb="):
        opened(braces(server), tmp_path, limit=100_000)


def test_sets_that_nobody_uses_make_room_and_others_do_not(server, sets, tmp_path):
    limit = size_of(sets, "train") + 20_000
    val = opened(f"{server.url}/r/val.tar", tmp_path, limit=limit)
    samples(val)
    with pytest.raises(UserError, match=r"beside [0-9,]+ of sets in use"):
        opened(braces(server), tmp_path, limit=limit)
    del val
    samples(opened(braces(server), tmp_path, limit=limit))
    assert len(shards_of(tmp_path)) == SHARDS
    assert shards_of(tmp_path, "val") == []


def test_a_full_disk_is_said_before_the_first_byte(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage
    full = type("U", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full if folder == tmp_path else usage(folder))
    with pytest.raises(UserError, match=r"bytes more, and 1,000 are free in .*; expected --record_cache=DIR"):
        opened(braces(server), tmp_path)
    assert server.asked_for(".tar") == []


def test_a_cache_that_is_a_file_is_one_line(server, tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(UserError, match=r"--record_cache=.*f: cannot be made"):
        opened(braces(server), tmp_path / "f")


def note_in(path):
    try:
        return path.read_text()
    except FileNotFoundError:  # of a shard that has come in the meantime
        return ""


def test_user_and_token_are_sent_and_never_said(server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    server.by_path = {"/r/train-00001.tar": Answer(status=500)}
    url = braces(server).replace("http://", "http://me:se%63ret@") + "?sig=to/ken"
    source = opened(url, tmp_path)
    with pytest.raises(UserError) as caught:
        samples(source)
    said = f"{caught.value} {caplog.text}"
    assert "train-00001.tar" in said
    assert set(server.users) == {"Basic bWU6c2VjcmV0"}
    assert all(path.endswith("?sig=to/ken") for path, _ in server.requests)
    kept = "".join(note_in(path) for path in tmp_path.rglob("*") if path.suffix in (".json", ".idx"))
    for secret in ("secret", "se%63ret", "to/ken"):
        assert secret not in said + kept
    server.by_path = {}
    samples(opened(url, tmp_path))


def test_a_password_is_not_sent_to_where_a_server_points(server, sets, tmp_path):
    with serving(as_served(sets)) as other:
        server.default = Answer(status=302, location=f"{other.url}/r/dataset.json")
        with pytest.raises(UserError):
            opened(f"{server.url}/r/none.tar".replace("http://", "http://me:secret@"), tmp_path)
        assert server.users[0] is not None
        assert set(other.users) == {None}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://h/voc-{0..3.tar", "a brace without its other one"),
        ("https://h/voc-{{0..3}}.tar", "a brace without its other one, or one in another"),
        ("https://h/voc-{3..0}.tar", r"\{3..0\} runs backwards"),
        ("https://h/voc-{0..}.tar", r"\{0..\} is no range"),
        ("https://h/voc-{0..99999999}.tar", "names 100,000,000 shards; expected at most"),
        ("https://h/voc-{0..2000}-{0..2000}.tar", "the braces name 4,004,001 shards"),
        ("https://h/{a,b}/voc-0.tar", "braces in a folder's name"),
        ("https://h/voc-{0,0}.tar", "the braces name voc-0.tar twice"),
        ("https://h/voc.zip", "'voc.zip' is not a tar shard's name; a folder's URL ends in /"),
        ("https://h/a%2Fb.tar", "is not a tar shard's name"),
        ("ftp://h/voc.tar", "not a URL that can be read; expected one of http://"),
        ("https:///voc.tar", "not a URL that can be read"),
        ("https://h:port/voc.tar", "not a URL"),
    ],
)
def test_urls_that_make_no_sense(url, words, tmp_path):
    with pytest.raises(UserError, match=f"--val_data_file=.*{words}"):
        find_records(url, RecordCache(tmp_path), "val_data_file")
    assert list(tmp_path.iterdir()) == []


def test_paths_stay_as_they_are(tmp_path):
    for name in ("", "data/voc.tar", "C:\\voc.tar", "data/voc-*.tar"):
        assert find_records(name, RecordCache(tmp_path / "none")) == name
    assert not (tmp_path / "none").exists()


def test_a_description_that_names_other_folders_is_refused(server, tmp_path):
    server.files["/r/dataset.json"] = server.files["/r/dataset.json"].replace(b"val-00000.tar", b"../val-00000.tar")
    with pytest.raises(UserError, match="the shards of val are not named"):
        opened(f"{server.url}/r/val.tar", tmp_path)


def test_what_is_no_description_is_named_by_its_url(server, tmp_path):
    server.files["/r/dataset.json"] = b"<html>"
    with pytest.raises(UserError, match=rf"{server.url}/r/dataset.json: not a dataset description"):
        opened(braces(server), tmp_path)


def arriving():
    return len([thread for thread in threading.enumerate() if thread.name == "arrivals"])


def test_a_source_ends_its_thread(server, tmp_path):
    before = arriving()
    server.by_path = {"/r/train-00000.tar": Answer(slow=True, pause_s=0.1)}
    source = opened(braces(server), tmp_path)
    assert asdict(source.remote.cache) == {"folder": tmp_path, "limit": 0}
    until = time.monotonic() + 60
    while not server.asked_for(".tar") and time.monotonic() < until:
        time.sleep(0.01)
    assert arriving() > before  # in the midst of a shard
    del source
    assert arriving() <= before
