"""``check.json`` and ``check.md`` (``step_check...``) from the lines of ``gpu.sh``: what, how it ended, seconds."""

import json
import sys
from pathlib import Path

import torch

from benchmarks.report import as_table
from deeplab_fast.runtime.environment import environment


def main(folder: str, gpu: str, part: str) -> int:
    stem = "check" if part == "check" else f"{part}_check"
    rows = [line.strip().split("|") for line in sys.stdin if line.strip()]
    where = environment(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    checks = [{"what": what, "status": status, "seconds": int(seconds)} for what, status, seconds in rows]
    Path(folder, f"{stem}.json").write_text(json.dumps({"environment": where, "checks": checks}, indent=1) + "\n")
    lines = [f"Checks on {gpu}, torch {where['torch']}, triton {where.get('triton')}, {where['date']}.", ""]
    lines += as_table("what | result | s", (check.values() for check in checks))
    Path(folder, f"{stem}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return int(any(c["status"] == "FAILED" for c in checks))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
