"""Samples that the flags of ``prepare`` name, and what their labels hold."""

from dataclasses import dataclass
from pathlib import Path

from deeplab_fast.config import RecordCacheConfig, flag
from deeplab_fast.data.open_records import open_records
from deeplab_fast.data.remote import Records
from deeplab_fast.data.sources import Source, folder_source, list_source
from deeplab_fast.errors import UserError


@dataclass(frozen=True, kw_only=True)
class InputConfig(RecordCacheConfig):
    """Samples: a list file, two parallel folders, or records"""

    data_root: str = flag("", "Folder that the paths in --data_lst start from.")
    data_lst: str = flag("", "List file: an image path and a label path on each line.")
    image_dir: str = flag("", "Folder of images, instead of a list.")
    label_dir: str = flag("", "Folder of PNG labels with the images' names.")
    label_suffix: str = flag("", "What a label's name has after its image's, such as _mask: x.jpg and x_mask.png.")
    data_file: str = flag("", "Records, instead of files: tar shards or their URL, or MindRecord files by one.")


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Labels"""

    num_classes: int = flag(21, "Classes, background included; default: as the data's classes.txt or dataset.json"
                                " says.", minimum=2, maximum=256)  # fmt: skip
    ignore_label: int = flag(255, "Label value that does not count.", minimum=0, maximum=255)


def open_samples(config: InputConfig, data_file: Records, must_exist: bool = True) -> Source:
    """Open the samples that the flags name; ``must_exist`` as in :func:`list_source`.

    ``data_file``: what --data_file names, found.

    Raises:
        UserError: flags missing or contradictory, or files that are not there.
    """
    if data_file:
        others = [name for name in ("data_lst", "image_dir", "label_dir", "label_suffix") if getattr(config, name)]
        if others:
            raise UserError(f"--data_file and --{others[0]}: expected one of them, not both")
        return open_records(data_file)
    if config.image_dir or config.label_dir:
        if config.data_lst:
            raise UserError("--image_dir and --data_lst: expected one of them, not both")
        if not (config.image_dir and config.label_dir):
            raise UserError("--image_dir and --label_dir: expected both of them")
        return folder_source(config.image_dir, config.label_dir, config.label_suffix)
    if config.label_suffix:
        raise UserError("--label_suffix: expected with --image_dir and --label_dir; a list names each label itself")
    if not config.data_lst:
        raise UserError("--data_lst: missing; give --data_root and --data_lst, or --image_dir and --label_dir")
    if not config.data_root:
        raise UserError("--data_root: missing; expected the folder that the paths in --data_lst start from")
    return list_source(config.data_root, config.data_lst, must_exist)


def root_of_names(config: InputConfig) -> str:
    """Return the folder where ``classes.txt`` may be: the data's root, or the one above that of the images."""
    return config.data_root or (str(Path(config.image_dir).parent) if config.image_dir else "")
