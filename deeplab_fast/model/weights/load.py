"""Fill a network from a file: all of it, or what there is to start training from."""

import logging
from pathlib import Path

from torch import Tensor, nn

from deeplab_fast.errors import UserError

from ..deeplabv3 import CLASSIFIER
from ..resnet import ARCHITECTURES
from .families import OTHER_BACKBONES, OTHER_HEADS, UNUSED, reason_in
from .infer import blocks_of, describe_backbone, infer_config, is_bottleneck
from .match import Match, group_names
from .read import WeightFile, read_weights
from .tensors import shape, usable

logger = logging.getLogger("deeplab_fast")

ENOUGH = 0.9  # of the backbone's tensors


def load_exactly(model: nn.Module, file: WeightFile) -> None:
    """Fill every tensor of ``model`` from a file; only heads that it does not have may be left over.

    Raises:
        UserError: it is another network, a key is missing, unexpected, of another shape or no weight; names the flag
            to look at.
    """
    own = model.state_dict()
    refuse_other_networks(file)
    _refuse_another_depth(file, own)
    tensors = _usable(file, own)
    for key, tensor in own.items():
        given = tensors.get(key)
        if given is None:
            if key.endswith("num_batches_tracked"):
                continue
            raise UserError(f"{file.path}: has no {key}; expected weights of this --model, --backbone and --head")
        if given.shape != tensor.shape:
            raise _another_shape(file.path, key, given, tensor)
    beside = [k for k in file.beside if k not in own]
    extra = [k for k in file.tensors if k not in own and k not in beside and not k.startswith(UNUSED)]
    if extra:
        raise UserError(f"{file.path}: unexpected {extra[0]}; expected weights of this --model, --backbone and --head")
    if beside:
        logger.info("%s: not used, as it stands beside the network: %s", file.path, group_names(beside))
    model.load_state_dict(tensors, strict=False)


def refuse_other_networks(file: WeightFile) -> None:
    """Raise :class:`UserError` where the file is no whole DeepLabV3 that can be built here; says what it is.

    Only names and the number of classes are looked at; shapes come later.
    """
    names = file.tensors.keys()
    reason = file.family.refused or reason_in(OTHER_BACKBONES, names) or reason_in(OTHER_HEADS, names)
    if reason is not None:
        raise UserError(
            f"{file.path}: another network: it has {reason}; expected a DeepLabV3 of this program, torchvision or"
            " segmentation_models_pytorch"
        )
    if not any(key.startswith("classifier.") for key in names):
        raise UserError(
            f"{file.path}: holds a backbone alone; expected a whole network (training starts from it"
            " with --ckpt_pre_trained)"
        )
    if infer_config(file).get("num_classes", 2) < 2:
        raise UserError(f"{file.path}: gives one class, a mask's; expected at least 2, background included")


def load_pretrained(
    model: nn.Module,
    path: str | Path,
    filter_weight: bool = False,
    allow_partial: bool = False,
    channels: str = "auto",
) -> list[str]:
    """Start ``model`` from a file and return the keys that were loaded, as :func:`start_from` does.

    ``channels`` as of :func:`read_weights`.

    Raises:
        UserError: the file cannot be read, or as :func:`start_from`.
    """
    return start_from(model, read_weights(path, channels), filter_weight, allow_partial)


def start_from(
    model: nn.Module, file: WeightFile, filter_weight: bool = False, allow_partial: bool = False
) -> list[str]:
    """Start ``model`` from what a file holds; return the keys that were loaded. The log has the table of what matched.

    A classifier for another number of classes, or that read another head's output than the model's gives, is left as
    initialised, and so is the classifier when ``filter_weight`` is set. ``allow_partial`` also takes a file that fills
    less than nine tenths of the backbone, or a part of ASPP, and leaves out tensors of other shapes.

    Raises:
        UserError: no key matches, too few do, the backbone is another, a tensor other than the classifier's has another
            shape, or one holds no weights.
    """
    path, own = file.path, model.state_dict()
    if not any(key in own for key in file.tensors):
        theirs, ours = next(iter(file.tensors)), next(iter(own))
        raise UserError(f"{path}: no key matches this model; it holds {theirs}, ..., expected {ours}, ...")
    if not allow_partial:
        _refuse_another_backbone(file, own)
    match = Match(own, _usable(file, own), file.tensors.keys())
    _leave_other_heads(match, file)
    _leave_classifier(match, path, filter_weight)
    for key in match.of_other_shape():
        if not (key.startswith(CLASSIFIER + ".") or allow_partial):
            raise _another_shape(path, key, match.chosen[key], own[key])
        match.leave(key, "of another shape")
    if not allow_partial:
        _refuse_too_few(match, path)
    _leave_without_its_input(match)
    model.load_state_dict(match.chosen, strict=False)
    logger.info("%s: %s", path, _as_text(match))
    return sorted(match.chosen)


