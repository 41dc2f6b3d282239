"""Fuzzes a target of Python with atheris: ``python with_atheris.py TARGET [FLAG ...] [CORPUS ...]``.

Anything that comes out other than a :class:`UserError` of one line is a finding.
"""

import logging
import random
import sys
import tempfile
from pathlib import Path

import atheris

READERS = ["data", "model.weights", "config", "ops.input", "prepare", "storage", "report", "compare.results"]

with atheris.instrument_imports(include=[*(f"deeplab_fast.{name}" for name in READERS), "tarfile"]):
    from tests.fuzz.targets import TARGETS
    from tests.fuzz.targets.target import check


def main():
    target = TARGETS[sys.argv.pop(1)]
    logging.getLogger("deeplab_fast").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:

        def mutate(data, most, seed):
            return target.mutate(bytes(data), random.Random(seed), atheris.Mutate, most)

        atheris.Setup(sys.argv, lambda data: check(target, data, Path(folder)), custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
