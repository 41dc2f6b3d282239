"""Segment images with a checkpoint: ``python -m deeplab_fast.predict`` (see ``--help``)."""

import logging
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from .cli import parse_flags, run
from .config import DeviceConfig, ImageConfig, ModelConfig, ProtocolConfig, flag, validate, validate_image
from .data.folders import IMAGE_SUFFIXES
from .data.folders import find_images as search
from .data.sources import read_bytes
from .errors import UserError
from .evaluator import Protocol
from .inference import trained_model
from .model.layers import use_fused
from .ops import decode_image
from .report import palette, predict
from .runtime import check_precision, place, prepare_backends, select_device

logger = logging.getLogger("deeplab_fast")

DESCRIPTION = "Segment images: for each, NAME.png with the classes (palette PNG) and NAME_overlay.jpg."


@dataclass(frozen=True, kw_only=True)
class PredictConfig(ProtocolConfig, DeviceConfig, ImageConfig, ModelConfig):
    """Prediction"""

    ckpt_path: str = flag("", "Checkpoint or weights.")
    input: str = flag("", "An image, or a folder whose images are segmented, those in its subfolders too.")
    output: str = flag("", "Folder for the results.")
    overlay: float = flag(0.5, "Opacity of the classes' colours over the image; 0: no overlay.", minimum=0, maximum=1)


def find_images(given: str) -> list[tuple[Path, Path]]:
    """Images to segment and where each result goes below the output folder, without suffix."""
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


def check_targets(images: list[tuple[Path, Path]], out: Path) -> None:
    """Raise :class:`UserError` where a result would replace an input or another result."""
    inputs = {path.resolve() for path, _ in images}
    sources: dict[Path, Path] = {}
    for path, name in images:
        for target in targets(out / name):
            if target.resolve() in inputs:
                raise UserError(f"--output={out}: {target} is an input; expected another folder")
        if name in sources:
            raise UserError(f"{path}: its result would have the name of {sources[name]}'s")
        sources[name] = path


def targets(stem: Path) -> tuple[Path, Path]:
    """Files of one result: classes and overlay."""
    return stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}_overlay.jpg")


def main(argv: list[str]) -> int:
    flags = parse_flags(PredictConfig, argv, "deeplab_fast.predict", DESCRIPTION)
    validate(PredictConfig(**flags))
    for name in ("input", "output"):
        if not flags.get(name):
            raise UserError(f"--{name}: missing")
    images = find_images(flags["input"])
    check_targets(images, Path(flags["output"]))
    device = select_device(flags.get("device_target", "auto"))
    config, model = trained_model(PredictConfig, flags)
    validate_image(config)
    check_precision(config.precision, device)
    prepare_backends(device)
    model = place(model, device)
    use_fused(model, config.fused)
    protocol = Protocol.of(config, config.precision, config.scales, config.flip)
    colours = palette()
    out = Path(config.output)
    for path, name in tqdm(images, desc="predict", unit="image", disable=None):
        image = decode_image(read_bytes(path), str(path))
        classes = predict(model, [image], protocol, device, config.fused)[0]
        mask_file, overlay_file = targets(out / name)
        try:
            mask_file.parent.mkdir(parents=True, exist_ok=True)
            labels = Image.fromarray(classes).convert("P")
            labels.putpalette(colours.tobytes())
            labels.save(mask_file)
            if config.overlay:
                blend = Image.blend(Image.fromarray(image), Image.fromarray(colours[classes]), config.overlay)
                blend.save(overlay_file, quality=92)
        except OSError as error:
            raise UserError(f"--output={out}: cannot be written ({error.strerror})") from None
    print(f"{len(images)} image{'' if len(images) == 1 else 's'} segmented into {out}")
    return 0


if __name__ == "__main__":
    run(main)
