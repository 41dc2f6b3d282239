"""Tile sizes, as data: one entry for each kind of kernel and range of channels or classes.

All are powers of two, chosen by register count (``tests/compile``) and, where it says so, by measurement.
"""

from dataclasses import dataclass
from typing import TypeVar

from .device_info import BLACKWELL, HOPPER


@dataclass(frozen=True)
class Tile:
    """``rows`` x ``columns`` elements by ``warps`` warps of 32 threads; ``stages`` of software pipelining.

    ``registers``: most that a thread may have, where the assembler's own choice would spill some.
    """

    rows: int
    columns: int
    warps: int
    stages: int = 1
    registers: int | None = None

    def options(self) -> dict[str, int]:
        """Return the compile options of this tile."""
        most = {} if self.registers is None else {"maxnreg": self.registers}
        return {"num_warps": self.warps, "num_stages": self.stages, **most}


@dataclass(frozen=True)
class ConvTile(Tile):
    """``rows`` pixels x ``columns`` output channels; ``deep``: channels that a step of the inner loop sums over.

    Of a gradient of the weights: ``rows`` output channels x ``columns`` input channels, summed over ``deep`` pixels a
    step. ``resident``: programs that share a multiprocessor.
    """

    deep: int = 64
    resident: int = 1

    @property
    def label(self) -> str:
        """Name that a measurement keeps it under."""
        return f"{self.rows}x{self.columns}x{self.deep} w{self.warps} s{self.stages} r{self.resident}"


