"""A contact sheet of labels: images, and their classes' colours over them."""

import io
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deeplab_fast.data.sources import read_bytes
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.palette import palette
from deeplab_fast.ops import Decoding, decode_image, decode_label

logger = logging.getLogger("deeplab_fast")

MOST = 16  # pairs
_PAIRS_A_ROW = 4
_SIDE = 320  # pixels of the longer side
_OPACITY = 0.6


def draw_sheet(
    pairs: Sequence[tuple[Path, Path]], names: Sequence[str], ignore_label: int, decoding: Decoding
) -> bytes:
    """Draw up to 16 of the ``pairs`` of image and label, spread over the set, with a legend of the classes shown.

    Returns a PNG file. A pair that cannot be read is left off, which is logged.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    chosen = [pairs[int(i)] for i in np.linspace(0, len(pairs) - 1, min(MOST, len(pairs)))]
    colours = palette()
    colours[ignore_label] = 255
    rows, columns = -(-len(chosen) // _PAIRS_A_ROW), 2 * min(_PAIRS_A_ROW, len(chosen))
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.2 * columns, 2 * rows + 1), squeeze=False, layout="constrained"
    )
    shown: set[int] = set()
    for axis in axes.flat:
        axis.set_axis_off()
    for i, (image_file, label_file) in enumerate(chosen):
        try:
            image, label = _small_pair(image_file, label_file, decoding)
        except UserError as error:
            logger.warning("not on the sheet: %s", error)
            continue
        shown |= set(np.unique(label).tolist())
        left, right = axes.flat[2 * i], axes.flat[2 * i + 1]
        left.imshow(image)
        left.set_title(_short(image_file.name), fontsize=7, parse_math=False)
        right.imshow((_OPACITY * colours[label] + (1 - _OPACITY) * image).astype(np.uint8))
    patches = [
        Patch(facecolor=colours[c] / 255, edgecolor="gray", label=_legend(c, names, ignore_label))
        for c in sorted(shown)
    ]
    figure.suptitle(f"{len(chosen)} of {len(pairs):,} labels")
    figure.legend(handles=patches, loc="outside lower center", ncols=max(1, min(columns, len(patches))), frameon=False)
    drawn = io.BytesIO()
    try:
        figure.savefig(drawn, format="png", dpi=100)
    finally:
        plt.close(figure)
    return drawn.getvalue()


def _small_pair(image_file: Path, label_file: Path, decoding: Decoding) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return an image ``[h, w, 3]`` and its label ``[h, w]``, made small enough for the sheet."""
    image = Image.fromarray(decode_image(read_bytes(image_file), str(image_file), decoding))
    label = Image.fromarray(decode_label(read_bytes(label_file), str(label_file), decoding))
    share = min(1.0, _SIDE / max(image.size))
    size = max(1, round(share * image.width)), max(1, round(share * image.height))
    return np.asarray(image.resize(size)), np.asarray(label.resize(size, Image.Resampling.NEAREST))


def _legend(number: int, names: Sequence[str], ignore_label: int) -> str:
    name = "ignored" if number == ignore_label else names[number]
    return name.replace("$", r"\$")  # else matplotlib reads formulas


def _short(name: str, most: int = 28) -> str:
    return name if len(name) <= most else f"{name[: most - 3]}..."
