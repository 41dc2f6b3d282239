"""The origins of a configuration's values: files of flags, and the command line over them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from .flags import AUTO
from .urls import public


def describe_origins(config_class: type, layers: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Say in a line each which flags a layer decides; later layers win.

    ``layers``: the name of each and its flags. Left out is what a later layer decides, and what is the default anyway.
    """
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    lines = []
    for place, (name, values) in enumerate(layers):
        before = {key for _, earlier in layers[:place] for key in earlier}
        after = {key for _, later in layers[place + 1 :] for key in later}
        said = [
            f"{key}={_text(value, fields[key].metadata)}"
            for key, value in values.items()
            if key not in after and (key in before or value != fields[key].default)
        ]
        if said:
            lines.append(f"flags of {name}: {' '.join(said)}")
    return lines


def _text(value: Any, metadata: Mapping[str, Any]) -> str:
    if metadata.get("auto") and value == AUTO:
        return "auto"
    return ",".join(map(str, value)) if isinstance(value, tuple) else public(str(value))
