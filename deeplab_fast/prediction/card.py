"""The model card of a network: what it is, how it is used and, where it was measured, how good it is."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import deeplab_fast

from ..config import SegmenterConfig
from ..errors import UserError
from ..model.weights import describe_network
from ..storage.files import read_json

Metrics: TypeAlias = Mapping[str, Any] | str | os.PathLike[str]

_HEAD = """---
library_name: deeplab_fast
pipeline_tag: image-segmentation
tags:
- semantic-segmentation
- deeplabv3
---
"""

_USE = """```python
import deeplab_fast

segment = deeplab_fast.Segmenter.from_pretrained({})
result = segment("photo.jpg")  # or a URL, a Pillow image, an array
result.classes  # uint8 [H, W]
```"""


def model_card(config: SegmenterConfig, names: Sequence[str], place: str, metrics: Mapping[str, Any] | None) -> str:
    """Return a model card in Markdown.

    ``names``: of the classes; empty where they have none. ``place``: the repository or folder that the card is for.
    ``metrics``: the content of a metrics file, if any.
    """
    described = describe_network(config)
    title, _, rest = described.partition(", ")
    parts = [
        f"{_HEAD}\n# {title}",
        f"Semantic segmentation: {rest}. Made with deeplab_fast {deeplab_fast.__version__}.",
        f"## Use\n\n{_USE.format(json.dumps(place, ensure_ascii=False))}",
        *(["## Classes\n\n" + _classes(names)] if names else []),
        "## Preprocessing\n\n" + _protocol(config),
        *([] if metrics is None else ["## Evaluation\n\n" + _figures(metrics)]),
    ]
    return "\n\n".join(parts) + "\n"


def _classes(names: Sequence[str]) -> str:
    return "\n".join(["| number | name |", "|---|---|", *(f"| {i} | {_cell(name)} |" for i, name in enumerate(names))])


def _protocol(config: SegmenterConfig) -> str:
    whole = f"The longest side is resized to {config.crop_size} pixels (bilinear) and the rest of the square padded."
    windows = (
        f" Images with a side of more than {config.window} pixels are segmented in windows of that size, which overlap"
        f" by at least {config.overlap:g} of their side."
    )
    views = f"Scales {_listed(config.scales)}{', mirrored too' if config.flip else ''}."
    means = f"Means {_listed(config.mean_rgb)} and deviations {_listed(config.std_rgb)}, RGB, of values from 0 to 255."
    return f"{whole}{windows if config.window else ''}\n{views} {means}"


def _figures(metrics: Mapping[str, Any]) -> str:
    protocol, miou = metrics["protocol"], metrics["miou"]
    details = "; ".join(f"{_cell(k)} {_cell(_plain(v))}" for k, v in protocol.items() if k != "name")
    data, skipped = _cell(Path(metrics["data"]).name), metrics.get("skipped")
    left_out = f" ({len(skipped)} more could not be used)" if isinstance(skipped, list) and skipped else ""
    lines = [
        f"Measured on {metrics['images']} images{left_out} of {data} in {_cell(metrics['precision'])}, by the protocol"
        f" {_cell(protocol['name'])}: {details}.",
        "",
        f"mIoU {'not measurable' if miou is None else f'{miou:.4f}'}, pixel accuracy {metrics['pixel_accuracy']:.4f}.",
        "",
        "| class | IoU |",
        "|---|---|",
        *(
            f"| {_cell(name)} | {'absent' if value is None else f'{value:.4f}'} |"
            for name, value in metrics["per_class_iou"].items()
        ),
    ]
    return "\n".join(lines)


def read_metrics(given: Metrics, weights: str) -> dict[str, Any]:
    """Return the content of a metrics file, or of the record that ``Segmenter.evaluate`` gives.

    ``weights``: the digest of the network that it is to be of.

    Raises:
        UserError: it is no such file, or of other weights.
    """
    where, content = "metrics", given
    if isinstance(given, str | os.PathLike):
        where = os.fsdecode(given)
        try:
            content = read_json(Path(given))
        except OSError as error:
            raise UserError(f"{where}: cannot be read ({error.strerror or error})") from None
        except ValueError:
            raise UserError(f"{where}: no JSON; expected a metrics file of deeplab_fast.eval") from None
    if not isinstance(content, Mapping) or not _is_complete(content):
        raise UserError(f"{where}: expected a metrics file of deeplab_fast.eval, or the record of Segmenter.evaluate")
    if content["provenance"].get("weights") != weights:
        raise UserError(f"{where}: is of other weights than these; expected figures of the network that is saved")
    return dict(content)


def _is_complete(content: Mapping[str, Any]) -> bool:
    kinds: dict[str, Any] = {"images": int, "data": str, "precision": str, "pixel_accuracy": int | float}
    kinds |= {"protocol": Mapping, "provenance": Mapping, "per_class_iou": Mapping, "miou": int | float | None}
    return all(key in content and isinstance(content[key], kind) for key, kind in kinds.items()) and (
        isinstance(content["protocol"].get("name"), str)
        and all(isinstance(value, int | float | None) for value in content["per_class_iou"].values())
    )


def _cell(text: object) -> str:
    """Return a text that stays within a cell, and within its line, of a table."""
    return " ".join(str(text).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _plain(value: object) -> str:
    return _listed(value) if isinstance(value, list | tuple) else str(value)


def _listed(numbers: Sequence[Any]) -> str:
    return "/".join(f"{number:g}" if isinstance(number, float) else str(number) for number in numbers)
