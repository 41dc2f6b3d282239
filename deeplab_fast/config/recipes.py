"""The recipes that come with the package: files of flags for ``--config``, found by their names."""

import os
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "recipes"


def recipe_names() -> list[str]:
    """List the names of the recipes, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find_flags(name: str) -> str | Path:
    """Return the path that ``--config=name`` means: the recipe of that name, unless there is such a file."""
    if name in recipe_names() and not os.path.isfile(name):
        return FOLDER / f"{name}.yaml"
    return name
