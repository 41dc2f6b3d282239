"""Fuzzes targets without atheris: ``python -m tests.fuzz.soak [--seconds=60] [--seed=1] [--out=FOLDER] TARGET ...``.

Inputs are drawn from the seeds and from what was mutated before. A finding is what atheris would find; it is left in
``--out``, and the others go on. ``--seconds`` are of CPU time.
"""

import argparse
import hashlib
import logging
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random

from .mutation import mutate_bytes
from .targets import TARGETS
from .targets.target import MOST_BYTES, check

logger = logging.getLogger(__name__)

POOL = 400
ROOM = 2 << 30


def limit_memory():
    """Let the process grow by no more than the machine can bear: a reader may pass over what fails for want of it."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))


def attack(target, folder, seconds, seed, inputs=None):
    """Yield (input, what went wrong) of mutated inputs, for as long or of that number."""
    generator = Random(f"{target.name} {seed}")
    pool = [data for _, data in target.seeds()]
    kept, end, count = len(pool), time.process_time() + seconds, 0
    while time.process_time() < end and count != inputs:
        count += 1
        data = generator.choice(pool)
        data = target.mutate(data, generator, lambda data, most: mutate_bytes(data, most, generator), MOST_BYTES)
        try:
            check(target, data, folder)
        except Exception:
            yield data, traceback.format_exc()
            continue
        if generator.random() < 0.3:
            if len(pool) < POOL:
                pool.append(data)
            else:
                pool[generator.randrange(kept, POOL)] = data
    logger.info("%s: %d inputs", target.name, count)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--list", action="store_true", help="print the targets' names, and end")
    parser.add_argument("targets", nargs="*")
    flags = parser.parse_args()
    if flags.list:
        print(*TARGETS)
        return 0
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    logging.getLogger("deeplab_fast").setLevel(logging.CRITICAL)
    flags.out.mkdir(parents=True, exist_ok=True)
    found = set()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        for name in flags.targets or TARGETS:
            if len(flags.targets) == 1:
                limit_memory()
            for data, wrong in attack(TARGETS[name], Path(folder), flags.seconds, flags.seed):
                place = [line for line in wrong.splitlines() if line.startswith("  File ")][-1]
                if (key := (name, place)) not in found:
                    found.add(key)
                    path = flags.out / f"{name}-{hashlib.sha1(data).hexdigest()[:12]}"
                    path.write_bytes(data)
                    print(f"{path}\n{wrong}", flush=True)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
