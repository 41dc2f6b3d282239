"""The fused kernels on the network's own layer shapes, beside torch eager and torch.compile.

``python -m benchmarks.kernels`` prints a table and, with ``--out``, writes JSON and markdown. Results are
compared before anything is timed: ours may be no further from fp64 than twice (gradients: three times) torch's.
``--dry_run=True`` goes through everything with tiny shapes, on a CPU in Triton's interpreter.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deeplab_fast.cli import parse_flags, run
from deeplab_fast.config import flag, validate
from deeplab_fast.errors import UserError
from deeplab_fast.ops import LogitsView, norm_relu, norm_relu_pool, upsample_argmax, upsample_ce
from deeplab_fast.ops.norm_relu import norm_relu_reference
from deeplab_fast.ops.norm_relu_pool import norm_relu_pool_reference
from deeplab_fast.ops.triton import missing
from deeplab_fast.ops.triton.launch import Launch, noted
from deeplab_fast.runtime import DTYPES

from .device_timing import captured, interleave_on_device
from .measure import Timing, environment, write_results

OURS, EAGER, COMPILED, COPY = "ours", "torch eager", "torch.compile", "copy"
IGNORE = 255


@dataclass(frozen=True, kw_only=True)
class KernelsConfig:
    """Kernels"""

    batch_size: int = flag(32, "Images.", minimum=1)
    crop_size: int = flag(513, "Side of the images.", minimum=17)
    precision: str = flag("bf16", "Type of the activations.", choices=tuple(DTYPES))
    rounds: int = flag(50, "Timed rounds.", minimum=4)
    only: str = flag("", "Only the cases whose name contains this.")
    compile: bool = flag(True, "Time torch.compile too.")
    dry_run: bool = flag(False, "Tiny shapes, fp32, in the interpreter where there is no GPU; times mean nothing.")
    out: str = flag("", "Folder for kernels.json and kernels.md.")


@dataclass
class Case:
    """Implementations of one thing. ``launches`` where its bytes can be counted; ``exact`` where it can be checked."""

    name: str
    steps: dict[str, Callable[[], Any]]
    exact: Callable[[], list[Tensor]] | None = None
    launches: list[Launch] | None = None


def sides(crop: int) -> dict[str, tuple[int, int]]:
    """(side, channels) of the layers whose activations are normalised, at output stride 16."""
    half = (crop + 1) // 2
    quarter = (half + 1) // 2
    eighth = (quarter + 1) // 2
    low = (eighth + 1) // 2
    return {
        "layer1 out": (quarter, 256),
        "layer1 inner": (quarter, 64),
        "layer2 out": (eighth, 512),
        "layer3 out": (low, 1024),
        "layer3 inner": (low, 256),
        "layer4 out": (low, 2048),
        "layer4 inner": (low, 512),
    }


def gradients(y: Tensor, inputs: list[Tensor], dy: Tensor) -> list[Tensor]:
    return [y.detach(), *torch.autograd.grad(y, inputs, dy)]


def norm_cases(
    config: KernelsConfig, device: torch.device, dtype: torch.dtype, layer: str, side: int, channels: int
) -> Iterator[Case]:
    """The whole of it, and each pass on its own against the bandwidth of a copy."""
    from deeplab_fast.ops.triton import batch_moments
    from deeplab_fast.ops.triton import norm_relu as kernels

    shape = (config.batch_size, channels, side, side)
    x, extra, dy = (activation(shape, dtype, device) for _ in range(3))
    weight, bias = (torch.randn(channels, device=device) for _ in range(2))
    residual = extra if layer.endswith("out") else None
    inputs = [t.requires_grad_() for t in (x, weight, bias, residual) if t is not None]
    statistics = torch.zeros(channels, device=device), torch.ones(channels, device=device)

    def ours() -> list[Tensor]:
        return gradients(norm_relu(x, weight, bias, *statistics, residual=residual, fused="on"), inputs, dy)

    def plain() -> list[Tensor]:
        return gradients(norm_relu_reference(x, weight, bias, *statistics, residual, True, True, 0.1, 1e-5), inputs, dy)

    def exact() -> list[Tensor]:
        leaves = [widen(t) for t in inputs]
        mean, variance = torch.zeros_like(leaves[1]).detach(), torch.ones_like(leaves[1]).detach()
        added = leaves[3] if residual is not None else None
        y = norm_relu_reference(leaves[0], leaves[1], leaves[2], mean, variance, added, True, True, 0.1, 1e-5)
        return gradients(y, leaves, dy.double())

    yield Case(f"norm_relu, {layer}, forward and backward", with_compiled(config, ours, plain), exact)

    b_x, b_extra, b_dy = (t.detach().permute(0, 2, 3, 1).flatten(0, 2) for t in (x, extra, dy))
    vectors = (*statistics, weight.detach(), bias.detach())
    y, dx, dz = (torch.empty_like(b_x) for _ in range(3))
    added, mask, out = (t if residual is not None else None for t in (b_extra, y, dz))
    sums = vectors[0], vectors[1]
    passes: dict[str, Callable[[], Any]] = {
        "statistics": lambda: batch_moments.partial_moments(b_x),
        "normalise": lambda: kernels.norm_relu(b_x, added, *vectors, 1e-5, True, y),
        "sums": lambda: kernels.norm_relu_sums(b_dy, b_x, mask, *vectors, 1e-5, True),
        "gradient": lambda: kernels.norm_relu_backward(
            b_dy, b_x, mask, *vectors, 1e-5, True, sums, float(b_x.shape[0]), dx, out
        ),
    }
    for name, work in passes.items():
        with noted() as made:
            work()
        yield Case(f"norm_relu, {layer}, {name}", {OURS: work}, launches=made[:1])


def pool_case(config: KernelsConfig, device: torch.device, dtype: torch.dtype) -> Case:
    side, channels = (config.crop_size + 1) // 2, 4 if config.dry_run else 64
    x = activation((config.batch_size, channels, side, side), dtype, device).requires_grad_()
    dy = activation((config.batch_size, channels, (side + 1) // 2, (side + 1) // 2), dtype, device)
    weight, bias = (torch.randn(channels, device=device).requires_grad_() for _ in range(2))
    statistics = torch.zeros(channels, device=device), torch.ones(channels, device=device)

    def ours() -> list[Tensor]:
        return gradients(norm_relu_pool(x, weight, bias, *statistics, fused="on"), [x, weight, bias], dy)

    def plain() -> list[Tensor]:
        y = norm_relu_pool_reference(x, weight, bias, *statistics, True, 0.1, 1e-5)
        return gradients(y, [x, weight, bias], dy)

    def exact() -> list[Tensor]:
        leaves = [widen(t) for t in (x, weight, bias)]
        mean, variance = (torch.zeros_like(leaves[1]).detach() for _ in range(2))
        y = norm_relu_pool_reference(leaves[0], leaves[1], leaves[2], mean, variance, True, 0.1, 1e-5)
        return gradients(y, leaves, dy.double())

    return Case("norm_relu_pool, stem, forward and backward", with_compiled(config, ours, plain), exact)


def loss_case(config: KernelsConfig, device: torch.device, dtype: torch.dtype, classes: int) -> Case:
    low, high = sides(config.crop_size)["layer4 out"][0], config.crop_size
    logits = activation((config.batch_size, classes, low, low), dtype, device).requires_grad_()
    labels = torch.randint(0, classes, (config.batch_size, high, high), dtype=torch.uint8, device=device)
    labels[torch.rand(labels.shape, device=device) < 0.05] = IGNORE
    long_labels = labels.long()  # torch's loss wants int64: converted outside the timing, in its favour

    def ours() -> list[Tensor]:
        total, weight, _ = upsample_ce(logits, labels, fused="on")
        return gradients(total / weight, [logits], torch.ones((), device=device))

    def by_torch(leaf: Tensor) -> list[Tensor]:
        wide = leaf if leaf.dtype == torch.float64 else leaf.float()  # as autocast does
        full = F.interpolate(wide, (high, high), mode="bilinear", align_corners=True)
        loss = F.cross_entropy(full, long_labels, ignore_index=IGNORE)
        return gradients(loss, [leaf], torch.ones_like(loss))

    def exact() -> list[Tensor]:
        return by_torch(widen(logits))

    name = f"upsample_ce, {classes} classes, {low} -> {high}, forward and backward"
    return Case(name, with_compiled(config, ours, lambda: by_torch(logits)), exact)


def argmax_case(config: KernelsConfig, device: torch.device, dtype: torch.dtype, views: int) -> Case:
    low, high = sides(config.crop_size)["layer4 out"][0], config.crop_size
    target = (high * 3 // 4, high)
    extents = torch.tensor([target] * config.batch_size)
    logits = [activation((config.batch_size, 21, low, low), dtype, device) for _ in range(views)]
    seen = [LogitsView(one, high, extents) for one in logits]
    targets = [(h - 1, w - 13) for h, w in [target] * config.batch_size]
    steps: dict[str, Callable[[], Any]] = {
        OURS: lambda: upsample_argmax(seen, targets, True, "on"),
        EAGER: lambda: upsample_argmax(seen, targets, True, "off"),
    }
    return Case(f"upsample_argmax, {views} views, 21 classes, {low} -> {high} -> {targets[0]}", steps)


def activation(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Random: zeros run faster than data does."""
    return torch.randn(shape, device=device, dtype=dtype).to(memory_format=torch.channels_last)


