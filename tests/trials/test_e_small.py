"""Small things: switches, prefixes, reports, and who says an error."""

import importlib.util
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent.parent


@pytest.fixture
def load(monkeypatch):
    """Ask for the extension as a new process would, with DEEPLAB_FAST_NO_EXT set; the reason why it is not there."""
    from deeplab_fast.ops import _native

    def reason(value):
        monkeypatch.setenv("DEEPLAB_FAST_NO_EXT", value)
        _native.load.cache_clear()
        return _native.load()[1]

    yield reason
    monkeypatch.undo()
    _native.load.cache_clear()


def test_e9_a_switch_that_says_no_is_off(load):
    assert [load(word) for word in ("1", "true", "YES")] == ["switched off by DEEPLAB_FAST_NO_EXT"] * 3
    for word in ("0", "false", "No", "off", ""):
        assert "switched off" not in load(word)


def test_e9_a_switch_that_says_neither_is_an_error(load):
    from deeplab_fast.errors import UserError

    with pytest.raises(UserError, match=r"^DEEPLAB_FAST_NO_EXT=perhaps: expected 1 or 0$"):
        load("perhaps")


def test_e9_the_interpreter_is_on_where_triton_says_so(monkeypatch):
    found = {}
    for word in ("true", "ON", "yes", "1", "0", ""):
        monkeypatch.setenv("TRITON_INTERPRET", word)
        path = REPO / "deeplab_fast" / "ops" / "triton" / "__init__.py"
        spec = importlib.util.spec_from_file_location("deeplab_fast.ops.triton", path)
        module = importlib.util.module_from_spec(spec)  # not the one that is imported already
        spec.loader.exec_module(module)
        found[word] = module.INTERPRETED
    assert found == {"true": True, "ON": True, "yes": True, "1": True, "0": False, "": False}


def test_e9_the_build_leaves_out_what_is_named_and_nothing_else(monkeypatch):
    """setup.py without its second half, which builds."""
    names = {}
    exec((REPO / "setup.py").read_text().split("class BuildExtension")[0], names)
    for value, parts in (("0", set()), ("", set()), ("false", set()), ("cuda,png", {"cuda", "png"})):
        monkeypatch.setenv("DEEPLAB_FAST_WITHOUT", value)
        assert names["excluded"]() == parts
    monkeypatch.setenv("DEEPLAB_FAST_WITHOUT", "cudaa")
    with pytest.raises(SystemExit, match="DEEPLAB_FAST_WITHOUT=cudaa: expected some of jpeg, png, deflate, cuda"):
        names["excluded"]()
    monkeypatch.setenv("DEEPLAB_FAST_SANITIZE", "0")
    assert names["words_of"]("DEEPLAB_FAST_SANITIZE") == []
