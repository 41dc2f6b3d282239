"""Downloads: whole and right or not at all, gone on with where they ended, by one process at a time."""

import errno
import hashlib
import logging
import os

import pytest

from deeplab_fast.errors import UserError
from deeplab_fast.storage import download as module
from deeplab_fast.storage import partial, transfer
from deeplab_fast.storage.download import download
from deeplab_fast.storage.remote import check_published
from tests.download.fetching import CONTENT, OTHER, SHA256, fetch, is_whole, names, remote_at
from tests.file_server import Answer, serving


def test_a_file_is_downloaded_once(server, tmp_path):
    folder = tmp_path / "new folder é"
    assert fetch(server, folder)
    assert is_whole(folder)
    assert not fetch(server, folder)
    assert server.requests == [("/w.bin", None)]


def test_what_a_download_left_that_was_stopped_as_it_ended_is_removed(server, tmp_path):
    assert fetch(server, tmp_path)
    (tmp_path / "w.bin.partial.json").write_text("{}")
    assert not fetch(server, tmp_path)
    assert is_whole(tmp_path)


@pytest.mark.parametrize("known", [{"sha256": SHA256[:8]}, {"md5": hashlib.md5(CONTENT).hexdigest()}])
def test_what_is_published_of_a_digest_is_enough(known, server, tmp_path):
    assert fetch(server, tmp_path, **known)
    assert is_whole(tmp_path)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_dropped_connection_is_gone_on_with(chunked, server, tmp_path):
    server.answers = [Answer(stop_after=100_000, chunked=chunked), Answer(stop_after=50_000, chunked=chunked)]
    assert fetch(server, tmp_path)
    assert is_whole(tmp_path)
    assert server.requests == [("/w.bin", None), ("/w.bin", "bytes=100000-"), ("/w.bin", "bytes=150000-")]


def test_any_number_of_drops_is_borne_while_bytes_come(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WORTH", 20_000)
    server.answers = [Answer(stop_after=30_000) for _ in range(9)]
    assert fetch(server, tmp_path)
    assert is_whole(tmp_path)
    assert len(server.requests) == 10


def test_a_server_without_ranges_gives_the_whole_again(server, tmp_path):
    server.answers = [Answer(stop_after=100_000), Answer(knows_ranges=False)]
    assert fetch(server, tmp_path)
    assert is_whole(tmp_path)


def test_without_a_validator_nothing_is_gone_on_with(server, tmp_path):
    server.etags["/w.bin"] = ""
    server.answers = [Answer(stop_after=100_000)]
    assert fetch(server, tmp_path)
    assert server.requests == [("/w.bin", None)] * 2


def test_a_weak_etag_is_no_validator(server, tmp_path):
    server.etags["/w.bin"] = 'W/"1"'
    server.answers = [Answer(stop_after=100_000)]
    assert fetch(server, tmp_path)
    assert server.requests == [("/w.bin", None)] * 2


def test_a_changed_file_is_begun_again(server, tmp_path):
    server.default = Answer(stop_after=10_000, content=OTHER)
    with pytest.raises(UserError, match="ended after"):
        fetch(server, tmp_path)
    assert "w.bin.partial" in names(tmp_path)
    server.default, server.etags["/w.bin"] = Answer(), '"2"'
    assert fetch(server, tmp_path)
    assert server.requests[-1] == ("/w.bin", "bytes=40000-")
    assert is_whole(tmp_path)


def test_a_wrong_part_is_not_joined(server, tmp_path):
    server.answers = [Answer(stop_after=100_000), Answer(range_from=90_000)]
    assert fetch(server, tmp_path)
    assert is_whole(tmp_path)
    assert [asked for _, asked in server.requests] == [None, "bytes=100000-", None]


def test_a_part_that_does_not_exist_means_to_begin_anew(server, tmp_path):
    """All bytes came, but not the word that they are all: there is nothing to ask for after them."""
    server.answers = [Answer(chunked=True, stop_after=len(CONTENT))]
    assert fetch(server, tmp_path, sha256=SHA256)
    assert is_whole(tmp_path)
    assert [asked for _, asked in server.requests] == [None, "bytes=300000-", None]


def test_a_length_that_lies_is_an_error_and_leaves_no_file(server, tmp_path):
    server.default = Answer(length=len(CONTENT) + 5, knows_ranges=False)
    with pytest.raises(UserError, match=r"has 300,005 bytes; expected 300,000\); get it elsewhere and save it as"):
        fetch(server, tmp_path)
    with pytest.raises(UserError, match=r"ended after 300,000 of 300,005 bytes"):
        fetch(server, tmp_path, sha256=SHA256)
    assert len(server.requests) == 1 + 4
    assert not (tmp_path / "w.bin").exists()


def test_other_bytes_are_dropped_and_the_next_url_is_tried(server, tmp_path, caplog):
    server.answers = [Answer(content=OTHER)]
    urls = (f"{server.url}/w.bin", f"{server.url}/again/w.bin")
    with caplog.at_level(logging.INFO, "deeplab_fast"):
        assert download(remote_at(*urls), tmp_path / "w.bin")
    assert is_whole(tmp_path)
    found = hashlib.sha256(OTHER).hexdigest()
    assert f"{urls[0]}: its SHA-256 is {found}; expected it to be {SHA256}; trying {urls[1]}" in caplog.text


def test_other_bytes_everywhere_leave_nothing(server, tmp_path):
    server.default = Answer(content=OTHER)
    with pytest.raises(
        UserError, match=rf"w\.bin: its SHA-256 is [0-9a-f]{{64}}; expected it to begin with {SHA256[:8]}"
    ):
        fetch(server, tmp_path, sha256=SHA256[:8])
    assert names(tmp_path) == []
    assert len(server.requests) == 1


def test_more_bytes_than_the_size_are_not_stored(server, tmp_path):
    server.default = Answer(chunked=True)
    with pytest.raises(UserError, match="gives more than the 1,000 bytes"):
        fetch(server, tmp_path, size=1000)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (503, 4), (429, 4)])
