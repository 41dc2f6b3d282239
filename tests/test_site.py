"""The documents as a site: it builds without a warning, every document is in it, and nothing comes from elsewhere."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

import deeplab_fast
from deeplab_fast import ops
from tests.documents import DOCUMENTS, ROOT
from tests.test_imports import LAYERS

mkdocs_build = pytest.importorskip("mkdocs.commands.build", reason="needs mkdocs: the extra 'docs'")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, built as ``make docs`` does: a warning is an error."""
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder))
    assert config.strict
    config.plugins.on_startup(command="build", dirty=False)
    mkdocs_build.build(config)
    return folder


def test_every_document_is_a_page(site):
    for document in DOCUMENTS:
        path = document.relative_to(ROOT).with_suffix(".html").as_posix()
        assert (site / path.replace("README", "index")).is_file(), path


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"""<(?:script|img|iframe)[^>]*src=["']?https?:""", text), page
        assert not re.findall(r"""<link[^>]*rel=["']?(?:stylesheet|preconnect)["']?[^>]*https?:""", text), page


def test_the_api_page_has_what_the_package_offers(site):
    text = (site / "docs/api.html").read_text(encoding="utf-8")
    found = set(re.findall(r'id="(deeplab_fast\.[\w.]+)"', text))
    ours = {name for name in deeplab_fast.__all__ if not name.startswith("_")}
    assert {name for name in ours if not any(one.endswith(f".{name}") for one in found)} == set()
    assert {f"deeplab_fast.ops.{name}" for name in ops.__all__} <= found
    assert not re.search(r":(?:func|class|mod|data):", text)


def test_the_picture_of_the_architecture_names_every_part():
    """One picture for both: it has the colours of light and of dark."""
    text = (ROOT / "docs/architecture.svg").read_text()
    named = {one.text for one in ElementTree.fromstring(text).iter() if one.get("class") == "name"}
    assert set().union(*LAYERS) <= named
    assert "prefers-color-scheme: dark" in text
