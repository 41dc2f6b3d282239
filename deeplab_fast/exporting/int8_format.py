"""ONNX files in 8 bits: convolutions with a scale for each channel, ranges of maps found on a user's images."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from .onnx_format import read_onnx

_OPERATIONS = ["Conv", "Relu", "Add", "MaxPool", "Concat"]


def quantise(source: Path, target: Path, batches: Iterator[Tensor], work: Path) -> None:
    """Convert the fp32 file ``source`` to 8 bits, in ``target``.

    What normalises, the classifier, its upsampling and the decision stay fp32: classes are told apart there by less
    than the step of 8 bits.

    Args:
        source, target: ONNX files.
        batches: images as the file takes them, ``[N, 3, H, W]`` or ``[N, H, W, 3]``: they show the ranges of its maps.
        work: folder for what is between.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    simplified = work / "simplified.onnx"
    with _silent():
        quant_pre_process(source, simplified, skip_symbolic_shape=True)
        nodes = read_onnx(simplified).graph.node
        classifier = [node.name for node in nodes if node.op_type == "Conv"][-1]
        quantize_static(
            simplified,
            target,
            _Reader(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_OPERATIONS,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            nodes_to_exclude=[classifier],
        )


class _Reader:
    """Batches as ONNX Runtime's calibration asks for them."""

    def __init__(self, batches: Iterator[Tensor]) -> None:
        self._batches = iter(tqdm(batches, desc="calibrate", unit="batch", leave=False, disable=None))

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch by the input's name, None after the last one."""
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch.numpy()}


@contextmanager
def _silent() -> Iterator[None]:
    """Keep ONNX Runtime's advice, which goes to the root logger, off the screen."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
