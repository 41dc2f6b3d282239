"""Segment images with a checkpoint: ``python -m deeplab_fast.predict`` (see ``--help``)."""

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from .cli import parse_flags, run
from .config import (
    PRECISIONS,
    CheckpointConfig,
    DeviceConfig,
    ImageConfig,
    ModelConfig,
    ProtocolConfig,
    flag,
    validate,
    validate_image,
)
from .data.folders import IMAGE_SUFFIXES
from .data.folders import find_images as search
from .data.sources import read_bytes
from .errors import UserError
from .evaluation.inference import trained_model
from .evaluation.palette import palette
from .evaluation.protocol import Protocol, segment_images
from .model.layers import use_fused
from .ops import decode_image
from .runtime import (
    Precision,
    check_precision,
    keep_precision,
    prepare_backends,
    resolve_precision,
    select_device,
    sigterm_interrupts,
    to_channels_last,
    versions,
)
from .storage.files import check_folder
from .storage.mask_folder import MaskFolder, find_results, read_provenance, results_among, target_files
from .storage.provenance import deciding_flags, weights_digest

logger = logging.getLogger("deeplab_fast")

JPEG_MAX_SIDE = 65500  # libjpeg's
DESCRIPTION = "Segment images: for each, NAME.png with the classes (palette PNG) and NAME_overlay.jpg."


@dataclass(frozen=True, kw_only=True)
class PredictConfig(ProtocolConfig, DeviceConfig, ImageConfig, ModelConfig, CheckpointConfig):
    """Prediction"""

    input: str = flag("", "An image, or a folder whose images are segmented, those in its subfolders too.")
    output: str = flag("", "Folder for the results.")
    overlay: float = flag(0.5, "Opacity of the classes' colours over the image; 0: no overlay.", minimum=0, maximum=1)
    overwrite: bool = flag(False, "Replace results that are there, whatever they were made from.")


