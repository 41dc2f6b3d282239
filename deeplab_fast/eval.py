"""Evaluate a checkpoint: ``python -m deeplab_fast.eval`` (see ``--help``)."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from .cli import parse_flags, run
from .config import EvalConfig, validate, validate_image
from .data.classes import class_names
from .data.records import RecordSource
from .data.sources import Source, list_source, write_text
from .distributed import process_group, world_from_environment
from .errors import UserError
from .evaluator import Protocol, evaluate
from .inference import trained_model
from .metrics import Scores
from .model.layers import use_fused
from .runtime import check_precision, place, prepare_backends, select_device, versions

METRICS_FILE = "metrics.json"
DESCRIPTION = "Evaluate a checkpoint by the recipe's protocol: per-class IoU, mIoU, pixel accuracy."
EPILOG = """example: python -m deeplab_fast.eval --ckpt_path=ckpt/best.pt --data_root=VOC2012
 --data_lst=VOC2012/voc_val_lst.txt --scales_type=1 --flip=True. Model, classes and crop size come from the
 checkpoint unless given."""


def open_source(config: EvalConfig) -> Source:
    if config.data_file:
        return RecordSource(config.data_file, verify=config.verify)
    if config.data_lst:
        return list_source(config.data_root, config.data_lst)
    raise UserError("--data_lst: missing; give --data_root and --data_lst, or --data_file")


def as_record(config: EvalConfig, scores: Scores, names: list[str], images: int) -> dict[str, Any]:
    """What ``metrics.json`` holds: protocol, figures, confusion matrix (rows: truth), versions."""
    record = scores.as_record()
    return {
        "protocol": {
            "crop_size": config.crop_size,
            "resize": "longest side to crop_size, bilinear; padded to a square; truth at its own size",
            "scales": list(config.scales),
            "flip": config.flip,
            "ignore_label": config.ignore_label,
            "miou": "mean over the classes in truth or prediction",
        },
        "checkpoint": config.ckpt_path,
        "data": config.data_file or config.data_lst,
        "images": images,
        "miou": record["miou"],
        "pixel_accuracy": record["pixel_accuracy"],
        "per_class_iou": dict(zip(names, record["per_class_iou"], strict=True)),
        "classes": names,
        "confusion_matrix": scores.confusion.tolist(),
        "precision": config.precision,
        "versions": versions(),
    }


def write_metrics(folder: Path, record: dict[str, Any]) -> Path:
    path = folder / METRICS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--report={folder}: cannot be made ({error.strerror})") from None
    write_text(path, json.dumps(record, indent=1) + "\n")
    return path


def main(argv: list[str]) -> int:
    flags = parse_flags(EvalConfig, argv, "deeplab_fast.eval", DESCRIPTION, EPILOG)
    validate(EvalConfig(**flags))
    world = world_from_environment()
    device = select_device(flags.get("device_target", "auto"), world.local_rank)
    config, model = trained_model(EvalConfig, flags)
    validate_image(config)
    check_precision(config.precision, device)
    prepare_backends(device)
    source = open_source(config)
    with process_group(world, device):
        network: nn.Module = place(model, device)
        use_fused(network, config.fused)
        if config.compile:
            network.compile(dynamic=False)
        protocol = Protocol.of(config, config.precision, config.scales, config.flip)
        scores = evaluate(
            network,
            source,
            protocol,
            config.num_classes,
            config.ignore_label,
            device,
            config.batch_size,
            config.num_workers,
            world,
            config.fused,
        )
        if world.is_main:
            names = class_names(config.num_classes, config.data_file, config.data_lst, config.data_root)
            folder = Path(config.report) if config.report else Path(config.ckpt_path).parent
            path = write_metrics(folder, as_record(config, scores, names, len(source)))
            print(scores.table(names))
            print(f"metrics {path}")
    return 0


if __name__ == "__main__":
    run(main)
