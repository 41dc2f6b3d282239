"""A page: templates filled in, and the file that they become."""

import html
import math
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from ..storage.files import raise_if_broken, replace_file
from . import chart

ASSETS = Path(__file__).parent / "assets"
_SUBJECT = re.compile(r'<meta name="subject" content="([^"]*)">')
NONE = "\N{EN DASH}"  # in place of a figure that there is none of
_HEAD = 4096  # characters in which a page names its subject


def render(template: str, **facts: Any) -> str:
    """Fill in a template of ``assets/``; all text is escaped."""
    return compiled(template).render(**facts)


def compiled(template: str) -> Template:
    """Return a template of ``assets/``, compiled once."""
    return _environment().get_template(template)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number, "flag": flag_text, "duration": duration}
    environment.globals |= {
        "style": Markup((ASSETS / "style.css").read_text(encoding="utf-8")),
        "script": Markup((ASSETS / "script.js").read_text(encoding="utf-8")),
        "frame": chart,
    }
    return environment


def write_page(path: Path, page: str) -> None:
    """Write a page under ``path``, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    with replace_file(path) as partial:
        partial.write_text(page, encoding="utf-8", errors="replace")


def subject_of(path: Path) -> str | None:
    """Return what a page of this program says that it is of; None where the file is another.

    Raises:
        UserError: the system cannot read it.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            found = _SUBJECT.search(file.read(_HEAD))
    except OSError as error:
        raise_if_broken(path, error)
        return None
    return html.unescape(found[1]) if found else None


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as ``71.2%``; a dash where there is none."""
    return NONE if value is None or value != value else f"{100 * value:.{digits}f}%"


def number(value: float | None, digits: int = 0) -> str:
    """Return ``12,345``; a dash where there is none."""
    return NONE if value is None or value != value else f"{value:,.{digits}f}"


def duration(seconds: float | None) -> str:
    """Return ``2 h 05 min``, ``3 min 20 s`` or ``4.2 s``; a dash where there is none."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def flag_text(value: Any) -> str:
    """Return a flag's value as the command line takes it."""
    if isinstance(value, list | tuple):
        return ",".join(flag_text(one) for one in value)
    if isinstance(value, float):
        return f"{value:g}"
    return NONE if value is None or value == "" else str(value)