def test_a_status_is_said_and_tried_again_where_that_helps(status, tries, server, tmp_path):
    server.default = Answer(status=status)
    with pytest.raises(UserError, match=f"HTTP status {status} .*save it as {tmp_path}/w.bin") as caught:
        fetch(server, tmp_path)
    assert len(server.requests) == tries
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_a_status_that_passes(server, tmp_path):
    server.answers = [Answer(status=503), Answer(stop_after=1000), Answer(status=500)]
    assert fetch(server, tmp_path)
    assert is_whole(tmp_path)


def test_a_url_that_fails_leaves_what_came_from_another(server, tmp_path):
    """The bytes of the second URL are gone on with although the first, which is tried before it, has none."""
    urls = (f"{server.url}/none.bin", f"{server.url}/w.bin")
    server.answers = [Answer(), *[Answer(stop_after=10_000)] * 4]
    with pytest.raises(UserError, match=r"none\.bin: HTTP status 404 Not Found; .*w\.bin: ended after 40,000"):
        download(remote_at(*urls), tmp_path / "w.bin")
    assert download(remote_at(*urls), tmp_path / "w.bin")
    assert server.requests[-1] == ("/w.bin", "bytes=40000-")
    assert is_whole(tmp_path)


def test_a_silent_server_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT_S", 0.1)
    server.default = Answer(pause_s=0.4)
    with pytest.raises(UserError, match=r"no answer within 0\.1 s"):
        fetch(server, tmp_path)
    assert len(server.requests) == 4


def test_redirections_are_followed_to_http_alone(server, tmp_path):
    server.answers = [Answer(status=302, location=f"{server.url}/again/w.bin")]
    assert fetch(server, tmp_path / "a")
    server.default = Answer(status=302, location="ftp://127.0.0.1:1/w.bin")
    with pytest.raises(UserError, match="unknown url type: ftp"):
        fetch(server, tmp_path / "b")
    (tmp_path / "w.bin").write_bytes(CONTENT)
    server.default = Answer(status=302, location=(tmp_path / "w.bin").as_uri())
    with pytest.raises(UserError, match="HTTP status 302"):
        fetch(server, tmp_path / "c")
    server.default = Answer(status=302, location=f"{server.url}/w.bin")
    with pytest.raises(UserError, match="HTTP status 302") as caught:
        fetch(server, tmp_path / "d")
    assert "\n" not in str(caught.value)