def describe_match(own: dict[str, Tensor], file: WeightFile) -> str:
    """Return how many tensors a network has from a file that fills it, and the table of its parts.

    ``own``: the network's, of any shapes.
    """
    return _as_text(Match(own, {key: file.tensors[key] for key in own if key in file.tensors}, file.tensors.keys()))


def _as_text(match: Match) -> str:
    return f"{len(match.chosen)} tensors loaded\n{match.table(UNUSED)}"


def _leave_other_heads(match: Match, file: WeightFile) -> None:
    reason = reason_in(OTHER_HEADS, file.tensors)
    if reason is not None:
        match.leave("classifier", f"the file has {reason}")


def _leave_without_its_input(match: Match) -> None:
    """Take out a classifier that is not whole, or that would read what an ASPP starting anew makes."""
    for part, reason in ((CLASSIFIER, "not whole in the file"), ("classifier.0", "ASPP starts anew")):
        loaded, total = match.count(part)
        if loaded < total:
            match.leave(CLASSIFIER, reason)


def _leave_classifier(match: Match, path: Path, filter_weight: bool) -> None:
    """Take a classifier out of ``match`` that another number of classes or another head makes useless; says why."""
    key = f"{CLASSIFIER}.weight"
    if key not in match.chosen:
        return
    theirs, ours = match.chosen[key].shape, match.own[key].shape
    if filter_weight:
        match.leave(CLASSIFIER, "--filter_weight")
    elif len(theirs) == len(ours) and theirs[0] != ours[0]:
        match.leave(CLASSIFIER, "another number of classes")
        classes = "1 class" if theirs[0] == 1 else f"{theirs[0]} classes"
        logger.info("%s has %s, this model %d: the classifier starts anew", path, classes, ours[0])
    elif ("classifier.1.weight" in match.given) != ("classifier.1.weight" in match.own):
        match.leave(CLASSIFIER, "another head")
        has, flag = ("has a", "torchvision or smp") if "classifier.1.weight" in match.given else ("has no", "recipe")
        logger.warning(
            "%s %s 3x3 convolution before its classifier, unlike this model: the classifier starts anew; all of it"
            " loads with --head=%s",
            path,
            has,
            flag,
        )


def _refuse_another_backbone(file: WeightFile, own: dict[str, Tensor]) -> None:
    reason = reason_in(OTHER_BACKBONES, file.tensors)
    if reason is not None:
        raise UserError(f"{file.path}: another backbone: it has {reason}; expected torchvision's ResNet")
    _refuse_another_depth(file, own)


def _refuse_another_depth(file: WeightFile, own: dict[str, Tensor]) -> None:
    """Refuse a deeper ResNet, whose first blocks have a shallower one's names and shapes: only the counts differ."""
    theirs, ours = blocks_of(file.tensors), blocks_of(own)
    kinds_differ = is_bottleneck(file.tensors) != is_bottleneck(own)
    if all(theirs) and (theirs != ours or kinds_differ):
        found, expected = describe_backbone(file.tensors), describe_backbone(own)
        hint = f"--backbone={found} fits" if found in ARCHITECTURES else f"expected one of {', '.join(ARCHITECTURES)}"
        raise UserError(f"{file.path}: its backbone is {found}, this model's {expected}; {hint}")


def _refuse_too_few(match: Match, path: Path) -> None:
    loaded, total = match.count("backbone")
    if loaded < ENOUGH * total:
        raise UserError(
            f"{path}: fills {loaded} of {total} tensors of the backbone; expected at least {ENOUGH:.0%}"
            " (--allow_partial=True starts from as many)"
        )
    loaded, total = match.count("classifier.0")
    if loaded not in (0, total):
        raise UserError(
            f"{path}: fills {loaded} of {total} tensors of ASPP; expected all or none (see --aspp_rates;"
            " --allow_partial=True starts from as many)"
        )


def _another_shape(path: Path, key: str, given: Tensor, own: Tensor) -> UserError:
    flag = "--backbone"
    if key.startswith("classifier.0."):
        flag = "--aspp_rates and --backbone"
    elif key.startswith(CLASSIFIER):
        flag = "--num_classes"
    return UserError(f"{path}: {key} is {shape(given)}; this model's is {shape(own)} (see {flag})")


def _usable(file: WeightFile, own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the file's tensors that ``own`` has by name, as dense finite fp32; says which types were converted."""
    found = {key: tensor for key, tensor in file.tensors.items() if key in own}
    converted = {key: usable(file.path, key, tensor) for key, tensor in found.items()}
    types = [str(t.dtype).removeprefix("torch.") for t in found.values() if t.is_floating_point()]
    for name in sorted(set(types) - {"float32"}):
        logger.info("%s: %d %s tensors become float32", file.path, types.count(name), name)
    return converted
