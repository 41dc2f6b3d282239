"""Evaluation on labelled data, from its flags to its record, for the command line and for a Segmenter."""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..config import CheckpointConfig, DeviceConfig, EvalConfig, ModelConfig
from ..data.classes import class_names, own_names
from ..data.open_records import open_records
from ..data.remote import RecordCache, Records, find_records
from ..data.sources import Source, list_source
from ..distributed import World
from ..errors import UserError
from ..storage.provenance import weights_digest
from .evaluator import evaluate
from .metrics import Scores
from .metrics_file import provenance
from .protocols import EvaluationProtocol, protocol_of
from .record import as_record
from .settings import Settings
from .table import table_of

logger = logging.getLogger("deeplab_fast")


@dataclass(frozen=True)
class Labelled:
    """Samples with their truth, and the names of the classes."""

    source: Source
    names: list[str]

    @classmethod
    def of(cls, config: EvalConfig, trained: Sequence[str]) -> "Labelled":
        """Open the samples that the flags name; ``trained``: the names that the network was trained with.

        Raises:
            UserError: the flags name no samples or two sets, they cannot be read, or are of another number of classes.
        """
        data_file = find_records(config.data_file, RecordCache.of(config))
        return cls(_open_source(config, data_file), _names_of(config, data_file, trained))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The scores of a network on labelled data, by a protocol; as text, their table.

    ``record``: what the metrics file of ``python -m deeplab_fast.eval`` holds, on the main process of several.
    """

    scores: Scores
    names: list[str]
    protocol: EvaluationProtocol
    record: dict[str, Any]

    def __str__(self) -> str:
        return f"protocol {self.protocol.name}: {self.protocol.summary}\n{table_of(self.scores, self.names)}"


def evaluate_labelled(
    network: nn.Module, labelled: Labelled, config: EvalConfig, device: torch.device, world: World
) -> Evaluation:
    """Score a network that is on ``device``; every process of ``world`` does, each on its share.

    Raises:
        UserError: as :func:`.evaluator.evaluate`.
    """
    protocol = protocol_of(config)
    settings = Settings.of(config, device, world, per_image=True, boundary=config.boundary)
    scores = evaluate(network, labelled.source, protocol, settings)
    record: dict[str, Any] = {}
    if world.is_main:
        made_from = provenance(config, labelled.source, weights_digest(network))
        made_from["labelled_pixels"] = scores.confusion.sum(1).tolist()
        record = {**as_record(config, protocol, scores, labelled.names), "provenance": made_from}
    return Evaluation(scores, labelled.names, protocol, record)


def flags_of_segmenter() -> list[str]:
    """Return the flags of an evaluation that a Segmenter takes: its network, device and files are decided already."""
    decided = {field.name for c in (ModelConfig, DeviceConfig, CheckpointConfig) for field in dataclasses.fields(c)}
    decided |= {"compile", "report", "process_timeout"}
    return [field.name for field in dataclasses.fields(EvalConfig) if field.name not in decided - {"precision"}]


def _open_source(config: EvalConfig, data_file: Records) -> Source:
    """Open the samples that the flags name, or raise :class:`UserError` where they name none or two.

    ``data_file``: what --data_file names, found.
    """
    if config.data_file and config.data_lst:
        raise UserError("--data_file and --data_lst: expected one of them, not both")
    if data_file:
        return open_records(data_file, verify=config.verify)
    if config.data_lst:
        return list_source(config.data_root, config.data_lst)
    raise UserError("--data_lst: missing; give --data_root and --data_lst, or --data_file")


def _names_of(config: EvalConfig, data_file: Records, trained: Sequence[str]) -> list[str]:
    """Return the names of the classes: the data's, else those that the network was ``trained`` with, else numbers.

    Raises:
        UserError: the data names another number of classes.
    """
    names = class_names(config.num_classes, data_file, config.data_lst, config.data_root)
    if not own_names(names):
        return list(trained) or names
    for index, (name, other) in enumerate(zip(names, trained, strict=False)):
        if name != other:
            logger.warning("class %d is %r in the data and %r in %s", index, name, other, config.ckpt_path)
    return names
