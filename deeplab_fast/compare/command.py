"""The command: from flags to runs, and from their results to the page."""

from pathlib import Path

from deeplab_fast.cli import parse_flags
from deeplab_fast.errors import UserError
from deeplab_fast.runtime import check_precision, resolve_precision, select_device
from deeplab_fast.storage.files import check_folder, make_folder
from deeplab_fast.storage.run_folder import locked
from deeplab_fast.training.sources import Sources

from .config import CompareConfig
from .one_run import training_inputs
from .page import MARKDOWN, write_page
from .plan import completed
from .results import made_from
from .runs import remove_scratch, run_all

DESCRIPTION = """Train ours and torchvision's segmentation reference with the same budget on the same data, several
seeds of each, and write one table and page of time, memory and mIoU. Interrupted, it goes on with the next run."""
EPILOG = """example: python -m deeplab_fast.compare --data_root=mine --data_lst=mine/train_lst.txt
 --val_data_lst=mine/val_lst.txt --backbone=resnet50 --epochs=30 --seeds=3 --output=compared"""


def main(argv: list[str]) -> int:
    """Compare as the flags say; return the exit status."""
    flags = parse_flags(CompareConfig, argv, "deeplab_fast.compare", DESCRIPTION, EPILOG)
    device = select_device(flags.get("device_target", "auto"))
    config = completed(flags, device.type == "cuda")
    check_precision(resolve_precision(config.precision, device).name, device)
    sources = Sources.open(training_inputs(config))
    if sources.held_out is None:
        raise UserError("--val_data_lst: missing; both are evaluated on held-out data")
    if len(sources.train) < config.batch_size:
        raise UserError(f"--batch_size={config.batch_size}: the training data has only {len(sources.train)} images")
    folder, flag = Path(config.output), f"--output={config.output}"
    check_folder(folder, flag)
    make_folder(folder, flag)
    with locked(folder, "output"):
        remove_scratch(folder)
        runs = run_all(config, made_from(config, sources, device))
        print(write_page(folder, config, runs, (len(sources.train), len(sources.held_out))))
    print(f"page {folder / MARKDOWN}")
    return 0
