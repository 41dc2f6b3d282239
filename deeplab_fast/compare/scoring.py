"""One evaluation for both: trained weights, whoever trained them, in our network, by the recipe's protocol."""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from deeplab_fast.config import TrainConfig
from deeplab_fast.data.sources import Source
from deeplab_fast.distributed import World
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.evaluator import evaluate
from deeplab_fast.evaluation.metrics import Scores
from deeplab_fast.evaluation.protocols import recipe_of
from deeplab_fast.evaluation.settings import Settings
from deeplab_fast.model import DeepLabV3, build_model
from deeplab_fast.runtime import prepare_backends, to_channels_last

from .network import ReferenceNetwork

AGREEMENT_LIMIT = 1e-3  # of fp32 logits, relative to their norm: 1 where a network gives zeros


def network_of(weights: Mapping[str, Tensor], config: TrainConfig) -> DeepLabV3:
    """Return the network of ``config`` with weights, whose keys are all of its own; on the CPU, in evaluation mode."""
    network = build_model(config)
    network.load_state_dict(dict(weights))
    return network.eval()


def score(weights: Mapping[str, Tensor], config: TrainConfig, held_out: Source, device: torch.device) -> Scores:
    """Score trained weights on the held-out data, in fp32.

    Raises:
        UserError: a sample cannot be used.
    """
    prepare_backends(device)  # the reference trains with others
    network = to_channels_last(network_of(weights, config), device)
    protocol = recipe_of(dataclasses.replace(config, precision="fp32"))
    return evaluate(network, held_out, protocol, Settings.of(config, device, World()))


@torch.inference_mode()
def disagreement(reference: ReferenceNetwork, config: TrainConfig) -> float:
    """Return by how much our network's logits for one noisy image differ from the reference's, of the same weights.

    Relative to their norm.

    Raises:
        UserError: by more than :data:`AGREEMENT_LIMIT`: evaluated by ours, the reference's weights would mean nothing.
    """
    reference = reference.cpu().eval()
    ours = network_of(reference.without_aux(), config)
    image = torch.randn(1, 3, config.crop_size, config.crop_size, generator=torch.Generator().manual_seed(0))
    theirs = reference(image)["out"]
    found = float((ours.predict(image) - theirs).norm() / theirs.norm())
    if not found <= AGREEMENT_LIMIT:
        raise UserError(
            f"the networks disagree: logits of the same weights differ by {found:.1e} of their norm; expected at most"
            f" {AGREEMENT_LIMIT:.0e}"
        )
    return found
