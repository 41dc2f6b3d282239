"""Provenance, what a result was made from, stored beside it: two results of the same provenance are the same."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

# Flags that change a result by rounding at most, or that say where things are: their content counts instead.
_INDIFFERENT = {
    *("device_target", "fused", "num_workers", "batch_size", "compile", "process_timeout", "verify"),
    "max_pixels",
    *("freeze_bn", "dropout"),  # nothing trains here
    *("ckpt_path", "data_root", "data_lst", "data_file", "report", "input", "output", "overwrite"),
    "polygon_format",  # of a file over all results, which is written anew each time
    *("record_cache", "record_cache_gb"),
}

# What a result was made with before there was such a flag: it is the same result.
_BEFORE_FLAGS: dict[str, Any] = {
    **{"save": ["classes", "overlay"], "probability_of": "", "clear": False, "outlines": False, "legend": False},
    **{"palette": "", "window": 0, "overlap": 0.5},
    **{"protocol": "recipe", "base_size": 520, "test_scale": [2048, 512], "stride": 0, "boundary": False},
}


def weights_digest(model: torch.nn.Module) -> str:
    """Return the SHA-256 of names, types, shapes and values of a model's parameters and buffers."""
    sha = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def deciding_flags(config: Any) -> dict[str, Any]:
    """Return the fields of a configuration that decide a result, as JSON has them."""
    flags = as_json({k: v for k, v in dataclasses.asdict(config).items() if k not in _INDIFFERENT})
    return {k: v for k, v in flags.items() if k not in _BEFORE_FLAGS or v != _BEFORE_FLAGS[k]}


def as_json(value: dict[str, Any]) -> dict[str, Any]:
    """Return ``value`` as it comes back from a JSON file: tuples are lists."""
    return dict(json.loads(json.dumps(value)))


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Name what differs between two provenances, flags with the value each has in ``one``."""
    found = [key for key in one if key != "flags" and one[key] != other.get(key)]
    flags, others = one.get("flags", {}), other.get("flags", {})
    found += [
        f"--{name}={flags.get(name)}" for name in sorted({*flags, *others}) if flags.get(name) != others.get(name)
    ]
    return ", ".join(found)
