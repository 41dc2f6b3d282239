"""Objects of a store: read, gone on with and refused as files of a server are; fsspec's memory stands for the store."""

import hashlib
import sys

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from deeplab_fast.errors import UserError
from deeplab_fast.storage import download as module
from deeplab_fast.storage.download import NotPublished, download
from deeplab_fast.storage.remote import RemoteFile

CONTENT = bytes(i * i % 251 for i in range(300_000))
URL = "s3://bucket/sets/w.bin"


class Store(MemoryFileSystem):
    """A store under ``s3://`` whose reads can break off; ``reads`` are the positions that were read from."""

    protocol = "s3"
    store: dict = {}  # noqa: RUF012 (fsspec's own)
    pseudo_dirs = [""]  # noqa: RUF012
    versions = "a"
    breaks: list[int] = []  # noqa: RUF012 (positions)
    reads: list[int] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("s3://"))

    def info(self, path, **options):
        return {**super().info(path, **options), "ETag": f'"{self.versions}"'}

    def _open(self, path, mode="rb", **options):
        file = super()._open(path, mode, **options)
        return Breaking(self, file) if mode == "rb" else file


class Breaking:
    def __init__(self, store, file):
        self.store, self.file = store, file

    def seek(self, position):
        self.file.seek(position)

    def read(self, count):
        self.store.reads.append(self.file.tell())
        if self.store.breaks and self.file.tell() >= self.store.breaks[0]:
            self.store.breaks.pop(0)
            raise ConnectionError("reset by https://key:hush@host/w?sig=hush")
        return self.file.read(count)

    def close(self):
        self.file.close()


@pytest.fixture(autouse=True)
def store(monkeypatch):
    monkeypatch.setattr(module, "PAUSES_S", (0.01, 0.02, 0.03))
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "s3", Store)
    Store.clear_instance_cache()
    for name, value in (("store", {}), ("breaks", []), ("reads", []), ("versions", "a")):
        monkeypatch.setattr(Store, name, value)
    files = Store()
    files.pipe("/bucket/sets/w.bin", CONTENT)
    return Store


def remote():
    return RemoteFile("w.bin", (URL,), sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))


def test_an_object_is_downloaded(tmp_path):
    assert download(remote(), tmp_path / "w.bin")
    assert (tmp_path / "w.bin").read_bytes() == CONTENT


def test_a_read_that_breaks_off_is_gone_on_with(store, tmp_path):
    store.breaks = [100_000, 200_000]
    assert download(remote(), tmp_path / "w.bin")
    assert (tmp_path / "w.bin").read_bytes() == CONTENT
    assert store.reads.count(0) == 1


def test_another_version_is_begun_again(store, tmp_path):
    store.breaks = [100_000] * 4
    with pytest.raises(UserError, match=r"ConnectionError: reset by https://host/w \(4 tries\)") as caught:
        download(remote(), tmp_path / "w.bin")
    assert "hush" not in str(caught.value)
    store.versions = "b"
    assert download(remote(), tmp_path / "w.bin")
    assert (tmp_path / "w.bin").read_bytes() == CONTENT
    assert store.reads.count(0) == 2


def test_no_object_is_said(store, tmp_path):
    store.store.clear()
    with pytest.raises(NotPublished, match=r"s3://bucket/sets/w.bin: no such object: "):
        download(remote(), tmp_path / "w.bin")


def test_the_package_that_is_missing_is_named(tmp_path, monkeypatch):
    def refuse(url):
        raise ImportError("Install gcsfs")

    monkeypatch.setattr("fsspec.core.url_to_fs", refuse)
    with pytest.raises(UserError, match=r"needs gcsfs; pip install 'deeplab_fast\[remote\]'"):
        download(RemoteFile("w.bin", ("gs://bucket/w.bin",)), tmp_path / "w.bin")
