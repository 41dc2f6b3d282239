"""A check that shards are a whole set: each index says how many shards and samples the set has."""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from deeplab_fast.errors import UserError

from .index import Part
from .names import like, number_of, set_name

logger = logging.getLogger("deeplab_fast")


class Opened(NamedTuple):
    """A shard, how many samples it has, and what its index says of the set (if it does)."""

    path: Path
    samples: int
    part: Part | None


def check_whole(shards: Sequence[Opened]) -> None:
    """Check that all shards of a set are there, and of one writing of it.

    Where no index says how many there are, a gap in the numbers is only mentioned: it may be meant.

    Raises:
        UserError: names the shard that is missing or does not belong to the others.
    """
    said = next((shard.part for shard in shards if shard.part is not None), None)
    if said is None:
        _mention_gaps([shard.path for shard in shards])
        return
    # A shard whose index was lost is known by its name alone.
    known = [
        shard if shard.part is not None else shard._replace(part=replace(said, shard=number_of(shard.path) or 0))
        for shard in shards
    ]
    _check_agreement(known)
    have = {shard.part.shard for shard in known if shard.part is not None}
    missing = [number for number in range(said.shards) if number not in have]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"{shards[0].path.with_name(like(shards[0].path, missing[0]))}{more}: missing; {said.set} has"
            f" {said.shards} shards. Put back what is missing, or name the shards to use (one, or a glob)"
        )
    _check_total(known)


def check_chosen(shards: Sequence[Opened]) -> None:
    """Say which part of their sets shards are that were named one by one or by a glob.

    Raises:
        UserError: two are the same shard, or of two writings of one set.
    """
    sets: dict[tuple[Path, str], list[Opened]] = {}
    for shard in shards:
        if shard.part is not None:
            sets.setdefault((shard.path.parent, shard.part.set), []).append(shard)
    for (_, name), members in sets.items():
        _check_agreement(members)
        part = members[0].part
        assert part is not None
        if len(members) == part.shards:
            _check_total(members)
            continue
        samples = sum(shard.samples for shard in members)
        logger.info(
            "%d of %d shards of %s: %d of its %d samples", len(members), part.shards, name, samples, part.samples
        )


def _check_agreement(shards: Sequence[Opened]) -> None:
    """Refuse shards that are not all of one writing of a set, each another shard of it."""
    numbers: dict[int, Path] = {}
    first: Part | None = None
    for path, _, part in shards:
        assert part is not None
        first = first or part
        if (part.set, part.shards, part.samples) != (first.set, first.shards, first.samples):
            raise UserError(
                f"{path}: of {part.set} with {part.shards} shards and {part.samples} samples, but {shards[0].path.name}"
                f" is of {first.set} with {first.shards} and {first.samples}. Remove what is left of an earlier set,"
                " or run prepare records again"
            )
        if part.shard in numbers:
            raise UserError(
                f"{path}: the same shard as {numbers[part.shard]} (number {part.shard}); remove one of them"
            )
        numbers[part.shard] = path


def _check_total(shards: Sequence[Opened]) -> None:
    path, _, part = shards[0]
    samples = sum(shard.samples for shard in shards)
    if part is not None and samples != part.samples:
        raise UserError(
            f"{path}: the shards of {part.set} hold {samples} samples; their indexes say {part.samples}. Run prepare"
            " records again"
        )


def _mention_gaps(paths: Sequence[Path]) -> None:
    numbers = sorted({number for path in paths if (number := number_of(path)) is not None})
    gap = next((a + 1 for a, b in itertools.pairwise(numbers) if b > a + 1), None)
    if gap is not None:
        missing = numbers[-1] - numbers[0] + 1 - len(numbers)
        more = f" (and {missing - 1} more)" if missing > 1 else ""
        logger.warning("%s: %d shards; %s%s is missing", set_name(paths[0]), len(paths), like(paths[0], gap), more)
