"""Pages of the site: documents where they lie in the tree, and whatever file of the tree they link to.

Links between documents are relative, so that they lead somewhere on a forge too: the site keeps the tree's layout.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
FIRST = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(?=<code>)")


def linked(document: Path) -> list[Path]:
    """List the files of the tree that a Markdown file links to."""
    found = [(document.parent / target).resolve() for target in LINK.findall(document.read_text(encoding="utf-8"))]
    return [path for path in found if path.is_file() and path.is_relative_to(ROOT)]


def reachable() -> list[Path]:
    """List all documents and what can be reached from them by links, each once."""
    ahead = [*(ROOT / name for name in FIRST), *sorted((ROOT / "docs").glob("*.md"))]
    seen: dict[Path, None] = {}
    while ahead:
        path = ahead.pop(0)
        if path not in seen:
            seen[path] = None
            ahead += linked(path) if path.suffix == ".md" else []
    return list(seen)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of ``docs_dir`` by the tree's; the theme's stay."""
    pages = {path.relative_to(ROOT).as_posix(): path for path in reachable()}
    pages |= {f"docs/assets/{path.name}": path for path in (ROOT / "docs/assets").iterdir()}
    made = [File.generated(config, name, abs_src_path=str(path)) for name, path in pages.items()]
    return Files([*(file for file in files if file.src_dir != config.docs_dir), *made])


def on_page_content(html: str, **_: Any) -> str:
    """Drop Sphinx's roles from docstrings: their names stay, as code."""
    return ROLE.sub("", html)
