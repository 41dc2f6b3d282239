"""The names here of other training programs' flags, for the error that an unknown flag is."""

import difflib
import re
from collections.abc import Sequence

_TORCHRUN = "torchrun starts the processes (docs/runs.md)"
_DATA = "--data_file, or --data_root with --data_lst"

# Of the MindSpore recipe, torchvision's references/segmentation, mmsegmentation's tools and VainF's trainer.
OTHER_NAMES = {
    **dict.fromkeys(
        ("rank", "group_size", "device_num", "world_size", "dist_url", "launcher", "local_rank"), _TORCHRUN
    ),
    **dict.fromkeys(("data_path", "data_dir", "dataset", "val_data_path"), _DATA),
    **dict.fromkeys(("lr", "learning_rate"), "--base_lr"),
    **dict.fromkeys(("lr_scheduler", "lr_policy"), "--lr_type"),
    **dict.fromkeys(("epochs", "total_epochs"), "--train_epochs"),
    **dict.fromkeys(("total_itrs", "max_iters"), "--max_steps"),
    **dict.fromkeys(("wd", "weight_decay_rate"), "--weight_decay"),
    **dict.fromkeys(("workers", "num_parallel_calls"), "--num_workers"),
    **dict.fromkeys(("output_dir", "work_dir", "save_dir"), "--train_dir"),
    **dict.fromkeys(("weights", "weights_backbone", "load_from"), "--ckpt_pre_trained, or in evaluation --ckpt_path"),
    **dict.fromkeys(("device", "gpu_id"), "--device_target=GPU or CPU; CUDA_VISIBLE_DEVICES chooses one"),
    **dict.fromkeys(("test_only", "eval_only"), "python -m deeplab_fast.eval"),
    "amp": "--precision=bf16 or fp16",
    "aux_loss": "there is no auxiliary head",
    "checkpoint": "--ckpt_path",
    "cfg_options": "each of our flags on its own",
    "continue_training": "--resume",
    "lr_warmup_epochs": "--warmup_steps",
    "output_stride": "--model=deeplab_v3_s16 or deeplab_v3_s8",
    "print_freq": "--log_steps",
    "random_seed": "--seed",
    "scales": "--scales_type=1: 0.5, 0.75, 1, 1.25 and 1.75; 0: 1 alone",
    "val_interval": "--eval_epochs",
}


def unknown_flag(name: str, known: Sequence[str]) -> str:
    """Return what to say of a flag that is none of ``known``: what it is here or the nearest.

    All of them with ``--``.
    """
    here = OTHER_NAMES.get(name.removeprefix("--"), "")
    named = re.findall(r"--\w+", here)
    if here and (not named or any(flag in known for flag in named)):  # export has no --train_dir
        return f"{name}: unknown flag; here: {here}"
    near = difflib.get_close_matches(name, known, n=1)
    return f"{name}: unknown flag" + (f"; did you mean {near[0]}?" if near else "; see --help")
