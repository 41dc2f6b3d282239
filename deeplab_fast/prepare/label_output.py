"""The folder of a data set that ``prepare labels`` writes: labels, and beside them their classes, counts and sheet."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deeplab_fast.data.annotations.convert import Counts
from deeplab_fast.data.classes import CLASSES_FILE, read_class_names
from deeplab_fast.data.written import Written, check_unwritten, open_written, write_texts
from deeplab_fast.errors import UserError
from deeplab_fast.ops import Decoding
from deeplab_fast.storage.files import check_folder

from .label_counts import as_json
from .sheet import draw_sheet

COUNTS_FILE, SHEET_FILE, LABELLED_LIST = "counts.json", "sheet.png", "labelled_lst.txt"


@dataclass(frozen=True)
class OutputFolder:
    """The folder ``root`` of a data set, and the one of its labels below it."""

    root: Path
    labels: Path
    written: Written

    @classmethod
    @contextmanager
    def open(cls, output: str, data_root: str, image_dir: str, source: str) -> Iterator["OutputFolder"]:
        """Find out whether labels may go to ``output``, before any work; the root is ``data_root`` or the one above.

        No other program writes into the root in the meantime.

        Raises:
            UserError: there are no images, the labels would be among them or what is read, the root does not hold the
                images too, a file of the root is not ours, or another program writes there.
        """
        labels = Path(output)
        root = Path(data_root) if data_root else labels.parent
        out = labels.resolve()
        for flag, folder in (("--image_dir", Path(image_dir)), ("--input", Path(source))):
            read = folder.resolve()
            if folder.is_dir() and (out == read or read in out.parents or out in read.parents):
                raise UserError(f"--output={output}: is {flag}, or within it or above it; expected a folder of its own")
        ours, images = Path(os.path.abspath(labels)), Path(os.path.abspath(image_dir))
        if not {*ours.parents} & {*images.parents} & {Path(os.path.abspath(root))}:
            common = os.path.commonpath([ours.parent, images.parent])
            raise UserError(
                f"--output={output}: {root} does not hold both the labels and the images ({image_dir}), as a data set's"
                f" folder must; expected --output=FOLDER/labels beside them, or --data_root={common}"
            )
        if not images.is_dir():  # nor need the root be there then
            raise UserError(f"--image_dir={image_dir}: no such folder")
        check_folder(labels, f"--output={output}")
        labels = root / ours.relative_to(os.path.abspath(root))
        with open_written(root) as written:
            for name in (COUNTS_FILE, SHEET_FILE):
                if os.path.lexists(root / name) and not written.is_ours(root / name):
                    raise UserError(f"{root / name}: this program did not write it; move it away and run again")
            yield cls(root, labels, written)

    def users_classes(self) -> list[str]:
        """Return the names of a ``classes.txt`` in the root that is the user's own; where it is ours, none."""
        path = self.root / CLASSES_FILE
        return read_class_names(path) if path.is_file() and not self.written.is_ours(path) else []

    def check_texts(self, texts: dict[str, str]) -> None:
        """Raise :class:`UserError` where a text file of these names and contents would replace one not ours."""
        check_unwritten(self.written, texts)

    def describe(
        self,
        texts: dict[str, str],
        counts: Counts,
        pairs: Sequence[tuple[Path, Path]],
        names: Sequence[str],
        ignore_label: int,
        decoding: Decoding,
    ) -> None:
        """Write the text files, ``counts.json`` and the sheet of some of the ``pairs`` of image and label."""
        counted = json.dumps(as_json(counts, names, ignore_label), indent=1) + "\n"
        write_texts(self.written, {**texts, COUNTS_FILE: counted})
        self.written.write(self.root / SHEET_FILE, draw_sheet(pairs, names, ignore_label, decoding))
        self.written.save()
