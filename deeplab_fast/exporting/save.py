"""Steps from a trained network to its file: traced, written, run, compared, and only then given its name."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from ..config import ExportConfig
from ..errors import UserError
from ..evaluation.inference import Trained
from ..storage.files import make_folder, replace_file
from .agreement import compare, refuse_difference
from .description import Description, describe
from .formats import FORMATS, Format
from .int8_format import quantise
from .network import ExportedNetwork, trace
from .onnx_format import read_onnx, save_onnx
from .scores import FileNetwork, as_percent, miou
from .tried import Tried


def save(trained: Trained[ExportConfig], path: Path) -> str:
    """Write the network to ``path`` in the format that its configuration names; return how well the file agrees.

    The file takes its name once its outputs agree: a failure leaves what was there before.

    Raises:
        UserError: a package, compiler or image is missing, the file cannot be written, or the outputs differ.
    """
    config = trained.config
    form = FORMATS[config.format]
    form.check()
    tried = Tried.of(config)
    original = None if tried.labelled is None else miou(trained.model, config, tried.labelled)
    network = ExportedNetwork(trained.model, config, config.input_kind, config.output_kind).eval()
    make_folder(path.parent, f"--output={path}")
    with replace_file(path) as partial:
        work = _Work(network, trace(network, config), form, tried, describe(trained), path)
        return work.save_int8(partial, original) if config.int8_images else work.save_exact(partial)


@dataclass(frozen=True)
class _Work:
    """A traced network on its way to the file ``path``."""

    network: ExportedNetwork
    program: torch.export.ExportedProgram
    form: Format
    tried: Tried
    words: Description
    path: Path

    def save_exact(self, partial: Path) -> str:
        """Write the file in fp32; return how well it agrees."""
        self.form.write(self.program, self.tried.config, self.words, partial)
        agreement = compare(self.form.open(partial), self.network, self.tried.batches())
        refuse_difference(agreement, self.path)
        return str(agreement)

    def save_int8(self, partial: Path, original: float | None) -> str:
        """Write the file in 8 bits, from one in fp32 that agrees; return how well it does.

        ``original``: the network's own mIoU, where there are labels to measure the file's on.
        """
        with tempfile.TemporaryDirectory() as folder:
            exact = Path(folder) / "fp32.onnx"
            self.save_exact(exact)
            quantise(exact, partial, map(self.network.given, self.tried.calibration()), Path(folder))
        run, config = self.form.open(partial), self.tried.config
        agreement = compare(run, self.network, self.tried.batches())
        if agreement.share < config.int8_agreement:
            raise UserError(
                f"{self.path}: not written; in 8 bits labels agree on {agreement.share:.4%} of the pixels; expected"
                f" --int8_agreement={config.int8_agreement:g} or more: other --int8_images may help"
            )
        said = f"8 bits, {agreement}"
        found = {
            "quantisation": f"int8, QDQ, per channel; ranges of {len(self.tried.calibrated)} images",
            "int8_agreement": f"{agreement.share:.6f}",
        }
        if original is not None and self.tried.labelled is not None:
            score = miou(FileNetwork(run, self.network, config), config, self.tried.labelled)
            found |= {"int8_miou": as_percent(score), "fp32_miou": as_percent(original)}
            said += f", mIoU {found['int8_miou']}, the original's {found['fp32_miou']}"
        save_onnx(read_onnx(partial), {**self.words, **found}, partial)
        return said
