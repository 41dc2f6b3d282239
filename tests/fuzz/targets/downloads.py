"""What the network brings: answers to requests, after what an earlier try left; and archives."""

import gzip
import hashlib
import http.client
import io
import json
import os
import tarfile
import urllib.request
from contextlib import contextmanager
from unittest import mock

from deeplab_fast.storage import download
from deeplab_fast.storage.halt import Halt
from deeplab_fast.storage.partial import partial_path
from deeplab_fast.storage.remote import RemoteFile
from deeplab_fast.storage.unpack import unpack

from .parts import join, split
from .records import mend_tar, mutate_field, with_size
from .target import Target, mutate_parts

# ---------------------------------------------------------------- answers

CONTENT = b"what is published"
URL = "http://files.example/x.bin"
ANSWERS = 3


class _Socket:
    def __init__(self, answer):
        self.answer = answer

    def sendall(self, data):
        pass

    def makefile(self, mode):
        return io.BytesIO(self.answer)

    def close(self):
        pass


@contextmanager
def answering(answers):
    """Each connection gets the next answer; once there is none left, it is refused."""
    left = list(answers)

    class Connection(http.client.HTTPConnection):
        def connect(self):
            if not left:
                raise ConnectionRefusedError(111, "Connection refused")
            self.sock = _Socket(left.pop(0))

    def http_open(self, request):
        return self.do_open(Connection, request)

    with (
        mock.patch.object(urllib.request.HTTPHandler, "http_open", http_open),
        mock.patch.object(urllib.request.HTTPSHandler, "https_open", http_open),
        mock.patch.object(Halt, "sleep", lambda self, seconds: self.check()),
        mock.patch.dict(os.environ, {"no_proxy": "*"}),
    ):
        yield


def read_answers(data, folder):
    about, partial, *answers = split(data, 2 + ANSWERS)
    path = folder / "x.bin"
    if partial:
        partial_path(path).write_bytes(partial)
        partial_path(path).with_name("x.bin.partial.json").write_bytes(about)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    remote = RemoteFile("x.bin", (URL,), sha256 if len(about) % 2 else "", most=4096)
    try:
        with answering(answers):
            download.download(remote, path, shows_bar=False)
    finally:
        if path.exists():
            assert path.stat().st_size <= 4096
            assert not remote.sha256 or path.read_bytes() == CONTENT
    assert path.exists()


def answer(*headers, status="200 OK", body=CONTENT):
    return f"HTTP/1.1 {status}\r\n{''.join(f'{one}' + chr(13) + chr(10) for one in headers)}\r\n".encode() + body


def answers_seeds():
    whole = answer(f"Content-Length: {len(CONTENT)}", 'ETag: "a"')
    about = json.dumps({"url": URL, "validator": '"a"', "total": len(CONTENT)}).encode()
    rest = answer(f"Content-Range: bytes 4-16/{len(CONTENT)}", "Content-Length: 13", status="206 Partial Content",
                  body=CONTENT[4:])  # fmt: skip
    yield "whole", join(b"", b"", b"", b"", whole)
    yield "sealed", join(b"x", b"", b"", b"", whole)
    yield "range", join(about, CONTENT[:4], rest, b"", b"")
    yield "range-sealed", join(about + b" " * (1 - len(about) % 2), CONTENT[:4], rest, whole, b"")
    yield "no-range", join(about, CONTENT[:4], answer(status="416 Range Not Satisfiable"), whole, b"")
    redirect = answer("Location: https://other.example/y", "Content-Length: 0", status="302 Found", body=b"")
    yield "redirect", join(b"", b"", redirect, answer(status="503 Busy"), whole)
    yield "chunked", join(b"", b"", b"", whole, answer("Transfer-Encoding: chunked", body=b"4\r\nwhat\r\n0\r\n\r\n"))
    yield "cut", join(b"", b"", b"", answer("Content-Length: 99", 'ETag: "b"'), answer("Last-Modified: x"))
    yield "nested", join(b"[" * 3000, CONTENT[:4], b"", b"", whole)


# ---------------------------------------------------------------- archives


def read_archive(data, folder):
    """Nothing may appear outside the folder, and nothing in it may lead out."""
    inside, archive = folder / "inside", folder / "x.tar"
    inside.mkdir()
    archive.write_bytes(data)
    try:
        unpack(archive, "part", inside, ["a"])
    finally:
        assert sorted(path.name for path in folder.iterdir()) == ["inside", "x.tar"]
        for parent, _, _ in os.walk(inside):
            assert os.path.realpath(parent).startswith(os.path.realpath(inside))
        assert set(os.listdir(inside)) <= {"part"}, os.listdir(inside)
    assert (inside / "part" / "a").exists()


def mutate_archive(data, generator, mutate_bytes, most):
    """Half of the inputs are mutated behind compression and checksums."""
    if generator.random() < 0.3:
        return mutate_bytes(data, most)
    packed = data[:2] == b"\x1f\x8b"
    try:
        tar = gzip.decompress(data)[: 1 << 17] if packed else data
    except (OSError, EOFError, ValueError):
        return mutate_bytes(data, most)
    except Exception:  # zlib.error, which has no base but Exception
        return mutate_bytes(data, most)
    tar = mend_tar(mutate_field(tar, generator, mutate_bytes))
    return (gzip.compress(tar, mtime=0) if packed else tar)[:most]


def tar_of(*members, mode="w", tar_format=tarfile.GNU_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=tar_format) as tar:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(content)
            else:
                member.linkname = content
            tar.addfile(member, io.BytesIO(content) if kind == tarfile.REGTYPE else None)
    data = buffer.getvalue()
    return data[: tar.offset + 2 * tarfile.BLOCKSIZE] if mode == "w" else data


FILE, FOLDER, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def archive_seeds():
    whole = (("part", FOLDER, ""), ("part/a", FILE, b"content"))
    yield "plain", tar_of(*whole)
    yield "gzip", tar_of(*whole, mode="w:gz")
    yield "xz", tar_of(*whole, mode="w:xz")
    yield "bzip2", tar_of(*whole, mode="w:bz2")
    yield "pax", tar_of(*whole, ("part/\u00e9" + "n" * 120, FILE, b""), tar_format=tarfile.PAX_FORMAT)
    yield "links", tar_of(*whole, ("part/b", LINK, "a"), ("part/c", HARD, "part/a"))
    yield "out", tar_of(*whole, ("part/b", LINK, "../../x"), ("part/b/c", FILE, b""))
    yield "absolute", tar_of(("/part/a", FILE, b""), ("../b", FILE, b""), ("part/d", HARD, "/etc/passwd"))
    yield "bomb", tar_of(("part/a", FILE, bytes(1 << 21)), mode="w:gz")
    yield "cut", tar_of(*whole, mode="w:xz")[:-20]
    yield "loop", with_size(tar_of(*whole), 0, -512)


TARGETS = (
    Target("answers", read_answers, answers_seeds, mutate_parts(2 + ANSWERS), cpu_seconds=2, megabytes=64),
    # Eight kilobytes of bzip2 or xz hold many megabytes, which are written to the disk; xz's own tables take the rest.
    Target("archives", read_archive, archive_seeds, mutate_archive, cpu_seconds=10, megabytes=128),
)
