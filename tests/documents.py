"""Reading of the documents: their commands, flags and blocks, by section."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# What a command in the midst of a sentence begins with; `prepare labels` and `eval --flip` leave `python -m` out.
PROGRAMS = ("train", "eval", "predict", "export", "prepare", "runtime", "compare", "report")
COMMAND = re.compile(r"(?:\.venv/bin/)?(?:python|pytest|make|torchrun|pip|bash|apt|brew|pre-commit) \S")
SHORT = re.compile(rf"(?:deeplab_fast\.)?({'|'.join(PROGRAMS)}) (?=[-\w])")


class Block(NamedTuple):
    """A fenced block; ``language`` is empty where every line is a command."""

    document: str
    section: str
    language: str
    text: str


class Command(NamedTuple):
    """The words of a command, as a shell splits them."""

    document: str
    section: str
    words: tuple[str, ...]


def sections(document: Path) -> Iterator[tuple[str, str]]:
    """Yield headings and what is below each, up to the next one; a hash within a block is no heading."""
    heading, lines, fenced = "", [], False
    for line in document.read_text(encoding="utf-8").splitlines():
        fenced ^= line.lstrip().startswith("```")
        if line.startswith("#") and not fenced:
            yield heading, "\n".join(lines) + "\n"
            heading, lines = line.lstrip("# "), []
        else:
            lines.append(line)
    yield heading, "\n".join(lines) + "\n"


FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def blocks(document: Path) -> list[Block]:
    name = document.relative_to(ROOT).as_posix()
    return [
        Block(name, heading, language, textwrap.dedent(text))
        for heading, below in sections(document)
        for _, language, text in FENCE.findall(below)
    ]


def split_commands(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command of a block; quotes and a backslash at a line's end join lines."""
    waiting = ""
    for line in text.replace("\\\n", " ").splitlines():
        waiting += line
        try:
            words = shlex.split(waiting, comments=True)
        except ValueError:  # an open quotation mark
            waiting += "\n"
            continue
        waiting = ""
        if words:
            yield tuple(words)
    assert not waiting, f"ends within a quotation: {waiting}"


def block_commands(document: Path) -> list[Command]:
    """List the commands that a reader copies: those of blocks."""
    return [
        Command(block.document, block.section, words)
        for block in blocks(document)
        if not block.language
        for words in split_commands(block.text)
    ]


def spans(document: Path) -> Iterator[tuple[str, str]]:
    """Yield what stands between backticks, with its heading; a block is none, nor is another program's column."""
    for heading, below in sections(document):
        text = FENCE.sub("", below)
        if document.name == "migration.md":
            text = re.sub(r"^\|[^|\n]*\|", "|", text, flags=re.MULTILINE)
        yield from ((heading, " ".join(span.split())) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text))


def span_commands(document: Path) -> list[Command]:
    """List the commands in sentences and tables, whole: ``prepare labels`` is ``python -m deeplab_fast.prepare``."""
    name = document.relative_to(ROOT).as_posix()
    found = []
    for heading, span in spans(document):
        whole = SHORT.sub(r"python -m deeplab_fast.\1 ", span, count=1) if SHORT.match(span) else span
        if COMMAND.match(whole):
            found.append(Command(name, heading, tuple(shlex.split(whole))))
    return found


def span_flags(document: Path) -> set[str]:
    """Collect the flags that sentences and tables name, with the values that they give: each choice of ``a|b``."""
    found = set()
    for _, span in spans(document):
        for word in span.split() if span.startswith("--") else ():
            name, equals, value = word.partition("=")
            found |= {f"{name}{equals}{choice}" for choice in value.split("|")}
    return {word for word in found if word.startswith("--")}
