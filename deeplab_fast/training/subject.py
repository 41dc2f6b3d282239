"""The network of a run at work on its held-out images, for pictures."""

from ..data.classes import generic_names
from ..data.sources import Source
from ..evaluation.protocols import recipe_of
from ..report.subject import Subject
from .state import TrainState


def names_of(state: TrainState) -> list[str]:
    """Return the names of the run's classes: the data's, else numbers."""
    return list(state.names) or generic_names(state.config.num_classes)


def subject_of(state: TrainState, held_out: Source) -> Subject:
    """Return the network that the run evaluates, with its held-out images."""
    config = state.config
    return Subject(
        state.evaluation_model,
        held_out,
        recipe_of(config),
        state.device,
        names_of(state),
        config.ignore_label,
        config.fused,
    )
