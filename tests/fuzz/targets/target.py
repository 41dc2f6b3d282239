"""What a fuzz target of Python is, and what counts as a finding whatever the target."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from deeplab_fast.errors import UserError

MutateBytes = Callable[[bytes, int], bytes]
"""Gives other bytes, of at most that number: libFuzzer's mutation, or :func:`tests.fuzz.mutation.mutate_bytes`."""


@dataclass(frozen=True)
class Target:
    """A reader of files under attack.

    ``read`` is given an input and an empty folder, and may raise :class:`UserError` alone. ``seeds``: names and inputs
    to begin with. ``mutate`` makes another input of one, with a generator and a mutation of plain bytes.
    """

    name: str
    read: Callable[[bytes, Path], None]
    seeds: Callable[[], Iterator[tuple[str, bytes]]]
    mutate: Callable[[bytes, Random, MutateBytes, int], bytes]


def check(target: Target, data: bytes, folder: Path) -> None:
    """Read an input; a refusal must be one line of text that can be printed."""
    for path in folder.iterdir():
        path.unlink()
    try:
        target.read(data, folder)
    except UserError as error:
        said = str(error)
        said.encode()
        if not said or "\n" in said:
            raise AssertionError(f"a refusal that is not one line: {said!r}") from None


def plain(data: bytes, generator: Random, mutate_bytes: MutateBytes, most: int) -> bytes:
    """Mutate an input that has no structure of its own."""
    return mutate_bytes(data, most)
