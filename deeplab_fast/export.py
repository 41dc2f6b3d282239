"""Export a checkpoint and prove that it gives the same outputs: ``python -m deeplab_fast.export``."""

import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .cli import parse_flags, run
from .config import ImageConfig, ModelConfig, flag, validate
from .errors import UserError
from .inference import trained_model
from .model import DeepLabV3

DESCRIPTION = (
    "Export a checkpoint. The exported network takes normalised RGB images [N, 3, S, S], S = crop_size, and gives"
    " logits of the same size; N is free. Its outputs are compared with the original's before it is called done."
)
TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class ExportConfig(ImageConfig, ModelConfig):
    """Export"""

    ckpt_path: str = flag("", "Checkpoint or weights.")
    format: str = flag("onnx", "onnx: for ONNX Runtime and others; pt2: torch.export.", choices=("onnx", "pt2"))
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

    Raises:
        UserError: a package is missing, the file cannot be written, or the outputs differ.
    """
    network = FullResolution(model).eval()
    example = torch.randn(2, 3, crop_size, crop_size, generator=torch.Generator().manual_seed(0))
    batch = torch.export.Dim("batch", min=1, max=1024)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = network(example)
        program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if file_format == "pt2":
                torch.export.save(program, path)
                actual = torch.export.load(path).module()(example)
            else:
                actual = _onnx(program, example, path)
        except OSError as error:
            raise UserError(f"--output={path}: cannot be written ({error.strerror})") from None
    difference = float((actual - expected).abs().max())
    limit = TOLERANCE * float(expected.abs().max().clamp(min=1))
    if not difference <= limit:
        raise UserError(f"{path}: outputs differ by {difference:.2e} from the original's; expected at most {limit:.0e}")
    return difference


def _onnx(program: torch.export.ExportedProgram, example: Tensor, path: Path) -> Tensor:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--format=onnx: needs the package {package}; pip install 'deeplab_fast[onnx]'")
    import onnxruntime

    torch.onnx.export(
        program,
        (example,),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: example.numpy()})[0])


def main(argv: list[str]) -> int:
    flags = parse_flags(ExportConfig, argv, "deeplab_fast.export", DESCRIPTION)
    validate(ExportConfig(**flags))
    if not flags.get("output"):
        raise UserError("--output: missing; expected the file to write")
    config, model = trained_model(ExportConfig, flags)
    path = Path(config.output)
    difference = export(model, config.crop_size, config.format, path)
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, outputs agree within {difference:.1e}")
    return 0


if __name__ == "__main__":
    run(main)
