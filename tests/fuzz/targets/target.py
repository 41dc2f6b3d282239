"""What a fuzz target of Python is, and what counts as a finding whatever the target."""

import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from deeplab_fast.errors import UserError
from deeplab_fast.ops.input.decoding import Decoding
from tests.fuzz.bounds import measured
from tests.fuzz.mutation import mutate_json

from .parts import join, split

MutateBytes = Callable[[bytes, int], bytes]
"""Gives other bytes, of at most that number: libFuzzer's mutation, or :func:`tests.fuzz.mutation.mutate_bytes`."""

MOST_BYTES = 8192  # of an input
DECODING = Decoding(max_pixels=1 << 16)  # an image may take the memory of as many pixels as its file only claims


@dataclass(frozen=True)
class Target:
    """A reader of files under attack.

    ``read`` is given an input and an empty folder, and may raise :class:`UserError` alone. ``seeds``: names and inputs
    to begin with. ``mutate`` makes another input of one, with a generator and a mutation of plain bytes.
    ``cpu_seconds`` and ``megabytes``: what an input of :data:`MOST_BYTES` may take at most, also where atheris counts
    every branch.
    """

    name: str
    read: Callable[[bytes, Path], None]
    seeds: Callable[[], Iterator[tuple[str, bytes]]]
    mutate: Callable[[bytes, Random, MutateBytes, int], bytes]
    cpu_seconds: float
    megabytes: float


_warm: set[str] = set()


def check(target: Target, data: bytes, folder: Path) -> None:
    """Read an input: a refusal must be one line of text that can be printed, and the target's bounds hold.

    Before its first input a target reads its first seed, so that what is imported at first use is not counted.
    """
    if target.name not in _warm:
        _warm.add(target.name)
        read_or_refuse(target, next(target.seeds())[1], folder)
    with measured() as used:
        read_or_refuse(target, data, folder)
    if used.seconds > target.cpu_seconds:
        raise AssertionError(f"took {used.seconds:.1f} s of CPU time; expected at most {target.cpu_seconds:g} s")
    if used.megabytes > target.megabytes:
        raise AssertionError(f"took {used.megabytes:.0f} MB; expected at most {target.megabytes:g} MB")


def read_or_refuse(target: Target, data: bytes, folder: Path) -> None:
    """Read an input in a folder emptied for it; raises all but a refusal in one line of text that can be printed."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(data, folder)
    except UserError as error:
        said = str(error)
        said.encode()
        if not said or "\n" in said:
            raise AssertionError(f"a refusal that is not one line: {said!r}") from None


def plain(data: bytes, generator: Random, mutate_bytes: MutateBytes, most: int) -> bytes:
    """Mutate an input that has no structure of its own."""
    return mutate_bytes(data, most)


def mutate_parts(count: int) -> Callable[[bytes, Random, MutateBytes, int], bytes]:
    """Return a mutation of one of the ``count`` files of an input, as JSON where it is some."""

    def mutate(data: bytes, generator: Random, mutate_bytes: MutateBytes, most: int) -> bytes:
        parts = split(data, count)
        at = generator.randrange(count)
        mutated = mutate_json(parts[at], generator) if generator.random() < 0.6 else None
        parts[at] = mutated or mutate_bytes(parts[at], max(len(parts[at]) + 64, 256))
        return join(*parts)[:most]

    return mutate
