"""Writes the fuzz targets' seeds: ``python -m tests.fuzz.make_seeds [FOLDER]``, else into ``seeds/`` beside it."""

import sys
from pathlib import Path

from .image_seeds import jpegs, pngs, window
from .number_seeds import batches, confusions
from .targets import TARGETS

SEEDS = Path(__file__).parent / "seeds"


def main(folder):
    for kind, images in (("jpeg", jpegs()), ("png", pngs())):
        for number, (name, data) in enumerate(images):
            write(folder / kind / name, data + window(number))
    for kind, numbers in (("confusion", confusions()), ("loader", batches())):
        for name, data in numbers:
            write(folder / kind / name, data)
    for target in TARGETS.values():
        for name, data in target.seeds():
            write(folder / target.name / name, data)


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
