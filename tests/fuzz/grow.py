"""Gives targets large inputs, a piece of which is repeated: ``python -m tests.fuzz.grow [--seconds=60] [TARGET ...]``.

What takes time that grows with the square of the input, as regular expressions can, does not show in eight kilobytes. A
finding is an input of 128 KB that takes half a second, and more than eight times as long as one whose piece is repeated
a quarter as often, or sixteen times the memory that eight kilobytes may; what :mod:`.soak` finds is one, too.
``--seconds`` are of CPU time, of each target.
"""

import argparse
import logging
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from .bounds import measured
from .targets import TARGETS
from .targets.target import MOST_BYTES, Target, read_or_refuse

LARGE = 1 << 17  # bytes
# torch.load searches what it says of a name that it refuses in time that grows with the square of the name's length.
LEFT_OUT = ("torch_files",)
LEAST_S, MOST_S = 0.5, 20  # of CPU time: too little to be a finding, and one in any case
RATIO = 8  # four for what is linear, sixteen for the square
PIECES = (
    *(b"1", b"a", b" ", b"\n", b"\0", b"\xff", b"\t", b"-", b".", b"/", b"\\", b'"', b"'", b"#", b"\xc3\xa9"),
    *(b"[", b"{", b"(", b"<", b"[[", b'{"a":', b"<a>", b"&lt;", b"&a ", b"*a ", b"- ", b"a: ", b"{a: "),
    *(b"0 ", b"1,", b"a=", b"../", b"\r\n", b"x: 1\r\n", b"a://", b"9 a=b\n", b"\xff\0", b"\xff\xd0"),
)


class TooSlow(BaseException):
    """No ``Exception``, which readers take for damage."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise :class:`TooSlow` in the block after so much CPU time, on systems that can."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(*_):
        raise TooSlow

    former = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, former)


def grown(target: Target, data: bytes, seed: str, size: int) -> bytes:
    """Return the input with a piece repeated to ``size`` bytes, where the target's own mutation puts bytes."""
    generator = Random(seed)

    def repeat(data: bytes, _: int) -> bytes:
        at = generator.randrange(len(data) + 1)
        own = data[at : at + generator.choice((1, 1, 2, 3, 4, 8, 16, 24))]
        piece = generator.choice(PIECES)
        piece = own if own and generator.random() < 0.4 else piece
        return data[:at] + piece * (size // len(piece)) + data[at:]

    return target.mutate(data, generator, repeat, 2 * LARGE)


def seconds_of(target: Target, data: bytes, folder: Path) -> float:
    """Return the CPU time that an input takes; raises what a target may not, and where it takes too much memory."""
    with measured() as used:
        try:
            with at_most(MOST_S):
                read_or_refuse(target, data, folder)
        except TooSlow:
            return MOST_S
    most = target.megabytes * LARGE / MOST_BYTES
    if used.megabytes > most:
        raise AssertionError(f"took {used.megabytes:.0f} MB; expected at most {most:g} MB")
    return used.seconds


def attack(target: Target, folder: Path, seconds: float, seed: object, inputs: int | None = None) -> Iterator[str]:
    """Yield what is wrong with grown inputs, for so long or of that number."""
    generator = Random(f"{target.name} {seed}")
    seeds = sorted(target.seeds())
    for _, data in seeds:
        read_or_refuse(target, data, folder)  # what is imported at first use
    end, count = time.process_time() + seconds, 0
    while time.process_time() < end and count != inputs:
        count += 1
        name, data = generator.choice(seeds)
        way = f"{generator.random()}"
        try:
            large, small = grown(target, data, way, LARGE), grown(target, data, way, LARGE // 4)
            taken = seconds_of(target, large, folder)
            if taken < LEAST_S:
                continue
            of_small = seconds_of(target, small, folder)
            if taken < MOST_S:  # once more: Python's collection of garbage takes a second of a large process
                taken = min(taken, seconds_of(target, large, folder))
            if taken >= MOST_S or (taken > LEAST_S and taken > RATIO * of_small):
                yield f"{target.name}: {name}, {way}: {of_small:.2f} s, and {taken:.2f} s for four times as much"
        except Exception:
            yield f"{target.name}: {name}, {way}: {traceback.format_exc()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", default="1")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all of them where none")
    flags = parser.parse_args()
    logging.getLogger("deeplab_fast").setLevel(logging.CRITICAL)
    found = set()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        for name in flags.targets or (name for name in TARGETS if name not in LEFT_OUT):
            for wrong in attack(TARGETS[name], Path(folder), flags.seconds, flags.seed):
                place = [line for line in wrong.splitlines() if line.startswith("  File ")][-1:]
                if (key := (name, *(place or [wrong.split(", ")[0]]))) not in found:
                    found.add(key)
                    print(wrong, flush=True)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
