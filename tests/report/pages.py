"""Small evaluations and runs for the pages' tests, and a reader of HTML that misses nothing."""

import json
from html.parser import HTMLParser

import numpy as np
import torch

from deeplab_fast.config import EvalConfig
from deeplab_fast.data.sources import list_source
from deeplab_fast.evaluation.protocols import Recipe
from deeplab_fast.report.evaluation_page import Evaluated, write_evaluation_page
from deeplab_fast.report.ranking import score_images
from deeplab_fast.report.subject import Subject
from tests.trials.samples import CLASSES, write_samples

HOSTILE = ['<script>alert("1")</script>', "\"quoted\" & 'so'", "Straße, {{ 7 * 7 }}"]
VOID = {"meta", "link", "img"}


class Reader(HTMLParser):
    """Checks that elements close in order; keeps tags, attributes and text by the element that holds it."""

    def __init__(self, page):
        super().__init__()
        self.open, self.attributes, self.text = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append((self.open[-1] if self.open else "", data))

    def texts(self, tag):
        return [text for holder, text in self.text if holder == tag]


def network():
    """Make a network of one convolution: red, green or blue is the class."""
    model = torch.nn.Conv2d(3, CLASSES, 1, stride=4, bias=False)
    model.weight.data = torch.eye(3)[:, :, None, None].clone()
    return model.eval()


def subject_of(root, names=("a", "b", "c"), **options):
    write_samples(root, count=8, size=(48, 40))
    protocol = Recipe.of(EvalConfig(crop_size=33, precision="fp32"))
    source = list_source(root, root / "train.txt", must_exist=False)
    return Subject(network(), source, protocol, torch.device("cpu"), names, 255, "off", **options)


def record_of(names, confusion=((80, 10, 10), (5, 90, 5), (0, 50, 50)), **more):
    return {
        "protocol": {"crop_size": 33, "scales": [0.5, 1.0], "flip": True, "ignore_label": 255},
        "checkpoint": "best.pt",
        "data": "val.txt",
        "images": 6,
        "skipped": [],
        "classes": list(names),
        "confusion_matrix": np.array(confusion).tolist(),
        "precision": "fp32",
        "versions": {"torch": "2"},
        "provenance": {"flags": {"crop_size": 33}},
        **more,
    }


def evaluation_page(folder, names=tuple(HOSTILE), metrics="metrics-best-val.json", **more):
    folder.mkdir(exist_ok=True)
    subject = subject_of(folder.parent / "data", names)
    scores = score_images(subject, 100)
    return write_evaluation_page(Evaluated(record_of(names, **more), folder / metrics, subject, scores))


def write_run(folder, losses=(3.0, 2.0, 1.0, 0.5), miou=(0.25, 0.75), **config):
    """Write the files of a run whose steps and evaluations are given."""
    folder.mkdir(parents=True)
    steps = [{"step": i + 1, "epoch": 1, "loss": loss, "lr": 0.01 / (i + 1)} for i, loss in enumerate(losses)]
    each = max(1, len(steps) // max(1, len(miou)))
    scored = [
        {"step": each * (i + 1), "epoch": i + 1, "miou": v, "per_class_iou": [v, None, v], "pixel_accuracy": 0.5}
        for i, v in enumerate(miou)
    ]
    blocks = [{"step": s["step"], "step_ms": 100, "data_ms": 5, "data_share": 0.05, "images_per_s": 40,
               "max_memory_mb": 900} for s in steps]  # fmt: skip
    for name, records in (("metrics.jsonl", [*steps, *scored]), ("timing.jsonl", blocks)):
        (folder / name).write_text("".join(json.dumps(r) + "\n" for r in records))
    (folder / "config.json").write_text(json.dumps({"model": "deeplab_v3_s16", "base_lr": 0.01, **config}))
    return folder
