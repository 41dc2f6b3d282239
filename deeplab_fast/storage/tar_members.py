"""The members of tar archives that somebody else wrote."""

import tarfile
from collections.abc import Iterator


def members_of(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members in the order of the archive.

    A size below 0 leads tarfile back to a header that it has read, and so for ever (CVE-2025-8194; older Pythons).

    Raises:
        tarfile.TarError: a header is damaged, or such a size is in it.
    """
    for member in tar:
        if tar.offset < member.offset_data:
            raise tarfile.ReadError(f"a size below 0 at byte {member.offset:,}")
        yield member
