"""The samples of a shard that has no index, from its tar headers."""

import logging
import tarfile
from collections.abc import Iterator
from pathlib import Path

from deeplab_fast.errors import UserError, pass_on_memory
from deeplab_fast.storage.tar_members import members_of, open_tar

from .index import Entry, fits

logger = logging.getLogger("deeplab_fast")

IMAGES = ("jpg", "jpeg", "img.png")
LABEL = "png"

_Range = tuple[int, int]  # offset and size


def scan(shard: Path) -> list[Entry]:
    """Return the samples that a shard's headers name, in their order.

    Raises:
        UserError: it is no tar file, is cut off or damaged, or holds half a sample, or one twice; says which.
    """
    images: dict[str, _Range] = {}
    labels: dict[str, _Range] = {}
    dotted = []
    for name, part in _members(shard):
        folder, _, file = name.rpartition("/")
        key, _, suffix = file.partition(".")
        key = f"{folder}/{key}" if folder else key
        suffix = suffix.lower()
        if suffix in IMAGES or suffix == LABEL:
            kind = labels if suffix == LABEL else images
            if key in kind:
                raise UserError(f"{shard}: sample {key!r} has two {'labels' if suffix == LABEL else 'images'}")
            kind[key] = part
        elif key and suffix.rpartition(".")[2] in (*IMAGES, LABEL):
            dotted.append(name)
    for key in images.keys() ^ labels.keys():
        missing = "label (KEY.png)" if key in images else "image (KEY.jpg)"
        raise UserError(f"{shard}: sample {key} has no {missing}")
    if dotted:
        logger.warning(
            "%s: %d files are no sample's, such as %r (the first dot of a name ends its key); left out",
            shard,
            len(dotted),
            dotted[0],
        )
    entries = [Entry(key, *images[key], *labels[key]) for key in images]
    size = shard.stat().st_size
    for entry in entries:
        if not fits(entry, size):
            raise UserError(f"{shard}: sample {entry.key!r}: its name is not UTF-8, or its bytes are not in the shard")
    return entries


def _members(shard: Path) -> Iterator[tuple[str, _Range]]:
    """Yield the name of each member of a tar file, and where its bytes are."""
    try:
        with shard.open("rb") as file:
            with open_tar(file, "r:") as tar:
                for member in members_of(tar):
                    yield member.name, (member.offset_data, member.size)
                end = tar.offset
            file.seek(end)
            mark = file.read(2 * tarfile.BLOCKSIZE)
            rest = any(any(block) for block in iter(lambda: file.read(1 << 20), b""))
    except Exception as error:  # tarfile lets several kinds out of broken headers
        pass_on_memory(error)
        raise UserError(f"{shard}: not a readable tar shard ({error})") from None
    # tarfile takes a damaged header, and the end of a file that is cut off between two members, for the end.
    if any(mark) or len(mark) < tarfile.BLOCKSIZE:
        reason = "damaged" if any(mark) else "cut off"
        raise UserError(f"{shard}: not a readable tar shard ({reason} at byte {end:,})")
    if rest:
        raise UserError(f"{shard}: holds more after the archive's end at byte {end:,}: tar files joined? Unpack them")
