"""The sheet of predictions: what it shows, what it cannot show, whose weights."""

import logging

import pytest
import torch
from matplotlib.figure import Figure

from deeplab_fast.config import EvalConfig, ModelConfig
from deeplab_fast.data.sources import list_source
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.protocol import Protocol
from deeplab_fast.model import build_model
from deeplab_fast.report import draw_predictions
from tests.trials.samples import CLASSES, write_samples


@pytest.fixture
def draw(tmp_path):
    root = write_samples(tmp_path / "data", count=5, size=(32, 24))
    model = build_model(ModelConfig(backbone="resnet18", num_classes=CLASSES))
    protocol = Protocol.of(EvalConfig(crop_size=33), "fp32")

    def run(path=tmp_path / "sheet.png"):
        names, device = ["a", "b", "c"], torch.device("cpu")
        source = list_source(root, root / "train.txt", must_exist=False)
        draw_predictions(path, model, source, protocol, device, names, 255, "off", "last weights, step 7")

    return root, run


def texts(figure):
    return [figure.get_suptitle(), *(text.get_text() for axis in figure.axes for text in axis.texts)]


def test_a_sample_that_cannot_be_used_is_named_in_its_place(draw, tmp_path, monkeypatch, caplog):
    root, run = draw
    said, save = [], Figure.savefig

    def savefig(self, *args, **options):
        said.extend(texts(self))
        return save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    (root / "images/01.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        run()
    assert said[0] == "3 of 3 held-out images: last weights, step 7"
    assert [text.startswith("not shown: ") for text in said[1:]] == [True]
    assert "01.jpg" in caplog.text
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    assert [p.name for p in tmp_path.iterdir() if p.name != "data"] == ["sheet.png"]


def test_a_sheet_that_cannot_be_written_is_one_line(draw, tmp_path):
    _, run = draw
    with pytest.raises(UserError, match=r"gone/sheet\.png: cannot be written \(No such file or directory\)"):
        run(tmp_path / "gone" / "sheet.png")
