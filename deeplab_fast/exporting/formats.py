"""The formats of exported networks: what each needs, how it is written, and how it is run."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import ExportConfig
from .aoti_format import check_compiler, open_aoti, write_aoti
from .description import Description
from .onnx_format import check_packages, open_onnx, write_onnx
from .pt2_format import open_pt2, write_pt2

Run = Callable[[Tensor], Tensor]


class Format(NamedTuple):
    """``check`` raises UserError where this machine cannot write it; ``open`` returns the file as a function."""

    check: Callable[[], None]
    write: Callable[[torch.export.ExportedProgram, ExportConfig, Description, Path], None]
    open: Callable[[Path], Run]


FORMATS = {
    "onnx": Format(check_packages, write_onnx, open_onnx),
    "pt2": Format(lambda: None, write_pt2, open_pt2),
    "aoti": Format(check_compiler, write_aoti, open_aoti),
}
