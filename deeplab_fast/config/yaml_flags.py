"""Flags in a YAML file: its scalars as the text that stands there, which the command line's converters then read."""

from pathlib import Path

import yaml

from ..errors import UserError
from .recipes import recipe_names

MOST_BYTES = 1 << 16  # a file of every flag there is takes a tenth


def read_yaml_flags(path: str | Path) -> dict[str, str]:
    """Read a file of ``flag: value`` lines; a list's items are joined by commas, a key without a value is left out.

    Words such as ``off`` and ``1e-3`` keep their letters: which type they are is the flag's to say.

    Raises:
        UserError: not readable, too large, not YAML, or holding anything else than flags.
    """
    root = _compose(path)
    if root is None or _is_null(root):
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"--config={path}: expected lines of 'flag: value'")
    flags: dict[str, str | None] = {}
    for key, value in root.value:
        where = f"--config={path}, line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"{where}: expected 'flag: value'")
        name = key.value.replace("-", "_")
        if name in flags:
            raise UserError(f"{where}: key {key.value} again; expected each flag once")
        if name == "config":
            raise UserError(f"{where}: key config: a file of flags cannot name another")
        flags[name] = _text(value, f"{where}: key {key.value}")
    return {name: text for name, text in flags.items() if text is not None}


def _compose(path: str | Path) -> yaml.Node | None:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise UserError(f"--config={path}: larger than {MOST_BYTES >> 10} KiB; expected a YAML file of flags")
        return yaml.compose(data.decode("utf-8-sig"), yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        recipes = f", or a recipe: {', '.join(recipe_names())}" if isinstance(error, FileNotFoundError) else ""
        raise UserError(f"--config={path}: {reason}; expected a YAML file of flags{recipes}") from None
    except RecursionError:
        raise UserError(f"--config={path}: nested too deeply; expected lines of 'flag: value'") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"--config={path}{place}: not valid YAML") from None


def _text(node: yaml.Node, where: str) -> str | None:
    """Return the text of a scalar, or of a list's items with commas between; None for ``null``."""
    if isinstance(node, yaml.MappingNode):
        raise UserError(f"{where}: holds a mapping; expected one value")
    if isinstance(node, yaml.SequenceNode):
        if not all(isinstance(item, yaml.ScalarNode) for item in node.value):
            raise UserError(f"{where}: holds a list within a list; expected one value or a list of values")
        return ",".join(item.value for item in node.value)
    return None if _is_null(node) else str(node.value)


def _is_null(node: yaml.Node) -> bool:
    return node.tag == "tag:yaml.org,2002:null"
