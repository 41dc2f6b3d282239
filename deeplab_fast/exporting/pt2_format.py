"""Files of torch.export, the description as an extra file in them."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..config import ExportConfig
from .description import NAME, Description


def write_pt2(program: torch.export.ExportedProgram, config: ExportConfig, words: Description, path: Path) -> None:
    """Write a traced network to ``path``.

    Raises:
        OSError: the disk is full or the like.
    """
    content = io.BytesIO()  # torch's own writer says "unexpected pos" where the disk is full
    torch.export.save(program, content, extra_files={NAME: json.dumps(words, indent=1, ensure_ascii=False)})
    path.write_bytes(content.getbuffer())


def open_pt2(path: Path) -> Callable[[Tensor], Tensor]:
    """Open a file as a function of a batch of images, as it takes them."""
    return torch.export.load(path).module()
