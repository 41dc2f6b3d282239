"""Write ``check.json`` and ``check.md`` from the lines of ``gpu.sh check``: what, how it ended, seconds."""

import json
import sys
from pathlib import Path

import torch

from benchmarks.measure import environment


def main(folder: str, gpu: str) -> int:
    rows = [line.strip().split("|") for line in sys.stdin if line.strip()]
    where = environment(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    checks = [{"what": what, "status": status, "seconds": int(seconds)} for what, status, seconds in rows]
    Path(folder, "check.json").write_text(json.dumps({"environment": where, "checks": checks}, indent=1) + "\n")
    lines = [f"Checks on {gpu}, torch {where['torch']}, triton {where.get('triton')}, {where['date']}.", ""]
    lines += ["| what | result | s |", "|---|---|---|"]
    lines += [f"| {c['what']} | {c['status']} | {c['seconds']} |" for c in checks]
    Path(folder, "check.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    return int(any(c["status"] == "FAILED" for c in checks))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
