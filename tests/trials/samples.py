"""A dozen small images with three classes, and flags that train on them in seconds."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 3


def write_samples(root: Path, count: int = 12, size: tuple[int, int] = (96, 80), classes: int = CLASSES) -> Path:
    """``root/images/NN.jpg``, ``root/labels/NN.png`` and ``root/train.txt``; ``size`` is (width, height).

    Vertical bands, one a class, each of a colour of its own under noise; the last two images are also in ``val.txt``'s
    place: ``train.txt`` lists all but two, ``val.txt`` those two.
    """
    rng = np.random.default_rng(0)
    width, height = size
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "labels").mkdir(exist_ok=True)
    colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [200, 200, 40]])[:classes]
    lines = []
    for i in range(count):
        edges = np.sort(rng.choice(np.arange(8, width - 8), classes - 1, replace=False))
        label = np.broadcast_to(np.searchsorted(edges, np.arange(width), "right"), (height, width)).astype(np.uint8)
        image = np.clip(colours[label] + rng.normal(0, 20, (height, width, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"{i:02}.jpg", quality=95)
        Image.fromarray(label).save(root / "labels" / f"{i:02}.png")
        lines.append(f"images/{i:02}.jpg labels/{i:02}.png\n")
    (root / "train.txt").write_text("".join(lines[:-2]))
    (root / "val.txt").write_text("".join(lines[-2:]))
    return root


def small(*flags: str) -> list[str]:
    """Flags of a run that takes seconds, then ``flags``."""
    return [
        *("--backbone=resnet18", "--crop_size=65", "--batch_size=4", f"--num_classes={CLASSES}", "--num_workers=1"),
        *("--device_target=CPU", "--precision=fp32", "--base_lr=0.01"),  # the same on every machine
        *flags,
    ]
