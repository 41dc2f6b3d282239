"""Flags and results of every benchmark: where a result was taken, JSON and tables."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from deeplab_fast.cli import parse_flags
from deeplab_fast.config.flags import validate
from deeplab_fast.storage.files import make_folder, replace_file

from .registry import BENCHMARKS
from .timing import Timing

C = TypeVar("C")


def configure(config_class: type[C], argv: Sequence[str], name: str) -> C:
    """Return a benchmark's configuration from its flags, checked.

    Raises:
        UserError: a flag that is not known, or a value that is not allowed.
    """
    config = config_class(**parse_flags(config_class, argv, f"benchmarks.{name}", BENCHMARKS[name].measures))
    validate(config)
    return config


def settings(config: Any, *left_out: str) -> dict[str, Any]:
    """Return a configuration as a result file holds it: without paths, and without what is ``left_out``."""
    paths = ("data_", "ckpt_", "label_dir")
    return {k: v for k, v in asdict(config).items() if not k.startswith(paths) and k not in ("out", *left_out)}


def beside(timings: Mapping[str, Timing], ours: str) -> dict[str, dict[str, dict[str, float]]]:
    """Return what a result file holds of times: ``timings``, and ``ratios``, the others' over ours in each round."""
    return {
        "timings": {name: t.in_ms() for name, t in timings.items()},
        "ratios": {name: t.over(timings[ours]).summary() for name, t in timings.items() if name != ours},
    }


def times(entry: Mapping[str, float], digits: int = 2) -> str:
    """Return two cells: the median and the quartiles, in ms."""
    return f"{entry['median_ms']:.{digits}f} | {entry['q1_ms']:.{digits}f} - {entry['q3_ms']:.{digits}f}"


def spread(ratio: Mapping[str, float] | None, digits: int = 2) -> str:
    """Return a median with its quartiles; nothing where there is none."""
    if not ratio:
        return ""
    return f"{ratio['median']:.{digits}f} ({ratio['q1']:.{digits}f} - {ratio['q3']:.{digits}f})"


def as_table(header: str, rows: Iterable[Iterable[object]]) -> list[str]:
    """Return the lines of a markdown table; ``header``: its names with ``|`` between."""
    return [f"| {header} |", "|" + "---|" * (header.count("|") + 1), *(f"| {' | '.join(map(str, r))} |" for r in rows)]


def as_text(title: str, table: Iterable[str], *after: str) -> str:
    """Return a result's markdown: a title, a table and what is to be said below it."""
    return "\n".join([title, "", *table, *(f"\n{text}" for text in after)]) + "\n"


def write_results(folder: str, stem: str, results: dict[str, Any], table: str) -> None:
    """Print the table and, where a folder is given, write ``stem.json`` and ``stem.md`` there."""
    print(table, end="")
    if folder:
        save_results(folder, stem, results, table)


def publish(
    stem: str, config: Any, where: dict[str, Any], found: dict[str, Any], as_markdown: Callable[[dict[str, Any]], str]
) -> int:
    """Write what was found, where and by which settings, as JSON and markdown; return the exit status."""
    results = {"environment": where, "config": settings(config), **found}
    write_results(config.out, stem, results, as_markdown(results))
    return 0


def save_results(folder: str, stem: str, results: dict[str, Any], table: str) -> None:
    """Write ``stem.json`` and ``stem.md`` into the folder, each whole or not at all."""
    make_folder(Path(folder), folder)
    for name, text in ((f"{stem}.json", json.dumps(results, indent=1) + "\n"), (f"{stem}.md", table)):
        with replace_file(Path(folder, name), durable=False) as partial:
            partial.write_text(text)