def test_file_urls(tmp_path):
    (tmp_path / "a b é.bin").write_bytes(CONTENT)
    assert download(remote_at((tmp_path / "a b é.bin").as_uri()), tmp_path / "out/w.bin")
    assert is_whole(tmp_path / "out")
    with pytest.raises(UserError, match="No such file or directory"):
        download(remote_at((tmp_path / "none").as_uri()), tmp_path / "other/w.bin")


def test_a_proxy_is_used(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    server.files["http://elsewhere.invalid/w.bin"] = CONTENT
    assert download(remote_at("http://elsewhere.invalid/w.bin"), tmp_path / "w.bin")
    assert is_whole(tmp_path)


def test_no_network_is_one_line_that_says_where_to_put_the_file(tmp_path):
    with serving({}) as gone:
        url = f"{gone.url}/w.bin"
    with pytest.raises(UserError) as caught:
        download(remote_at(url), tmp_path / "w.bin", "or give --other=DIR")
    expected = (
        f"w.bin: cannot be downloaded ({url}: Connection refused (4 tries)); get it elsewhere and save it as"
        f" {tmp_path}/w.bin"
    )
    assert str(caught.value) == f"{expected}; or give --other=DIR"
    assert names(tmp_path) == []


@pytest.mark.fault("a disk that is full, dead or turns read-only")
def test_a_full_disk_is_said_before_the_first_byte(server, tmp_path, monkeypatch):
    monkeypatch.setattr(partial.shutil, "disk_usage", lambda folder: type("U", (), {"free": 1000}))
    with pytest.raises(UserError, match=r"1,000 bytes are free; expected 300,000"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []


@pytest.mark.fault("a disk that is full, dead or turns read-only")
def test_a_disk_that_fills_keeps_what_came(server, tmp_path, monkeypatch):
    whole = partial.Partial.add

    def add(self, data):
        if self.came > 100_000:
            full = type(
                "F", (), {"write": lambda _, data: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left"))}
            )
            self.file, file = full(), self.file
            self.file.fileno = file.fileno
        whole(self, data)

    monkeypatch.setattr(partial.Partial, "add", add)
    with pytest.raises(UserError, match=r"w\.bin\.partial: cannot be written \(No space left\)"):
        fetch(server, tmp_path)
    monkeypatch.undo()
    assert 100_000 < (tmp_path / "w.bin.partial").stat().st_size < len(CONTENT)
    assert fetch(server, tmp_path)
    assert server.requests[-1][1] is not None
    assert is_whole(tmp_path)


def test_a_folder_that_takes_no_files(server, tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(partial.os, "open", refuse)
    with pytest.raises(UserError, match=r"w\.bin: cannot be written \(Read-only file system\); give --x"):
        download(remote_at(f"{server.url}/w.bin"), tmp_path / "w.bin", "give --x")
    (tmp_path / "w.bin").write_bytes(CONTENT)
    assert not fetch(server, tmp_path)  # a file that is there needs no writing
    assert server.requests == []


def test_a_file_in_the_folders_place(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"file/w\.bin: cannot be written"):
        fetch(server, tmp_path / "file")


def test_another_file_under_the_name_is_kept_and_named(server, tmp_path):
    (tmp_path / "w.bin").write_bytes(OTHER)
    with pytest.raises(UserError, match=r"w\.bin: its SHA-256 is .*; move it away to have it downloaded again"):
        fetch(server, tmp_path)
    assert (tmp_path / "w.bin").read_bytes() == OTHER
    with pytest.raises(UserError, match=r"cannot be read|has [\d,]+ bytes"):
        check_published(remote_at("http://x/w.bin"), tmp_path)


@pytest.mark.parametrize("mirror", ["ftp://x/w.bin", "w.bin", "/srv/w.bin", "http://", "http://[x", ""])
def test_a_mirror_is_a_url(mirror):
    with pytest.raises(UserError, match="--mirror: not a URL that can be read; expected http://"):
        remote_at("http://x/w.bin").tried_first_at(mirror, "--mirror")


def test_a_mirror_is_tried_first():
    remote = remote_at("http://x/w.bin")
    assert remote.tried_first_at("https://m/a b/", "m").urls == ("https://m/a%20b/w.bin", "http://x/w.bin")
    assert remote.tried_first_at("file:///m/other", "m").urls == ("file:///m/other", "http://x/w.bin")
