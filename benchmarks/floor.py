"""The roofline floor of a training step, and of each convolution op against the library's: computed, nothing timed.

``python -m benchmarks.run floor`` prints both tables for the network's layers at ``--batch_size`` and ``--crop_size``;
``--out`` writes floor.json and floor.md. ``deeplab_fast/ops/conv/README.md`` holds the second.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from deeplab_fast.cli import run
from deeplab_fast.config import ModelConfig
from deeplab_fast.config.flags import flag
from deeplab_fast.model import build_model
from deeplab_fast.ops.conv.triton.schedule import PixelMap, Source, conv_schedule, weight_schedule
from deeplab_fast.ops.triton.tiles import CONV_PIXELS, CONV_WEIGHT, choose
from deeplab_fast.training import roofline
from deeplab_fast.training.roofline import H200, Conv, Roof

from .report import as_table, configure, settings, write_results

ELEMENT = 2  # bytes of an activation


@dataclass(frozen=True, kw_only=True)
class FloorConfig(ModelConfig):
    """Floor"""

    batch_size: int = flag(32, "Images.", minimum=1)
    crop_size: int = flag(513, "Side of the images.", minimum=17)
    tflops: float = flag(
        H200.flops / 1e12, "Dense operations a second that matrix products reach, in 10^12.", minimum=0.001
    )
    bandwidth: float = flag(H200.bandwidth / 1e9, "Bytes a second of a large copy, in 10^9.", minimum=0.001)
    out: str = flag("", "Folder for floor.json and floor.md.")


class OpWork(NamedTuple):
    """Forward and backward of one op, statistics of its output and sums of its input's gradient included.

    Operations: of the taps inside the map, of those that our schedule executes, of all. Bytes: with those sums in
    the epilogues, and in passes of their own.
    """

    op: str
    layer: str
    shape: str
    real: float
    executed: float
    dense: float
    fused_bytes: float
    separate_bytes: float

    def floors(self, roof: Roof) -> tuple[float, float]:
        """Seconds: of ours, and of dense convolutions with separate passes."""
        ours = max(self.executed / roof.flops, self.fused_bytes / roof.bandwidth)
        return ours, max(self.dense / roof.flops, self.separate_bytes / roof.bandwidth)


def op_works(convs: list[Conv]) -> Iterator[OpWork]:
    """One layer of each shape that the fused ops take."""
    seen = set()
    for conv in convs:
        key = (conv.c, conv.k, conv.side, conv.kernel, conv.stride, conv.rate)
        is_same = conv.stride == 1 and conv.norm and conv.side > 1
        if key in seen or not is_same or conv.name.startswith(("aspp.0", "aspp.1", "aspp.2", "aspp.3")):
            continue
        seen.add(key)
        if conv.kernel == 1:
            yield _work("conv1x1_bn", conv.name, [conv])
        elif conv.kernel == 3:
            yield _work("atrous_conv_bn_relu", conv.name, [conv])
    yield _work("aspp", "aspp", [c for c in convs if c.name.startswith("aspp.") and c.side > 1 and c.name[5].isdigit()])


def _work(op: str, layer: str, branches: list[Conv]) -> OpWork:
    """Of convolutions of one input in one launch."""
    one = branches[0]
    x, y = ELEMENT * one.inputs, ELEMENT * sum(c.outputs for c in branches)
    w = sum(c.weights for c in branches)
    passes = (x + y + ELEMENT * w) + (y + x + ELEMENT * w) + (y + x + 4 * w)
    # Epilogue of the input's gradient: it reads the raw input for the mask and the sums.
    fused = passes + (x if op == "conv1x1_bn" else 0)
    separate = passes + y + 2 * x
    if op != "conv1x1_bn":
        fused += 2 * x  # the sums are a pass of their own there
    rates = [c.rate if c.kernel == 3 else 0 for c in branches]
    share = executed_share(PixelMap(one.side, one.side, one.n), tuple(rates), one.k)
    rate = ", rates " + "/".join(map(str, rates)) if any(rates) else ""
    dense = 3 * sum(c.dense for c in branches)
    return OpWork(
        op=op,
        layer=layer,
        shape=f"{one.c} -> {' + '.join(str(c.k) for c in branches)}, {one.side}x{one.side}{rate}",
        real=3 * sum(c.flops for c in branches),
        executed=share * dense,
        dense=dense,
        fused_bytes=fused,
        separate_bytes=separate,
    )


def executed_share(map_: PixelMap, rates: tuple[int, ...], channels_out: int) -> float:
    """Of the dense taps, forward and both gradients together, by the launchers' own schedules."""
    outputs = tuple((Source(0, 0, rate),) for rate in rates)
    forward = conv_schedule(map_, outputs, 1, 1, CONV_PIXELS, 1)
    turned = (tuple(Source(g, 0, -rate) for g, rate in enumerate(rates)),)
    backward = conv_schedule(map_, turned, 1, 1, CONV_PIXELS, 1)
    if not any(rates):
        return 1.0
    tile = choose(CONV_WEIGHT, channels_out)
    sources = tuple(Source(g, 0, rate) for g, rate in enumerate(rates))
    weights = weight_schedule(map_, sources, 1, 1, tile.deep, 1)
    shares = [s.taps / s.dense for s in (forward, backward, weights)]
    return sum(shares) / len(shares)


def ops_table(works: list[OpWork], roof: Roof) -> str:
    header = (
        "op | layer | input -> output | TFLOP inside the map | executed | dense | GB fused | GB in separate passes"
        " | floor, ms | of dense and separate, ms"
    )
    rows = []
    for work in works:
        flops = (f"{value / 1e12:.3f}" for value in (work.real, work.executed, work.dense))
        moved = (f"{value / 1e9:.2f}" for value in (work.fused_bytes, work.separate_bytes))
        floors = (f"{1e3 * seconds:.3f}" for seconds in work.floors(roof))
        rows.append((work.op, work.layer, work.shape, *flops, *moved, *floors))
    return "\n".join(as_table(header, rows)) + "\n"


def step_table(parts: list[roofline.Part], roof: Roof) -> str:
    rows = []
    seconds = roofline.floor(parts, roof)
    for name in (*roofline.CATEGORIES, "all"):
        chosen = [p for p in parts if name in (p.category, "all")]
        time = sum(seconds.values()) if name == "all" else seconds[name]
        flops, moved = (sum(getattr(p, field) for p in chosen) for field in ("flops", "bytes"))
        rows.append((name, f"{flops / 1e12:.2f}", f"{moved / 1e9:.1f}", f"{1e3 * time:.2f}"))
    return "\n".join(as_table("category | TFLOP | GB | floor, ms", rows)) + "\n"


def main(argv: list[str]) -> int:
    config = configure(FloorConfig, argv, "floor")
    roof = Roof(config.tflops * 1e12, config.bandwidth * 1e9)
    model = build_model(config)
    parts = list(roofline.step_parts(model, config.batch_size, config.crop_size))
    works = list(op_works(roofline.convolutions(model, config.batch_size, config.crop_size)))
    results: dict[str, Any] = {
        "config": settings(config),
        "floor_ms": {k: 1e3 * v for k, v in roofline.floor(parts, roof).items()},
        "ops": [w._asdict() for w in works],
    }
    where = (
        f"{config.model}, {config.backbone}, batch {config.batch_size}, crop {config.crop_size}, at {config.tflops:g}"
        f" TFLOP/s and {config.bandwidth:g} GB/s:\n\n"
    )
    write_results(config.out, "floor", results, f"{where}{step_table(parts, roof)}\n{ops_table(works, roof)}")
    return 0


if __name__ == "__main__":
    run(main)
