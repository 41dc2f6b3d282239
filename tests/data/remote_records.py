"""A small set of shards behind a server, and runs of a tiny network on it."""

import hashlib
from pathlib import Path

import torch

from deeplab_fast import train
from deeplab_fast.data.records import RecordOptions, write_records
from deeplab_fast.data.remote import RecordCache, RemoteRecordSource, find_records
from deeplab_fast.data.sources import list_source
from tests.trials.samples import CLASSES, small, write_samples

SHARDS = 4
NAMES = ("red", "green", "blue")


def write_sets(folder: Path) -> Path:
    """Write ``train`` of four shards and ``val`` of one into ``folder``."""
    samples = write_samples(folder / "samples", count=18)
    for name, shards in (("train", SHARDS), ("val", 1)):
        options = RecordOptions(shards, True, 1, CLASSES, 255, NAMES)
        write_records(list_source(samples, samples / f"{name}.txt"), folder / f"{name}.tar", options)
    return folder


def as_served(folder: Path) -> dict[str, bytes]:
    """Return the files of the sets by the paths that a server has them under."""
    return {f"/r/{path.name}": path.read_bytes() for path in folder.iterdir() if path.is_file()}


def opened(url: str, cache: Path, verify: str = "auto", limit: int = 0) -> RemoteRecordSource:
    """Open the records of a URL."""
    found = find_records(url, RecordCache(cache, limit))
    assert not isinstance(found, str)
    return RemoteRecordSource(found, verify)


def flags(run: Path, train_file: str, val_file: str, cache: Path, *more: str) -> list[str]:
    """Return the flags of a short run."""
    return small(
        f"--data_file={train_file}",
        f"--val_data_file={val_file}",
        f"--record_cache={cache}",
        f"--train_dir={run}",
        "--train_epochs=2",
        "--save_steps=100",
        "--log_steps=1",
        "--eval_epochs=2",
        *more,
    )


def trained(*arguments: str | Path) -> None:
    """Train, in this process, as :func:`flags` says."""
    assert train.main(flags(*arguments)) == 0  # type: ignore[arg-type]


def outcome(run: Path) -> tuple[bytes, str]:
    """Return what a run measured, and a digest of its last weights."""
    content = torch.load(next(run.glob("deeplab_v3_s16-2_*.pt")), weights_only=True)
    sha = hashlib.sha256()
    for name, tensor in sorted(content["model"].items()):
        sha.update(name.encode() + tensor.numpy().tobytes())
    return (run / "metrics.jsonl").read_bytes(), sha.hexdigest()
