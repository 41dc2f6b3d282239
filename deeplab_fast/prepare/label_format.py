"""The way from the flags of ``prepare labels`` to the labels of a set: their format, and its reader."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deeplab_fast.config import DecodingConfig, flag
from deeplab_fast.data.annotations import values
from deeplab_fast.data.annotations.coco import read_coco
from deeplab_fast.data.annotations.colours import read_colours
from deeplab_fast.data.annotations.cvat import read_cvat
from deeplab_fast.data.annotations.image_index import ImageIndex
from deeplab_fast.data.annotations.label_set import LabelSet
from deeplab_fast.data.annotations.labelme import read_labelme
from deeplab_fast.data.folders import find_files
from deeplab_fast.data.matching import match_some_labels, without_label
from deeplab_fast.errors import UserError
from deeplab_fast.ops import Decoding

from .palettes import open_palette

BINARY_NAMES = ["background", "foreground"]
MASKS = (".png", ".jpg", ".jpeg")  # the last two to be refused by name
_OF_FORMAT = {
    "palette": {"masks"}, "unknown": {"masks"}, "binary": {"masks"}, "ignore_values": {"masks"},
    "reduce_zero_label": {"masks"}, "label_suffix": {"masks", "labelme"}, "unsupported": {"labelme", "cvat"},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FormatConfig(DecodingConfig):
    """Labels as a tool left them"""

    input: str = flag("", "Folder of masks or of labelme's JSON; COCO's JSON file; XML file of 'CVAT for images 1.1'.")
    image_dir: str = flag("", "Folder of the images, those in its subfolders too.")
    format: Literal["auto", "masks", "coco", "labelme", "cvat"] = flag("auto", "Format; auto tells it by the files.")
    label_suffix: str = flag("", "What a mask's or JSON's name has after its image's, such as _mask.")
    classes: str = flag(
        "",
        "Names in the order of their numbers, with commas between, or a file with one a line; default: those of the"
        " labels, or of a classes.txt of your own that is there.",
    )
    palette: str = flag("", "Masks of colours: voc, camvid, cityscapes, or a file of 'R G B name' lines.")
    unknown: Literal["error", "ignore"] = flag(
        "error", "Colours that are not of the palette: ignore does not count them."
    )
    binary: Literal["auto", "True", "False"] = flag(
        "auto", "Masks of 0 and 255, which become 0 and 1; auto: where they hold these values alone."
    )
    ignore_values: tuple[int, ...] = flag((), "Masks: values that do not count.", minimum=0, maximum=65535)
    reduce_zero_label: bool = flag(False, "Masks: 0 does not count, and every other class number is one less.")
    unsupported: Literal["error", "skip"] = flag(
        "error", "labelme, CVAT: shapes without an area, such as lines; skip leaves them out, counted."
    )
    ignore_label: int = flag(255, "Label value written where a pixel does not count.", minimum=0, maximum=255)


def read_label_set(config: FormatConfig, flags: Mapping[str, Any], names: list[str], names_from: str) -> LabelSet:
    """Read the labels that the flags name; ``names`` of the classes where ``names_from`` gives them.

    ``flags`` are those that were given.

    Raises:
        UserError: flags that contradict, no such labels, or labels that cannot be read.
    """
    path = Path(config.input)
    if not path.exists():
        raise UserError(f"--input={config.input}: no such file or folder")
    kind = _format(config, path)
    for name, kinds in _OF_FORMAT.items():
        if name in flags and kind not in kinds:
            raise UserError(f"--{name}: is of {' and '.join(sorted(kinds))}; the labels are {kind} (--format)")
    if path.is_dir() != (kind in ("masks", "labelme")):
        expected = "a folder" if kind in ("masks", "labelme") else "a file"
        raise UserError(f"--input={config.input}: expected {expected} (--format={kind})")
    if kind == "masks":
        return _read_masks(config, path, names, names_from)
    if kind == "labelme":
        return read_labelme(
            path,
            Path(config.image_dir),
            config.label_suffix,
            names,
            names_from,
            config.ignore_label,
            config.unsupported,
        )
    images = ImageIndex(Path(config.image_dir))
    if kind == "coco":
        return read_coco(path, images, names, names_from, config.ignore_label)
    return read_cvat(path, images, names, names_from, config.ignore_label, config.unsupported)


def _format(config: FormatConfig, path: Path) -> str:
    if config.format != "auto":
        return config.format
    if path.is_file():
        kinds = {".json": "coco", ".xml": "cvat"}
        if path.suffix.lower() not in kinds:
            raise UserError(f"--input={path}: expected a folder, COCO's JSON or CVAT's XML; else give --format")
        return kinds[path.suffix.lower()]
    found = find_files(path, (".json",))
    is_of_images = path.samefile(config.image_dir) if Path(config.image_dir).is_dir() else False
    if not found.files or config.palette:
        return "masks"
    if found.others.keys().isdisjoint(MASKS) or is_of_images:
        return "labelme"
    raise UserError(f"--input={path}: holds JSON and images; expected --format=masks or --format=labelme")


def _read_masks(config: FormatConfig, path: Path, names: list[str], names_from: str) -> LabelSet:
    is_apart = not (Path(config.image_dir).is_dir() and path.samefile(config.image_dir))
    matched = match_some_labels(config.image_dir, path, config.label_suffix, MASKS if is_apart else MASKS[:1])
    if not matched.pairs:
        raise without_label(matched, config.label_suffix, ".png")
    decoding, ignored = Decoding.of(config), config.ignore_values
    if config.palette:
        if config.binary == "True" or ignored or config.reduce_zero_label:
            raise UserError("--palette: expected without --binary, --ignore_values and --reduce_zero_label")
        palette = open_palette(config.palette, config.ignore_label)
        ignore_unknown = config.unknown == "ignore"
        return read_colours(matched.pairs, matched.without, palette, config.ignore_label, ignore_unknown, decoding)
    masks = [mask for _, mask in matched.pairs]
    binary = config.binary == "True"
    if config.binary == "auto" and not ignored and not config.reduce_zero_label:
        binary = values.is_binary(masks, decoding)
    if binary and config.reduce_zero_label:
        raise UserError("--binary and --reduce_zero_label: expected one of them, not both")
    if binary:
        table, expected = values.binary_table(config.ignore_label, ignored), "0 and 255 (--binary)"
        names = names or BINARY_NAMES
    else:
        table = values.index_table(config.ignore_label, ignored, config.reduce_zero_label)
        expected = "class numbers of at most 255; --ignore_values lists those that do not count"
    return values.read_values(
        matched.pairs, matched.without, names, names_from, table, expected, config.ignore_label, decoding
    )
