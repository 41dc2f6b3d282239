"""List files of VOC 2012, or of two folders: ``prepare lists``."""

from dataclasses import dataclass
from pathlib import Path

from deeplab_fast.cli import parse_flags
from deeplab_fast.config import flag, validate
from deeplab_fast.data.sources import folder_source
from deeplab_fast.data.split import write_split
from deeplab_fast.data.voc import write_lists
from deeplab_fast.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ListsConfig:
    """Lists"""

    data_root: str = flag("", "Folder that holds VOCdevkit and, for the augmented list, benchmark_RELEASE; or, with"
                              " --image_dir, where to write the lists.")  # fmt: skip
    image_dir: str = flag("", "Own data: folder of images.")
    label_dir: str = flag("", "Own data: folder of PNG labels with the images' names.")
    label_suffix: str = flag("", "Own data: what a label's name has after its image's, such as _mask.")
    val_share: float = flag(0.1, "Own data: share of the samples that goes to the val list.", minimum=0, maximum=0.9)
    seed: int = flag(1, "Own data: of the choice.", minimum=0, maximum=2**31 - 1)


def main(argv: list[str]) -> int:
    """Write list files of VOC or of two folders; return the exit status."""
    config = ListsConfig(
        **parse_flags(ListsConfig, argv, "deeplab_fast.prepare lists", "Convert labels and write list files.")
    )
    validate(config)
    if not config.data_root:
        raise UserError("--data_root: missing; expected the folder that VOCdevkit was unpacked into")
    if config.image_dir or config.label_dir:
        if not (config.image_dir and config.label_dir):
            raise UserError("--image_dir and --label_dir: expected both of them")
        return _own_lists(config)
    for result in write_lists(config.data_root):
        full = "complete" if result.samples == result.expected else f"the full data set has {result.expected:,}"
        print(f"{result.path}: {result.samples:,} samples ({full})")
    if not (Path(config.data_root) / "benchmark_RELEASE").is_dir():
        print(f"no vocaug_train_lst.txt: {config.data_root} has no benchmark_RELEASE (SBD)")
    return 0


def _own_lists(config: ListsConfig) -> int:
    source = folder_source(config.image_dir, config.label_dir, config.label_suffix)
    for path, samples in write_split(source, config.data_root, config.val_share, config.seed).items():
        print(f"{path}: {samples:,} sample{'' if samples == 1 else 's'}")
    return 0
