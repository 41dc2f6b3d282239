"""List files: an image and a label on each line; and the text files beside them, from any system."""

import codecs
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from deeplab_fast.errors import UserError


def read_lines(path: str | Path, expected: str) -> list[str]:
    """Read the lines of a text file, without ends: UTF-8, or UTF-16 where a byte order mark says so.

    Raises:
        UserError: no readable text; says what was ``expected``.
    """
    try:
        data = Path(path).read_bytes()
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected {expected}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; expected {expected}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_list(list_file: str | Path) -> tuple[list[str], list[str]]:
    """Read the image and label paths of a list file; blank lines are skipped.

    Raises:
        UserError: the list is missing, empty or badly formed.
    """
    images, labels = [], []
    for number, line in enumerate(read_lines(list_file, "a list file of 'IMAGE LABEL' lines"), 1):
        fields = line_fields(line)
        if not fields:
            continue
        if len(fields) != 2:
            plural = "" if len(fields) == 1 else "s"
            raise UserError(
                f"{list_file}, line {number}: {len(fields)} field{plural}; expected two, 'IMAGE LABEL', with a tab"
                " between them where a name has a space"
            )
        images.append(fields[0])
        labels.append(fields[1])
    if not images:
        raise UserError(f"{list_file}: empty; expected 'IMAGE LABEL' lines")
    return images, labels


def is_text(name: str) -> bool:
    """Tell whether a name is Unicode: no file or message could hold any other."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def line_fields(line: str) -> list[str]:
    """Return the two paths of a line with one tab between them, else its words."""
    if "\t" in line:
        fields = [field for part in line.split("\t") if (field := part.strip(" "))]
        if len(fields) == 2:
            return fields
    return line.split() if line.isascii() else [word for word in line.replace("\t", " ").split(" ") if word]


def list_line(image: str, label: str) -> str:
    """Return the line that :func:`read_list` reads as these two paths, its end included.

    Raises:
        UserError: no line does: a name begins or ends with a space, or holds a tab or a line's end.
    """
    line = f"{image}\t{label}" if " " in image + label else f"{image} {label}"
    if any(end in line for end in "\r\n") or line_fields(line) != [image, label] or not is_text(line):
        names = f"{image!r}, {label!r}"
        raise UserError(f"{names}: a list file cannot hold them; expected UTF-8, no tab, and no space at an end")
    return line + "\n"


def resolve(root: str | Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the paths below ``root`` that ``names`` mean, and those of the names that are no file.

    A name is taken as it is where there is such a file. Else ``\\`` is read as ``/``, a leading ``/`` as ``root``'s,
    and the suffix in capitals or small letters.
    """
    files = _Files(os.fspath(root))
    meant: dict[str, str | None] = {}
    for name in names:
        if name not in meant:
            meant[name] = files.find(name)
    return [meant[name] or name for name in names], [name for name, there in meant.items() if there is None]


class _Files:
    """Files below ``base``. Each folder is listed once: a million single looks take a minute."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._listed: dict[str, set[str] | None] = {}

    def find(self, name: str) -> str | None:
        """Return the first spelling of a name that is a file."""
        if self._is_listed(name):
            return name
        if self._listed[_folder(name)] is not None and os.path.isfile(os.path.join(self.base, name)):
            return name  # on a disk that takes other letters for the same, or in a folder that may not be listed
        return next(filter(self._is_listed, _spellings(name)), None)

    def _is_listed(self, path: str) -> bool:
        folder = _folder(path)
        if folder not in self._listed:
            self._listed[folder] = self._list(folder)
        names = self._listed[folder]
        return names is not None and path[len(folder) :] in names

    def _list(self, folder: str) -> set[str] | None:
        """Return the names of a folder's files; None where there is no such folder."""
        try:
            with os.scandir(os.path.join(self.base, folder)) as entries:
                return {entry.name for entry in entries if _is_file(entry)}
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError:
            return set()


def _folder(path: str) -> str:
    """Return the path of a file's folder, with the slash."""
    return path[: path.rfind("/") + 1]


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def _spellings(name: str) -> Iterable[str]:
    """Yield what else a name may mean."""
    if "\\" in name:
        name = name.replace("\\", "/")
        yield name
    if name.startswith("/"):
        name = name.lstrip("/")
        yield name
    stem, suffix = os.path.splitext(name)
    yield from (stem + spelled for spelled in (suffix.lower(), suffix.upper()) if spelled != suffix)


def some_of(names: Sequence[object], most: int = 5) -> str:
    """Return the first names, with commas between, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def repetitions(list_file: str | Path, images: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Say in a line each what a list repeats: whole lines, and images with another label."""
    said = []
    lines = Counter(zip(images, labels, strict=True))
    if repeated := [pair[0] for pair, count in lines.items() if count > 1]:
        more = len(images) - len(lines)
        count = f"{more:,} lines repeat others, and count" if more > 1 else "1 line repeats another, and counts"
        said.append(f"{list_file}: {count} again: {some_of(repeated)}")
    if several := [image for image, count in Counter(image for image, _ in lines).items() if count > 1]:
        count = f"{len(several):,} images have" if len(several) > 1 else "1 image has"
        said.append(f"{list_file}: {count} several labels: {some_of(several)}")
    return said
