"""Files of a run's folder, read and changed."""

import json

import torch

MODEL = "deeplab_v3_s16"


def lines(folder):
    """Return the records of ``metrics.jsonl``."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_seal(path, change):
    """Write a checkpoint anew as an older version did, changed."""
    content = torch.load(path, weights_only=True)
    content["format"] = "deeplab_fast.checkpoint/1"
    content.setdefault("log_positions", dict.fromkeys(("metrics.jsonl", "timing.jsonl"), 0))
    change(content)
    torch.save(content, path)
