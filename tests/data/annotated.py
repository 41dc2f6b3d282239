"""Small images and the labels that tools leave beside them, and outlines rasterised by their definition alone."""

import json

import numpy as np
import pytest
from PIL import Image

from deeplab_fast import prepare
from deeplab_fast.data.annotations.convert import make_label
from deeplab_fast.errors import UserError
from deeplab_fast.ops import DEFAULT_DECODING
from deeplab_fast.prepare.label_format import FormatConfig, read_label_set

HEIGHT, WIDTH = 120, 160


def make_image(path, height=HEIGHT, width=WIDTH, orientation=1):
    """Write an image as it is stored, with an EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
    pixels = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)


def write(path, content):
    """Write a JSON object or text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def write_mask(path, values):
    """Write an array as a PNG of the kind that it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def without_sheet(monkeypatch):
    """Leave the sheet empty: drawing it takes longer than everything else."""
    monkeypatch.setattr("deeplab_fast.prepare.label_output.draw_sheet", lambda *_: b"")


def convert(root, source, *flags):
    """Run ``prepare labels`` on ``root/images``; returns the label of each image by its name."""
    arguments = [f"--input={root / source}", f"--image_dir={root / 'images'}", f"--output={root / 'labels'}"]
    assert prepare.main(["labels", *arguments, "--num_workers=0", *flags]) == 0
    files = sorted((root / "labels").rglob("*.png"))
    return {path.relative_to(root / "labels").with_suffix("").as_posix(): np.array(Image.open(path)) for path in files}


def refused(root, source, *flags):
    """Return the one line with which ``prepare labels`` refuses; no label is written."""
    with pytest.raises(UserError) as error:
        convert(root, source, *flags)
    assert "\n" not in str(error.value)
    return str(error.value)


def names(root):
    return (root / "classes.txt").read_text().splitlines()


def inside(points, height=HEIGHT, width=WIDTH, at=0.5):
    """Tell which pixels' middles, ``at`` of a pixel from its corner, an outline holds: crossings to the left, odd."""
    y, x = np.mgrid[:height, :width] + at
    odd = np.zeros((height, width), bool)
    points = np.asarray(points, float)
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
        crosses = (y1 <= y) != (y2 <= y)
        at_x = x1 + (y - y1) / (y2 - y1 if y2 != y1 else 1) * (x2 - x1)
        odd ^= crosses & (at_x < x)
    return odd


def near(points, height=HEIGHT, width=WIDTH, at=0.5, limit=0.5):
    """Tell which pixels' middles, ``at`` of a pixel from its corner, are within ``limit`` of an outline."""
    y, x = np.mgrid[:height, :width] + at
    close = np.zeros((height, width), bool)
    points = np.asarray(points, float)
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        along = b - a
        share = np.clip(((x - a[0]) * along[0] + (y - a[1]) * along[1]) / max(along @ along, 1e-9), 0, 1)
        close |= np.maximum(abs(x - a[0] - share * along[0]), abs(y - a[1] - share * along[1])) <= limit
    return close


def agreement(found, expected):
    """Return the share of pixels that are equal."""
    assert found.shape == expected.shape
    return float((found == expected).mean())


def damaged(data: bytes, seed: int) -> bytes:
    """Return a file's content with bytes changed, cut off, or a part of it twice."""
    draw = np.random.default_rng(seed)
    kind, at = seed % 4, int(draw.integers(0, len(data)))
    if kind == 0:
        return data[:at]
    if kind == 1:
        length = int(draw.integers(1, 40))
        return data[:at] + data[at + length :]
    if kind == 2:
        start = int(draw.integers(0, len(data)))
        return data[:at] + data[start : start + 30] + data[at:]
    changed = bytearray(data)
    for place in draw.integers(0, len(data), int(draw.integers(1, 4))):
        changed[place] = int(draw.choice([*b'0123456789-eE.,:"[]{}<>/&; ', 0, 255, int(draw.integers(0, 256))]))
    return bytes(changed)


def survives(root, source, damage: bytes, file: str = "") -> bool:
    """Read labels, of which ``file`` (else ``source``) is damaged, and draw them; tell whether there was a result.

    Anything but a result or an error of one line fails.
    """
    (root / (file or source)).write_bytes(damage)
    config = FormatConfig(input=str(root / source), image_dir=str(root / "images"))
    said = ""
    try:
        labels = read_label_set(config, {}, [], "")
        drawn = [make_label(label, DEFAULT_DECODING)[0] for label in labels.labels]
        assert all(set(np.unique(label)) <= {*range(len(labels.names)), 255} for label in drawn)
    except UserError as error:
        said = str(error)
    assert "\n" not in said
    return not said