def widen(value: Tensor) -> Tensor:
    return value.detach().double().requires_grad_()


def with_compiled(config: KernelsConfig, ours: Callable[[], Any], plain: Callable[[], Any]) -> dict[str, Any]:
    steps = {OURS: ours, EAGER: plain}
    if config.compile and not config.dry_run:
        steps[COMPILED] = torch.compile(plain)
    return steps


def cases(config: KernelsConfig, device: torch.device, dtype: torch.dtype) -> Iterator[Case]:
    yield loss_case(config, device, dtype, 21)
    if not config.dry_run:
        yield loss_case(config, device, dtype, 150)
    yield pool_case(config, device, dtype)
    for layer, (side, channels) in sides(config.crop_size).items():
        yield from norm_cases(config, device, dtype, layer, side, channels // 32 if config.dry_run else channels)
    for views in (1, 2) if config.dry_run else (1, 10):
        yield argmax_case(config, device, dtype, views)


def check(case: Case) -> dict[str, float]:
    """Relative errors of each implementation's results against fp64.

    Raises:
        UserError: ours are further from it than three times torch's.
    """
    if case.exact is None:
        return {}
    truth = case.exact()
    errors = {name: [_error(a, t) for a, t in zip(step(), truth, strict=True)] for name, step in case.steps.items()}
    for i, (found, theirs) in enumerate(zip(errors[OURS], errors[EAGER], strict=True)):
        if not found <= max(3 * theirs, 1e-5):
            raise UserError(f"{case.name}: result {i} is off by {found:.1e}, torch's by {theirs:.1e}")
    return {name: max(values) for name, values in errors.items()}


def _error(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm().clamp(min=1e-30))


def copy_bandwidth(rounds: int, device: torch.device) -> float:
    """Bytes a second, read and written, of a copy much larger than any cache."""
    source = torch.randn((1 << 28 if device.type == "cuda" else 1 << 20) // 4, device=device)
    target = torch.empty_like(source)
    timing = interleave_on_device({COPY: lambda: target.copy_(source)}, rounds)[COPY]
    return 2 * 4 * source.numel() / timing.median


def measure(case: Case, config: KernelsConfig, bandwidth: float) -> dict[str, Any]:
    from deeplab_fast.ops.triton.traffic import traffic

    agreement = check(case)
    rounds = 4 if config.dry_run else config.rounds
    capturable = not case.name.startswith("upsample_argmax")  # its targets come from the host
    steps = {name: captured(step) if capturable else step for name, step in case.steps.items()}
    timings: dict[str, Timing] = interleave_on_device(steps, rounds)
    entry: dict[str, Any] = {
        "errors": agreement,
        "timings": {name: t.in_ms() for name, t in timings.items()},
        "ratios": {name: t.over(timings[OURS]).summary() for name, t in timings.items() if name != OURS},
    }
    if case.launches:
        moved = sum(traffic(one).moved for one in case.launches)
        entry["megabytes"] = moved / 1e6
        entry["share_of_copy"] = moved / timings[OURS].median / bandwidth
    return entry


def as_markdown(results: dict[str, Any]) -> str:
    where, config = results["environment"], results["config"]
    lines = [
        f"Kernels, {config['precision']}, batch {config['batch_size']}, crop {config['crop_size']}: {where['device']},"
        f" torch {where['torch']}, triton {where.get('triton')}, {where['date']}."
        f" A copy moves {results['copy_bandwidth'] / 1e9:.0f} GB/s.",
        "",
        "| what | ours, ms (quartiles) | torch eager, ms | ours is faster by | torch.compile, ms | ours is faster by"
        " | MB | of a copy's bandwidth |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in results["cases"].items():
        ours = entry["timings"][OURS]
        cells = [name, f"{ours['median_ms']:.3f} ({ours['q1_ms']:.3f} - {ours['q3_ms']:.3f})"]
        for peer in (EAGER, COMPILED):
            peer_time, ratio = entry["timings"].get(peer), entry["ratios"].get(peer)
            cells += [f"{peer_time['median_ms']:.3f}", f"{ratio['median']:.2f}"] if ratio else ["", ""]
        share = entry.get("share_of_copy")
        cells += [f"{entry['megabytes']:.0f}", f"{share:.0%}"] if share else ["", ""]
        lines.append(f"| {' | '.join(cells)} |")
    if config["dry_run"]:
        lines.append("\nA dry run: tiny shapes, and the times mean nothing.")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> int:
    config = KernelsConfig(**parse_flags(KernelsConfig, argv, "benchmarks.kernels", "Time the fused kernels."))
    validate(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reason = missing(device)
    if reason:
        raise UserError(f"the kernels cannot run: {reason}")
    if device.type == "cpu" and not config.dry_run:
        raise UserError("no CUDA GPU: only --dry_run=True makes sense here")
    if config.dry_run:
        config = KernelsConfig(**asdict(config) | {"batch_size": 2, "crop_size": 33, "precision": "fp32"})
    torch.manual_seed(0)
    bandwidth = copy_bandwidth(config.rounds, device)
    results: dict[str, Any] = {
        "environment": environment(device),
        "config": {k: v for k, v in asdict(config).items() if k != "out"},
        "copy_bandwidth": bandwidth,
        "cases": {},
    }
    for case in cases(config, device, DTYPES[config.precision]):
        if config.only in case.name:
            results["cases"][case.name] = measure(case, config, bandwidth)
            print(f"{case.name}: {results['cases'][case.name]['timings'][OURS]['median_ms']:.3f} ms", flush=True)
    write_results(config.out, "kernels", results, as_markdown(results))
    return 0


if __name__ == "__main__":
    run(main)
