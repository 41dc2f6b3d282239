"""The flags of an evaluation."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from ..errors import UserError
from .flags import flag
from .shared import (
    AutoOrPrecision,
    CheckpointConfig,
    ImageConfig,
    MachineConfig,
    ModelConfig,
    OnBadSample,
    ProtocolConfig,
    RecordCacheConfig,
    Verify,
    validate_protocol,
)

EvaluationProtocol = Literal["recipe", "torchvision", "mmseg", "whole", "slide"]


@dataclass(frozen=True, kw_only=True)
class ComparableConfig:
    """Protocols of other projects, and scores that cost time (docs/evaluation.md)"""

    protocol: EvaluationProtocol = flag(
        "recipe",
        "How images are seen and where classes are compared: the recipe's way, torchvision's, mmsegmentation's (of VOC"
        " 2012), whole images at their own size, or mmsegmentation's sliding windows over them.",
    )
    base_size: int = flag(520, "Shorter side of image and truth with --protocol=torchvision.", minimum=17, maximum=4097)
    test_scale: tuple[int, ...] = flag(
        (2048, 512), "Longest and shortest side that images fit within with --protocol=mmseg.", minimum=17, maximum=8192
    )
    stride: int = flag(
        0,
        "Pixels between windows of --crop_size with --protocol=slide; 0: two thirds of --crop_size.",
        minimum=0,
        maximum=4097,
    )
    boundary: bool = flag(False, "Also count boundary IoU: of pixels within 2 % of the image's diagonal of a contour.")


@dataclass(frozen=True, kw_only=True)
class EvalConfig(
    RecordCacheConfig,
    ComparableConfig,
    ProtocolConfig,
    MachineConfig,
    ImageConfig,
    ModelConfig,
    CheckpointConfig,
):
    """Everything that decides an evaluation."""

    precision: AutoOrPrecision = flag(
        "fp32",
        "Arithmetic of the network. fp32, for figures that compare from machine to machine; auto: bf16 where the device"
        " multiplies it natively (GPUs from compute capability 8.0 on, CPUs with AMX or AVX512_BF16), else fp32.",
    )
    data_root: str = flag("", "Folder that the paths in --data_lst start from.")
    data_lst: str = flag("", "List file: an image path and a label path on each line.")
    data_file: str = flag("", "Records to evaluate on, instead of a list: files or a URL.")
    verify: Verify = flag(
        "auto",
        "Compare each sample of records with its checksum when it is read: auto (where the records have checksums),"
        " always (others are refused) or never.",
    )
    on_bad_sample: OnBadSample = flag(
        "error",
        "A sample that cannot be used stops the evaluation, or is skipped: the figures say over how many images.",
    )
    process_timeout: int = flag(
        300, "Seconds that processes wait for each other; then all end, and who is missing is named.", minimum=1
    )
    batch_size: int = flag(32, "Images a batch.", minimum=1)
    report: str = flag(
        "",
        "Folder for the metrics file, metrics-CHECKPOINT-DATA.json (default the checkpoint's), and for report.html, a"
        " page with the figures and the worst and best images.",
    )
    compile: bool = flag(False, "Compile the network with torch.compile.")

    @property
    def window_stride(self) -> int:
        """Return ``stride``, or two thirds of the crop size."""
        return self.stride or 2 * self.crop_size // 3


# Flags that only some protocols have a use for.
_OF_PROTOCOLS: dict[str, tuple[str, ...]] = {
    "scales_type": ("recipe", "mmseg", "whole", "slide"),
    "flip": ("recipe", "mmseg", "whole", "slide"),
    "window": ("recipe",),
    "overlap": ("recipe",),
    "compile": ("recipe",),
    "crop_size": ("recipe", "slide"),
    "base_size": ("torchvision",),
    "test_scale": ("mmseg",),
    "stride": ("slide",),
}


def validate_evaluation(config: EvalConfig, given: Collection[str]) -> None:
    """Check that the flags that were ``given``, by name, go with the protocol, and their sizes.

    Raises:
        UserError: one does not; names it and the protocols that it goes with.
    """
    validate_protocol(config)
    for name, protocols in _OF_PROTOCOLS.items():
        value = getattr(config, name)
        if name in given and value and config.protocol not in protocols:
            expected = " or ".join(f"--protocol={protocol}" for protocol in protocols)
            raise UserError(f"--{name}={_words(value)}: not with --protocol={config.protocol}; expected {expected}")
    if len(config.test_scale) != 2 or config.test_scale[0] < config.test_scale[1]:
        raise UserError(f"--test_scale={_words(config.test_scale)}: expected two sides, the longer first, as 2048,512")
    if config.protocol == "slide" and config.window_stride > config.crop_size:
        raise UserError(
            f"--stride={config.stride}: windows of --crop_size={config.crop_size} would leave pixels out; expected at"
            f" most {config.crop_size}"
        )


def _words(value: object) -> str:
    """Return a flag's value as the command line has it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
