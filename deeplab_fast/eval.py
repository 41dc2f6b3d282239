"""Evaluate a checkpoint: ``python -m deeplab_fast.eval`` (see ``--help``)."""

import itertools
import json
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from .cli import parse_flags, run
from .config import EvalConfig, validate, validate_image, validate_protocol
from .config.urls import is_url, public
from .data.classes import class_names, own_names
from .data.open_records import open_records
from .data.remote import RecordCache, Records, find_records
from .data.sources import Source, keys_digest, list_source
from .distributed import process_group, world_from_environment
from .errors import UserError
from .evaluation.evaluator import evaluate
from .evaluation.inference import load_trained
from .evaluation.metrics import Scores
from .evaluation.protocol import Protocol
from .model.layers import use_fused
from .report.evaluation_page import Evaluated, write_evaluation_page
from .report.subject import Subject
from .runtime import (
    check_precision,
    common_precision,
    prepare_backends,
    resolve_precision,
    select_device,
    to_channels_last,
    versions,
)
from .storage.files import check_folder, make_folder, write_json
from .storage.provenance import as_json, deciding_flags, differences, weights_digest

logger = logging.getLogger("deeplab_fast")

DESCRIPTION = "Evaluate a checkpoint by the recipe's protocol: per-class IoU, mIoU, pixel accuracy."
EPILOG = """example: python -m deeplab_fast.eval --ckpt_path=ckpt/best.pt --data_root=VOC2012
 --data_lst=VOC2012/voc_val_lst.txt --scales_type=1 --flip=True. Model, classes and crop size come from the
 checkpoint unless given."""


def open_source(config: EvalConfig, data_file: Records) -> Source:
    """Open the samples that the flags name, or raise :class:`UserError` where they name none or two.

    ``data_file``: what --data_file names, found.
    """
    if config.data_file and config.data_lst:
        raise UserError("--data_file and --data_lst: expected one of them, not both")
    if data_file:
        return open_records(data_file, verify=config.verify)
    if config.data_lst:
        return list_source(config.data_root, config.data_lst)
    raise UserError("--data_lst: missing; give --data_root and --data_lst, or --data_file")


def names_of(config: EvalConfig, data_file: Records, trained: Sequence[str]) -> list[str]:
    """Return the names of the classes: the data's, else those that the network was ``trained`` with, else numbers.

    Raises:
        UserError: the data names another number of classes.
    """
    names = class_names(config.num_classes, data_file, config.data_lst, config.data_root)
    if not own_names(names):
        return list(trained) or names
    for index, (name, other) in enumerate(zip(names, trained, strict=False)):
        if name != other:
            logger.warning("class %d is %r in the data and %r in %s", index, name, other, config.ckpt_path)
    return names


def as_record(config: EvalConfig, scores: Scores, names: list[str]) -> dict[str, Any]:
    """Return what the metrics file holds: protocol, figures, confusion matrix (rows: truth), versions."""
    record = scores.as_record()
    words = "images larger than it in windows, each as an image of its own, blended by squared sines"
    windows = {"window": config.window, "overlap": config.overlap, "windows": words} if config.window else {}
    return {
        "protocol": {
            "crop_size": config.crop_size,
            "resize": "longest side to crop_size, bilinear; padded to a square; truth at its own size",
            "scales": list(config.scales),
            "flip": config.flip,
            **windows,
            "ignore_label": config.ignore_label,
            "miou": "mean over the classes in truth or prediction",
        },
        "checkpoint": config.ckpt_path,
        "data": public(config.data_file) or config.data_lst,
        "images": scores.images,
        "skipped": list(scores.skipped),
        "miou": record["miou"],
        "pixel_accuracy": record["pixel_accuracy"],
        "per_class_iou": dict(zip(_unique(names), record["per_class_iou"], strict=True)),
        "classes": names,
        "confusion_matrix": scores.confusion.tolist(),
        "precision": config.precision,
        "versions": versions(),
    }


def _unique(names: list[str]) -> list[str]:
    """Return the names, those that occur twice with their class's number."""
    return [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names)]


def open_report(config: EvalConfig) -> Path:
    """Make the folder for the metrics file and find out now, not after the evaluation, whether it can be written."""
    folder = Path(config.report) if config.report else Path(config.ckpt_path).parent
    flag = f"--report={folder}" if config.report else f"{folder}, the checkpoint's folder (--report=DIR takes another)"
    check_folder(folder, flag)
    make_folder(folder, flag)
    return folder


def metrics_name(config: EvalConfig) -> str:
    """Name an evaluation after its checkpoint, data and protocol, as in ``metrics-best-voc_val_lst-ms-flip``."""
    protocol = (["ms"] if config.scales_type else []) + (["flip"] if config.flip else [])
    protocol += [f"window{config.window}"] if config.window else []
    return "-".join(["metrics", _stem(config.ckpt_path), _stem(public(config.data_file) or config.data_lst), *protocol])


