"""Fuzzes targets for a time of CPU each: ``python -m tests.fuzz.run [--seconds=600] [--out=FOLDER] [TARGET ...]``.

The native targets run under libFuzzer (``make -C tests/fuzz`` builds them), those of Python under atheris. The time is
the processes' own, so that a busy machine shortens no run. A process ends after a part of it, and the next one goes on
with the corpus; one that ends in a finding leaves its input in ``--out``, and the others go on. What was done is added
to ``runs.jsonl`` there, a line a target: the commit, the CPU seconds, the inputs and the findings.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

from .targets import TARGETS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NATIVE = sorted(path.stem for path in HERE.glob("*.cpp"))
NAMES = [*NATIVE, *TARGETS]
PART = 600  # seconds of wall time of one process, which begins by reading the corpus
MOST_FINDINGS = 20  # of one target: something is wrong that need not be found again and again
# The timeout is of wall time, which a busy machine stretches: the targets themselves look at the time of CPU.
FLAGS = ["-max_len=8192", "-rss_limit_mb=2048", "-timeout=120", "-print_final_stats=1"]
EXECUTED = re.compile(r"stat::number_of_executed_units: (\d+)|^#(\d+)\s", re.MULTILINE)


def command_of(name: str, out: Path, seconds: float) -> list[str]:
    program = [str(out / name)] if name in NATIVE else [sys.executable, str(HERE / "with_atheris.py"), name]
    words = HERE / f"{name}.dict"
    dictionary = [f"-dict={words}"] if words.exists() else []
    folders = [str(out / "corpus" / name), str(HERE / "seeds" / name)]
    limit = f"-max_total_time={max(1, min(PART, round(seconds)))}"
    return [*program, *FLAGS, limit, *dictionary, f"-artifact_prefix={out}/{name}-", *folders]


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return said.stdout.strip()


def fuzz(name: str, seconds: float, out: Path) -> dict:
    """Return what was done. The output of each process goes to the target's log."""
    (out / "corpus" / name).mkdir(parents=True, exist_ok=True)
    begin, started, inputs, findings = children_cpu(), time.time(), 0, []
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open(out / f"{name}.log", "a") as log:
        while (used := children_cpu() - begin) < seconds and len(findings) < MOST_FINDINGS:
            done = subprocess.run(
                command_of(name, out, seconds - used), env=environment, capture_output=True, check=False
            )
            said = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")
            log.write(said[-20000:])
            log.flush()
            inputs += max((int(a or b) for a, b in EXECUTED.findall(said)), default=0)
            # A signal of its own timer may reach a process that has said all it has to say.
            if done.returncode and (done.returncode > 0 or "stat::peak_rss_mb" not in said):
                kept = re.findall(r"Test unit written to (\S+)", said)
                findings.append(kept[-1] if kept else f"status {done.returncode}, see {out / name}.log")
                print(f"{name}: {findings[-1]}", flush=True)
                if children_cpu() - begin - used < 1:
                    break  # it does not even start
    done = {"target": name, "commit": commit(), "cpu_seconds": round(children_cpu() - begin, 1), "inputs": inputs}
    done |= {"wall_seconds": round(time.time() - started), "findings": sorted(set(findings))}
    done["corpus"] = len(list((out / "corpus" / name).iterdir()))
    with open(out / "runs.jsonl", "a") as runs:
        runs.write(json.dumps(done) + "\n")
    print(json.dumps(done), flush=True)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="of CPU time, for each target")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; all of them where none")
    flags = parser.parse_args()
    if unknown := [name for name in flags.targets if name not in NAMES]:
        parser.error(f"no target {unknown[0]}; expected some of {', '.join(NAMES)}")
    out = flags.out.resolve()
    done = [fuzz(name, flags.seconds, out) for name in flags.targets or NAMES]
    return int(any(one["findings"] for one in done))


if __name__ == "__main__":
    sys.exit(main())
