"""The usual size of a source's images, from the headers of some."""

from collections.abc import Callable, Sequence
from functools import partial

from tqdm import tqdm

from deeplab_fast.errors import UserError
from deeplab_fast.ops import Decoding, image_size

from .sources import Source, as_they_come
from .threads import ordered_map

_MOST = 1024  # images looked at, spread over the source


def median_side(
    source: Source,
    decoding: Decoding,
    threads: int,
    side: Callable[[tuple[int, int]], int] = max,
    flag: str = "--crop_size=auto",
) -> tuple[int, int]:
    """Return the median of the images' longer sides in pixels, the smaller of two, and over how many images it is.

    ``side`` chooses another of (height, width), such as ``min``. ``flag``: the words that an error begins with.

    It is of all images or, of many, of some that lie spread over the source: the same ones whoever asks. An image that
    cannot be read does not count: whoever uses its sample says so.

    Raises:
        UserError: none of them can be read; says why of the first.
    """
    indexes = range(0, len(source), -(-len(source) // _MOST))
    come = as_they_come(source, indexes)
    found = ordered_map(partial(_side, source, decoding, side), come, threads, 8 * threads)
    results = list(tqdm(found, total=len(indexes), desc="sizes", unit="image", leave=False, disable=None))
    sides: Sequence[int] = sorted(side for side in results if isinstance(side, int))
    if not sides:
        raise UserError(f"{flag}: none of {len(indexes)} images can be read, the first: {results[0]}")
    return sides[(len(sides) - 1) // 2], len(sides)


def _side(source: Source, decoding: Decoding, side: Callable[[tuple[int, int]], int], index: int) -> int | str:
    """Return a side of an image, or why there is none."""
    try:
        sample = source.read(index)
        return side(image_size(sample.image, sample.image_where, decoding))
    except UserError as error:
        return str(error)
