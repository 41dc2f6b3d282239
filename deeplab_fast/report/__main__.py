"""Pages of training runs: ``python -m deeplab_fast.report RUN [RUN ...]`` (see ``--help``)."""

from dataclasses import dataclass
from pathlib import Path

from ..cli import parse_flags, run
from ..config import flag, validate
from ..errors import UserError
from ..storage.files import check_file, make_folder
from ..storage.run_folder import PAGE, REPORT
from .comparison import write_comparison
from .page import subject_of
from .runs import read_run
from .training_page import write_run_page

DESCRIPTION = (
    "Write pages of training runs: python -m deeplab_fast.report RUN [RUN ...], where RUN is a --train_dir. One RUN:"
    f" its own page, {REPORT}/{PAGE} in its folder, again from what lies there. Several: one page that compares them,"
    " with their curves, figures, differing flags and the IoU of each class."
)
COMPARISON = "comparison.html"


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Pages"""

    output: str = flag("", f"File for the comparison of several runs; default {COMPARISON} in the current folder.")


def main(argv: list[str]) -> int:
    """Write the page of the runs that the arguments name; return the exit status."""
    words: list[str] = []
    while argv and not argv[0].startswith("-"):
        words, argv = [*words, argv[0]], argv[1:]
    config = ReportConfig(**parse_flags(ReportConfig, argv, "deeplab_fast.report", DESCRIPTION))
    validate(config)
    folders = [Path(word) for word in words]
    if not folders:
        raise UserError("RUN: missing; expected one or more folders of training runs before the flags")
    if len(folders) == 1:
        if config.output:
            raise UserError(f"--output={config.output}: expected with several runs; one run's page is in its folder")
        print(f"report {write_run_page(folders[0])}")
        return 0
    print(f"comparison {_compare(folders, config.output)}")
    return 0


def _compare(folders: list[Path], output: str) -> Path:
    for i, folder in enumerate(folders):
        if folder.resolve() in [other.resolve() for other in folders[:i]]:
            raise UserError(f"{folder}: given twice; expected different runs")
    path = Path(output or COMPARISON)
    flag_or_file = f"--output={path}" if output else str(path)
    check_file(path, flag_or_file)
    if path.exists() and subject_of(path) != "comparison":
        raise UserError(f"{flag_or_file}: is there already and no comparison of runs; expected another name")
    runs = [read_run(folder) for folder in folders]
    make_folder(path.parent, flag_or_file)
    write_comparison(runs, path)
    return path


if __name__ == "__main__":
    run(main)
