"""Puts files through both native decoders and prints what came of it, as JSON; a program of its own, so that a
crash or a sanitizer's report ends only it. ``python decode_files.py FILE`` reads paths, one a line."""

import json
import random
import sys
import time
from pathlib import Path

from deeplab_fast import _C

WINDOWS = 4


def peak_mb():
    """Of this program alone (getrusage counts the parent's memory too), or None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def random_window(generator, height, width):
    top, left = generator.randrange(height), generator.randrange(width)
    return top, generator.randint(top + 1, height), left, generator.randint(left + 1, width)


def windows_of(decode, data, whole, generator):
    """(window, what was wrong with it) pairs: pixels that differ from the whole's, or a refusal."""
    wrong = []
    for _ in range(WINDOWS):
        window = top, bottom, left, right = random_window(generator, *whole.shape[:2])
        try:
            part = decode(data, window)
        except _C.DecodeError as error:
            wrong.append((window, f"refused: {error}"))
            continue
        if part.tobytes() != whole[top:bottom, left:right].tobytes():
            wrong.append((window, "other pixels than the whole's"))
    return wrong


def result_of(name, data, generator):
    decode = getattr(_C, name)
    refusal, shape, wrong = None, None, []
    start = time.perf_counter()
    try:
        whole = decode(data)
    except _C.DecodeError as error:
        refusal = str(error)
    seconds = time.perf_counter() - start
    if refusal is None:
        shape = whole.shape
        wrong = windows_of(decode, data, whole, generator)
    return {"refusal": refusal, "shape": shape, "seconds": seconds, "wrong_windows": wrong}


def main(paths):
    before = peak_mb()
    results = {}
    for path in paths:
        data = Path(path).read_bytes()
        generator = random.Random(len(data))
        results[path] = {name: result_of(name, data, generator) for name in ("decode_image", "decode_label")}
    growth = None if before is None else peak_mb() - before
    json.dump({"extension": _C.__file__, "growth_mb": growth, "files": results}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]).read_text().splitlines())
