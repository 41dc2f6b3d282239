"""An extension that is not of this Python or of these sources is not used, and the reason says what to do."""

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import SimpleNamespace

import pytest

from deeplab_fast.ops import extension
from deeplab_fast.ops.native_sources import digest_of

CSRC = Path(__file__).parents[1] / "csrc"


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "csrc"
    (folder / "core").mkdir(parents=True)
    (folder / "api.h").write_text("int one();\n")
    (folder / "core/one.cpp").write_text("int one() { return 1; }\n")
    return folder


@pytest.fixture
def load(monkeypatch):
    """Ask anew, and forget the answer afterwards."""
    monkeypatch.delenv("DEEPLAB_FAST_NO_EXT", raising=False)
    extension.load.cache_clear()
    yield extension.load
    monkeypatch.undo()
    extension.load.cache_clear()


def test_the_digest_is_of_names_and_contents(sources):
    first = digest_of(sources)
    assert digest_of(sources) == first
    (sources / "README.md").write_text("no source")
    assert digest_of(sources) == first
    seen = {first}
    (sources / "core/one.cpp").write_text("int one() { return 2; }\n")
    seen.add(digest_of(sources))
    (sources / "core/one.cpp").rename(sources / "core/two.cpp")
    seen.add(digest_of(sources))
    (sources / "kernel.cu").touch()
    seen.add(digest_of(sources))
    assert len(seen) == 4


def test_what_is_built_from_other_sources_is_not_used(load, monkeypatch):
    older = SimpleNamespace(build_info=lambda: {"sources": "0123456789abcdef"})
    monkeypatch.setitem(sys.modules, "deeplab_fast._C", older)
    module, reason = load()
    assert module is None
    assert reason == f"built from other sources than those in {CSRC}; build it with 'pip install -e .'"
    assert ("extension", f"none: {reason}; the Python references serve, several times slower") in extension.status()
    load.cache_clear()
    older.build_info = dict  # of a version that did not say
    assert load()[0] is None


def test_what_is_built_from_these_sources_is_used(load, monkeypatch):
    ours = SimpleNamespace(build_info=lambda: {"sources": digest_of(CSRC)})
    monkeypatch.setitem(sys.modules, "deeplab_fast._C", ours)
    assert load() == (ours, "")


def test_an_installed_package_has_no_sources_to_compare(load, monkeypatch, tmp_path):
    monkeypatch.setattr(extension, "_PACKAGE", tmp_path / "deeplab_fast")
    (tmp_path / "csrc").mkdir()  # another package's
    installed = SimpleNamespace(build_info=lambda: {"sources": "0123456789abcdef"})
    monkeypatch.setitem(sys.modules, "deeplab_fast._C", installed)
    assert load() == (installed, "")


def test_what_is_built_for_another_python_is_named(load, monkeypatch, tmp_path):
    monkeypatch.setattr(extension, "_PACKAGE", tmp_path / "deeplab_fast")
    monkeypatch.setattr("sys.path", [])
    monkeypatch.setitem(sys.modules, "deeplab_fast._C", None)  # as if it were not there
    (tmp_path / "deeplab_fast").mkdir()
    assert "not built or not loadable" in load()[1]
    load.cache_clear()
    (tmp_path / "deeplab_fast/_C.cpython-37m-x86_64-linux-gnu.so").touch()
    here = sys.implementation.cache_tag
    said = f"built for another Python (cpython-37m-x86_64-linux-gnu); this is {here}: build it with 'pip install -e .'"
    assert load() == (None, said)
    load.cache_clear()
    (tmp_path / f"deeplab_fast/_C{EXTENSION_SUFFIXES[0]}").touch()  # this Python's, which did not load
    assert "not built or not loadable" in load()[1]