# For matrices [rows, channels]: (largest number of channels, tile). Of the statistics, by measurement on an H200: 5 to
# 13 % faster than 64 x 64.
MOMENTS = (
    (16, Tile(128, 16, 4, registers=96)),
    (32, Tile(128, 32, 8)),
    (1 << 30, Tile(128, 64, 8)),
)
# Of the normalisation: 3 to 8 % faster than 64 x 64. Small tiles ask for the constants more often, but of the L2 cache.
NORM = (
    (16, Tile(128, 16, 4, registers=96)),
    (32, Tile(128, 32, 8)),
    (64, Tile(64, 64, 8)),
    (1 << 30, Tile(16, 128, 4)),
)
# Of two, which have twice the constants.
NORM_PAIR = (*NORM[:-1], (1 << 30, Tile(32, 128, 8)))
# Of its gradient (GB/s by the least bytes; a copy reached 4,170): 3,160 to 4,270 in layer1 to layer3, where 64 x 64
# reached 2,700 to 3,100.
NORM_BACKWARD = (
    (16, Tile(128, 16, 4, registers=96)),
    (32, Tile(128, 32, 8)),
    (64, Tile(128, 64, 8)),
    (1 << 30, Tile(16, 128, 4)),
)
# Partial results [parts, channels] that one program merges: (largest number of parts, tile). Many parts, few
# channels: all programs of the merge together must be enough to read them fast.
MERGE = (
    (16, Tile(16, 64, 4)),
    (1 << 30, Tile(256, 8, 8)),
)
# Of the sums over all rows, whose accumulators want the registers of a larger tile.
SUMS = (
    (16, Tile(128, 16, 4, registers=96)),
    (32, Tile(64, 32, 8)),
    (1 << 30, Tile(32, 64, 8)),
)
# Of two normalisations' sums, which are three.
SUMS_PAIR = (
    (16, Tile(64, 16, 4)),
    (32, Tile(64, 32, 8)),
    (1 << 30, Tile(32, 64, 8)),
)
# Most programs that share a reduction, all channel blocks together: whole waves of the blocks that 132
# multiprocessors hold at these kernels' registers. More would make the merge long.
MOMENTS_PROGRAMS = 528
SUMS_PROGRAMS = 396
SUMS_PAIR_PROGRAMS = 264
POOL_PROGRAMS = 264
# Pooled pixels of one row x channels.
POOL = (
    (16, Tile(32, 16, 4)),
    (32, Tile(32, 32, 4)),
    (1 << 30, Tile(32, 64, 8)),
)
# Classes x neighbouring output pixels of a cell, one warp: with the pixels along the lanes, and 16 or fewer
# scores a thread. (largest number of classes, tile)
CELL = (
    (4, Tile(4, 32, 1, registers=160)),
    (8, Tile(8, 16, 1)),
    (16, Tile(16, 16, 1)),
    (32, Tile(32, 16, 1, registers=168)),
    (64, Tile(64, 8, 1)),
    (128, Tile(128, 2, 1, registers=208)),
    (256, Tile(256, 1, 1, registers=255)),
)
# Label smoothing keeps more.
CELL_SMOOTH = tuple(
    (32, Tile(32, 16, 1, registers=208)) if classes == 32 else (classes, tile) for classes, tile in CELL
)
# Output pixels anywhere x classes.
PIXELS = (
    (4, Tile(64, 4, 1)),
    (8, Tile(64, 8, 2)),
    (16, Tile(32, 16, 2, registers=192)),
    (32, Tile(32, 32, 4, registers=192)),
    (64, Tile(32, 64, 8)),
    (128, Tile(16, 128, 8)),
    (256, Tile(8, 256, 8)),
)
# Pixels x channels of the stem's input.
STEM = ((16, Tile(128, 16, 4)),)
# Labels whose weights one program adds up at a time, and programs at most.
LABELS = ((1 << 30, Tile(2048, 1, 4, registers=96)),)
LABEL_PROGRAMS = 528
# Low-resolution pixels x classes of the gradient's gather.
GATHER = ((1 << 30, Tile(32, 32, 4)),)
# Of a pass over every element.
ELEMENTS = ((1 << 62, Tile(1024, 1, 4)),)
# Programs' results that one program adds up at a time.
FINISH = ((1 << 30, Tile(1024, 1, 4)),)
# Programs below which a strip of cells is split further.
STRIP_PROGRAMS = 4096
# Pixels of a convolution's tile, which its moments are of.
CONV_PIXELS = 128
# Convolutions as matrix products, of which the launcher takes the one that ends first.
CONV = (
    (64, ConvTile(CONV_PIXELS, 64, 4, 4, resident=2)),
    (1 << 30, ConvTile(CONV_PIXELS, 128, 8, 4)),
)
# Hopper alone has the registers for the widest tile and an epilogue.
CONV_HOPPER = (
    CONV[0],
    (128, CONV[1][1]),
    (1 << 30, ConvTile(CONV_PIXELS, 256, 8, 3)),
)
# What a measurement on Hopper may choose beside those: several programs share a multiprocessor, so that one loads while
# another stores. Where a sum is short, as of layer1's 64 channels, nothing else fills the time.
CONV_SHARING = (
    (1 << 30, ConvTile(CONV_PIXELS, 64, 4, 2, resident=3)),
    (1 << 30, ConvTile(CONV_PIXELS, 128, 8, 2, resident=2)),
    (1 << 30, ConvTile(CONV_PIXELS, 128, 4, 2, resident=2)),
)
# fp32, without tensor cores: exact, slow, and twice the memory.
CONV_FP32 = ((1 << 30, ConvTile(CONV_PIXELS, 64, 8, 2, deep=16)),)
CONV_WEIGHT_FP32 = ((1 << 30, ConvTile(64, 64, 8, 2, deep=32)),)
# By columns: an estimate [E] of the share of the peak that the inner loop reaches, against the widest.
SHARE_OF_PEAK = {64: 0.7, 128: 0.88, 256: 1.0}
# Of a convolution's weights: a step of 32 pixels wastes none of a rectangle where there are 32 images.
CONV_WEIGHT = ((1 << 30, ConvTile(128, 128, 8, 4, deep=32, resident=2)),)


_Tile = TypeVar("_Tile", bound=Tile)


def choose(table: tuple[tuple[int, _Tile], ...], size: int) -> _Tile:
    """Return the first entry that is large enough."""
    return next(tile for largest, tile in table if size <= largest)


def conv_tiles(channels: int, architecture: int, is_fp32: bool) -> tuple[ConvTile, ...]:
    """Return the tiles for so many output channels, none twice too wide; compute capability ``architecture`` / 10."""
    table: tuple[tuple[int, ConvTile], ...] = CONV_HOPPER if HOPPER <= architecture < BLACKWELL else CONV
    if is_fp32:
        table = CONV_FP32
    return tuple(tile for _, tile in table if tile.columns == 64 or tile.columns < 2 * channels)


# Kernels of a convolution for which a measurement keeps a tile each.
FORWARD, INPUT_GRADIENT = "forward", "input gradient"


def candidates(columns: int, architecture: int) -> tuple[ConvTile, ...]:
    """Return the tiles that a measurement chooses from, for a result of so many channels."""
    tiles = conv_tiles(columns, architecture, False)
    if not HOPPER <= architecture < BLACKWELL:
        return tiles
    return tiles + tuple(tile for _, tile in CONV_SHARING if tile.columns == 64 or tile.columns < 2 * columns)
