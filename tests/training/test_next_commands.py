"""The commands that training ends with are commands."""

import shlex
from pathlib import Path

import pytest

from deeplab_fast.cli import parse_flags
from deeplab_fast.config import EvalConfig, TrainConfig
from deeplab_fast.export import ExportConfig
from deeplab_fast.predict import PredictConfig
from deeplab_fast.train import next_commands

CONFIGS = {"eval": EvalConfig, "predict": PredictConfig, "export": ExportConfig}
BEST = Path("my runs/best.pt")


def parsed(command):
    python, module, name, *flags = shlex.split(command)
    assert (python, module) == ("python", "-m")
    word = name.removeprefix("deeplab_fast.")
    return word, parse_flags(CONFIGS[word], flags, name, "")


@pytest.mark.parametrize(
    ("given", "data"),
    [
        ({}, None),
        ({"data_root": "a", "data_lst": "t.txt"}, None),
        (
            {"data_root": "a", "data_lst": "t.txt", "val_data_lst": "v 1.txt"},
            {"data_root": "a", "data_lst": "v 1.txt"},
        ),
        ({"val_data_root": "b", "val_data_lst": "v.txt"}, {"data_root": "b", "data_lst": "v.txt"}),
        ({"data_file": "t.tar", "val_data_file": "v.tar"}, {"data_file": "v.tar"}),
        ({"val_data_file": "https://me:secret@host/v.tar?key=abc"}, {"data_file": "https://host/v.tar"}),
    ],
)
def test_they_are_parsed_and_name_weights_and_held_out_data(given, data):
    found = dict(map(parsed, next_commands(TrainConfig(**given), BEST)))
    assert all(flags["ckpt_path"] == str(BEST) for flags in found.values())
    assert list(found) == [*(["eval"] if data else []), "predict", "export"]
    if data:
        assert data.items() <= found["eval"].items()