def _stem(path: str) -> str:
    """Return a file's name without its suffix, nor what a glob has."""
    return re.sub(r"[^\w.+=@-]+", "_", Path(path).resolve().stem).strip("-_")[:80]


def provenance(config: EvalConfig, source: Source, weights: str) -> dict[str, Any]:
    """Return what the figures are made from, but for the labels' content; ``weights`` is their digest."""
    paths = {name: getattr(config, name) for name in ("data_root", "data_lst", "data_file")}
    return as_json(
        {
            "weights": weights,
            "data": {name: _whole_name(path) for name, path in paths.items() if path},
            "samples": keys_digest(source),
            "flags": deciding_flags(config),
        }
    )


def _whole_name(path: str) -> str:
    return public(path) if is_url(path) else str(Path(path).resolve())


def write_metrics(folder: Path, name: str, record: dict[str, Any]) -> Path:
    """Write ``folder/name.json``, with a number where another evaluation has that name already; returns the path.

    Raises:
        UserError: it cannot be written.
    """
    paths = (folder / f"{name}{'' if n == 1 else f'-{n}'}.json" for n in itertools.count(1))
    for path in paths:
        if not os.path.lexists(path):
            break
        before = _provenance_in(path)
        if before == record["provenance"]:
            break
        why = f"this one differs in {differences(record['provenance'], before)}" if before else "it is another file"
        logger.info("%s stays: %s", path, why)
    write_json(path, record)
    return path


def _provenance_in(path: Path) -> dict[str, Any] | None:
    """Return what the figures of a metrics file are made from, or None where it is another kind of file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    found = content.get("provenance") if isinstance(content, dict) else None
    return found if isinstance(found, dict) else None


def deliver(table: str, folder: Path, name: str, record: dict[str, Any]) -> Path:
    """Print the table, then write the metrics file: where one fails, the other is still there; return its path.

    Raises:
        UserError: the file cannot be written; says that the figures are printed.
    """
    printed = False
    try:
        print(table, flush=True)
        printed = True
    finally:
        try:
            path = write_metrics(folder, name, record)
        except UserError as error:
            raise UserError(f"{error}{'; the figures are printed above' if printed else ''}") from None
    print(f"metrics {path}")
    return path


def main(argv: list[str]) -> int:
    """Evaluate as the flags say, in every process that torchrun started; return the exit status."""
    world = world_from_environment()
    try:
        flags = parse_flags(EvalConfig, argv, "deeplab_fast.eval", DESCRIPTION, EPILOG)
        validate(EvalConfig(**flags))
        device = select_device(flags.get("device_target", "auto"), world.local_rank)
    except UserError:
        if world.local_rank == 0:
            raise
        return 2  # the first process of this host has the same flags and says it
    evaluated: Evaluated | None = None
    if not world.is_main:
        logger.setLevel(logging.WARNING)
    with process_group(world, device, flags.get("process_timeout", EvalConfig.process_timeout)):
        asked = flags.get("precision", EvalConfig.precision)
        precision = common_precision(world.gather(resolve_precision(asked, device)))
        with world.together():
            config, model, trained_names = load_trained(EvalConfig, flags | {"precision": precision.name})
            validate_image(config)
            validate_protocol(config)
            check_precision(config.precision, device)
            prepare_backends(device)
            data_file = find_records(config.data_file, RecordCache.of(config))
            source = open_source(config, data_file)
            names = names_of(config, data_file, trained_names)
            if world.is_main:
                folder = open_report(config)
                made_from = provenance(config, source, weights_digest(model))
        if asked == "auto":
            logger.info("speed: %s", precision)
        network: nn.Module = to_channels_last(model, device)
        use_fused(network, config.fused)
        if config.compile:
            network.compile(dynamic=False)
        protocol = Protocol.of(config, config.precision, config.scales, config.flip).in_windows(config)
        with world.together():
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
                config.on_bad_sample == "skip",
            )
            if world.is_main:
                made_from["labelled_pixels"] = scores.confusion.sum(1).tolist()
                record = {**as_record(config, scores, names), "provenance": made_from}
                metrics = deliver(scores.table(names), folder, metrics_name(config), record)
                if config.report:
                    subject = Subject(network, source, protocol, device, names, config.ignore_label, config.fused)
                    evaluated = Evaluated(record, metrics, subject)
    if evaluated is not None:  # the other processes do not wait for it
        print(f"report {write_evaluation_page(evaluated)}")
    return 0


if __name__ == "__main__":
    run(main)