def find_images(given: str) -> list[tuple[Path, Path]]:
    """Find the images to segment, and where each result goes below the output folder, without suffix."""
    path = Path(given)
    if path.is_file():
        return [(path, Path(path.stem))]
    if not path.is_dir():
        raise UserError(f"--input={given}: no such file or folder")
    found = search(path)
    if left_out := found.describe():
        logger.info("%s: left out: %s", path, left_out)
    if not found.files:
        raise UserError(f"--input={given}: no image; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return [(p, p.relative_to(path).with_suffix("")) for p in found.files]


def without_results(images: list[tuple[Path, Path]], root: Path) -> list[tuple[Path, Path]]:
    """Leave out, and count, what earlier predictions wrote into folders below ``root``."""
    results = results_among((path for path, _ in images), root)
    kept = [(path, name) for path, name in images if path not in results]
    if results:
        where = ", ".join(sorted({str(path.parent) for path in results}))
        logger.info("left out: %d results of earlier predictions in %s", len(results), where)
    if not kept:
        raise UserError(f"--input={root}: no image but results of earlier predictions")
    return kept


def check_targets(images: list[tuple[Path, Path]], given: Path, out: Path) -> None:
    """Raise :class:`UserError` where a result would replace an input or another result, or lie among the inputs."""
    inputs = {path.resolve() for path, _ in images}
    sources: dict[Path, Path] = {}
    for path, name in images:
        for target in target_files(out / name):
            if target.resolve() in inputs:
                raise UserError(f"--output={out}: {target} is an input; expected another folder")
        if name in sources:
            raise UserError(f"{path}: its result would have the name of {sources[name]}'s")
        sources[name] = path
    if given.is_dir() and given.resolve() == out.resolve():
        raise UserError(
            f"--output={out}: is --input; the next prediction would find results there. Expected another folder"
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


class Result(NamedTuple):
    """The encoded image, its classes with their palette and, where the flags want one, the overlay."""

    data: bytes
    mask: Image.Image
    overlay: Image.Image | None


@dataclass(frozen=True)
class Segmenter:
    """A network on its device and the way from an image file to the pictures of its classes."""

    config: PredictConfig
    model: torch.nn.Module
    device: torch.device
    colours: NDArray[np.uint8] = field(default_factory=palette)

    def segment(self, path: Path) -> Result:
        """Segment an image file.

        Raises:
            UserError: it cannot be read or decoded, or is too large for memory or for a JPEG; names ``path``.
        """
        try:
            return self._segment(path)
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
        # Not within the handler: the error holds the frames, and they what was allocated.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        raise UserError(f"{path}: not enough memory for it")

    def _segment(self, path: Path) -> Result:
        data = read_bytes(path)
        protocol = Protocol.of(self.config, self.config.precision, self.config.scales, self.config.flip)
        image = decode_image(data, str(path), protocol.decoding)
        opacity = self.config.overlay
        if opacity and max(image.shape[:2]) > JPEG_MAX_SIDE:
            size = f"{image.shape[1]}x{image.shape[0]} pixels"
            raise UserError(f"{path}: {size}; a JPEG has at most {JPEG_MAX_SIDE} a side, expected --overlay=0")
        classes = segment_images(self.model, [image], protocol, self.device, self.config.fused)[0]
        mask = Image.fromarray(classes).convert("P")
        mask.putpalette(self.colours.tobytes())
        if not opacity:
            return Result(data, mask, None)
        coloured = Image.fromarray(self.colours[classes])
        return Result(data, mask, Image.blend(Image.fromarray(image), coloured, opacity))


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("not enough memory", "can't allocate memory", "out of memory")  # of torch on a CPU, and of CUDA itself
    return isinstance(error, RuntimeError) and any(w in str(error) for w in words)


@dataclass
class Tally:
    """The progress of a prediction."""

    total: int
    before: int  # done by earlier runs
    done: int  # with those
    bad: list[str]

    def __str__(self) -> str:
        return f"{self.done} of {self.total} image{'' if self.total == 1 else 's'} done"

    def name_bad(self) -> None:
        """Name the images that could not be segmented."""
        if self.bad:
            count = f"{len(self.bad)} of {self.total} image{'' if self.total == 1 else 's'}"
            print("\n  ".join([f"error: {count} could not be segmented:", *self.bad]), file=sys.stderr)


def segment(segmenter: Segmenter, folder: MaskFolder, pending: list[tuple[Path, Path]], tally: Tally) -> None:
    """Segment the images one by one into ``folder``; those that cannot be used are noted in ``tally``.

    Raises:
        UserError: a result cannot be written.
    """
    with tqdm(pending, desc="predict", total=tally.total, initial=tally.done, unit="image", disable=None) as progress:
        for path, stem in progress:
            try:
                result = segmenter.segment(path)
            except UserError as error:
                tally.bad.append(str(error))
                continue
            folder.write(stem, result.data, result.mask, result.overlay)
            tally.done += 1


def main(argv: list[str]) -> int:
    """Segment images as the flags say; return the exit status."""
    flags = parse_flags(PredictConfig, argv, "deeplab_fast.predict", DESCRIPTION)
    asked = PredictConfig(**flags)
    validate(asked)
    for name in ("input", "output"):
        if not flags.get(name):
            raise UserError(f"--{name}: missing")
    images = without_results(find_images(flags["input"]), Path(flags["input"]))
    out = Path(flags["output"])
    check_targets(images, Path(flags["input"]), out)
    check_folder(out, f"--output={out}")
    device = select_device(flags.get("device_target", "auto"))
    check_precision(asked.precision, device)
    precision = choose_precision(asked, device)
    config, model = trained_model(PredictConfig, flags | {"precision": precision.name})
    validate_image(config)
    prepare_backends(device)
    made_from = {"weights": weights_digest(model), "flags": deciding_flags(config)}
    folder = MaskFolder(out, made_from, with_overlay=bool(config.overlay))
    found = find_results(folder, images, config.overwrite)
    folder.make_folders(name for _, name in images)
    facts = {"checkpoint": config.ckpt_path, "versions": versions()}
    if not found.conflicts:
        folder.describe(**facts)
    model = to_channels_last(model, device)
    use_fused(model, config.fused)
    if asked.precision == "auto":
        logger.info("speed: %s", precision)
    tally = Tally(len(images), len(found.done), len(found.done), [])
    pending = [image for image in images if image[1] not in found.done]
    again = "run again without --overwrite" if config.overwrite and not found.conflicts else "run again"
    try:
        with sigterm_interrupts():
            segment(Segmenter(config, model, device), folder, pending, tally)
        if found.conflicts and not tally.bad:
            folder.describe(**facts)  # not before: what was not made again yet is another's
    except UserError as error:
        tally.name_bad()
        raise UserError(f"{error}; {tally}, {again} to continue") from None
    except KeyboardInterrupt:
        tally.name_bad()
        print(f"{tally}, {again} to continue", file=sys.stderr)
        raise
    before = f", {tally.before} of them by an earlier run" if tally.before else ""
    print(f"{tally.done} image{'' if tally.done == 1 else 's'} segmented into {out}{before}")
    tally.name_bad()
    return 1 if tally.bad else 0


if __name__ == "__main__":
    run(main)
