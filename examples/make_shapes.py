"""Draw a small data set, the same at each run: trees and houses on a meadow, 80 pictures of 160 x 120 pixels.

``python examples/make_shapes.py mine`` writes them into ``mine/images`` and ``mine/masks``."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CLASSES = ("meadow", "tree", "house")  # a pixel of a mask holds the number of its class
SIZE = (160, 120)


def tint(rng: np.random.Generator, colour: tuple[int, int, int]) -> tuple[int, ...]:
    """Return a colour near ``colour``."""
    return tuple(int(v) for v in np.clip(rng.normal(colour, 20), 0, 255))


def outline(rng: np.random.Generator, kind: int) -> Image.Image:
    """Draw one tree (1) or house (2) as a mask of 0 and 255."""
    draw = ImageDraw.Draw(mask := Image.new("L", SIZE))
    x, y, r = rng.uniform(10, SIZE[0] - 10), rng.uniform(25, SIZE[1] - 10), rng.uniform(16, 40)
    if kind == 1:
        draw.rectangle([x - r / 6, y, x + r / 6, y + r], fill=255)
        for dx, dy in rng.uniform(-r / 2, r / 2, (6, 2)):
            draw.ellipse([x + dx - r / 2, y + dy - r / 2, x + dx + r / 2, y + dy + r / 2], fill=255)
    else:
        draw.polygon([(x - r, y), (x, y - r), (x + r, y), (x + 0.8 * r, y + r), (x - 0.8 * r, y + r)], fill=255)
    return mask


def draw_sample(index: int) -> tuple[Image.Image, Image.Image]:
    """Draw picture ``index`` and its mask."""
    rng = np.random.default_rng(index)
    picture, mask = Image.new("RGB", SIZE, tint(rng, (120, 150, 60))), Image.new("L", SIZE)
    for kind in rng.permutation([1, 1, 2, 2])[: rng.integers(1, 4)]:
        shape = outline(rng, int(kind))
        picture.paste(tint(rng, (40, 95, 45) if kind == 1 else (165, 90, 70)), mask=shape)
        mask.paste(int(kind), mask=shape)
    light = np.linspace(*rng.uniform(0.7, 1.1, 2), SIZE[0])[None, :, None]
    seen = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.8))) * light + rng.normal(0, 14, (SIZE[1], SIZE[0], 1))
    return Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8)), mask


def main(root: Path, count: int = 80) -> None:
    """Write the pictures, the masks and ``classes.txt`` into ``root``."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image, mask = draw_sample(index)
        image.save(root / f"images/{index:03}.jpg", quality=92)
        mask.save(root / f"masks/{index:03}.png")
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    print(f"{count} images with their masks in {root}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
