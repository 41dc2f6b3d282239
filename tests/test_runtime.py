"""What the installation says at its end."""

import pytest

from deeplab_fast.ops import extension
from deeplab_fast.runtime import __main__ as runtime

BUILT = {"extension": "g++ 12", **{f"  {part}": "there" for part in ("JPEG", "PNG", "deflate", "CUDA", "GEMM")}}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, ["with all its parts"]),
        ({"  deflate": "missing: libdeflate (apt install it)"}, ["without:", "loses a quarter", "apt install it"]),
        ({"extension": "none: not built (no compiler)"}, ["is missing: not built (no compiler)", "log: install.log"]),
    ],
)
def test_what_is_missing_and_how_to_get_it(found, said, monkeypatch, capsys):
    monkeypatch.setattr(extension, "status", lambda: list((BUILT | found).items()))
    runtime.print_missing("install.log")
    text = capsys.readouterr().out
    assert all(words in text for words in said), text
