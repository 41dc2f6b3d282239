"""Counts of converted labels, as a table and as JSON."""

from collections.abc import Sequence
from typing import Any

from deeplab_fast.data.annotations.convert import Counts


def as_json(counts: Counts, names: Sequence[str], ignore_label: int) -> dict[str, Any]:
    """Return the pixels and images of each class and of the ignore label, and what was left out."""
    classes = [
        {"number": i, "name": name, "pixels": int(counts.pixels[i]), "images": int(counts.images[i])}
        for i, name in enumerate(names)
    ]
    ignored = {"label": ignore_label, "pixels": _ignored(counts, ignore_label), "images": _images(counts, ignore_label)}
    return {"labels": counts.labels, "classes": classes, "ignored": ignored, "left_out": dict(counts.left_out)}


def as_table(counts: Counts, names: Sequence[str], ignore_label: int) -> str:
    """Return a line for each class and for what is ignored: pixels, their share, and the images that have some."""
    total = max(1, int(counts.pixels.sum()))
    rows = [(str(i), name, int(counts.pixels[i]), int(counts.images[i])) for i, name in enumerate(names)]
    rows.append((str(ignore_label), "ignored", _ignored(counts, ignore_label), _images(counts, ignore_label)))
    width = max(len(name) for _, name, _, _ in rows)
    lines = [
        f"{number:>3} {name:<{width}} {pixels:>16,} pixels {pixels / total:7.2%} {images:>9,} images"
        for number, name, pixels, images in rows
    ]
    lines += [f"left out: {kind}: {count:,}" for kind, count in sorted(counts.left_out.items())]
    return "\n".join(lines)


def _ignored(counts: Counts, ignore_label: int) -> int:
    return int(counts.pixels[ignore_label])


def _images(counts: Counts, ignore_label: int) -> int:
    return int(counts.images[ignore_label])
