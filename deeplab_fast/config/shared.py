"""Flags that training, evaluation, prediction and export share: the network, images, the device, the protocol."""

from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import UserError
from .flags import flag

Model = Literal["deeplab_v3_s16", "deeplab_v3_s8"]
# ARCHITECTURES of model/resnet.py has the same.
Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101"]
Head = Literal["recipe", "torchvision", "smp"]
Precision = Literal["fp32", "bf16", "fp16"]
AutoOrPrecision = Literal["auto", "fp32", "bf16", "fp16"]
Device = Literal["auto", "GPU", "CPU"]
Fused = Literal["auto", "on", "off"]
Verify = Literal["auto", "always", "never"]
OnBadSample = Literal["error", "skip"]

MODELS: tuple[str, ...] = get_args(Model)
PRECISIONS: tuple[str, ...] = get_args(Precision)
SMALLEST_WINDOW = 17  # as --crop_size
SCALES = ((1.0,), (0.5, 0.75, 1.0, 1.25, 1.75))  # by --scales_type


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model"""

    model: Model = flag("deeplab_v3_s16", "Network; s16 and s8 are the output strides.")
    backbone: Backbone = flag("resnet101", "ResNet depth.")
    num_classes: int = flag(21, "Classes, background included.", minimum=2, maximum=256)
    head: Head = flag(
        "recipe",
        "Head and atrous stages: 'recipe' (multi-grid, 1x1 classifier after ASPP, align_corners), 'torchvision' or"
        " 'smp' (segmentation_models_pytorch): their extra 3x3 convolution; their weights give their outputs.",
    )
    multi_grid: tuple[int, ...] = flag(
        (1, 2, 4), "Dilation of layer4's blocks as multiples of its rate.", minimum=1, empty=False
    )
    aspp_rates: tuple[int, ...] = flag(
        (),
        "Rates of ASPP's 3x3 branches; default 6,12,18 (12,24,36 with head torchvision at stride 8, and smp).",
        minimum=1,
    )
    dropout: float | None = flag(
        None,
        "Probability of dropping before the classifier; default 0.7 (heads torchvision and smp 0.5).",
        minimum=0,
        maximum=0.99,
    )
    freeze_bn: bool = flag(False, "Normalise with the loaded running statistics instead of the batch's.")

    @property
    def output_stride(self) -> int:
        return 8 if self.model.endswith("s8") else 16

    @property
    def effective_dropout(self) -> float:
        """Return ``dropout``, or what the head has by default."""
        if self.dropout is not None:
            return self.dropout
        return 0.7 if self.head == "recipe" else 0.5


@dataclass(frozen=True, kw_only=True)
class ChannelsConfig:
    """Weight files"""

    ckpt_channels: Literal["auto", "rgb", "bgr"] = flag(
        "auto",
        "Order of an image's colours that a file's weights are for. auto: bgr for networks that the MindSpore recipe"
        " trained, rgb for all others.",
    )


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig(ChannelsConfig):
    """Weights"""

    ckpt_path: str = flag(
        "",
        "Checkpoint or weights, ours or others' (docs/weights.md); a run's folder: its best.pt; or a folder of the"
        " Hugging Face Hub's form: its model.safetensors.",
    )


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """Image files"""

    exif: Literal["apply", "ignore"] = flag(
        "apply",
        "EXIF orientation: apply turns images as viewers and labelling tools do, ignore takes them as they are stored."
        " Labels are never turned.",
    )
    max_pixels: int = flag(1 << 26, "Largest image, in pixels; a larger one is refused.", minimum=1, maximum=1 << 29)


@dataclass(frozen=True, kw_only=True)
class RecordCacheConfig:
    """Records elsewhere (named by URL)"""

    record_cache: str = flag("", "Folder that their shards come into; default ~/.cache/deeplab_fast/records.")
    record_cache_gb: float = flag(
        100.0,
        "Most that the folder may hold, in GB; 0: no limit. Sets that no process uses make room for others.",
        minimum=0,
    )


@dataclass(frozen=True, kw_only=True)
class ImageConfig(DecodingConfig):
    """Images and labels"""

    crop_size: int = flag(513, "Side of the square that the network sees, in pixels.", minimum=17, maximum=4097)
    ignore_label: int = flag(255, "Label value that does not count.", minimum=0, maximum=255)
    image_mean: tuple[float, ...] = flag((103.53, 116.28, 123.675), "Channel means in BGR order, 0-255 scale.")
    image_std: tuple[float, ...] = flag((57.375, 57.12, 58.395), "Channel deviations in BGR order.", above=0)

    @property
    def mean_rgb(self) -> tuple[float, ...]:
        return self.image_mean[::-1]

    @property
    def std_rgb(self) -> tuple[float, ...]:
        return self.image_std[::-1]


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """Device"""

    device_target: Device = flag("auto", "Where to compute; auto takes a GPU if there is one.")
    precision: AutoOrPrecision = flag(
        "auto",
        "Arithmetic of the network; weights and loss stay fp32. auto: bf16 where the device multiplies it natively"
        " (GPUs from compute capability 8.0 on, CPUs with AMX or AVX512_BF16), else fp32; what was begun goes on in the"
        " precision that it began with.",
    )
    fused: Fused = flag(
        "auto",
        "Fused kernels: auto where they run (the reason why not is logged), on (an error where they cannot), off"
        " (torch's own operations).",
    )


@dataclass(frozen=True, kw_only=True)
class MachineConfig(DeviceConfig):
    """Machine"""

    num_workers: int = flag(2, "Threads that decode and augment; 0 does it in the main thread.", minimum=0, maximum=256)


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig:
    """Evaluation protocol"""

    scales_type: Literal[0, 1] = flag(0, f"0: single scale; 1: sum over scales {SCALES[1]}.")
    flip: bool = flag(False, "Also sum over the mirrored image.")
    window: int = flag(
        0,
        "Segment larger images in windows of so many pixels a side, each as an image of its own, and blend them where"
        " they overlap; 0: each image whole.",
        minimum=0,
    )
    overlap: float = flag(
        0.5, "Least share of a window's side that it has in common with the next.", minimum=0, maximum=0.9
    )

    @property
    def scales(self) -> tuple[float, ...]:
        return SCALES[self.scales_type]


def validate_protocol(config: ProtocolConfig) -> None:
    """Check that windows are large enough for the network; raise :class:`UserError` that names the flag."""
    if 0 < config.window < SMALLEST_WINDOW:
        raise UserError(f"--window={config.window}: expected at least {SMALLEST_WINDOW}, or 0 for whole images")


def validate_image(config: ImageConfig) -> None:
    """Check that means and deviations are of three channels; raise :class:`UserError` that names the flag."""
    for name in ("image_mean", "image_std"):
        if len(getattr(config, name)) != 3:
            raise UserError(f"--{name}={getattr(config, name)}: expected 3 numbers, one for each channel")
