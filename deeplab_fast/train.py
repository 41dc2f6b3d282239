"""Train DeepLabV3: ``python -m deeplab_fast.train`` (see ``--help``)."""

import logging
import shlex
from pathlib import Path

from .cli import parse_flags, run
from .config import TrainConfig
from .config.recipes import recipe_names
from .config.urls import public
from .distributed import world_from_environment
from .errors import UserError, enough_memory
from .runtime import select_device
from .training.fit import fit
from .training.presets import resolve

logger = logging.getLogger("deeplab_fast")

DESCRIPTION = "Train DeepLabV3. Without data flags it trains on the built-in data set, sized for this machine."
EPILOG = f"""recipes (--config=NAME): {", ".join(recipe_names())}. Example:
 python -m deeplab_fast.train --data_file=voc.tar --val_data_file=val.tar --train_dir=ckpt
 --model=deeplab_v3_s16 --ckpt_pre_trained=resnet101-imagenet --train_epochs=200 --batch_size=32"""


def next_commands(config: TrainConfig, best: Path) -> list[str]:
    """Return what may be done with the best weights of a run, as command lines."""
    weights = f"--ckpt_path={best}"
    held_out = {
        "data_file": config.val_data_file,
        "data_root": config.val_data_lst and (config.val_data_root or config.data_root),
        "data_lst": config.val_data_lst,
    }
    data = [f"--{name}={public(value)}" for name, value in held_out.items() if value]
    commands = [["predict", weights, "--input=FOLDER", "--output=masks"], ["export", weights, "--output=model.onnx"]]
    if data:
        commands.insert(0, ["eval", weights, *data])
    return [shlex.join(["python", "-m", f"deeplab_fast.{name}", *rest]) for name, *rest in commands]


@enough_memory(
    "training",
    "a smaller --batch_size, --crop_size or --num_workers",
)
def main(argv: list[str]) -> int:
    """Train as the command line says; return the exit status."""
    world = world_from_environment()
    if not world.is_main:
        logger.setLevel(logging.WARNING)
    try:
        flags = parse_flags(TrainConfig, argv, "deeplab_fast.train", DESCRIPTION, EPILOG)
        on_gpu = select_device(flags.get("device_target", "auto"), world.local_rank).type == "cuda"
        config = resolve(flags, on_gpu)
    except UserError:
        if world.local_rank == 0:
            raise
        return 2  # the first process of this host has the same flags and says it
    outcome = fit(config, world)
    if outcome.best is not None:
        at_end = "not measured" if outcome.miou is None else f"{outcome.miou:.4f}"
        last = f"held-out mIoU {at_end} at the end"
        print(f"{last}; best {outcome.best_miou:.4f} in epoch {outcome.best_epoch}: {outcome.best}")
    if outcome.report is not None:
        print(f"report {outcome.report}")
    if outcome.best is not None:
        print("next: " + "\n      ".join(next_commands(config, outcome.best)))
    return 0 if outcome.stopped_by is None else 128 + outcome.stopped_by


if __name__ == "__main__":
    run(main)
