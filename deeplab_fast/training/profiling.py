"""``--profile``: where a step's time goes, by category, beside the least that the roofline allows."""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from ..data.dataset import Batch
from ..runtime import DTYPES
from . import roofline
from .roofline import FORWARD, INPUT_GRADIENT, LOSS, NORMALISE, OPTIMISER, WEIGHT_GRADIENT
from .state import TrainState
from .step import Step

GRADIENTS, PRODUCTS = "convolution gradients", "matrix products of convolutions, either way"
COPIES, OTHER, IDLE = "copies and casts", "other", "idle"
TRACE, TABLE = "profile.json", "profile.md"
_SKIPPED, _STEPS = 5, 3  # the first steps compile, record, and fill caches

# The first that matches the name of an operation or kernel. Where one operation does both gradients of a convolution
# (a CPU's does), they stand together.
_CATEGORIES = (
    (LOSS, r"upsample_ce|label_weight|log_softmax|nll_loss|cross_entropy|upsample_bilinear"),
    (OPTIMISER, r"_fused_sgd|multi_tensor_apply|FusedSgd|foreach_lerp"),
    (NORMALISE, r"norm_relu|moments|batch_norm|bn_fw|bn_bw|threshold_backward|relu|clamp_min|max_pool"),
    (WEIGHT_GRADIENT, r"conv_weight|wgrad"),
    (INPUT_GRADIENT, r"dgrad|BatchNormNode<.*Op\)[12]|conv1x1_backward"),
    (GRADIENTS, r"convolution_backward|conv_products_backward"),
    (FORWARD, r"convolution|conv_kernel|BatchNormNode<.*Op\)0|fprop|implicit_gemm|cudnn.*conv"),
    (PRODUCTS, r"gemm|::mm$|::addmm$|cutlass|nvjet|cublas"),  # nvjet: cuBLAS on Hopper
    (COPIES, r"copy|Memcpy|Memset|_to_copy|fill_|zero_|contiguous|clone|aten::cat"),
)


def category_of(name: str) -> str:
    """Return the category of an operation (CPU) or a kernel (GPU)."""
    return next((category for category, pattern in _CATEGORIES if re.search(pattern, name)), OTHER)


class ProfiledStep:
    """A step that profiles its sixth to eighth call, then writes the trace and the table into ``folder``."""

    def __init__(self, step: Step, state: TrainState, folder: Path, say: Callable[[str], None]) -> None:
        self.step, self.state, self.folder, self.say = step, state, folder, say
        self.calls = 0
        self._profile: profile | None = None
        self._start = 0.0

    def __call__(self, batches: Sequence[Batch]) -> Tensor:
        if self.calls == _SKIPPED:
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])]
            self._profile = profile(activities=activities)
            self._wait()
            self._profile.start()
            self._start = time.perf_counter()
        self.calls += 1
        loss = self.step(batches)
        if self._profile is not None and self.calls == _SKIPPED + _STEPS:
            self._wait()
            seconds = time.perf_counter() - self._start
            self._profile.stop()
            self._write(self._profile, seconds / _STEPS)
            self._profile = None
        return loss

    @property
    def _on_gpu(self) -> bool:
        return self.state.device.type == "cuda"

    def _wait(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize(self.state.device)

    def _write(self, found: profile, seconds: float) -> None:
        config = self.state.config
        found.export_chrome_trace(str(self.folder / TRACE))
        spent: dict[str, float] = {}
        for event in found.key_averages():
            time_us = event.self_device_time_total if self._on_gpu else event.self_cpu_time_total
            is_range = event.device_type == torch.autograd.DeviceType.CPU or getattr(event, "is_user_annotation", False)
            if self._on_gpu and is_range:
                continue  # its kernels have entries of their own
            category = category_of(event.key)
            spent[category] = spent.get(category, 0.0) + time_us / 1e6 / _STEPS
        dtype = DTYPES[config.precision]
        roof = roofline.measure_roof(self.state.device, dtype)
        images = config.batch_size * config.accumulate_steps
        parts = list(roofline.step_parts(self.state.model, images, config.crop_size, dtype.itemsize))
        table = as_table(spent, seconds, roofline.floor(parts, roof), roof)
        what = f"{config.model}, {config.backbone}, batch {images}, crop {config.crop_size}, {config.precision}"
        (self.folder / TABLE).write_text(f"{what}, on {self.state.device}.\n\n{table}")
        self.say(f"profile: {self.folder / TABLE}, and {TRACE} for chrome://tracing")


def as_table(spent: dict[str, float], seconds: float, floor: dict[str, float], roof: roofline.Roof) -> str:
    """Return as Markdown milliseconds a step of each category, their share, and the floor where there is one."""
    floor = dict(floor)
    if GRADIENTS in spent:
        floor[GRADIENTS] = floor.pop(INPUT_GRADIENT) + floor.pop(WEIGHT_GRADIENT)
    spent = {**dict.fromkeys(floor, 0.0), **spent}
    spent[IDLE] = max(seconds - sum(spent.values()), 0.0)
    lines = ["| category | ms a step | share | floor, ms |", "|---|---|---|---|"]
    for name, value in sorted(spent.items(), key=lambda item: -item[1]):
        least = f"{1e3 * floor[name]:.2f}" if name in floor else ""
        lines.append(f"| {name} | {1e3 * value:.2f} | {value / seconds:.1%} | {least} |")
    lines.append(f"| all | {1e3 * seconds:.2f} | 100.0% | {1e3 * sum(floor.values()):.2f} |")
    lines.append(
        f"\nThe floor is that of the fused schedule at the {roof.flops / 1e12:.3g} TFLOP/s and"
        f" {roof.bandwidth / 1e9:.3g} GB/s that a large product and a large copy reach on this device."
    )
    return "\n".join(lines) + "\n"
