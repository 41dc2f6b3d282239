"""The metrics file: where it is written although the table cannot be printed, and what names it."""

import errno
import json
import os
import sys

import pytest

from deeplab_fast.config import EvalConfig
from deeplab_fast.evaluation.metrics_file import deliver, metrics_name


def test_the_figures_are_written_where_they_cannot_be_printed(tmp_path, monkeypatch):
    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(OSError, match="No space left"):
        deliver("table", tmp_path, "metrics-a-b", {"miou": 0.5, "provenance": {"weights": "x"}}, [])
    assert json.loads((tmp_path / "metrics-a-b.json").read_text())["miou"] == 0.5


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({"ckpt_path": "runs/a/best.pt", "data_lst": "voc/voc_val_lst.txt"}, "metrics-best-voc_val_lst"),
        ({"ckpt_path": "m-200_45.pt", "data_file": "r/voc.tar", "scales_type": 1}, "metrics-m-200_45-voc-ms"),
        ({"ckpt_path": "m.pth", "data_file": "r/voc-*.tar", "flip": True}, "metrics-m-voc-flip"),
        ({"ckpt_path": "m.pth", "data_file": "some/folder/"}, "metrics-m-folder"),
        ({"ckpt_path": "m.pth", "data_lst": "a b\n.txt"}, "metrics-m-a_b"),
        ({"ckpt_path": "m.pth", "data_lst": f"{'n' * 300}.txt"}, f"metrics-m-{'n' * 80}"),
    ],
)
def test_names(flags, name):
    assert metrics_name(EvalConfig(**flags)) == name
