"""Comparison of results with older ones of the same kind: which became slower."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeplab_fast.errors import UserError

LIMIT = 1.05  # times the older median


def medians(results: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every ``median_ms`` of a result file with the keys that lead to it."""
    if isinstance(results, dict):
        for key, value in results.items():
            if key == "median_ms":
                yield path, float(value)
            else:
                yield from medians(value, (*path, key))


def compare(new: dict[str, Any], old_file: str) -> str:
    """A table of what both have. Ends with status 2 where something of ours is more than 5 % slower.

    Raises:
        UserError: the file cannot be used, is of other hardware or settings, or holds what is now slower.
    """
    try:
        old = json.loads(Path(old_file).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"--compare={old_file}: no results can be read from it ({error})") from None
    for key in ("environment.device", "config"):
        before, now = (_at(r, key) for r in (old, new))
        if before != now:
            raise UserError(f"--compare={old_file}: its {key} is {before}, this run's {now}; they cannot be compared")
    before, now = dict(medians(old)), dict(medians(new))
    both = [key for key in now if key in before]
    if not both:
        raise UserError(f"--compare={old_file}: has nothing that was measured now")
    lines = ["| what | before, ms | now, ms | now / before |", "|---|---|---|---|"]
    slower = []
    for key in both:
        ratio = now[key] / before[key]
        name = " ".join(key)
        lines.append(f"| {name} | {before[key]:.2f} | {now[key]:.2f} | {ratio:.3f} |")
        if ratio > LIMIT and any(part.startswith("ours") for part in key):
            slower.append(f"{name} {ratio:.2f}x")
    if slower:
        print("\n".join(lines))
        raise UserError(f"slower than {old_file} by more than {LIMIT - 1:.0%}: {', '.join(slower)}")
    return "\n".join(lines) + "\n"


def _at(results: Any, key: str) -> Any:
    for part in key.split("."):
        results = results.get(part, {})
    if isinstance(results, dict):  # of settings, those that do not change what is timed
        return {k: v for k, v in results.items() if k not in ("out", "compare", "rounds", "warmup")}
    return results
