"""All runs of a comparison, one after the other, each in a process of its own."""

import contextlib
import logging
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from deeplab_fast.errors import TrainingDiverged, UserError
from deeplab_fast.model.weights import find_weights, load_pretrained
from deeplab_fast.runtime import seed_everything
from deeplab_fast.storage.checkpoint import save_atomically
from deeplab_fast.storage.files import make_folder

from .config import IMPLEMENTATIONS, OURS, REFERENCE, CompareConfig
from .network import ReferenceNetwork
from .one_run import DIVERGED, Job
from .results import RUNS, kept_result, result_file

logger = logging.getLogger("deeplab_fast")

_SCRATCH = ".run-"  # weights and checkpoints of a run while it lasts
_PATIENCE_S = 30  # that a run has to end once it was asked to
Result = dict[str, Any]
_Key = tuple[str, int]


def run_all(config: CompareConfig, origin: dict[str, Any]) -> list[Result]:
    """Return the results of every seed and implementation; runs those that are not kept from an earlier call.

    Raises:
        UserError: a run failed (its own message is on stderr), or a kept result is of another comparison.
        TrainingDiverged: a run's loss became NaN or infinite.
    """
    order = list(_order(config))
    found = {key: kept_result(result_file(config, *key), origin) for key in order}
    kept = sum(result is not None for result in found.values())
    if kept:
        logger.info("%d of %d runs are kept from before", kept, len(order))
    make_folder(Path(config.output) / RUNS, f"--output={config.output}")
    for number, key in enumerate(order, 1):
        if found[key] is None:
            words = time_left(order[number - 1 :], found)
            logger.info("run %d of %d: %s, seed %d%s", number, len(order), *key, words)
            found[key] = _run(config, key, origin, found)
    return [result for result in found.values() if result is not None]


def remove_scratch(folder: Path) -> None:
    """Remove what a comparison that was killed left in its folder, which no other one uses."""
    for path in folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(path, ignore_errors=True)


def _order(config: CompareConfig) -> Iterator[_Key]:
    """Yield implementation and seed: ours first, which names a sample that is of no use, unless it needs the other."""
    implementations = IMPLEMENTATIONS if config.budget == "images" else IMPLEMENTATIONS[::-1]
    for seed in range(1, config.seeds + 1):
        for implementation in implementations:
            yield implementation, seed


def time_left(todo: list[_Key], found: dict[_Key, Result | None]) -> str:
    """Say how long the runs in ``todo`` will take by those of the same implementation; nothing where one is unknown."""
    means = {}
    for name in IMPLEMENTATIONS:
        spent = [r["seconds"] for (who, _), r in found.items() if r is not None and who == name]
        if spent:
            means[name] = sum(spent) / len(spent)
    open_runs = [name for name, seed in todo if found[name, seed] is None]
    if any(name not in means for name in open_runs):
        return ""
    return f"; about {sum(means[name] for name in open_runs) / 60:.1f} min of training left"


def _run(config: CompareConfig, key: _Key, origin: dict[str, Any], found: dict[_Key, Result | None]) -> Result:
    implementation, seed = key
    result = result_file(config, *key)
    with tempfile.TemporaryDirectory(dir=config.output, prefix=_SCRATCH, ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        initial = folder / "initial.pt"
        save_atomically(initial_weights(config, seed), initial)
        seconds = 0.0
        if implementation == OURS and config.budget == "time":
            reference = found[REFERENCE, seed]
            assert reference is not None
            seconds = reference["seconds"]
        job = folder / "job.json"
        Job(config, implementation, seed, initial, folder, result, seconds, origin).write(job)
        status = _wait([sys.executable, "-m", "deeplab_fast.compare.one_run", str(job)])
    if status == DIVERGED:
        raise TrainingDiverged(f"{implementation}, seed {seed}: ended as said above; expected a lower --base_lr")
    content = kept_result(result, origin) if status == 0 else None
    if content is None:
        raise UserError(f"{implementation}, seed {seed}: ended with status {status}; finished runs are kept")
    return content


def initial_weights(config: CompareConfig, seed: int) -> dict[str, torch.Tensor]:
    """Return the reference's weights before its first step: its own random ones, over them ``--ckpt_pre_trained``'s.

    Raises:
        UserError: the file is of no use.
    """
    seed_everything(seed)
    stride = 8 if config.model.endswith("s8") else 16
    network = ReferenceNetwork(config.backbone, config.num_classes, stride, config.aux_loss)
    if config.ckpt_pre_trained:
        path = find_weights(config.ckpt_pre_trained, "--ckpt_pre_trained", config.cache_dir)
        load_pretrained(network, path, filter_weight=True)
    return network.state_dict()


def _wait(command: list[str]) -> int:
    """Run a program and return its exit status; whatever ends the waiting ends the program first."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            return process.wait()
        except BaseException:
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGINT)
            try:
                process.wait(_PATIENCE_S)
            except BaseException:
                process.kill()
            raise
