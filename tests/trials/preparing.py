"""Calls of ``prepare`` in the tests' own process."""

from pathlib import Path

import pytest

from deeplab_fast import prepare
from deeplab_fast.errors import UserError


def folders(root: Path, *flags: str) -> list[str]:
    return [f"--image_dir={root}/images", f"--label_dir={root}/labels", *flags]


def lists(root: Path, *flags: str) -> list[str]:
    """The lines of the train and the val list that ``prepare lists`` makes."""
    assert prepare.main(["lists", f"--data_root={root}", *folders(root), *flags]) == 0
    names = (root / name for name in ("train_lst.txt", "val_lst.txt"))
    return [line for path in names if path.exists() for line in path.read_text().splitlines()]


def refused(*argv: str) -> str:
    """The one line with which ``prepare`` ends."""
    with pytest.raises(UserError) as caught:
        prepare.main(list(argv))
    assert "\n" not in str(caught.value)
    return str(caught.value)
