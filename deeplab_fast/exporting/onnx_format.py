"""ONNX files: batch, height and width are named axes where they are free, the description is in the metadata."""

import importlib.util
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config import ExportConfig
from ..errors import UserError
from ..runtime import quiet
from .description import Description
from .network import free_axes


def check_packages() -> None:
    """Raise :class:`UserError` where a package that writes or runs these files is missing."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--format=onnx: needs the package {package}; pip install 'deeplab_fast[onnx]'")


def write_onnx(program: torch.export.ExportedProgram, config: ExportConfig, words: Description, path: Path) -> None:
    """Write a traced network to ``path``: its input is ``image``, its output has the name of its kind."""
    # Torch warns, once for each of its operations, that torchvision is not installed: none is needed.
    with quiet("torch.onnx._internal.exporter._registration", logging.ERROR), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            program,
            program.example_inputs[0],
            str(path),
            input_names=["image"],
            output_names=[config.output_kind],
            dynamic_shapes=({axis: name for name, axis in free_axes(config).items()},),
            external_data=False,
            verbose=False,
        )
    save_onnx(read_onnx(path), words, path)


def read_onnx(path: Path) -> Any:
    """Read an ONNX model."""
    import onnx

    return onnx.load(path)


def save_onnx(network: Any, words: Description, path: Path) -> None:
    """Write an ONNX model with ``words`` as its metadata."""
    import onnx

    del network.metadata_props[:]
    onnx.helper.set_model_props(network, words)
    onnx.save(network, path)


def open_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """Open a file as a function of a batch of images, as it takes them; run by ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"image": images.numpy()})[0])

    return run
