"""The built-in data set: textured shapes on cluttered backgrounds, as real JPEG and PNG files.

Made at first use, so that the whole program can be tried without any download. A class is known by
its outline, its texture and, less surely, its colour; shapes overlap, are cut by the border, range
from small to most of the image, and have VOC's band of ignored pixels around them.
"""

import colorsys
import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm

from deeplab_fast.storage.files import default_cache, writing
from deeplab_fast.storage.image_files import save_image

CLASSES = ("background", "disc", "box", "triangle", "cross", "ring")
IGNORE_LABEL = 255
TRAIN, VAL = 400, 100
VERSION = 1  # of what is drawn: a new number makes a new folder

_SUPERSAMPLE = 2
_BORDER = 2  # pixels of ignored band on each side of an outline

Array = NDArray[np.float32]


def builtin_data(cache_dir: str | Path = "", train: int = TRAIN, val: int = VAL) -> Path:
    """Return the folder of the data set, made if it is not there: ``images/``, ``labels/``, ``train.txt``, ``val.txt``.

    The files are the same every time on the same machine. An interrupted run leaves nothing half made.

    Raises:
        UserError: the folder cannot be written.
    """
    root = Path(cache_dir) if cache_dir else default_cache()
    folder = root / f"builtin-v{VERSION}-{train}-{val}"
    if (folder / "val.txt").exists():
        return folder
    with writing(f"--cache_dir={root}"):
        root.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=folder.name, dir=root))
    try:
        (work / "images").mkdir()
        (work / "labels").mkdir()
        lines = [
            _write_sample(work, i)
            for i in tqdm(range(train + val), desc="built-in data set", unit="image", disable=None)
        ]
        (work / "train.txt").write_text("".join(lines[:train]))
        (work / "val.txt").write_text("".join(lines[train:]))
        (work / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
        work.chmod(0o755)
        try:
            work.rename(folder)
        except OSError:  # another process was first: its files are the same
            if not (folder / "val.txt").exists():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _write_sample(folder: Path, index: int) -> str:
    image, label = draw_sample(index)
    name = f"{index:05d}"
    save_image(Image.fromarray(image), folder / "images" / f"{name}.jpg", quality=92)
    save_image(Image.fromarray(label), folder / "labels" / f"{name}.png")
    return f"images/{name}.jpg labels/{name}.png\n"


def draw_sample(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw sample ``index``: RGB uint8 ``[H, W, 3]`` and classes uint8 ``[H, W]``, sides of 112 to 176 pixels."""
    rng = np.random.default_rng([VERSION, index])
    height, width = (int(v) for v in rng.integers(112, 177, size=2))
    h, w = height * _SUPERSAMPLE, width * _SUPERSAMPLE
    picture = _background(rng, h, w)
    label = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        kind = int(rng.integers(1, len(CLASSES)))
        outline = _outline(rng, kind, h, w)
        _paint(rng, picture, outline, kind)
        small = outline.resize((width, height), Image.Resampling.NEAREST)
        size = 2 * _BORDER + 1
        grown = np.asarray(small.filter(ImageFilter.MaxFilter(size))) > 0
        shrunk = np.asarray(small.filter(ImageFilter.MinFilter(size))) > 0
        label[grown] = IGNORE_LABEL
        label[shrunk] = kind
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX)), label


def _colour(rng: np.random.Generator, low: float, high: float, hue: float | None = None) -> Array:
    """Draw a colour of brightness between ``low`` and ``high`` and the given or a random hue, on the 0-255 scale."""
    hue = rng.random() if hue is None else hue % 1.0
    saturation, value = rng.uniform(0.25, 0.9), rng.uniform(low, high)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), np.float32) * 255


def _smooth_noise(rng: np.random.Generator, h: int, w: int, cells: int) -> Array:
    """Draw noise in [0, 1] whose features are about ``1 / cells`` of the image."""
    coarse = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    return (np.asarray(coarse.resize((w, h), Image.Resampling.BICUBIC)) / 255).astype(np.float32)


def _background(rng: np.random.Generator, h: int, w: int) -> Array:
    blend = _smooth_noise(rng, h, w, int(rng.integers(3, 9)))[..., None]
    picture = _colour(rng, 0.2, 0.9) * blend + _colour(rng, 0.2, 0.9) * (1 - blend)
    canvas = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(6, 18))):  # clutter: thin lines and specks, no class's outline
        x, y = rng.uniform(0, w), rng.uniform(0, h)
        colour = tuple(int(c) for c in _colour(rng, 0.1, 1.0))
        if rng.random() < 0.6:
            angle, length = rng.uniform(0, math.pi), rng.uniform(0.1, 0.6) * w
            end = (x + length * math.cos(angle), y + length * math.sin(angle))
            draw.line([(x, y), end], fill=colour, width=int(rng.integers(2, 7)))
        else:
            r = rng.uniform(2, 8)
            draw.ellipse([x - r, y - 0.6 * r, x + r, y + 0.6 * r], fill=colour)
    return np.asarray(canvas, np.float32) + rng.normal(0, 10, (h, w, 1)).astype(np.float32)


def _outline(rng: np.random.Generator, kind: int, h: int, w: int) -> Image.Image:
    """Draw a mask (0 or 255) of the shape of class ``kind`` at a random position, size and angle."""
    mask = Image.new("L", (w, h), 0)
    draw = ImageDraw.Draw(mask)
    radius = math.exp(rng.uniform(math.log(0.18), math.log(0.5))) * min(h, w)
    cx, cy = rng.uniform(0.1, 0.9) * w, rng.uniform(0.1, 0.9) * h
    angle = rng.uniform(0, 2 * math.pi)

    def at(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        c, s = math.cos(angle) * radius, math.sin(angle) * radius
        return [(cx + x * c - y * s, cy + x * s + y * c) for x, y in points]

    name = CLASSES[kind]
    if name in ("disc", "ring"):
        draw.ellipse([cx - radius, cy - radius, cx + radius, cy + radius], fill=255)
        if name == "ring":
            r = radius * rng.uniform(0.45, 0.55)
            draw.ellipse([cx - r, cy - r, cx + r, cy + r], fill=0)
    elif name == "box":
        a = rng.uniform(0.6, 1.0)
        draw.polygon(at([(-0.9, -0.9 * a), (0.9, -0.9 * a), (0.9, 0.9 * a), (-0.9, 0.9 * a)]), fill=255)
    elif name == "triangle":
        draw.polygon(at([(1.1, 0), (-0.6, 0.95), (-0.6, -0.95)]), fill=255)
    else:
        t = rng.uniform(0.4, 0.5)
        draw.polygon(at([(-1, -t), (1, -t), (1, t), (-1, t)]), fill=255)
        draw.polygon(at([(-t, -1), (t, -1), (t, 1), (-t, 1)]), fill=255)
    return mask


def _dots(rng: np.random.Generator, u: Array, v: Array) -> Array:
    return (np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.3).astype(np.float32)


def _checks(rng: np.random.Generator, u: Array, v: Array) -> Array:
    return ((np.floor(u) + np.floor(v)) % 2).astype(np.float32)


def _stripes(rng: np.random.Generator, u: Array, v: Array) -> Array:
    return ((1.5 * u) % 1 < 0.5).astype(np.float32)


def _hatch(rng: np.random.Generator, u: Array, v: Array) -> Array:
    return ((u % 1 < 0.3) | (v % 1 < 0.3)).astype(np.float32)


def _blotches(rng: np.random.Generator, u: Array, v: Array) -> Array:
    h, w = u.shape
    return (_smooth_noise(rng, h, w, max(4, w // 16)) > 0.5).astype(np.float32)


_TEXTURES: tuple[Callable[[np.random.Generator, Array, Array], Array], ...] = (
    _dots,
    _checks,
    _stripes,
    _hatch,
    _blotches,
)
_HUES = (0.02, 0.22, 0.42, 0.62, 0.82)  # typical of each class; neighbours meet at two and a half spreads
_HUE_SPREAD = 0.04


def _paint(rng: np.random.Generator, picture: Array, outline: Image.Image, kind: int) -> None:
    """Fill the outline in ``picture`` with its class's texture in two colours, and shade it."""
    box = outline.getbbox()
    if box is None:
        return
    left, top, right, bottom = box
    h, w = bottom - top, right - left
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    angle, period = rng.uniform(0, math.pi), rng.uniform(9, 16) * _SUPERSAMPLE
    u = (x * math.cos(angle) + y * math.sin(angle)) / period
    v = (y * math.cos(angle) - x * math.sin(angle)) / period
    pattern = _TEXTURES[kind - 1](rng, u, v)[..., None]
    hue = rng.normal(_HUES[kind - 1], _HUE_SPREAD)
    dark, light = _colour(rng, 0.15, 0.45, hue), _colour(rng, 0.65, 1.0, hue)
    fill = dark * (1 - pattern) + light * pattern
    fill = fill * (0.75 + 0.5 * _smooth_noise(rng, h, w, 3)[..., None]) + rng.normal(0, 8, (h, w, 1))
    mask = np.asarray(outline.filter(ImageFilter.BoxBlur(1)), np.float32)[top:bottom, left:right, None] / 255
    picture[top:bottom, left:right] = picture[top:bottom, left:right] * (1 - mask) + fill * mask
