"""Long runs that measure themselves: ``python -m tests.faults.long_run lists|records|training FOLDER COUNT``.

``lists`` and ``records`` take COUNT batches from the loader, ``training`` does COUNT steps of a tiny network with an
evaluation and a checkpoint every 20. Prints JSON: for two hundred moments ``done`` (batches or steps), ``memory_mb``,
``descriptors``, ``threads``, ``cpu_s`` so far, of all threads, and ``yardstick_s`` (:func:`yardstick`).
"""

import io
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deeplab_fast.config import TrainConfig
from deeplab_fast.data.augment import Augment
from deeplab_fast.data.dataset import TrainingSet
from deeplab_fast.data.loader import LoaderOptions, open_loader
from deeplab_fast.data.records import RecordOptions, RecordSource, write_records
from deeplab_fast.data.schedule import Schedule
from deeplab_fast.data.sources import list_source
from deeplab_fast.training.fit import fit
from deeplab_fast.training.loss_log import LossBlock
from tests.faults.tiny import make_tiny
from tests.trials.samples import CLASSES, write_samples

PHOTO = b""
MOMENTS, SIDE, BATCH, EVERY = 200, 33, 2, 20


def moment(done):
    page = os.sysconf("SC_PAGESIZE")
    return {
        "done": done,
        "memory_mb": int(Path("/proc/self/statm").read_text().split()[1]) * page / 1e6,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "cpu_s": time.process_time(),
        "yardstick_s": yardstick(),
    }


def yardstick():
    """Processor time of some work that is always the same: how fast the machine is at this moment."""
    begin = time.thread_time()
    for _ in range(30):
        with Image.open(io.BytesIO(PHOTO)) as image:
            np.asarray(image.resize((64, 64))).astype(np.float32).mean()
    return time.thread_time() - begin


def load(source, count):
    """Take ``count`` batches, augmented and decoded by two threads."""
    schedule = Schedule(len(source), BATCH, 1)
    data = TrainingSet(source, Augment(SIDE, 0.5, 2.0, 255), CLASSES, 1)
    found = []
    for done, _ in enumerate(open_loader(data, schedule, LoaderOptions(threads=2)).batches(0, count), 1):
        if done % (count // MOMENTS) == 0:
            found.append(moment(done))
    return found


def train(samples, folder, count):
    found, fetch = [], LossBlock.fetch

    def measured(block):
        result = fetch(block)
        if block.state.step % (count // MOMENTS) == 0 and (not found or found[-1]["done"] != block.state.step):
            found.append(moment(block.state.step))
        return result

    LossBlock.fetch = measured
    make_tiny()
    fit(
        TrainConfig(
            backbone="resnet18", num_classes=CLASSES, crop_size=SIDE, batch_size=BATCH, max_steps=count,
            data_root=str(samples), data_lst=f"{samples}/train.txt", val_data_lst=f"{samples}/val.txt",
            train_dir=str(folder), precision="fp32", ema_decay=0.9, log_steps=count // MOMENTS, save_steps=EVERY,
            eval_epochs=EVERY * BATCH // 10, num_workers=2, device_target="CPU",
        )
    )  # fmt: skip
    return found


def main():
    kind, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    samples = write_samples(folder / "data")
    global PHOTO
    PHOTO = (samples / "images/00.jpg").read_bytes()
    if kind == "training":
        found = train(samples, folder / "run", count)
    else:
        source = list_source(samples, samples / "train.txt")
        if kind == "records":
            options = RecordOptions(2, True, 1, CLASSES, 255, tuple(f"class {i}" for i in range(CLASSES)))
            write_records(source, folder / "set.tar", options)
            source = RecordSource(folder / "set.tar")
        found = load(source, count)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
