"""The flags of a training run."""

from dataclasses import dataclass
from typing import Literal

from ..errors import UserError
from .flags import flag, validate
from .shared import (
    ChannelsConfig,
    ImageConfig,
    MachineConfig,
    ModelConfig,
    OnBadSample,
    RecordCacheConfig,
    Verify,
    validate_image,
)


@dataclass(frozen=True, kw_only=True)
class TrainDataConfig:
    """Training data (none of these: the built-in data set)"""

    data_file: str = flag(
        "",
        "Records: the name given to prepare --dst_path, a shard, a glob or the folder; a URL of them, such as"
        " https://HOST/voc-{00000..00007}.tar; or a MindRecord file.",
    )
    data_root: str = flag("", "Folder that the paths in --data_lst start from.")
    data_lst: str = flag("", "List file: an image path and a label path on each line.")
    val_data_file: str = flag("", "Records to evaluate on while training.")
    val_data_root: str = flag("", "Folder of --val_data_lst; default --data_root.")
    val_data_lst: str = flag("", "List file to evaluate on while training.")
    verify: Verify = flag(
        "auto",
        "Compare each sample of records with its checksum when it is read: auto (where the records have checksums),"
        " always (others are refused) or never.",
    )
    min_scale: float = flag(0.5, "Smallest random scale.", above=0, maximum=16)
    max_scale: float = flag(2.0, "Largest random scale.", above=0, maximum=16)
    interpolation: Literal["bicubic", "bilinear"] = flag("bicubic", "Resampling of training images.")
    photometric: bool = flag(False, "Also vary brightness, contrast, saturation and hue.")
    augment_on: Literal["auto", "cpu", "gpu"] = flag(
        "auto",
        "Where crops are made from decoded images; auto measures both where there is a GPU. The crops are the same.",
    )
    on_bad_sample: OnBadSample = flag(
        "error",
        "A sample that cannot be used stops the run, or is skipped: another takes its place; a held-out one is left out"
        " of every evaluation.",
    )
    max_bad_samples: int = flag(
        100,
        "Samples that --on_bad_sample=skip may skip; counted anew by each process and at each resume, and for the"
        " held-out data.",
        minimum=0,
    )
    cache_dir: str = flag(
        "", "Where the built-in data set and downloaded weights are kept; default ~/.cache/deeplab_fast."
    )

    @property
    def is_builtin(self) -> bool:
        return not (self.data_file or self.data_root or self.data_lst)


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Optimiser and schedule"""

    batch_size: int = flag(
        32,
        "Images a step on each process. auto: as many as memory allows, at most 16; --base_lr is then meant for 16"
        " images a step, and scaled in proportion.",
        minimum=1,
        auto=True,
    )
    accumulate_steps: int = flag(1, "Batches whose gradients add up to one update.", minimum=1)
    train_epochs: int = flag(300, "Passes over the training data.", minimum=1)
    max_steps: int = flag(0, "Stop, and let the schedule end, after this many steps; 0: by --train_epochs.", minimum=0)
    base_lr: float = flag(0.015, "Learning rate at the start.", above=0)
    lr_type: Literal["cos", "poly", "exp"] = flag("cos", "Schedule of the learning rate.")
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
class RunConfig(ChannelsConfig):
    """Run"""

    train_dir: str = flag("", "Folder of this run; default runs/MODEL (runs/builtin for the built-in data set).")
    ckpt_pre_trained: str = flag(
        "",
        "Weights to start from: .pth, .pt, .safetensors or MindSpore's .ckpt, ours or others' (docs/weights.md), or a"
        " name such as resnet101-imagenet, which is downloaded (docs/flags.md).",
    )
    filter_weight: bool = flag(False, "Do not load the classifier of --ckpt_pre_trained.")
    allow_partial: bool = flag(
        False, "Start from --ckpt_pre_trained even where it fills less than 90 % of the backbone, or another one."
    )
    resume: Literal["auto", "True", "False"] = flag(
        "auto",
        "Continue the run in --train_dir: auto (if it has checkpoints), True (it must have), or False: start over; what"
        " is there moves to its subfolder previous-N.",
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
    track: tuple[str, ...] = flag(
        ("tensorboard",),
        "Where figures go besides the run's own files, with commas between: tensorboard, wandb (Weights & Biases),"
        " mlflow; nothing: nowhere.",
    )
    speed: Literal["auto", "eager", "compile", "graph", "compile+graph"] = flag(
        "auto",
        "How a step runs: eager, compile (the network through torch.compile, which takes minutes at the start), graph"
        " (the whole step recorded as a CUDA graph), compile+graph; auto: graph on a GPU where it can be, else eager,"
        " and says why.",
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
class TrainConfig(
    RunConfig,
    LossConfig,
    OptimiserConfig,
    RecordCacheConfig,
    TrainDataConfig,
    MachineConfig,
    ImageConfig,
    ModelConfig,
):
    """Everything that decides a training run; stored in the run folder and in each checkpoint."""

    crop_size: int = flag(
        513,
        "Side of the square that the network sees, in pixels. auto: what the longer side of half of the images fills,"
        " at most 513.",
        minimum=17,
        maximum=4097,
        auto=True,
    )


def validate_train(config: TrainConfig) -> None:
    """Check the limits of single flags, then what only flags together can get wrong.

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
