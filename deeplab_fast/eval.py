"""Evaluate a checkpoint: ``python -m deeplab_fast.eval`` (see ``--help``)."""

import logging
from collections.abc import Sequence

from torch import nn

from .cli import parse_flags, run
from .config import EvalConfig, validate, validate_evaluation, validate_image
from .data.classes import class_names, own_names
from .data.open_records import open_records
from .data.remote import RecordCache, Records, find_records
from .data.sources import Source, list_source
from .distributed import process_group, world_from_environment
from .errors import UserError
from .evaluation.evaluator import evaluate
from .evaluation.inference import load_trained
from .evaluation.metrics_file import deliver, image_rows, metrics_name, open_report, provenance
from .evaluation.protocols import protocol_of
from .evaluation.record import as_record
from .evaluation.settings import Settings
from .evaluation.table import table_of
from .model.layers import use_fused
from .ops import Folds, keep_folds
from .report.evaluation_page import Evaluated, write_evaluation_page
from .report.subject import Subject
from .runtime import (
    check_precision,
    common_precision,
    prepare_backends,
    resolve_precision,
    select_device,
    to_channels_last,
)
from .storage.provenance import weights_digest

logger = logging.getLogger("deeplab_fast")

DESCRIPTION = "Evaluate a checkpoint by a protocol, the recipe's or another: scores of each class, mIoU, accuracy."
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
            validate_evaluation(config, flags)
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
        protocol = protocol_of(config)
        settings = Settings.of(config, device, world, per_image=True, boundary=config.boundary)
        with world.together(), keep_folds(Folds()):
            scores = evaluate(network, source, protocol, settings)
            if world.is_main:
                made_from["labelled_pixels"] = scores.confusion.sum(1).tolist()
                record = {**as_record(config, protocol, scores, names), "provenance": made_from}
                table = f"protocol {protocol.name}: {protocol.summary}\n{table_of(scores, names)}"
                images = scores.per_image
                assert images is not None
                metrics = deliver(table, folder, metrics_name(config), record, image_rows(images, source))
                if config.report:
                    subject = Subject(network, source, protocol, device, names, config.ignore_label, config.fused)
                    evaluated = Evaluated(record, metrics, subject, images.miou_by_sample)
    if evaluated is not None:  # the other processes do not wait for it
        print(f"report {write_evaluation_page(evaluated)}")
    return 0


if __name__ == "__main__":
    run(main)
