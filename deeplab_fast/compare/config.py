"""The flags of a comparison."""

from dataclasses import dataclass
from typing import Literal

from deeplab_fast.config.flags import flag, validate
from deeplab_fast.config.shared import AutoOrPrecision, Backbone, DecodingConfig, Device, Model
from deeplab_fast.errors import UserError

OURS, REFERENCE = "ours", "reference"
IMPLEMENTATIONS = (OURS, REFERENCE)


@dataclass(frozen=True, kw_only=True)
class ComparedDataConfig(DecodingConfig):
    """Data (none of these: the built-in data set)"""

    data_file: str = flag("", "Records to train on (prepare records).")
    data_root: str = flag("", "Folder that the paths in --data_lst start from.")
    data_lst: str = flag("", "List file: an image path and a label path on each line.")
    val_data_file: str = flag("", "Held-out records, on which both are evaluated.")
    val_data_root: str = flag("", "Folder of --val_data_lst; default --data_root.")
    val_data_lst: str = flag("", "Held-out list file, on which both are evaluated.")
    num_classes: int = flag(21, "Classes, background included.", minimum=2, maximum=256)
    ignore_label: int = flag(255, "Label value that does not count.", minimum=0, maximum=255)
    cache_dir: str = flag("", "Where the built-in data set and downloaded weights are kept.")


@dataclass(frozen=True, kw_only=True)
class ComparedTrainingConfig:
    """Training of both"""

    model: Model = flag("deeplab_v3_s16", "Network; s16 and s8 are the output strides (torchvision's own is 8).")
    backbone: Backbone = flag("resnet50", "ResNet depth.")
    head: Literal["torchvision", "recipe"] = flag(
        "torchvision",
        "Head of ours: torchvision: the same network in both, with the same weights at the start; recipe: ours by"
        " default, which shares only the backbone's.",
    )
    ckpt_pre_trained: str = flag("", "Weights that both start from, a file or a name; default random ones.")
    crop_size: int = flag(
        513, "Side of the crops; the reference resizes the shorter side to 0.5 to 2 times 520/480 of it.", minimum=17
    )
    batch_size: int = flag(8, "Images a step.", minimum=2)
    epochs: int = flag(30, "Passes of both over the training data.", minimum=1)
    base_lr: float = flag(0.01, "Learning rate at the start; it falls as (1 - step / steps) ** 0.9.", above=0)
    aux_loss: bool = flag(False, "Train the reference with its auxiliary head (weight 0.5, ten times the rate).")
    precision: AutoOrPrecision = flag(
        "fp32", "Arithmetic of both; fp32 is the reference's default, its autocast does the others."
    )


@dataclass(frozen=True, kw_only=True)
class CompareConfig(ComparedTrainingConfig, ComparedDataConfig):
    """Comparison"""

    budget: Literal["images", "time"] = flag(
        "images",
        "What both have the same of: images seen, or training time: ours then takes as many steps as fit into the time"
        " that the reference took for its --epochs.",
    )
    seeds: int = flag(3, "Runs of each, with seeds 1, 2, ...", minimum=1, maximum=100)
    output: str = flag(
        "compare", "Folder of the table, the page, and each run's figures: a run that is there is not run again."
    )
    device_target: Device = flag("auto", "Where to compute; auto takes a GPU if there is one.")
    num_workers: int = flag(2, "Threads of ours, and processes of the reference, that load.", minimum=0, maximum=256)


def validate_compare(config: CompareConfig) -> None:
    """Check the limits of single flags, and that there is held-out data.

    Raises:
        UserError: names the flag to change.
    """
    validate(config)
    own_data = config.data_file or config.data_root or config.data_lst
    if own_data and not (config.val_data_file or config.val_data_lst):
        raise UserError("--val_data_lst: missing; both are evaluated on held-out data (or --val_data_file)")
    if not config.output:
        raise UserError("--output: empty; expected a folder")
