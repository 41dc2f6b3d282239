"""Archives unpacked whole or not at all."""

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tqdm import tqdm

from ..errors import UserError
from .files import reason
from .locks import lock_folder
from .tar_members import members_of, open_tar

_PREFIX = ".unpacking-"


def unpack(archive: Path, part: str, root: Path, holds: Sequence[str]) -> None:
    """Unpack a tar archive, compressed or not, so that its folder ``part`` appears as ``root/part``, complete.

    Links out of the archive, devices and names outside ``root`` are refused. What is beside ``part`` in the archive
    comes too where its folder is new. Of two processes one unpacks, and the other waits. ``holds``: paths that must be
    in ``part``.

    Raises:
        UserError: the archive is damaged, unsafe or another one, the disk is full or ``root`` cannot be written.
    """
    if not hasattr(tarfile, "data_filter"):
        raise UserError(f"{archive}: not unpacked, as this Python checks no archive; expected Python 3.11.4 or later")
    try:
        with _alone_in(root):
            if (root / part).is_dir():
                return
            _check_free(root, _least_size(archive), archive)
            with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=root) as name:
                _extract(archive, Path(name))
                missing = missing_of(Path(name) / part, holds)
                if missing is not None:
                    raise UserError(f"{archive}: holds no {part}/{missing}; expected the published archive")
                _move(Path(name), Path(part), root)
    except OSError as error:
        raise UserError(f"{root / part}: cannot be unpacked from {archive.name} ({reason(error)})") from None


def remove_left(root: Path) -> None:
    """Remove what a process that was killed while it unpacked into ``root`` left there, if it can be removed."""
    with suppress(OSError, UserError):
        with _alone_in(root):
            pass


def missing_of(folder: Path, holds: Sequence[str]) -> str | None:
    """Return the first of the paths ``holds`` that is not in ``folder``, None where all are."""
    return next((name for name in holds if not (folder / name).exists()), None)


def _extract(archive: Path, folder: Path) -> None:
    size = archive.stat().st_size
    with (
        archive.open("rb") as file,
        tqdm(
            desc=f"unpack {archive.name}", total=size, unit="B", unit_scale=True, unit_divisor=1024, disable=None
        ) as bar,
    ):
        try:
            with open_tar(file) as tar:
                for member in _members(tar, file, bar):
                    _check_free(folder, member.size, archive)
                    tar.extract(member, folder, filter="data")
        except tarfile.FilterError as error:
            raise UserError(f"{archive}: unsafe ({' '.join(str(error).split())}); nothing of it was kept") from None
        except (OSError, UserError):
            raise
        except Exception as error:  # tarfile and what unpacks for it let many kinds out of damaged archives
            raise UserError(f"{archive}: damaged ({' '.join(str(error).split())})") from None


def _members(tar: tarfile.TarFile, file: IO[bytes], bar: tqdm) -> Iterator[tarfile.TarInfo]:
    """Yield the archive's members in order, and let ``bar`` follow."""
    for member in members_of(tar):
        yield member
        bar.update(file.tell() - bar.n)


def _check_free(folder: Path, needed: int, archive: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(f"{folder}: {free:,} bytes are free; expected at least {needed:,} to unpack {archive.name}")


def _least_size(archive: Path) -> int:
    """Return how many bytes the content has at least: a gzip file ends in that number, modulo 2^32."""
    size = archive.stat().st_size
    with archive.open("rb") as file:
        if file.read(2) != b"\x1f\x8b" or size < 18:
            return size
        file.seek(-4, os.SEEK_END)
        return max(size, int.from_bytes(file.read(4), "little"))


def _move(work: Path, part: Path, root: Path) -> None:
    """Give the topmost folder of ``part`` that ``root`` lacks its place there."""
    for place in (*reversed(part.parents), part):
        if place != Path() and not (root / place).exists():
            os.rename(work / place, root / place)
            return


@contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    """Keep others that unpack into ``root`` out of the block; remove what one that was killed left there."""
    with lock_folder(root) as has_locks:
        if has_locks:
            for left in root.glob(f"{_PREFIX}*"):
                shutil.rmtree(left, ignore_errors=True)
        yield
