"""Export a checkpoint and prove that it gives the same outputs: ``python -m deeplab_fast.export``."""

from pathlib import Path

from .cli import parse_flags, run
from .config import validate_image
from .config.export import ExportConfig, validate_export
from .config.flags import validate
from .errors import UserError, enough_memory
from .evaluation.inference import load_trained
from .exporting.save import save
from .model.weights import save_as
from .storage.checkpoint import BEST
from .storage.files import check_file

DESCRIPTION = (
    "Export a checkpoint. The exported network takes images [N, 3, H, W], N, H and W free unless --size and"
    " --batch_size fix them, and gives logits of the same size. It is run and compared with the original before it is"
    " called done. --format=mindspore writes weights alone, for the MindSpore recipe's programs; what is read back must"
    " be equal."
)


def check_output(path: Path, ckpt_path: str) -> None:
    """Raise :class:`UserError` where the file could not be written after the export, or would replace its source."""
    check_file(path, f"--output={path}")
    source = Path(ckpt_path)
    if path.exists() and any(p.exists() and path.samefile(p) for p in (source, source / BEST)):
        raise UserError(f"--output={path}: is the checkpoint itself; expected another file")


@enough_memory("export", "a smaller --size or --batch_size, or smaller --check_images")
def main(argv: list[str]) -> int:
    """Export as the flags say; return the exit status."""
    flags = parse_flags(ExportConfig, argv, "deeplab_fast.export", DESCRIPTION)
    given = ExportConfig(**flags)
    validate(given)
    if not given.output:
        raise UserError("--output: missing; expected the file to write")
    validate_export(given)
    validate_image(given)
    path = Path(given.output)
    check_output(path, given.ckpt_path)
    trained = load_trained(ExportConfig, flags)
    if given.format == "mindspore":
        save_as("mindspore", trained.model.state_dict(), {}, path)
        agreement = "weights equal when read back"
    else:
        agreement = save(trained, path)
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, {agreement}")
    return 0


if __name__ == "__main__":
    run(main)
