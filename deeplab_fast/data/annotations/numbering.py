"""Class numbers of labels that have names."""

from collections.abc import Sequence
from dataclasses import dataclass

from deeplab_fast.data.lists import is_text, some_of
from deeplab_fast.errors import UserError

BACKGROUND = "background"
IGNORED = "__ignore__"  # labelme's: pixels that do not count
_BACKGROUNDS = (BACKGROUND, "_background_")  # the second is labelme's
_MOST = 256


@dataclass(frozen=True)
class Numbering:
    """Class ``names`` in the order of their numbers, 0 the background; ``given_by`` says who named them."""

    names: list[str]
    ignore_label: int
    given_by: str = ""

    def number(self, label: str, where: str) -> int:
        """Return the number of a label, whatever it calls background or what is ignored.

        Raises:
            UserError: it is no class; begins with ``where``.
        """
        name = label.strip()
        if name == IGNORED:
            return self.ignore_label
        if is_background(name):
            return 0
        if name not in self.names:
            named = f" ({self.given_by})" if self.given_by else ""
            raise UserError(f"{where}: label {label!r} is no class; expected one of {some_of(self.names, 12)}{named}")
        return self.names.index(name)


def is_background(name: str) -> bool:
    """Tell whether a label's name says that it is the background."""
    return name.casefold() in _BACKGROUNDS


def number_labels(
    found: Sequence[str], given: Sequence[str], ignore_label: int, where: str, given_by: str = "--classes"
) -> Numbering:
    """Give numbers to the classes that are ``given`` or else ``found``, in their order, behind the background.

    Raises:
        UserError: a name no file can hold, a background that is given and not first, or the ignore label would be a
            class; begins with ``where``, or ``given_by``.
    """
    source = given_by if given else where
    names = list(dict.fromkeys(name.strip() for name in given or found))
    names = [name for name in names if name != IGNORED]
    backgrounds = [name for name in names if is_background(name)]
    if given and backgrounds and not is_background(names[0]):
        raise UserError(f"{source}: {backgrounds[0]!r} is not the first class; expected it first: it is number 0")
    names = [*(backgrounds[:1] or [BACKGROUND]), *(name for name in names if not is_background(name))]
    check_names(names, ignore_label, source)
    return Numbering(names, ignore_label, given_by if given else "")


def check_names(names: Sequence[str], ignore_label: int, where: str) -> None:
    """Raise :class:`UserError` where ``classes.txt`` cannot hold these names, or the ignore label is one's number."""
    for name in names:
        if not name.strip() or not name.isprintable() or not is_text(name):
            raise UserError(f"{where}: class name {name!r}; expected text on one line")
    if len(names) > _MOST:
        raise UserError(f"{where}: {len(names)} classes; expected at most {_MOST}")
    if ignore_label < len(names):
        raise UserError(
            f"--ignore_label={ignore_label}: also the number of class {names[ignore_label]!r} ({where}); expected"
            f" {len(names)} to 255"
        )
