"""Segment images and videos with a checkpoint: ``python -m deeplab_fast.predict`` (see ``--help``)."""

import dataclasses
import hashlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from .cli import parse_flags, run
from .config import PRECISIONS, SegmenterConfig, flag, validate
from .data.classes import class_numbers
from .errors import UserError, enough_memory
from .prediction.colours import class_colours
from .prediction.inputs import Item, check_targets, find_inputs, without_results, without_unreadable
from .prediction.into_folder import Tally, count, segment_into
from .prediction.network import Network, open_network
from .prediction.overlay import Style
from .prediction.products import Products
from .prediction.summaries import FILES, Masks, write_summaries
from .runtime import (
    Precision,
    check_precision,
    keep_precision,
    resolve_precision,
    select_device,
    versions,
)
from .storage.files import check_folder, make_folder
from .storage.locks import SharedFolder
from .storage.mask_folder import MaskFolder, find_results, read_provenance
from .storage.provenance import deciding_flags, weights_digest

logger = logging.getLogger("deeplab_fast")

KINDS = ("classes", "overlay", "probabilities", *FILES)
DESCRIPTION = (
    "Segment images and videos: for each image NAME.png with the classes (palette PNG), for each video"
    " NAME_classes.mov, and what else --save asks for."
)
OF_IMAGES = ("probabilities", "polygons")  # what --save takes of images alone


@dataclass(frozen=True, kw_only=True)
class PredictConfig(SegmenterConfig):
    """Prediction"""

    input: str = flag(
        "",
        "An image or its URL, or a video; a folder whose images and videos are segmented, those in its subfolders too;"
        " a pattern ('photos/**/*.jpg'); or a list (.txt) with a URL or a path on each line, from the list's folder.",
    )
    output: str = flag("", "Folder for the results.")
    overwrite: bool = flag(False, "Replace results that are there, whatever they were made from.")
    save: tuple[str, ...] = flag(
        ("classes", "overlay"),
        "What is written, with commas between: classes (NAME.png, always: a prediction is gone on with by it), overlay"
        " (NAME_overlay.jpg), probabilities (NAME_probabilities.npz, fp16 [C, H, W]); over all images areas (areas.csv,"
        " areas.json) and polygons (polygons.json, COCO's JSON of each class but 0). Of a video classes"
        " (NAME_classes.mov, its frames palette PNGs), overlay (NAME.mp4) and areas of each frame.",
    )
    polygon_format: Literal["rle", "outline"] = flag(
        "rle",
        "With --save=polygons: rle (compressed run lengths) or outline (polygons along the pixels' edges, one a region,"
        " each hole joined with its region by a cut).",
    )
    probability_of: str = flag(
        "",
        "With --save=probabilities: of this class alone, by number or name, as NAME_probability.png, 255 for 1.",
    )
    overlay: float = flag(0.5, "Opacity of the classes' colours over the image; 0: no overlay.", minimum=0, maximum=1)
    clear: bool = flag(True, "Leave class 0 as the image is.")
    outlines: bool = flag(True, "Give the regions of all classes but 0 an edge of their full colour.")
    legend: bool = flag(False, "Add the colours and names of an image's classes below it.")
    palette: str = flag(
        "",
        "File of colours, 'R G B name' or '#rrggbb name' a line, by name or in the classes' order; else VOC's.",
    )


def choose_precision(config: PredictConfig, device: torch.device) -> Precision:
    """Return the precision to predict in: ``--precision`` here, but results that auto adds to keep theirs.

    Raises:
        UserError: the device has no use for it.
    """
    here = resolve_precision(config.precision, device)
    if config.precision != "auto" or config.overwrite:
        return here
    flags = (read_provenance(Path(config.output)) or {}).get("flags")
    began = flags.get("precision") if isinstance(flags, dict) else None
    if began not in PRECISIONS:
        return here
    return keep_precision(began, here, device, f"--output={config.output}")


def kinds_beside(config: PredictConfig) -> tuple[str, ...]:
    """Return the kinds of files that are written beside each image's classes.

    Raises:
        UserError: ``--save`` holds another word, or ``--probability_of`` asks for what it does not hold.
    """
    if unknown := [word for word in config.save if word not in KINDS]:
        raise UserError(f"--save={unknown[0]}: expected some of {', '.join(KINDS)}, with commas between")
    if config.probability_of and "probabilities" not in config.save:
        raise UserError(f"--probability_of={config.probability_of}: needs --save=probabilities")
    kinds = ["overlay"] if "overlay" in config.save and config.overlay else []
    if "probabilities" in config.save:
        kinds.append("probability" if config.probability_of else "probabilities")
    return tuple(kinds)


