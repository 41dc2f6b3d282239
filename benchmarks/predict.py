"""Prediction: images a second from files to files, ours beside torchvision's eager network with the same weights.

``python -m benchmarks.run predict --input=DIR`` segments the same images by both, some at a time, in turn: each reads
the file, decodes, resizes, normalises and pads it, runs the network, takes the classes at the image's own size and
writes them as a palette PNG. Ours is what ``deeplab_fast.predict --save=classes`` does. The peer decodes and writes by
Pillow and does the rest by torch in channels-last storage, as many images at a time as ours; its resizing is ours, so
that both networks see the same pixels (OpenCV's rounding changes from release to release). The classes of the first
images are compared with the peer's in fp32 before a time is reported: in fp32 one pixel in 10,000 may be another class,
by rounding; in bf16 twice as many as the peer's own in bf16.
"""

import dataclasses
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from deeplab_fast.cli import run
from deeplab_fast.config.flags import flag
from deeplab_fast.config.shared import DeviceConfig, ImageConfig, ModelConfig
from deeplab_fast.data.classes import generic_names
from deeplab_fast.errors import UserError
from deeplab_fast.evaluation.palette import palette
from deeplab_fast.evaluation.protocol import Protocol, longest_side_to
from deeplab_fast.model.layers import use_fused
from deeplab_fast.ops import resize_bilinear
from deeplab_fast.prediction.batches import segment_files
from deeplab_fast.prediction.inputs import Item, find_inputs
from deeplab_fast.prediction.network import Network
from deeplab_fast.prediction.overlay import Style
from deeplab_fast.prediction.products import Products
from deeplab_fast.runtime import autocast, prepare_backends, select_device, to_channels_last
from deeplab_fast.runtime.environment import environment
from deeplab_fast.storage.mask_folder import MaskFolder, target_files

from .agreement import Check, require
from .evaluation import random_model
from .peers import Torchvision
from .report import as_table, as_text, beside, configure, publish, spread
from .timing import Timing, interleave

OURS, PEER = "ours", "torchvision-eager"
_TIES = 1e-4  # the share of pixels that may be of another class
_FEWEST = 4  # rounds, of which quartiles are taken
Way = Callable[[Sequence[Item]], None]


@dataclass(frozen=True, kw_only=True)
class PredictionConfig(DeviceConfig, ImageConfig, ModelConfig):
    """Prediction benchmark"""

    backbone: Literal["resnet50", "resnet101"] = flag("resnet101", "ResNet depth.")
    head: Literal["torchvision"] = flag("torchvision", "Head, which is the peer's.")
    precision: Literal["fp32", "bf16"] = flag("fp32", "Arithmetic of both.")
    input: str = flag("", "Images, as of predict: a folder, a pattern or a list.")
    images_at_once: int = flag(10, "Images of a round; each is in one round.", minimum=1)
    rounds: int = flag(0, f"Most rounds, at least {_FEWEST}; 0: as many as the images are enough for.")
    batch_size: int = flag(1, "Images that go through the network together.", minimum=1)
    out: str = flag("", "Folder for predict.json and predict.md.")


def our_way(model: nn.Module, config: PredictionConfig, device: torch.device, out: Path) -> Way:
    """Return what segments files into ``out`` as the command line does."""
    protocol = Protocol.of(config, config.precision)
    names = tuple(generic_names(config.num_classes))
    network = Network(to_channels_last(model, device), device, protocol, names, config.fused, config.batch_size)
    use_fused(network.model, config.fused)
    made = Products((), Style(), palette(), names)
    folder = MaskFolder(out, {})

    def segment(items: Sequence[Item]) -> None:
        for item, result in segment_files(network, items, config.batch_size, made.of):
            if isinstance(result, UserError):
                raise result
            folder.write(item.stem, result.digest, result.mask, result.beside)

    return segment


