"""Groups of samples, such as a video's or a patient's, of which no two lists may both hold some."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from deeplab_fast.errors import UserError

from .lists import some_of

BY_FOLDER = "folder"


def group_names(names: Sequence[str], group_by: str) -> list[str]:
    """Return each sample's group: by ``folder`` its parent folder, else what a regular expression finds in its name.

    The expression is looked for anywhere in ``names``, paths below the folder of images with ``/`` between; its first
    group counts, or all that it matches where it has none.

    Raises:
        UserError: no regular expression, or a name that it does not match; says which.
    """
    if group_by == BY_FOLDER:
        return [str(PurePosixPath(name).parent) for name in names]
    try:
        expression = re.compile(group_by)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"--group_by={group_by}: no regular expression ({error}); expected one, or folder") from None
    found = [_group(expression, name) for name in names]
    if without := [name for name, group in zip(names, found, strict=True) if not group]:
        raise UserError(
            f"--group_by={group_by}: finds no group in {len(without):,} of {len(names):,} names: {some_of(without)}"
        )
    return [group or "" for group in found]


def _group(expression: re.Pattern[str], name: str) -> str | None:
    match = expression.search(name)
    return None if match is None else match[1 if expression.groups else 0]


def check_apart(parts: Mapping[str, Sequence[int]], groups: Sequence[str], group_by: str) -> None:
    """Raise :class:`UserError` where two of the lists hold samples of one group; ``parts`` has their indexes."""
    first: dict[str, str] = {}
    shared: dict[str, str] = {}
    for name, indexes in parts.items():
        for group in {groups[i] for i in indexes}:
            if first.setdefault(group, name) != name:
                shared.setdefault(group, f"{group!r} in {first[group]} and {name}")
    if shared:
        count = f"{len(shared):,} groups have" if len(shared) > 1 else "1 group has"
        first_of = some_of([shared[group] for group in sorted(shared)])
        raise UserError(f"--group_by={group_by}: {count} samples in two lists: {first_of}")
