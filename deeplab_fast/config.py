"""Configuration as data: frozen dataclasses whose fields are the command line's flags.

A field's metadata holds its help text, limits and choices; :func:`validate` turns a bad value into
one line that names the flag. Classes are combined by inheritance, so that every flag is written
once and a subject is a heading in ``--help``.
"""

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Any

from .errors import UserError

MODELS = ("deeplab_v3_s16", "deeplab_v3_s8")
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101")
HEADS = ("recipe", "torchvision", "smp")
PRECISIONS = ("fp32", "bf16", "fp16")
AUTO_OR_PRECISION = ("auto", *PRECISIONS)
FUSED = ("auto", "on", "off")
VERIFY = ("auto", "always", "never")
SCALES = ((1.0,), (0.5, 0.75, 1.0, 1.25, 1.75))  # by --scales_type


def flag(
    default: Any,
    help: str,
    *,
    choices: tuple[Any, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    empty: bool = True,
) -> Any:
    """A dataclass field that is a flag. ``minimum`` and ``maximum`` are inclusive, ``above`` exclusive."""
    limits = {"choices": choices, "minimum": minimum, "maximum": maximum, "above": above, "empty": empty}
    return dataclasses.field(default=default, metadata={"help": help, **limits})


def check_value(name: str, value: Any, metadata: Any) -> None:
    """Raise :class:`UserError` naming the flag when ``value`` breaks its field's limits."""
    choices = metadata.get("choices")
    if choices is not None and value not in choices:
        raise UserError(f"--{name}={value}: expected one of {', '.join(map(str, choices))}")
    if value == () and not metadata.get("empty", True):
        raise UserError(f"--{name}: empty; expected at least one number")
    for single in value if isinstance(value, tuple) else (value,):
        if not isinstance(single, int | float) or isinstance(single, bool):
            continue
        if isinstance(single, float) and not math.isfinite(single):
            raise UserError(f"--{name}={value}: expected a finite number")
        for limit, ok, words in (
            (metadata.get("minimum"), lambda v, m: v >= m, "at least"),
            (metadata.get("maximum"), lambda v, m: v <= m, "at most"),
            (metadata.get("above"), lambda v, m: v > m, "more than"),
        ):
            if limit is not None and not ok(single, limit):
                raise UserError(f"--{name}={value}: expected {words} {limit}")


def check_type(name: str, value: Any, hint: Any) -> None:
    """Raise :class:`UserError` naming the flag when ``value``, which a file may hold, is not of its field's type."""
    if isinstance(hint, types.UnionType):
        if value is None:
            return
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    item, values = hint, [value]
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            raise UserError(f"--{name}={value!r}: expected numbers")
        item, values = typing.get_args(hint)[0], list(value)
    allowed = (int, float) if item is float else (item,)
    for single in values:
        if not isinstance(single, allowed) or (isinstance(single, bool) and item is not bool):
            expected = {bool: "True or False", int: "a whole number", float: "a number", str: "a word"}[item]
            raise UserError(f"--{name}={value!r}: expected {expected}")


def validate(config: Any) -> None:
    """Check every field of a dataclass against its type and limits."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        check_type(field.name, getattr(config, field.name), hints[field.name])
        check_value(field.name, getattr(config, field.name), field.metadata)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Model"""

    model: str = flag("deeplab_v3_s16", "Network; s16 and s8 are the output strides.", choices=MODELS)
    backbone: str = flag("resnet101", "ResNet depth.", choices=BACKBONES)
    num_classes: int = flag(21, "Classes, background included.", minimum=2, maximum=256)
    head: str = flag(
        "recipe",
        "Head and atrous stages: 'recipe' (multi-grid, 1x1 classifier after ASPP, align_corners), 'torchvision' or"
        " 'smp' (segmentation_models_pytorch): their extra 3x3 convolution; their weights give their outputs.",
        choices=HEADS,
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
        if self.dropout is not None:
            return self.dropout
        return 0.7 if self.head == "recipe" else 0.5


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """Image files"""

    exif: str = flag(
        "apply",
        "EXIF orientation: apply turns images as viewers and labelling tools do, ignore takes them as they are stored."
        " Labels are never turned.",
        choices=("apply", "ignore"),
    )
    max_pixels: int = flag(1 << 26, "Largest image, in pixels; a larger one is refused.", minimum=1, maximum=1 << 29)


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

    device_target: str = flag(
        "auto", "Where to compute; auto takes a GPU if there is one.", choices=("auto", "GPU", "CPU")
    )
    precision: str = flag(
        "auto",
        "Arithmetic of the network; weights and loss stay fp32. auto: bf16 where the device multiplies it natively"
        " (GPUs from compute capability 8.0 on, CPUs with AMX or AVX512_BF16), else fp32; what was begun goes on in the"
        " precision that it began with.",
        choices=AUTO_OR_PRECISION,
    )
    fused: str = flag(
        "auto",
        "Fused kernels: auto where they run (the reason why not is logged), on (an error where they cannot), off"
        " (torch's own operations).",
        choices=FUSED,
    )


@dataclass(frozen=True, kw_only=True)
class MachineConfig(DeviceConfig):
    """Machine"""

    num_workers: int = flag(2, "Threads that decode and augment; 0 does it in the main thread.", minimum=0, maximum=256)


@dataclass(frozen=True, kw_only=True)
class TrainDataConfig:
    """Training data (none of these: the built-in data set)"""

    data_file: str = flag("", "Records: the name given to prepare --dst_path, a shard, a glob or the folder.")
    data_root: str = flag("", "Folder that the paths in --data_lst start from.")
    data_lst: str = flag("", "List file: an image path and a label path on each line.")
    val_data_file: str = flag("", "Records to evaluate on while training.")
    val_data_root: str = flag("", "Folder of --val_data_lst; default --data_root.")
    val_data_lst: str = flag("", "List file to evaluate on while training.")
    verify: str = flag(
        "auto",
        "Compare each sample of records with its checksum when it is read: auto (where the records have checksums),"
        " always (others are refused) or never.",
        choices=VERIFY,
    )
    min_scale: float = flag(0.5, "Smallest random scale.", above=0, maximum=16)
    max_scale: float = flag(2.0, "Largest random scale.", above=0, maximum=16)
    interpolation: str = flag("bicubic", "Resampling of training images.", choices=("bicubic", "bilinear"))
    photometric: bool = flag(False, "Also vary brightness, contrast, saturation and hue.")
    augment_on: str = flag(
        "auto",
        "Where crops are made from decoded images; auto measures both where there is a GPU. The crops are the same.",
        choices=("auto", "cpu", "gpu"),
    )
    on_bad_sample: str = flag(
        "error",
        "A sample that cannot be used stops the run, or is skipped: another takes its place; a held-out one is left out"
        " of every evaluation.",
        choices=("error", "skip"),
    )
    max_bad_samples: int = flag(
        100,
        "Samples that --on_bad_sample=skip may skip; counted anew by each process and at each resume, and for the"
        " held-out data.",
        minimum=0,
    )
    cache_dir: str = flag("", "Where the built-in data set is kept; default ~/.cache/deeplab_fast.")

    @property
    def is_builtin(self) -> bool:
        return not (self.data_file or self.data_root or self.data_lst)


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Optimiser and schedule"""

    batch_size: int = flag(32, "Images a step on each process.", minimum=1)
    accumulate_steps: int = flag(1, "Batches whose gradients add up to one update.", minimum=1)
    train_epochs: int = flag(300, "Passes over the training data.", minimum=1)
    max_steps: int = flag(0, "Stop, and let the schedule end, after this many steps; 0: by --train_epochs.", minimum=0)
    base_lr: float = flag(0.015, "Learning rate at the start.", above=0)
    lr_type: str = flag("cos", "Schedule of the learning rate.", choices=("cos", "poly", "exp"))
    lr_decay_step: int = flag(40000, "Steps of a stair of --lr_type=exp.", minimum=1)
    lr_decay_rate: float = flag(0.1, "Factor of a stair of --lr_type=exp.", above=0, maximum=1)
    warmup_steps: int = flag(0, "Steps over which the learning rate rises linearly to its schedule.", minimum=0)
    momentum: float = flag(0.9, "SGD momentum.", minimum=0, maximum=0.9999)
    weight_decay: float = flag(1e-4, "L2 penalty on weights and biases, those of BatchNorm left out.", minimum=0)
    decay_norm: bool = flag(False, "Also penalise BatchNorm's weights and biases, as torchvision's training does.")
    clip_grad_norm: float = flag(0.0, "Largest gradient norm; 0: no clipping.", minimum=0)
    loss_scale: float = flag(3072.0, "First loss scale of fp16; it then adapts.", above=0)
    ema_decay: float = flag(
        0.0, "Decay of an average of the weights, used for evaluation; 0: none.", minimum=0, maximum=0.99999
    )


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Loss"""

    class_weights: tuple[float, ...] = flag((), "A weight for each class; default all 1.", minimum=0)
    label_smoothing: float = flag(0.0, "Share of the target spread over all classes.", minimum=0, maximum=0.999)
    ohem: bool = flag(False, "Count only hard pixels: the true class's probability below --ohem_threshold.")
    ohem_threshold: float = flag(0.7, "Probability above which a pixel is easy.", above=0, maximum=1)
    ohem_min_kept: int = flag(100_000, "Pixels a batch that count even when easy.", minimum=1)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Run"""

    train_dir: str = flag("", "Folder of this run; default runs/MODEL (runs/builtin for the built-in data set).")
    ckpt_pre_trained: str = flag("", "Weights to start from: .pth, .pt or .safetensors, ours or others' (README).")
    filter_weight: bool = flag(False, "Do not load the classifier of --ckpt_pre_trained.")
    allow_partial: bool = flag(
        False, "Start from --ckpt_pre_trained even where it fills less than 90 % of the backbone, or another one."
    )
    resume: str = flag(
        "auto",
        "Continue the run in --train_dir: auto (if it has checkpoints), True (it must have), or False: start over; what"
        " is there moves to its subfolder previous-N.",
        choices=("auto", "True", "False"),
    )
    resume_elsewhere: bool = flag(
        False,
        "Continue with another number of processes or another --batch_size: the images a step stay, dealt out anew.",
    )
    save_steps: int = flag(3000, "Steps between checkpoints that stay.", minimum=1)
    save_minutes: float = flag(
        10.0,
        "Most minutes between writes of last.pt, a checkpoint to continue from; it is also written at the start and"
        " with each evaluation.",
        above=0,
    )
    keep_checkpoint_max: int = flag(200, "Newest of the checkpoints that stay.", minimum=1)
    eval_epochs: int = flag(1, "Epochs between evaluations; 0: none.", minimum=0)
    log_steps: int = flag(10, "Steps whose losses are fetched and logged together.", minimum=1)
    speed: str = flag(
        "auto",
        "How a step runs: eager, compile (the network through torch.compile, which takes minutes at the start), graph"
        " (the whole step recorded as a CUDA graph), compile+graph; auto: graph on a GPU where it can be, else eager,"
        " and says why.",
        choices=("auto", "eager", "compile", "graph", "compile+graph"),
    )
    recompute_activations: bool = flag(
        False,
        "Keep no normalised activation within a bottleneck for the backward pass, which makes it again: less memory, a"
        " little slower. With the fused kernels, eagerly or in a CUDA graph.",
    )
    profile: bool = flag(
        False,
        "Write where the sixth to eighth step's time goes: profile.json (a Chrome trace) and profile.md, a table.",
    )
    process_timeout: int = flag(
        300, "Seconds that processes wait for each other; then all end, and who is missing is named.", minimum=1
    )
    sync_bn: bool = flag(False, "BatchNorm statistics over all processes.")
    is_distributed: bool = flag(False, "Accepted for the recipe's sake; torchrun decides.")
    seed: int = flag(1, "Of weights, order, augmentation and dropout.", minimum=0, maximum=2**31 - 1)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig, LossConfig, OptimiserConfig, TrainDataConfig, MachineConfig, ImageConfig, ModelConfig):
    """Everything that decides a training run; stored in the run folder and in each checkpoint."""


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig:
    """Evaluation protocol"""

    scales_type: int = flag(0, f"0: single scale; 1: sum over scales {SCALES[1]}.", choices=(0, 1))
    flip: bool = flag(False, "Also sum over the mirrored image.")

    @property
    def scales(self) -> tuple[float, ...]:
        return SCALES[self.scales_type]


@dataclass(frozen=True, kw_only=True)
class EvalConfig(ProtocolConfig, MachineConfig, ImageConfig, ModelConfig):
    """Everything that decides an evaluation."""

    precision: str = flag(
        "fp32",
        "Arithmetic of the network. fp32, for figures that compare from machine to machine; auto: bf16 where the device"
        " multiplies it natively (GPUs from compute capability 8.0 on, CPUs with AMX or AVX512_BF16), else fp32.",
        choices=AUTO_OR_PRECISION,
    )
    data_root: str = flag("", "Folder that the paths in --data_lst start from.")
    data_lst: str = flag("", "List file: an image path and a label path on each line.")
    data_file: str = flag("", "Records to evaluate on, instead of a list.")
    verify: str = flag(
        "auto",
        "Compare each sample of records with its checksum when it is read: auto (where the records have checksums),"
        " always (others are refused) or never.",
        choices=VERIFY,
    )
    ckpt_path: str = flag("", "Checkpoint or weights to evaluate.")
    on_bad_sample: str = flag(
        "error",
        "A sample that cannot be used stops the evaluation, or is skipped: the figures say over how many images.",
        choices=("error", "skip"),
    )
    process_timeout: int = flag(
        300, "Seconds that processes wait for each other; then all end, and who is missing is named.", minimum=1
    )
    batch_size: int = flag(32, "Images a batch.", minimum=1)
    report: str = flag("", "Folder for the metrics file, metrics-CHECKPOINT-DATA.json; default the checkpoint's.")
    compile: bool = flag(False, "Compile the network with torch.compile.")


def validate_image(config: ImageConfig) -> None:
    for name in ("image_mean", "image_std"):
        if len(getattr(config, name)) != 3:
            raise UserError(f"--{name}={getattr(config, name)}: expected 3 numbers, one for each channel")


def validate_train(config: TrainConfig) -> None:
    """Limits of single flags, then what only flags together can get wrong.

    Raises:
        UserError: names the flag to change.
    """
    validate(config)
    validate_image(config)
    if config.min_scale > config.max_scale:
        raise UserError(f"--min_scale={config.min_scale}: expected at most --max_scale={config.max_scale}")
    if config.data_file and config.data_lst:
        raise UserError("--data_file and --data_lst: expected one of them, not both")
    if bool(config.data_root) != bool(config.data_lst) and not config.data_file:
        missing = "data_lst" if config.data_root else "data_root"
        raise UserError(f"--{missing}: missing; a list of images needs --data_root and --data_lst")
    if config.is_builtin and (config.val_data_file or config.val_data_lst):
        raise UserError(
            "--val_data_file and --val_data_lst: need training data of your own (--data_file or --data_lst)"
        )
    if config.val_data_file and config.val_data_lst:
        raise UserError("--val_data_file and --val_data_lst: expected one of them, not both")
    if config.val_data_lst and not (config.val_data_root or config.data_root):
        raise UserError("--val_data_root: missing; --val_data_lst needs the folder its paths start from")
    if config.class_weights and len(config.class_weights) != config.num_classes:
        raise UserError(
            f"--class_weights: {len(config.class_weights)} weights; expected {config.num_classes}, one for each class"
        )
    if config.class_weights and not any(w for i, w in enumerate(config.class_weights) if i != config.ignore_label):
        raise UserError("--class_weights: all 0; expected a class that counts")
    if config.recompute_activations:
        useless = {"fused": ("off",), "speed": ("compile", "compile+graph"), "backbone": ("resnet18", "resnet34")}
        for name, values in useless.items():
            if getattr(config, name) in values:
                other = f"--{name}={getattr(config, name)}"
                raise UserError(f"--recompute_activations=True: has no effect with {other}; leave out one of them")
    if config.ohem and (config.label_smoothing or config.class_weights):
        raise UserError("--ohem: cannot be combined with --class_weights or --label_smoothing")
