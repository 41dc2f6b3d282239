"""Evaluation: images a second, ours beside the reference path with the same weights and protocol.

``python -m benchmarks.run evaluation --data_root=DIR --data_lst=FILE`` evaluates the same images by both, in turn; the
confusion matrices are compared before a time is reported: near a tie roundings may see another class, in fp32 in one of
10,000 pixels, below it in twice as many as the reference's own roundings do. The reference is ``--fused=off``: torch's
upsampling, softmax, resizing and argmax, and counting by the extension.
"""

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deeplab_fast.cli import parse_flags, run
from deeplab_fast.config import EvalConfig, ModelConfig
from deeplab_fast.config.flags import flag, validate
from deeplab_fast.config.shared import Precision
from deeplab_fast.distributed import World
from deeplab_fast.evaluation.evaluator import evaluate
from deeplab_fast.evaluation.inference import trained_model
from deeplab_fast.evaluation.protocols import protocol_of
from deeplab_fast.evaluation.settings import Settings
from deeplab_fast.model import DeepLabV3, build_model
from deeplab_fast.model.batch_norm import BatchNorm2d
from deeplab_fast.model.layers import use_fused
from deeplab_fast.runtime import prepare_backends, select_device, to_channels_last
from deeplab_fast.runtime.environment import environment

from .agreement import Check, equal, require
from .loader import open_source
from .registry import BENCHMARKS
from .report import as_table, as_text, publish, spread
from .timing import Timing, take_turns

OURS, REFERENCE = "ours", "reference"
EXACT = "reference in fp32"
_TIES = 1e-4  # the share of pixels that may be counted as another class in fp32


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(EvalConfig):
    """Evaluation benchmark"""

    precision: Precision = flag("fp32", "Precision of both.")
    rounds: int = flag(4, "Evaluations of all images by each.", minimum=4)
    out: str = flag("", "Folder for evaluation.json and evaluation.md.")


def random_model(config: ModelConfig) -> DeepLabV3:
    """Without a checkpoint: weights and statistics that give each class some pixels."""
    torch.manual_seed(0)
    model = build_model(config)
    for module in model.modules():
        if isinstance(module, BatchNorm2d):
            assert module.running_var is not None
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def differing(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """Count the pixels that lie in another cell of the confusion matrix, at the least."""
    return int(np.abs(a - b).sum()) // 2


def checks_of(counts: dict[str, NDArray[np.int64]], precision: str) -> list[Check]:
    """Check for equal sums, which a wrong class does not change, and few pixels of another class, which it does.

    ``counts`` holds those of ``EXACT`` too, unless ``precision`` is that.
    """
    ours, reference = counts[OURS], counts[REFERENCE]
    pixels = int(reference.sum())
    most = _TIES * pixels
    if precision != "fp32":
        most = max(most, 2.0 * differing(reference, counts[EXACT]))
    found = differing(ours, reference)
    return [
        equal("counted pixels", abs(int(ours.sum()) - pixels), pixels),
        Check("pixels of another class", found, most, pixels > 0 and most < pixels / 2),
    ]


def as_markdown(results: dict[str, Any]) -> str:
    where, config = results["environment"], results["config"]
    title = (
        f"Evaluation, {config['backbone']}, crop {config['crop_size']}, {config['precision']}, scales"
        f" {config['scales_type']}, flip {config['flip']}, {results['images']} images: {where['device']}, torch"
        f" {where['torch']}, {where['date']}."
    )
    rows = []
    for name, t in results["timings"].items():
        median, low, high = (t[key] / 1e3 for key in ("median_ms", "q1_ms", "q3_ms"))
        rows.append((name, f"{results['images'] / median:.2f}", f"{median:.2f}", f"{low:.2f} - {high:.2f}"))
    return as_text(
        title,
        as_table("path | images/s | median, s | quartiles, s", rows),
        f"Ours is faster by {spread(results['ratio'])}; of {results['pixels']:,} pixels"
        f" {results['differing']:,} count in another cell of the confusion matrix"
        f" (limit {results['checks'][1]['limit']:,.0f}), whose sum is the same.",
    )


def main(argv: list[str]) -> int:
    flags = parse_flags(EvaluationConfig, argv, "benchmarks.evaluation", BENCHMARKS["evaluation"].measures)
    config = EvaluationConfig(**flags)
    validate(config)
    device = select_device(config.device_target)
    prepare_backends(device)
    if config.ckpt_path:
        config, trained = trained_model(EvaluationConfig, flags)
    else:
        trained = random_model(config)
    model = to_channels_last(trained, device)
    source = open_source(config.data_file, config.data_root, config.data_lst)

    def once(name: str, config: EvaluationConfig = config) -> tuple[float, NDArray[np.int64]]:
        fused = config.fused if name == OURS else "off"
        use_fused(model, fused)
        settings = Settings.of(config, device, World(), fused=fused)
        start = time.perf_counter()
        scores = evaluate(model, source, protocol_of(config), settings)
        return time.perf_counter() - start, scores.confusion

    counts = {name: once(name)[1] for name in (OURS, REFERENCE)}
    if config.precision != "fp32":
        counts[EXACT] = once(EXACT, replace(config, precision="fp32"))[1]
    checks = checks_of(counts, config.precision)
    for one in checks:
        require(one, f"{one.what}: {one.found:,} differ from the reference; at most {one.limit:,.0f} may")
    steps = {name: partial(once, name) for name in (OURS, REFERENCE)}
    timings = {n: Timing(seconds) for n, seconds in take_turns(steps, config.rounds, 0, lambda step: step()[0]).items()}
    results = {
        "images": len(source),
        "pixels": int(counts[OURS].sum()),
        "differing": int(checks[1].found),
        "checks": [check.as_dict() for check in checks],
        "timings": {name: t.in_ms() for name, t in timings.items()},
        "ratio": timings[REFERENCE].over(timings[OURS]).summary(),
    }
    return publish("evaluation", config, environment(device), results, as_markdown)


if __name__ == "__main__":
    run(main)
