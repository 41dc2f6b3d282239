"""Segment a folder of images: of each an overlay, and which share of it each class covers.

``python examples/segment_folder.py run mine/images seen``; the first is a run's folder or a file of weights.
"""

import csv
import sys
from pathlib import Path

import deeplab_fast


def main(weights: Path, folder: Path, output: Path) -> None:
    """Write ``output/NAME.jpg`` for each image and ``output/shares.csv``."""
    segment = deeplab_fast.Segmenter(weights, batch_size=4)
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    output.mkdir(parents=True, exist_ok=True)
    with open(output / "shares.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", *segment.names])
        for path, result in zip(paths, segment.each(paths), strict=True):  # one batch in memory at a time
            result.overlay(legend=True).save(output / f"{path.stem}.jpg")
            table.writerow([path.name, *(f"{area.share:.4f}" for area in result.areas())])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
