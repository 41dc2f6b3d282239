"""Programs with a tiny network, each run in forks of one process that has imported torch, with faults put into it.

So a run costs what its few steps cost, without what is done once in a process. Reads requests from stdin, one JSON
object a line: ``program`` and its ``argv``; ``faults``, each a function of :mod:`tests.faults.put_in` and its
arguments; ``environment``; how many ``processes`` the run has; ``all_die``: where the first is killed, all are;
``to_the_end``: the interpreter is to end, too, which takes a second; ``limit_s``, after which what hangs is killed;
``log``, the file of stdout and stderr, which each process adds its number to; ``counts``, a file that is not there.
Answers each with a line: the exit statuses (negative: the signal), and what each fault of the first process counted,
which it writes into ``counts``. With the argument ``cold`` nothing was done before the first run.
"""

import gc
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import replace
from hashlib import md5
from pathlib import Path

import torch
from PIL import Image
from tqdm import tqdm

from deeplab_fast import Segmenter, eval, export, predict, prepare, train
from deeplab_fast.cli import run
from deeplab_fast.prepare import published, sheet
from deeplab_fast.report import __main__ as pages
from deeplab_fast.report import page
from deeplab_fast.storage.video_files import can_read_videos
from tests.faults import put_in
from tests.faults.subjects import ON_CPU, TRAIN, on_samples
from tests.faults.tiny import make_tiny
from tests.spawning import free_port
from tests.trials.samples import write_samples

IMPORTED_LATE = (
    *("torch._dynamo", "torch.utils.tensorboard", "torch.distributed", "tensorboard.plugins.hparams.plugin_data_pb2"),
    *("matplotlib.pyplot", "matplotlib.backends.backend_agg", "numpy.ma", "jinja2.ext"),
    *("deeplab_fast._C", "deeplab_fast.training.fit", "deeplab_fast.report.training_page"),
)  # here once, not in each run
IMPORTED_BY_SOME = ("pycocotools.mask", "safetensors.torch", *(("av",) if can_read_videos() else ()))
CPU_S = 120  # of processor time, of one run


def save_pretrained(argv):
    """Write the network of a checkpoint into a folder of the Hub's form."""
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
    **{"save_pretrained": save_pretrained, "download": download, "report": pages.main},
}


def in_child(request, log, counts, place):
    """Run the program with its faults to its end; ``place``: environment that says which of several processes it is."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    os.environ.update(request["environment"] | place)
    sys.argv = [request["program"], *request["argv"]]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    read = [getattr(put_in, name)(*args) for name, *args in request["faults"]]
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
        if counts is not None:
            counts.write_text(json.dumps([count() if count else 0 for count in read]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def wait(children, limit_s, all_die):
    """Return the exit statuses; what has not ended after so many seconds is killed."""
    until, found = time.monotonic() + limit_s, {}
    while len(found) < len(children):
        for child in (c for c in children if c not in found):
            if time.monotonic() > until or (all_die and found.get(children[0], 0) < 0):
                os.kill(child, signal.SIGKILL)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                found[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return [found[child] for child in children]


def answer(request):
    size, log, counts = request["processes"], request["log"], Path(request["counts"])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
    places = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)] if size > 1 else [{}]
    children = []
    for rank, place in enumerate(places):
        child = os.fork()
        if child == 0:
            in_child(request, f"{log}.{rank}", None if rank else counts, place)
        children.append(child)
    statuses = wait(children, request["limit_s"], request["all_die"])
    return statuses, json.loads(counts.read_text()) if counts.exists() else []


def warm():
    """Train and predict once here, so that each run finds prepared what torch and others prepare at their first use."""
    for name in IMPORTED_BY_SOME:
        importlib.import_module(name)
    sheet.MOST = 1  # drawing it is most of what a run of prepare labels costs
    tqdm.set_lock(threading.RLock())  # its own is shared by forks, and stays locked where one is killed
    with tempfile.TemporaryDirectory() as name, (Path(name) / "log").open("w+") as log:
        outputs = {stream: os.dup(stream) for stream in (1, 2)}
        for stream in outputs:
            os.dup2(log.fileno(), stream)
        data, run_folder = write_samples(Path(name) / "data"), Path(name) / "run"
        try:
            train.main([f"--train_dir={run_folder}", *on_samples(data), *TRAIN])
            predict.main([f"--input={data}/images", f"--output={name}/out", f"--ckpt_path={run_folder}", *ON_CPU])
        except BaseException:
            log.seek(0)
            os.write(outputs[2], log.read().encode())
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for stream, output in outputs.items():
                os.dup2(output, stream)
                os.close(output)
    if tqdm.monitor is not None:  # a thread, which a fork would not have
        tqdm.monitor.exit()
        tqdm.monitor = None
    gc.collect()
    gc.freeze()  # forks share what is there: no collection of theirs touches it


def main():
    torch.set_num_threads(1)
    make_tiny()
    Image.init()
    for template in page.ASSETS.glob("*.html"):
        page.compiled(template.name)
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    if "cold" not in sys.argv:
        warm()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
