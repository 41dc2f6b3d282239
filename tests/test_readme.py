"""README says what was measured, and its commands and files are there."""

import re
from pathlib import Path

from benchmarks.readme import with_section

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_performance_section_is_what_the_results_say():
    """Else: python -m benchmarks.readme."""
    assert with_section(README) == README


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_commands_name_modules_that_exist():
    for module in re.findall(r"python -m ((?:deeplab_fast|benchmarks)\.[a-z_]+)", README):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists(), module
