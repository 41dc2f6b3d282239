"""Evaluate a checkpoint: ``python -m deeplab_fast.eval`` (see ``--help``)."""

import logging

from torch import nn

from .cli import parse_flags, run
from .config import EvalConfig, validate, validate_evaluation, validate_image
from .distributed import process_group, world_from_environment
from .errors import UserError, enough_memory
from .evaluation.inference import load_trained
from .evaluation.labelled import Labelled, evaluate_labelled
from .evaluation.metrics_file import deliver, image_rows, metrics_name, open_report
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

logger = logging.getLogger("deeplab_fast")

DESCRIPTION = "Evaluate a checkpoint by a protocol, the recipe's or another: scores of each class, mIoU, accuracy."
EPILOG = """example: python -m deeplab_fast.eval --ckpt_path=ckpt/best.pt --data_root=VOC2012
 --data_lst=VOC2012/voc_val_lst.txt --scales_type=1 --flip=True. Model, classes and crop size come from the
 checkpoint unless given."""


@enough_memory("evaluation", "a smaller --batch_size, --window or --num_workers")
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
            labelled = Labelled.of(config, trained_names)
            if world.is_main:
                folder = open_report(config)
        if asked == "auto":
            logger.info("speed: %s", precision)
        network: nn.Module = to_channels_last(model, device)
        use_fused(network, config.fused)
        if config.compile:
            network.compile(dynamic=False)
        with world.together(), keep_folds(Folds()):
            found = evaluate_labelled(network, labelled, config, device, world)
            if world.is_main:
                images = found.scores.per_image
                assert images is not None
                rows = image_rows(images, labelled.source)
                metrics = deliver(str(found), folder, metrics_name(config), found.record, rows)
                if config.report:
                    names, ignored = labelled.names, config.ignore_label
                    subject = Subject(network, labelled.source, found.protocol, device, names, ignored, config.fused)
                    evaluated = Evaluated(found.record, metrics, subject, images.miou_by_sample)
    if evaluated is not None:  # the other processes do not wait for it
        print(f"report {write_evaluation_page(evaluated)}")
    return 0


if __name__ == "__main__":
    run(main)