def peer_way(model: nn.Module, config: PredictionConfig, device: torch.device, out: Path) -> Way:
    """Return what segments files into ``out`` with the network ``model`` by Pillow and torch."""
    model = to_channels_last(model, device)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (config.mean_rgb, config.std_rgb))
    colours = palette().tobytes()

    def padded(image: NDArray[np.uint8], height: int, width: int) -> Tensor:
        resized = torch.from_numpy(resize_bilinear(image, (height, width))).to(device)
        x = (resized.permute(2, 0, 1) - mean) / std
        return F.pad(x, (0, config.crop_size - width, 0, config.crop_size - height))

    @torch.inference_mode()
    def classes_of(images: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
        sizes = [longest_side_to(config.crop_size, *image.shape[:2]) for image in images]
        x = torch.stack([padded(image, *size) for image, size in zip(images, sizes, strict=True)])
        with autocast(config.precision, device):
            logits = model(x.contiguous(memory_format=torch.channels_last))
        probabilities = logits.float().softmax(1)
        return [
            F.interpolate(p[None, :, :height, :width], image.shape[:2], mode="bilinear")[0].argmax(0)
            for p, image, (height, width) in zip(probabilities, images, sizes, strict=True)
        ]

    def segment(items: Sequence[Item]) -> None:
        for start in range(0, len(items), config.batch_size):
            batch = items[start : start + config.batch_size]
            images = []
            for item in batch:
                with Image.open(io.BytesIO(item.path.read_bytes())) as file:
                    images.append(np.asarray(file.convert("RGB")))
            for item, classes in zip(batch, classes_of(images), strict=True):
                mask = Image.fromarray(classes.to(torch.uint8).cpu().numpy()).convert("P")
                mask.putpalette(colours)
                mask.save(target_files(out / item.stem)[0])

    return segment


def networks(config: PredictionConfig) -> dict[str, nn.Module]:
    """Build both networks with the same random weights.

    Residual branches are small as trained networks' are: at full size a rounding grows from layer to layer.
    """
    ours = random_model(config)
    with torch.no_grad():
        for name, weight in ours.named_parameters():
            if name.endswith("bn3.weight"):
                weight.mul_(0.1)
    peer = Torchvision(config.backbone, config.num_classes, config.model)
    peer.load_state_dict(ours.state_dict())
    return {OURS: ours.eval(), PEER: peer.eval()}


def blocks(items: Sequence[Item], config: PredictionConfig) -> list[Sequence[Item]]:
    """Return the images of each round.

    Raises:
        UserError: there are too few of them.
    """
    size = config.images_at_once
    found = [items[i : i + size] for i in range(0, len(items) - size + 1, size)]
    if len(found) < _FEWEST:
        fewest = f"{_FEWEST} rounds of {size}"
        raise UserError(f"--input={config.input}: {len(items)} images; expected enough for {fewest} (--images_at_once)")
    return found[: max(_FEWEST, config.rounds)] if config.rounds else found


def agreement(items: Sequence[Item], folders: dict[str, Path], exact: Path) -> tuple[Check, int]:
    """Compare what ours wrote of the images with the peer's in fp32; returns how many pixels were compared too.

    The check could fail where the classes are not all the same one. Where both are in bf16, ours may differ twice as
    often as the peer does.
    """
    differing, pixels = dict.fromkeys(folders, 0), 0
    seen: set[int] = set()
    for item in items:
        expected = _written(exact, item)
        pixels += expected.size
        seen.update(np.unique(expected).tolist())
        for name, folder in folders.items():
            found = _written(folder, item)
            differing[name] += int((found != expected).sum()) if found.shape == expected.shape else expected.size
    most = max(_TIES * pixels, 2.0 * differing[PEER])
    return Check("pixels of another class", differing[OURS], most, len(seen) > 1 and most < pixels / 2), pixels


def _written(folder: Path, item: Item) -> NDArray[np.uint8]:
    return np.asarray(Image.open(target_files(folder / item.stem)[0]))


def as_markdown(results: dict[str, Any]) -> str:
    where, config, check = results["environment"], results["config"], results["checks"][0]
    title = (
        f"Prediction from files to files, {config['backbone']}, {config['model']}, crop {config['crop_size']},"
        f" {config['precision']}, {results['images']} images, {config['batch_size']} at a time: {where['device']},"
        f" torch {where['torch']}, torchvision {where['torchvision']}, {where['date']}."
    )
    rows = []
    for name, t in results["timings"].items():
        median, low, high = (1e3 / t[key] for key in ("median_ms", "q3_ms", "q1_ms"))
        rows.append((name, f"{median:.2f}", f"{low:.2f} - {high:.2f}", t["rounds"]))
    return as_text(
        title,
        as_table(f"path | images/s, median | quartiles | rounds of {config['images_at_once']} images", rows),
        f"Ours is faster by {spread(results['ratios'][PEER])}; of {results['compared']:,} pixels that were compared"
        f" {check['found']:,} have another class (limit {check['limit']:,.0f}).",
    )


def main(argv: list[str]) -> int:
    config = configure(PredictionConfig, argv, "predict")
    if not config.input:
        raise UserError("--input: missing; expected images: a folder, a pattern or a list")
    rounds = blocks([item for item in find_inputs(config.input) if not item.is_video], config)
    device = select_device(config.device_target)
    prepare_backends(device)
    with tempfile.TemporaryDirectory() as temporary:
        folders = {name: Path(temporary, name) for name in (OURS, PEER)}
        exact = Path(temporary, "exact")
        both = networks(config)
        ways = {
            name: way(both[name], config, device, folders[name])
            for name, way in {OURS: our_way, PEER: peer_way}.items()
        }
        for folder in (*folders.values(), exact):
            MaskFolder(folder, {}).make_folders(item.stem for block in rounds for item in block)
        for way in (*ways.values(), peer_way(both[PEER], dataclasses.replace(config, precision="fp32"), device, exact)):
            way(rounds[0])
        check, compared = agreement(rounds[0], folders, exact)
        require(check, f"{check.what}: {check.found:,}; at most {check.limit:,.0f} may be")
        timings = time_blocks(ways, rounds, device)
    results = {
        "images": sum(map(len, rounds)),
        "compared": compared,
        "checks": [check.as_dict()],
        **beside(timings, OURS),
    }
    return publish("predict", config, environment(device, "torchvision"), results, as_markdown)


def time_blocks(ways: dict[str, Way], rounds: Sequence[Sequence[Item]], device: torch.device) -> dict[str, Timing]:
    """Time each way over each round's images, in turn: seconds an image."""
    pending = {name: iter(rounds) for name in ways}

    def step(name: str) -> Callable[[], None]:
        return lambda: ways[name](next(pending[name]))

    timings = interleave({name: step(name) for name in ways}, len(rounds), 0, device)
    return {name: timing.per(len(rounds[0])) for name, timing in timings.items()}


if __name__ == "__main__":
    run(main)
