"""The cache of records: a folder for each version of a set, within a limit; what nobody uses makes room."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from deeplab_fast.errors import UserError
from deeplab_fast.storage.files import default_cache, lock, make_folder, writing
from deeplab_fast.storage.locks import lock_folder
from deeplab_fast.storage.partial import partial_path

USED = "used"  # in each folder; whoever uses the folder shares this file's lock. It holds the bytes that are to come.
GB = 1e9


@dataclass(frozen=True)
class RecordCache:
    """A folder that shards come into, and how many bytes its sets may have together (0: any number)."""

    folder: Path
    limit: int = 0

    @classmethod
    def of(cls, config: Any) -> "RecordCache":
        """Return the cache that the flags ``record_cache`` and ``record_cache_gb`` of a configuration describe."""
        folder = Path(config.record_cache) if config.record_cache else default_cache() / "records"
        return cls(folder, round(config.record_cache_gb * GB))

    @property
    def flag(self) -> str:
        return f"--record_cache={self.folder}"

    def make(self) -> None:
        """Make the folder, or raise :class:`UserError`, which names the flag."""
        make_folder(self.folder, self.flag)

    def enter(self, name: str) -> IO[bytes]:
        """Make the folder of a set and return an open file: as long as it is, the folder stays.

        Raises:
            UserError: it cannot be made.
        """
        folder = self.folder / name
        with writing(self.flag), lock_folder(self.folder):
            folder.mkdir(exist_ok=True)
            used = (folder / USED).open("a+b")
            lock(used.fileno(), wait=True, shared=True)
            os.utime(used.fileno())
        return used

    def reserve(self, used: IO[bytes], shards: dict[str, int], text: str) -> None:
        """Make room for the shards, bytes by name, of the set whose :meth:`enter` gave ``used``.

        Sets that no process uses are removed, those first that were used longest ago.

        Raises:
            UserError: that is not enough, or the disk has too little; says how much it takes.
        """
        own = Path(os.fsdecode(used.name)).parent
        with writing(self.flag), lock_folder(self.folder):
            there = _shards_in(own)
            total = sum((there | shards).values())
            _promise(used, total)
            self._make_room(own, total, text)
            missing = sum(size for name, size in shards.items() if name not in there)
            coming = missing - sum(_size(partial_path(own / name)) for name in shards if name not in there)
            free = shutil.disk_usage(self.folder).free
        if free < coming:
            raise UserError(
                f"{text}: its shards take {coming:,} bytes more, and {free:,} are free in {self.folder}; expected"
                " --record_cache=DIR on a larger disk"
            )

    def _make_room(self, own: Path, total: int, text: str) -> None:
        if not self.limit:
            return
        others = {path.parent: _taken_by(path.parent) for path in self.folder.glob(f"*/{USED}") if path.parent != own}
        if total <= self.limit:
            for folder in sorted(others, key=lambda folder: (folder / USED).stat().st_mtime_ns):
                if total + sum(others.values()) <= self.limit:
                    break
                if _removed(folder):
                    others.pop(folder)
        taken = sum(others.values())
        if total + taken > self.limit:
            beside = f", beside {taken:,} of sets in use" if total <= self.limit else ""
            raise UserError(
                f"{text}: its shards take {total:,} bytes{beside}; expected --record_cache_gb={_gb(total + taken)} or"
                f" more (it is {self.limit / GB:g}), or 0 for no limit: an epoch reads all of them"
            )


def _shards_in(folder: Path) -> dict[str, int]:
    return {path.name: _size(path) for path in folder.glob("*.tar")}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _promise(used: IO[bytes], total: int) -> None:
    os.ftruncate(used.fileno(), 0)
    used.write(str(total).encode())
    used.flush()


def _taken_by(folder: Path) -> int:
    """Return the bytes of a set's folder: what is there, or, where more is to come, all of that."""
    there = sum(_size(path) for path in folder.iterdir() if path.name != USED)
    with (folder / USED).open("rb") as used:
        try:
            is_idle = lock(used.fileno(), wait=False)
        except OSError:
            is_idle = False
        promised = used.read(20)
    return there if is_idle or not promised.isdigit() else max(there, int(promised))


def _removed(folder: Path) -> bool:
    """Remove a set's folder, unless a process uses it or that cannot be known."""
    with (folder / USED).open("rb") as used:
        try:
            if not lock(used.fileno(), wait=False):
                return False
        except OSError:
            return False
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        return not folder.exists()
    return False


def _gb(size: int) -> str:
    """Return bytes as GB, rounded up."""
    return f"{-(-size // 10**6) / 1000:.3f}".rstrip("0").rstrip(".")
