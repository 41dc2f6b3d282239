"""Pixel counts of labels: they tell whether a network can learn from them, or be measured by them."""

from collections.abc import Collection

import numpy as np
from numpy.typing import ArrayLike


def unfit_labels(
    pixels: ArrayLike, num_classes: int, ignore_label: int, absent: Collection[int] | None = None
) -> str | None:
    """Return one line that says why labels with these counts are of no use, and what to do; None where they are.

    ``pixels[v]`` counts the pixels of label value ``v``, ``[256]`` integers. ``absent`` holds the classes that are
    known to have none; any other class without a pixel is then a fault. None: such classes are not looked for, since a
    few labels of a set may well lack some.
    """
    counts = np.asarray(pixels)
    values = np.flatnonzero(counts).tolist()
    present = [v for v in values if v < num_classes and v != ignore_label]
    if not values:
        return "the labels hold no pixel"
    if values == [ignore_label]:
        return (
            f"every label pixel is {ignore_label}, the ignore label (--ignore_label): no class is left; expected class"
            f" numbers from 0 to {num_classes - 1}"
        )
    if values == [0, 255] and 255 not in present:
        meaning = "the ignore label (--ignore_label)" if ignore_label == 255 else "no class"
        return (
            f"the labels hold 0 and 255 alone, and 255 is {meaning}: one class is left. Where 255 marks a second class,"
            " write 1 in its place in the label files"
        )
    if len(present) < 2:
        found = f"class {present[0]} alone" if present else "no class"
        return f"the labels hold {found} (label values {_numbers(values)}); expected pixels of at least two classes"
    if absent is None:
        return None
    missing = [i for i in range(num_classes) if i != ignore_label and not counts[i] and i not in absent]
    if not missing:
        return None
    listed = ",".join(map(str, sorted({*missing, *absent})))
    return (
        f"no pixel of {len(missing)} of {num_classes} classes: {_numbers(missing)}. Where that is as it should be, say"
        f" --absent_classes={listed}; else correct the labels or --num_classes"
    )


def stray_labels(pixels: ArrayLike, num_classes: int, ignore_label: int) -> str | None:
    """Return one line that says which values are neither a class nor the ignore label; None where there is none.

    ``pixels[v]`` counts the pixels of label value ``v``, ``[256]`` integers.
    """
    counts = np.asarray(pixels)
    strays = [v for v in np.flatnonzero(counts).tolist() if v >= num_classes and v != ignore_label]
    if not strays:
        return None
    found = int(counts[strays].sum())
    plural = "" if found == 1 else "s"
    return (
        f"the labels hold {_numbers(strays)} in {found:,} pixel{plural}; expected 0 to {num_classes - 1}"
        f" (--num_classes={num_classes}) or {ignore_label} (--ignore_label); 'prepare check' names the files"
    )


def _numbers(values: list[int], most: int = 8) -> str:
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + more
