"""One command line for all benchmarks: ``python -m benchmarks.run NAME [--flags]``.

``--help`` lists them; ``NAME --help`` gives the flags of one. ``python -m benchmarks.NAME`` is the same.
"""

import importlib

from deeplab_fast.cli import run
from deeplab_fast.errors import UserError

from .registry import BENCHMARKS


def table() -> str:
    """Return the benchmarks' names and what each measures, a line each."""
    width = max(map(len, BENCHMARKS))
    return "\n".join(f"{name:{width}}  {benchmark.measures}" for name, benchmark in BENCHMARKS.items())


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: python -m benchmarks.run NAME [--flags]; NAME --help gives the flags\n\n{table()}")
        return 0
    name, *flags = argv
    if name not in BENCHMARKS:
        raise UserError(f"{name}: expected one of {', '.join(BENCHMARKS)}")
    return int(importlib.import_module(BENCHMARKS[name].module).main(flags))


if __name__ == "__main__":
    run(main)
