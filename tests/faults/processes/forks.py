"""Programs with a tiny network, each run in a fork of one process that has imported torch, with a fault put into it.

Reads requests from stdin, one JSON object a line: ``program`` and its ``argv``, the ``log`` of stdout and stderr,
``faults`` (each a function of :mod:`tests.faults.processes.put_in`, and its arguments), ``processes`` of the run,
``limit_s`` after which one that hangs is killed, and whether the interpreter is to end too, ``to_the_end``. Answers
each with a line: the exit statuses (negative: the signal), and what each fault of the first process counted.
"""

import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback

import torch
from PIL import Image

from deeplab_fast import eval as evaluation
from deeplab_fast import export, predict, prepare, train
from deeplab_fast.cli import run
from tests.faults.processes import put_in
from tests.faults.tiny import make_tiny

PROGRAMS = {module.__name__.rsplit(".", 1)[1]: module.main for module in (train, evaluation, predict, export, prepare)}

IMPORTED_LATE = (
    *("torch._dynamo", "torch.utils.tensorboard", "torch.distributed", "tensorboard.plugins.hparams.plugin_data_pb2"),
    *("numpy.ma", "jinja2.ext", "deeplab_fast._C", "deeplab_fast.training.fit", "deeplab_fast.report.training_page"),
)  # here once, not in each run


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def in_child(request, log, writer, environment):
    """Run the program to its end; that of the interpreter takes a second, so only where it is asked for."""
    os.environ.update(environment)
    sys.argv = [request["program"], *request["argv"]]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    counts = [getattr(put_in, name)(*args) for name, *args in request["faults"]]
    try:
        run(PROGRAMS[request["program"]])
    except SystemExit as ended:
        if request["to_the_end"]:
            raise
        status = ended.code
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        sys.setprofile(None)
        os.write(writer, json.dumps([count() if count else 0 for count in counts]).encode())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def wait(children, limit_s):
    """Return the exit statuses; what has not ended after so many seconds is killed."""
    until, found = time.monotonic() + limit_s, {}
    while len(found) < len(children):
        for child in (c for c in children if c not in found):
            if time.monotonic() > until:
                os.kill(child, signal.SIGKILL)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                found[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return [found[child] for child in children]


def answer(request):
    processes = request.get("processes", 1)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
    children, reader = [], -1
    for rank in range(processes):
        ends = os.pipe()
        child = os.fork()
        if child == 0:
            place = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
            log = request["log"] + (f".{rank}" if rank else "")
            in_child(request, log, ends[1], place)
        children.append(child)
        os.close(ends[1])
        if rank == 0:
            reader = ends[0]
        else:
            os.close(ends[0])
    statuses = wait(children, request["limit_s"])
    with os.fdopen(reader) as pipe:
        counts = json.loads(pipe.read() or "[]")
    return statuses, counts


def main():
    torch.set_num_threads(1)
    make_tiny()
    Image.init()
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
