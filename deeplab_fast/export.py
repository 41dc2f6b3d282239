"""Export a checkpoint and prove that it gives the same outputs: ``python -m deeplab_fast.export``."""

import importlib.util
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from .cli import parse_flags, run
from .config import CheckpointConfig, ImageConfig, ModelConfig, flag, validate
from .errors import UserError
from .evaluation.inference import trained_model
from .model import DeepLabV3
from .model.weights import save_as
from .runtime import sigterm_interrupts
from .storage.checkpoint import BEST
from .storage.files import check_file, make_folder, replace_file

DESCRIPTION = (
    "Export a checkpoint. The exported network takes normalised RGB images [N, 3, S, S], S = crop_size, and gives"
    " logits of the same size; N is free. Its outputs are compared with the original's before it is called done."
    " --format=mindspore writes weights alone, for the MindSpore recipe's programs; what is read back must be equal."
)
TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class ExportConfig(ImageConfig, ModelConfig, CheckpointConfig):
    """Export"""

    format: Literal["onnx", "pt2", "mindspore"] = flag(
        "onnx",
        "onnx: for ONNX Runtime and others; pt2: torch.export; mindspore: weights (.ckpt) with the recipe's names and"
        " channel order.",
    )
    output: str = flag("", "File to write.")


class FullResolution(nn.Module):
    """The network with its upsampling: ``[N, 3, S, S]`` -> logits ``[N, C, S, S]``."""

    def __init__(self, model: DeepLabV3) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return self.model.predict(image)


def export(model: DeepLabV3, crop_size: int, file_format: str, path: Path) -> float:
    """Write ``model`` to ``path``; returns the largest difference of the outputs on random images.

    The file takes its name once its outputs agree: a failure leaves what was there before.

    Raises:
        UserError: a package is missing, the file cannot be written, or the outputs differ.
    """
    _check_packages(file_format)
    network = FullResolution(model).eval()
    example = torch.randn(2, 3, crop_size, crop_size, generator=torch.Generator().manual_seed(0))
    batch = torch.export.Dim("batch", min=1, max=1024)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = network(example)
        program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
        make_folder(path.parent, f"--output={path}")
        with replace_file(path) as partial:
            write, run_file = _FORMATS[file_format]
            write(program, example, partial)
            return _difference(run_file(partial, example), expected, path)


def _difference(actual: Tensor, expected: Tensor, path: Path) -> float:
    """Return the largest difference of the outputs, or raise :class:`UserError` where it is too large."""
    difference = float((actual - expected).abs().max())
    limit = TOLERANCE * float(expected.abs().max().clamp(min=1))
    if not difference <= limit:
        raise UserError(
            f"{path}: not written; outputs differ by {difference:.2e} from the original's; expected at most {limit:.0e}"
        )
    return difference


def _check_packages(file_format: str) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime") if file_format == "onnx" else ():
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--format=onnx: needs the package {package}; pip install 'deeplab_fast[onnx]'")


def _write_onnx(program: torch.export.ExportedProgram, example: Tensor, path: Path) -> None:
    torch.onnx.export(
        program,
        (example,),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        external_data=False,
        verbose=False,
    )


def _run_onnx(path: Path, example: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: example.numpy()})[0])


def _write_pt2(program: torch.export.ExportedProgram, example: Tensor, path: Path) -> None:
    content = io.BytesIO()  # torch's own writer says "unexpected pos" where the disk is full
    torch.export.save(program, content)
    path.write_bytes(content.getbuffer())


def _run_pt2(path: Path, example: Tensor) -> Tensor:
    return torch.export.load(path).module()(example)


_FORMATS = {"onnx": (_write_onnx, _run_onnx), "pt2": (_write_pt2, _run_pt2)}


def check_output(path: Path, ckpt_path: str) -> None:
    """Raise :class:`UserError` where the file could not be written after the export, or would replace its source."""
    check_file(path, f"--output={path}")
    source = Path(ckpt_path)
    if path.exists() and any(p.exists() and path.samefile(p) for p in (source, source / BEST)):
        raise UserError(f"--output={path}: is the checkpoint itself; expected another file")


def main(argv: list[str]) -> int:
    """Export as the flags say; return the exit status."""
    flags = parse_flags(ExportConfig, argv, "deeplab_fast.export", DESCRIPTION)
    validate(ExportConfig(**flags))
    if not flags.get("output"):
        raise UserError("--output: missing; expected the file to write")
    path = Path(flags["output"])
    check_output(path, flags.get("ckpt_path", ""))
    config, model = trained_model(ExportConfig, flags)
    with sigterm_interrupts():
        if config.format == "mindspore":
            save_as("mindspore", model.state_dict(), {}, path)
            agreement = "weights equal when read back"
        else:
            difference = export(model, config.crop_size, config.format, path)
            agreement = f"outputs agree within {difference:.1e}"
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, {agreement}")
    return 0


if __name__ == "__main__":
    run(main)
