"""Tar archives whose headers lead nowhere, take for ever or all memory, and those that do no harm."""

import bz2
import contextlib
import gzip
import io
import lzma
import tarfile
from itertools import islice

import pytest

from deeplab_fast.data.records.scan import scan
from deeplab_fast.errors import UserError
from deeplab_fast.storage.checkpoint import load
from deeplab_fast.storage.tar_members import members_of, open_tar
from deeplab_fast.storage.unpack import unpack
from tests.fuzz.bounds import measured
from tests.fuzz.targets.downloads import FILE, tar_of
from tests.fuzz.targets.records import with_size


@pytest.mark.parametrize("size", [-1024, -512, -(1 << 60)])
def test_a_size_below_0_ends_the_reading(size):
    """It leads tarfile back to a header that it has read; Pythons that are mended take it for the archive's end."""
    data = tar_of(("a", FILE, b""), ("b", FILE, b""), ("c", FILE, b""))
    with open_tar(io.BytesIO(with_size(data, 1, size))) as tar:
        found = []
        with contextlib.suppress(tarfile.ReadError):
            found.extend(member.name for member in islice(members_of(tar), 9))
    assert found == ["a"]


def pax(content, kind=tarfile.XHDTYPE, size=None):
    """A header of that kind before a file's."""
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, len(content)
    blocks = header.tobuf(tarfile.USTAR_FORMAT)
    if size is not None:
        blocks = with_size(blocks, 0, size)
    return blocks + content + bytes(-len(content) % 512)


def read(data, packed=""):
    buffer = io.BytesIO(data)
    if packed:
        buffer = io.BytesIO()
        with {"gz": gzip.open, "xz": lzma.open, "bz2": bz2.open}[packed](buffer, "wb") as file:
            file.write(data)
        buffer.seek(0)
    with open_tar(buffer) as tar:
        return [(member.name, member.size, member.offset_data, member.pax_headers) for member in members_of(tar)]


AFTER = tar_of(("a", FILE, b"content"))


@pytest.mark.parametrize("packed", ["", "gz", "xz", "bz2"])
@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_whole_archives_are_read_as_tarfile_reads_them(tar_format, packed):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format, pax_headers={"comment": "of all"}) as tar:
        for name in ("a", "n" * 90, "\u00e9/" + "d" * 60 + "/" + "n" * 60):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 600, 1.5 if tar_format == tarfile.PAX_FORMAT else 1
            tar.addfile(member, io.BytesIO(bytes(600)))
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as tar:
        expected = [(member.name, member.size, member.offset_data, member.pax_headers) for member in tar]
    assert len(expected) == 3
    assert read(buffer.getvalue(), packed) == expected


@pytest.mark.parametrize("packed", ["", "gz"])
@pytest.mark.parametrize(
    "content",
    [
        b"1" * 100_000,  # CVE-2024-6232
        b"100012 a=" + b"1" * 100_002 + b"\n",
        b"5 aaa" * 20_000,
        b"1 hdrcharset=" * 8_000,
        b"9 a=bcde\n" * 2_000 + b"8 a=bcde\n",
        b"0 a=b\n",
        b"6 a=b\n7 a=b\n",
    ],
    ids=["digits", "a long number", "no value", "no end", "one too short", "length 0", "one too long"],
)
def test_pax_headers_that_are_none_are_refused_at_once(content, packed):
    with measured() as used, pytest.raises(tarfile.ReadError, match="a damaged pax header at byte 0"):
        read(pax(content) + AFTER, packed)
    assert used.seconds < 5


def test_a_pax_header_of_many_records_takes_little_time():
    with measured() as used:
        found = read(pax(b"9 a=bcde\n" * 100_000) + AFTER)
    assert [name for name, *_ in found] == ["a"]
    assert used.seconds < 5  # of one


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_the_size_of_an_extended_header_is_checked_before_it_is_read(kind):
    with pytest.raises(tarfile.ReadError, match="a header of 1,152,921,504,606,846,976 bytes at byte 0"):
        read(pax(b"9 a=bcde\n", kind, 1 << 60) + AFTER)
    with pytest.raises(tarfile.ReadError, match="a size below 0 at byte 0"):
        read(pax(b"9 a=bcde\n", kind, -512) + AFTER)


def test_fields_for_all_members_that_follow_are_few():
    """Each member is given a copy of them."""
    records = b"".join(b"13 k%04d=abc\n" % number for number in range(100))
    assert len(read(pax(records[: 13 * 64], tarfile.XGLTYPE) + AFTER)) == 1
    with pytest.raises(tarfile.ReadError, match="100 fields for all members at byte"):
        read(pax(records, tarfile.XGLTYPE) + AFTER)


def test_headers_before_headers_end_in_an_error():
    """tarfile calls itself for each."""
    with pytest.raises(RecursionError):
        read(pax(b"9 a=bcde\n") * 3000 + AFTER)


def test_an_archive_is_no_checkpoint(tmp_path):
    """torch.load would look for what its version 0.1 wrote."""
    (tmp_path / "a.pth").write_bytes(pax(b"1" * 100_000) + AFTER)
    with measured() as used, pytest.raises(UserError, match=r"a\.pth: not a checkpoint that can be read \(damaged, "):
        load(tmp_path / "a.pth")
    assert used.seconds < 5


def test_a_refused_archive_is_named_in_one_line(tmp_path):
    (tmp_path / "a.tar").write_bytes(pax(b"1" * 100_000) + AFTER)
    with pytest.raises(UserError, match=r"a\.tar: damaged \(.*a damaged pax header at byte 0"):
        unpack(tmp_path / "a.tar", "part", tmp_path, [])
    with pytest.raises(UserError, match=r"a\.tar: not a readable tar shard \(a damaged pax header at byte 0\)"):
        scan(tmp_path / "a.tar")
