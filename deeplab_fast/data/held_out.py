"""The choice of the samples that are held out: a share of them, by whole groups."""

from collections.abc import Mapping, Sequence

from deeplab_fast.errors import UserError

from .philox import SHUFFLE, permutation

_MOST_BITS = 1 << 31  # that the exact search may keep


def held_out_count(samples: int, share: float, flag: str = "val_share") -> int:
    """Return how many of ``samples`` are held out: their share, where it is above 0 at least one and never all.

    Raises:
        UserError: one sample cannot be shared; names the ``flag``.
    """
    if share == 0:
        return 0
    if samples < 2:
        raise UserError(f"--{flag}={share:g}: one sample cannot be in both lists; expected more, or --{flag}=0")
    return min(max(round(share * samples), 1), samples - 1)


def draw_parts(groups: Sequence[str], shares: Mapping[str, float], seed: int) -> tuple[list[int], list[list[int]]]:
    """Draw the samples of each share, whole groups alone, and return the indexes of the others, then theirs.

    ``groups`` names each sample's. ``seed`` decides the order in which groups are considered. A share is met as well as
    groups allow that nobody else needs: each list gets one at least. A share of 0 gets none. ``shares`` has the flags'
    names.

    Raises:
        UserError: there are fewer groups than lists.
    """
    samples = len(groups)
    counts = {flag: held_out_count(samples, share, flag) for flag, share in shares.items()}
    wanted = [count for count in counts.values() if count]
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    if len(members) <= len(wanted):
        flags = " and ".join(f"--{flag}={shares[flag]:g}" for flag, count in counts.items() if count)
        grouped = f"{len(members)} group{'' if len(members) == 1 else 's'} of " if len(members) < samples else ""
        raise UserError(
            f"{flags}: {grouped}{samples:,} samples; expected at least {len(wanted) + 1}{' groups' * bool(grouped)}"
        )
    # In an order of their own, whatever the order of the samples; where each sample is a group that is the samples'.
    names = sorted(members) if len(members) < samples else list(members)
    left = [members[names[i]] for i in permutation(seed, 0, len(names), SHUFFLE)]
    parts: list[list[int]] = []
    lacking = len(wanted)
    for count in counts.values():
        if not count:
            parts.append([])
            continue
        chosen = set(_choose(left, count, lacking))
        parts.append(sorted(index for i in chosen for index in left[i]))
        left = [group for i, group in enumerate(left) if i not in chosen]
        lacking -= 1
    return sorted(index for group in left for index in group), parts


def _choose(groups: Sequence[Sequence[int]], wanted: int, spared: int) -> list[int]:
    """Choose groups, such that ``spared`` are left, whose samples are as near to ``wanted`` as can be."""
    sizes = [len(group) for group in groups]
    chosen = choose_sizes(sizes, wanted, sum(sizes) - sum(sorted(sizes)[:spared]))
    if len(chosen) > len(sizes) - spared:
        few = sizes[: len(sizes) - spared]
        chosen = choose_sizes(few, wanted, sum(few))
    return chosen


def choose_sizes(sizes: Sequence[int], wanted: int, most: int) -> list[int]:
    """Choose places of ``sizes`` whose sum is the nearest to ``wanted`` from 1 to ``most``, the lower of two as near.

    The first places are preferred. Where an exact search would take too much memory, places are taken in order as long
    as they fit: the sum is then short by less than any size left.
    """
    fitting, total = [], 0
    for place, size in enumerate(sizes):
        if total + size <= min(wanted, most):
            fitting.append(place)
            total += size
    limit = min(2 * wanted, most)  # a sum beyond is no nearer than nothing
    if total == wanted or (fitting and len(sizes) * limit > _MOST_BITS):
        return fitting
    if limit < min(sizes):
        return [sizes.index(min(sizes))]
    return _exact(sizes, wanted, limit)


def _exact(sizes: Sequence[int], wanted: int, limit: int) -> list[int]:
    """Return the first places whose sum is nearest to ``wanted``, at most ``limit``; bits of integers are sums."""
    mask = (1 << (limit + 1)) - 1
    reachable = [1]  # by the last 0, 1, ... sizes
    for size in reversed(sizes):
        reachable.append((reachable[-1] | reachable[-1] << size) & mask)
    sums = reachable.pop()
    distances = (delta for step in range(limit + 1) for delta in (-step, step))
    rest = next(wanted + d for d in distances if 0 < wanted + d <= limit and sums >> (wanted + d) & 1)
    chosen = []
    for place, size in enumerate(sizes):
        later = reachable.pop()
        if size <= rest and later >> (rest - size) & 1:
            chosen.append(place)
            rest -= size
    return chosen
