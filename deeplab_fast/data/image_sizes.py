"""The usual size of a source's images, from the headers of some."""

from collections.abc import Sequence
from functools import partial

from tqdm import tqdm

from deeplab_fast.errors import UserError
from deeplab_fast.ops import Decoding, image_size

from .sources import Source, as_they_come
from .threads import ordered_map

_MOST = 1024  # images looked at, spread over the source


def median_side(source: Source, decoding: Decoding, threads: int) -> tuple[int, int]:
    """Return the median of the images' longer sides in pixels, the smaller of two, and over how many images it is.

    It is of all images or, of many, of some that lie spread over the source: the same ones whoever asks. An image that
    cannot be read does not count: whoever uses its sample says so.

    Raises:
        UserError: none of them can be read; says why of the first.
    """
    indexes = range(0, len(source), -(-len(source) // _MOST))
    come = as_they_come(source, indexes)
    found = ordered_map(partial(_longer_side, source, decoding), come, threads, 8 * threads)
    results = list(tqdm(found, total=len(indexes), desc="sizes", unit="image", leave=False, disable=None))
    sides: Sequence[int] = sorted(side for side in results if isinstance(side, int))
    if not sides:
        raise UserError(f"--crop_size=auto: none of {len(indexes)} images can be read, the first: {results[0]}")
    return sides[(len(sides) - 1) // 2], len(sides)


def _longer_side(source: Source, decoding: Decoding, index: int) -> int | str:
    """Return the longer side, or why there is none."""
    try:
        sample = source.read(index)
        return max(image_size(sample.image, sample.image_where, decoding))
    except UserError as error:
        return str(error)
