"""Programs with a tiny network, each in a process of its own, with a fault at a chosen operation on its files.

torch is imported once and each program forked from there, so that one costs what its few steps cost. Reads a line of
JSON for each, from stdin: ``program`` and ``flags``; ``log``, the file for what it says; ``folder``, ``kinds``,
``deed``, ``error``, ``at`` and ``times`` as ``fault_at.c`` has them; ``environment``; how many ``processes`` and the
``port`` where they meet. Answers each with a line of JSON, ``[STATUS, COUNT, POINTS]``: the exit status (negative: the
signal), how many operations were counted, and the numbers of those that differ from the ones beside them: of the writes
to a file, or reads, in a row the first and the last.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from dataclasses import replace
from hashlib import md5
from pathlib import Path

import torch
import torch._dynamo  # what a run imports as it goes: here, not in each
import torch.utils.tensorboard

from deeplab_fast import eval, export, predict, prepare, train
from deeplab_fast.cli import run
from deeplab_fast.prepare import published
from tests.faults.tiny import make_tiny

CPU_S, WALL_S = 120, 900  # of a program that does not end


def save_pretrained(argv):
    """Write the network of a checkpoint into a folder of the Hub's form."""
    from deeplab_fast import Segmenter

    ckpt_path, folder = argv
    Segmenter(ckpt_path, device_target="CPU", precision="fp32").save_pretrained(folder)


def download(argv):
    """Download and unpack the archive at a path as if it were VOC's."""
    archive, output = argv
    entry = published.PUBLISHED["voc2012"]
    digest = md5(Path(archive).read_bytes()).hexdigest()
    there = replace(entry.archive, urls=(Path(archive).as_uri(),), md5=digest, size=None)
    published.PUBLISHED["voc2012"] = replace(entry, archive=there)
    return prepare.main(["download", "voc2012", f"--output={output}"])


PROGRAMS = {
    **{module.__name__.rpartition(".")[2]: module.main for module in (train, eval, export, predict, prepare)},
    **{function.__name__: function for function in (save_pretrained, download)},
}


def arm_by_library(asked):
    """Count with the preloaded library; returns what reads the count."""
    library = ctypes.CDLL(None)
    library.fault_count.restype = ctypes.c_long
    at, times = (ctypes.c_long(asked[name]) for name in ("at", "times"))
    library.fault_arm(os.fsencode(asked["folder"]), asked["kinds"], asked["deed"], asked["error"], at, times)
    return lambda: _points(library.fault_count(), library.fault_goes_on)


def _points(count, goes_on):
    numbers = range(1, count + 1)
    return count, [n for n in numbers if not (goes_on(n) and n < count and goes_on(n + 1))]


def arm_by_hook(asked):
    """Stand in for the library where it cannot be built: Python's audit events, which tell no write and no fsync.

    Whatever is asked for, the process is killed.
    """
    count = 0

    def on_event(event, arguments):
        nonlocal count
        changes = event in ("os.rename", "os.remove", "os.mkdir", "os.truncate", "os.rmdir")
        if event == "open" and isinstance(arguments[2], int):
            changes = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if changes and isinstance(arguments[0], str | bytes) and os.fsdecode(arguments[0]).startswith(asked["folder"]):
            count += 1
            if count == asked["at"]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)
    return lambda: (count, list(range(1, count + 1)))


def fork(asked, places):
    """Start the program in a forked process; returns its id and the pipe that its counts come through.

    ``places``: environment that says which of several processes it is.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child != 0:
        os.close(writer)
        return child, reader
    os.close(reader)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    signal.alarm(WALL_S)
    sys.argv = [asked["program"], *asked["flags"]]
    os.environ.update(asked["environment"] | places)
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if places.get("RANK", "0") != "0":
        asked["at"] = 0  # the fault is the first one's
    count = (arm_by_library if "LD_PRELOAD" in os.environ else arm_by_hook)(asked)
    status = 1
    try:
        run(PROGRAMS[asked["program"]])
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with os.fdopen(writer, "w") as pipe:
            json.dump(count(), pipe)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    raise AssertionError("not reached")


def one_run(asked):
    """Run the program in forked processes; returns what is answered of the first. Where that is killed, all are."""
    with open(asked["log"], "w"):
        pass
    size = asked["processes"]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(asked["port"]), "WORLD_SIZE": str(size)}
    places = [{**shared, "RANK": str(i), "LOCAL_RANK": str(i)} for i in range(size)] if size > 1 else [{}]
    (first, reader), *others = [fork(asked, place) for place in places]
    with os.fdopen(reader) as pipe:
        counted = json.loads(pipe.read() or "[0, []]")
    status = os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])
    for child, reader in others:
        if status < 0:
            os.kill(child, signal.SIGKILL)
        os.close(reader)
        status = status or os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, *counted


def main():
    torch.set_num_threads(1)
    make_tiny()
    for line in sys.stdin:
        print(json.dumps(one_run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