def products(config: PredictConfig, names: Sequence[str]) -> Products:
    """Return what is made of each image.

    Raises:
        UserError: ``--probability_of`` or ``--palette`` do not go with the network's classes.
    """
    wanted = class_numbers(config.probability_of, names, "probability_of")
    if len(wanted) > 1:
        raise UserError(f"--probability_of={config.probability_of}: expected one class")
    style = Style(config.overlay, config.clear, config.outlines, config.legend)
    colours = class_colours(config.palette, names, config.ignore_label)
    return Products(kinds_beside(config), style, colours, tuple(names), min(wanted, default=0))


def provenance(config: PredictConfig, network: Network, made: Products) -> dict[str, Any]:
    """Return what each image's files are made from; what is written over all images does not change them."""
    written = ("classes", "overlay", *(["probabilities"] if "probabilities" in config.save else []))
    opacity = config.overlay if "overlay" in made.beside else 0.0
    flags = deciding_flags(dataclasses.replace(config, save=written, overlay=opacity))
    if config.palette:
        flags["palette"] = hashlib.sha256(made.colours.tobytes()).hexdigest()[:16]
    return {"weights": weights_digest(network.model), "flags": flags}


def check_kinds(items: Sequence[Item], save: Sequence[str]) -> None:
    """Raise :class:`UserError` where ``--save`` asks for what a video does not have, and there is one."""
    video = next((item.path for item in items if item.is_video), None)
    if video is not None and (kind := next((kind for kind in OF_IMAGES if kind in save), None)):
        raise UserError(f"--save={kind}: is of images alone; {video} is a video")


def segment_all(
    config: PredictConfig,
    network: Network,
    made: Products,
    items: Sequence[Item],
    folder: MaskFolder,
    shared: SharedFolder,
) -> Tally:
    """Segment what is not done yet of ``items`` and write what ``--save`` asks for over all of them.

    Others write into the folder meanwhile if what they make is made as it is here.

    Raises:
        UserError: results of others are in the way, or nothing can be written; says how far it has come.
    """
    found = find_results(folder, items, config.overwrite)
    if found.conflicts and not shared.is_alone:
        raise UserError(
            f"--output={folder.root}: another run is writing there, whose results --overwrite=True would replace; wait"
            " for it, or choose another --output"
        )
    folder.make_folders(item.stem for item in items)
    facts = {"checkpoint": config.ckpt_path, "classes": list(network.names), "versions": versions()}
    if not found.conflicts:
        folder.describe(**facts)
        shared.share()
    tally = Tally.of(items, {item for item in items if item in found.done})
    pending = [item for item in items if item not in tally.items]
    again = "run again without --overwrite" if config.overwrite and not found.conflicts else "run again"
    try:
        segment_into(folder, network, made, pending, tally, config.batch_size)
        masks = Masks(
            folder.root, [item for item in items if item in tally.items], network.names, network.protocol.decoding
        )
        write_summaries([kind for kind in FILES if kind in config.save], masks, config.polygon_format)
        if found.conflicts and not tally.bad:
            folder.describe(**facts)  # not before: what was not made again yet is another's
    except UserError as error:
        tally.name_bad()
        raise UserError(f"{error}; {tally}, {again} to continue") from None
    except KeyboardInterrupt:
        tally.name_bad()
        print(f"{tally}, {again} to continue", file=sys.stderr)
        raise
    return tally


@enough_memory("prediction", "a smaller --batch_size or --window")
def main(argv: list[str]) -> int:
    """Segment images as the flags say; return the exit status."""
    flags = parse_flags(PredictConfig, argv, "deeplab_fast.predict", DESCRIPTION)
    asked = PredictConfig(**flags)
    validate(asked)
    for name in ("input", "output"):
        if not flags.get(name):
            raise UserError(f"--{name}: missing")
    beside = kinds_beside(asked)
    found_all = find_inputs(asked.input, asked.max_pixels)
    items = without_results(without_unreadable(found_all, asked.input), asked.input)
    check_kinds(items, asked.save)
    out = Path(asked.output)
    check_targets(items, Path(asked.input), out, beside)
    check_folder(out, f"--output={out}")
    device = select_device(asked.device_target)
    check_precision(asked.precision, device)
    precision = choose_precision(asked, device)
    config, network = open_network(PredictConfig, flags | {"precision": precision.name}, device)
    made = products(config, network.names)
    network = dataclasses.replace(network, keep_windows="probabilities" in config.save)
    over_all = tuple(name for kind in FILES if kind in config.save for name in FILES[kind])
    folder = MaskFolder(out, provenance(config, network, made), beside, over_all)
    if asked.precision == "auto":
        logger.info("speed: %s", precision)
    make_folder(out, f"--output={out}")
    with SharedFolder(out, f"--output={out}") as shared:
        tally = segment_all(config, network, made, items, folder, shared)
    before = f", {tally.before} of them by an earlier run" if tally.before else ""
    print(f"{count(tally.done, tally.noun)} segmented into {out}{before}")
    tally.name_bad()
    return 1 if tally.bad else 0


if __name__ == "__main__":
    run(main)
