"""Tar archives that somebody else wrote: what tarfile would take their headers for is looked at before."""

import re
import tarfile
from collections.abc import Iterator
from typing import IO, Any, Literal

_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENDED = (*_PAX, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)  # headers that say more of the next member
_MOST_BYTES = 1 << 20  # of such a header: Linux gives the attributes of a file 64 KB
_MOST_FOR_ALL = 64  # fields for all members that follow, of which tarfile gives each a copy; git writes one
_RECORD = re.compile(rb"([0-9]{1,7}) [^=\n]+=")
_LONG_NUMBER = re.compile(rb"[0-9]{64}")


def open_tar(file: IO[bytes], mode: Literal["r:*", "r:"] = "r:*") -> tarfile.TarFile:
    """Open an archive to read it; its headers are checked as they are read (:class:`CheckedMember`).

    Raises:
        tarfile.TarError: its first header is damaged.
        Exception: whatever else tarfile and what unpacks for it say of damaged archives.
        OSError: it cannot be read.
    """
    return tarfile.open(fileobj=file, mode=mode, tarinfo=CheckedMember)


def members_of(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members in the order of the archive.

    Raises:
        tarfile.TarError: a header is damaged, or such a size is in it.
    """
    for member in tar:
        if tar.offset < member.offset_data:  # what a pax header says of the size comes after CheckedMember
            raise tarfile.ReadError(f"a size below 0 at byte {member.offset:,}")
        yield member


class CheckedMember(tarfile.TarInfo):
    """A member whose headers can do no harm.

    A size below 0 leads tarfile back to a header that it has read, and so for ever (CVE-2025-8194), or to the end of
    the file. It searches pax headers in time that grows with the square of their length (CVE-2024-6232), and keeps
    what they say for all members once for each. Newer Pythons are mended but for the last.
    """

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Read what belongs to a header: where tarfile has its subclasses step in."""
        where = f"at byte {self.offset:,}"
        if self.size < 0:
            raise tarfile.ReadError(f"a size below 0 {where}")
        if len(tar.pax_headers) > _MOST_FOR_ALL:
            raise tarfile.ReadError(f"{len(tar.pax_headers):,} fields for all members {where}")
        if self.type in _EXTENDED and self.size > _MOST_BYTES:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes {where}; expected at most {_MOST_BYTES:,}")
        if self.type not in _PAX:
            return self._proceed(tar)
        file = tar.fileobj
        assert file is not None
        content = file.read(-(-self.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
        if not _is_pax(content[: self.size]):
            raise tarfile.ReadError(f"a damaged pax header {where}")
        tar.fileobj = _Returned(content, file)
        try:
            return self._proceed(tar)
        finally:
            tar.fileobj = file

    def _proceed(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return member


def _is_pax(content: bytes) -> bool:
    """Tell whether these are records ``LENGTH KEYWORD=VALUE\\n``, without numbers so long that they cost time."""
    at = 0
    while at < len(content):
        record = _RECORD.match(content, at)
        if record is None:
            return False
        end = at + int(record[1])
        if end < record.end() or content[end - 1 : end] != b"\n":
            return False
        at = end
    return _LONG_NUMBER.search(content) is None


class _Returned:
    """A file of which what was read last is read once more."""

    def __init__(self, content: bytes, file: Any) -> None:
        self._content, self._file = content, file

    def read(self, size: int) -> bytes:
        content, self._content = self._content, b""
        return content or self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
