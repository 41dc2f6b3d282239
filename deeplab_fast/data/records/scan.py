"""The samples of a shard that has no index, from its tar headers."""

import tarfile
from pathlib import Path

from deeplab_fast.errors import UserError

from .index import Entry, fits


def scan(shard: Path) -> list[Entry]:
    """The entries of a shard that has no index."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                key, _, suffix = name.partition(".")
                key = f"{folder}/{key}" if folder else key
                place = (member.offset_data, member.size)
                if suffix.lower() in ("jpg", "jpeg", "img.png"):
                    images[key] = place
                elif suffix.lower() == "png":
                    labels[key] = place
    except Exception as error:  # tarfile lets several kinds out of broken headers
        raise UserError(f"{shard}: not a readable tar shard ({error})") from None
    for key in images.keys() ^ labels.keys():
        missing = "label (KEY.png)" if key in images else "image (KEY.jpg)"
        raise UserError(f"{shard}: sample {key} has no {missing}")
    entries = [Entry(key, *images[key], *labels[key]) for key in images]
    for entry in entries:
        if not fits(entry, shard.stat().st_size):
            raise UserError(f"{shard}: sample {entry.key!r}: its name is not UTF-8, or its bytes are not in the shard")
    return entries
