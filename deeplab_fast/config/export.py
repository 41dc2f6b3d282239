"""The flags of an export."""

from dataclasses import dataclass
from typing import Literal

from ..errors import UserError
from .flags import flag
from .shared import CheckpointConfig, ImageConfig, ModelConfig

SMALLEST_SIDE = 17  # of an image that an exported network takes, as --crop_size


@dataclass(frozen=True, kw_only=True)
class ExportConfig(ImageConfig, ModelConfig, CheckpointConfig):
    """Export"""

    format: Literal["onnx", "pt2", "aoti", "mindspore"] = flag(
        "onnx",
        "onnx: for ONNX Runtime and others; pt2: torch.export; aoti: compiled for this kind of CPU (AOTInductor; needs"
        " a C++ compiler); mindspore: weights (.ckpt) with the recipe's names and channel order.",
    )
    output: str = flag("", "File to write.")
    input_kind: Literal["normalised", "rgb", "uint8"] = flag(
        "normalised",
        "What the file takes. normalised: fp32 [N, 3, H, W], means taken off and divided by deviations; rgb: fp32"
        " [N, 3, H, W] from 0 to 255; uint8: [N, H, W, 3], RGB, as Pillow and NumPy have images.",
    )
    output_kind: Literal["logits", "probabilities", "classes"] = flag(
        "logits",
        "What it gives, at the images' size. logits and probabilities (their softmax): fp32 [N, C, H, W]; classes:"
        " uint8 [N, H, W].",
    )
    size: int = flag(0, "Side of the square images that it takes; 0: any height and width from 17 on.", minimum=0)
    batch_size: int = flag(0, "Images that it takes at once; 0: any number.", minimum=0)
    check_images: str = flag(
        "", "Folder of images that the file must agree on with the original; default drawn ones of several sizes."
    )
    int8_images: str = flag(
        "", "Folder of images like those to be segmented: an ONNX file in 8 bits, its ranges found on them."
    )
    int8_agreement: float = flag(
        0.95,
        "Least share of pixels that must keep their class in 8 bits; below it nothing is written.",
        minimum=0,
        maximum=1,
    )
    data_root: str = flag("", "Folder that the paths in --data_lst start from.")
    data_lst: str = flag(
        "", "List of images and labels: the mIoU in 8 bits is measured on them, beside the original's."
    )


def validate_export(config: ExportConfig) -> None:
    """Check that the flags go with each other; raise :class:`UserError` that names the one which does not."""
    if config.format == "mindspore":
        _refuse_for_weights(config)
    if 0 < config.size < SMALLEST_SIDE:
        raise UserError(f"--size={config.size}: expected at least {SMALLEST_SIDE}, or 0 for any height and width")
    if config.int8_images and config.format != "onnx":
        raise UserError(f"--int8_images={config.int8_images}: needs --format=onnx, not {config.format}")
    if config.data_lst and not config.int8_images:
        raise UserError(f"--data_lst={config.data_lst}: needs --int8_images; it is for the mIoU in 8 bits")
    if config.data_root and not config.data_lst:
        raise UserError(f"--data_root={config.data_root}: needs --data_lst")
    if config.format == "aoti" and not config.output.endswith(".pt2"):
        raise UserError(f"--output={config.output}: expected a name that ends in .pt2 with --format=aoti")


def _refuse_for_weights(config: ExportConfig) -> None:
    """Raise :class:`UserError` where a flag would change a network, and weights alone are written."""
    defaults = ExportConfig()
    for name in ("input_kind", "output_kind", "size", "batch_size", "check_images", "int8_images", "data_lst"):
        if (value := getattr(config, name)) != getattr(defaults, name):
            raise UserError(f"--{name}={value}: not with --format=mindspore, which writes weights alone")
