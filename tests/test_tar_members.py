"""Tar archives whose headers lead nowhere."""

import contextlib
import io
import tarfile
from itertools import islice

import pytest

from deeplab_fast.storage.tar_members import members_of
from tests.fuzz.targets.downloads import FILE, tar_of
from tests.fuzz.targets.records import with_size


@pytest.mark.parametrize("size", [-1024, -512, -(1 << 60)])
def test_a_size_below_0_ends_the_reading(size):
    """It leads tarfile back to a header that it has read; Pythons that are mended take it for the archive's end."""
    data = tar_of(("a", FILE, b""), ("b", FILE, b""), ("c", FILE, b""))
    with tarfile.open(fileobj=io.BytesIO(with_size(data, 1, size))) as tar:
        found = []
        with contextlib.suppress(tarfile.ReadError):
            found.extend(member.name for member in islice(members_of(tar), 9))
    assert found == ["a"]
