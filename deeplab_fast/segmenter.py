"""A trained model as a function of images."""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from os import PathLike, fsdecode, fspath
from pathlib import Path
from typing import Any, Self, overload

import numpy as np

from .config import (
    EvalConfig,
    SegmenterConfig,
    TrainConfig,
    validate_evaluation,
    validate_image,
)
from .config.keywords import flags_of
from .data.classes import own_names
from .distributed import World
from .errors import Interrupted, UserError
from .evaluation.inference import stored_flags
from .evaluation.labelled import Evaluation, Labelled, evaluate_labelled, flags_of_segmenter
from .evaluation.palette import palette
from .model.weights import write_folder
from .ops import keep_folds
from .prediction.card import Metrics, model_card, read_metrics
from .prediction.hub import Token, fetch, is_repository, push
from .prediction.images import Given, as_array
from .prediction.network import open_network
from .prediction.segmentation import FrameSegmentation, Segmentation
from .prediction.video.frames import segment_frames
from .prediction.video.reader import open_video
from .runtime import check_precision, resolve_precision, select_device
from .storage.checkpoint import CheckpointFolder
from .storage.provenance import as_json, weights_digest
from .storage.video_files import INSTALL, can_read_videos
from .training.fit import fit
from .training.presets import resolve

logger = logging.getLogger("deeplab_fast")

_LOADED = ("ckpt_path", "ckpt_channels", "freeze_bn", "device_target", "fused")  # decided with the network


class Segmenter:
    """A function from images to their classes: ``Segmenter("best.pt")(image)``.

    An image is a path, a URL, a Pillow image, uint8 ``[H, W, 3]`` of NumPy, or uint8 ``[3, H, W]`` or ``[H, W, 3]`` of
    torch. :meth:`fit` trains one, :meth:`from_pretrained` fetches one.
    """

    def __init__(self, ckpt_path: str | PathLike[str], *, probabilities: bool = False, **flags: Any) -> None:
        """Load a checkpoint.

        Args:
            ckpt_path: a file of weights, a run's folder (its ``best.pt``), or a folder that :meth:`save_pretrained`
                wrote.
            probabilities: compute them with the classes and keep them (4 bytes a pixel and class), instead of when
                they are asked for.
            **flags: those of ``python -m deeplab_fast.predict`` that concern the network, its device and the protocol,
                such as ``flip=True``, ``scales_type=1``, ``precision="fp32"``, ``device_target="CPU"``,
                ``batch_size=8``.

        Raises:
            UserError: an unknown flag, a value it does not take, or a file that is no such checkpoint.
        """
        given = flags_of(SegmenterConfig, flags | {"ckpt_path": str(ckpt_path)})
        device = select_device(given.get("device_target", "auto"))
        asked = given.get("precision", SegmenterConfig.precision)
        check_precision(asked, device)
        precision = resolve_precision(asked, device)
        self.config, self._network = open_network(SegmenterConfig, given | {"precision": precision.name}, device)
        if asked == "auto":
            logger.info("speed: %s", precision)
        self._keeps = probabilities
        self._colours = palette()

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | PathLike[str],
        *,
        revision: str | None = None,
        token: Token = None,
        **options: Any,
    ) -> Self:
        """Load a network of the Hugging Face Hub, or of a folder on this machine.

        Args:
            name_or_folder: a folder that :meth:`save_pretrained` wrote, or anything else that ``Segmenter`` takes;
                else a repository, ``OWNER/NAME``, of which ``config.json`` and ``model.safetensors`` are downloaded
                once (extra ``hub``). No pickle is downloaded.
            revision: of the repository, a branch, tag or commit; default its main branch.
            token: for a repository that is not public; default the one that ``hf auth login`` stored.
            **options: as of ``Segmenter``.

        Raises:
            UserError: there is neither such a folder nor such a repository, or as ``Segmenter``.
        """
        name = fspath(name_or_folder)
        if Path(name).exists():
            if revision is not None:
                raise UserError(f"revision={revision}: {name} is on this machine; expected a repository, OWNER/NAME")
            return cls(name, **options)
        if not is_repository(name):
            raise UserError(f"{name}: no such folder; expected one, or OWNER/NAME on the Hugging Face Hub")
        return cls(fetch(name, revision, token), **options)

    @classmethod
    def fit(cls, config: TrainConfig | None = None, **flags: Any) -> Self:
        """Train a network, or go on with its run, and return a Segmenter of the best weights.

        They are those of ``best.pt``; where nothing was held out to tell the best by, of the last checkpoint.

        Args:
            config: complete, as of :func:`deeplab_fast.fit`.
            **flags: instead of it, those of ``python -m deeplab_fast.train``: ``data_root=...``, ``train_dir=...``,
                with the same defaults; without any, the built-in data set.

        Raises:
            UserError: a flag, the data, the weights or the folder are of no use; says why.
            TrainingDiverged: a loss, its gradients or a weight is NaN or infinite.
            Interrupted: SIGINT or SIGTERM (Ctrl-C) stopped it; the run is saved, and the same call goes on with it.
        """
        if config is not None and flags:
            raise UserError(f"{next(iter(flags))}: given beside a configuration; expected flags, or a configuration")
        if config is None:
            given = flags_of(TrainConfig, flags)
            config = resolve(given, select_device(given.get("device_target", "auto")).type == "cuda")
        outcome = fit(config)
        if outcome.stopped_by is not None:
            raise Interrupted(outcome.stopped_by)
        best = outcome.best
        if best is None:
            best = CheckpointFolder(outcome.folder, config.model, config.keep_checkpoint_max).newest_first()[0]
            logger.info("%s: no held-out mIoU; takes the weights of the last step", best)
        how = {name: getattr(config, name) for name in ("device_target", "precision", "fused")}
        return cls(best, **how)

    def __repr__(self) -> str:
        """Say which file it is of, and for how many classes."""
        return f"Segmenter({self.config.ckpt_path!r}: {self.config.backbone}, {len(self.names)} classes)"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes by number; ``class 0``, ... where the checkpoint has none."""
        return self._network.names

    @overload
    def __call__(self, images: Given) -> Segmentation: ...

    @overload
    def __call__(self, images: list[Given] | tuple[Given, ...]) -> list[Segmentation]: ...

    def __call__(self, images: Given | list[Given] | tuple[Given, ...]) -> Segmentation | list[Segmentation]:
        """Segment an image, or a list of images of any sizes, which gives a list.

        Raises:
            UserError: an image is of another kind or cannot be read; names it.
        """
        if isinstance(images, list | tuple):
            return list(self.each(images))
        return self._segment([as_array(images, "image", self._network.protocol.decoding)])[0]

    def each(self, images: Iterable[Given]) -> Iterator[Segmentation]:
        """Segment images one batch after the other, for more of them than memory holds.

        Raises:
            UserError: as for a list, once its turn comes.
        """
        decoding = self._network.protocol.decoding
        arrays = (as_array(image, f"image {i}", decoding) for i, image in enumerate(images))
        while batch := list(islice(arrays, self.config.batch_size)):
            yield from self._segment(batch)

    def video(self, path: str | PathLike[str]) -> Iterator[FrameSegmentation]:
        """Segment the frames of a video one batch after the other, turned as its viewers turn it.

        No more than a batch of them is held, whatever the video's length.

        Raises:
            UserError: the package av is not installed; once their turn comes: there is no such video, it is damaged or
                cut short, or it has no pictures.
        """
        if not can_read_videos():
            raise UserError(f"{fsdecode(path)}: {INSTALL}")
        return self._frames(Path(fsdecode(path)))

    def evaluate(self, **flags: Any) -> Evaluation:
        """Score the network on labelled data, as ``python -m deeplab_fast.eval`` does and with the same figures.

        Args:
            **flags: those of ``eval``: ``data_root=..., data_lst=...`` or ``data_file=...``, ``protocol="mmseg"``,
                ``boundary=True``, ``batch_size=...``. The network, its images and, where they are not given,
                ``scales_type``, ``flip``, ``window`` and ``overlap`` are this Segmenter's; ``precision`` is fp32, for
                figures that compare from machine to machine.

        Returns:
            ``scores`` (``scores.miou``, ``scores.iou``, ...), ``names``, and the ``record`` that a metrics file holds;
            printed, a table. Nothing is written.

        Raises:
            UserError: a flag or the data are of no use; says why.
        """
        given = flags_of(EvalConfig, flags, flags_of_segmenter())
        own = {name: getattr(self.config, name) for name in (*stored_flags(SegmenterConfig), *_LOADED)}
        decided = {name for name in ("scales_type", "flip", "window") if own[name]}
        device = self._network.device
        precision = resolve_precision(given.get("precision", EvalConfig.precision), device)
        config = EvalConfig(**{**own, **given, "precision": precision.name})
        validate_image(config)
        validate_evaluation(config, {*given, *decided})
        check_precision(config.precision, device)
        labelled = Labelled.of(config, own_names(self.names))
        with keep_folds(self._network.folds):
            return evaluate_labelled(self._network.model, labelled, config, device, World())

    def save_pretrained(self, folder: str | PathLike[str], *, metrics: Metrics | None = None) -> Path:
        """Write the network into a folder of the Hugging Face Hub's form, which ``--ckpt_path`` takes, too.

        ``model.safetensors``; ``config.json`` with the network, its images, this Segmenter's protocol (``scales_type``,
        ``flip``, ``window``, ``overlap``) and the names of the classes; and ``README.md``, a model card, unless there
        is one that was not written here, or was changed. What is loaded from it gives the same bits.

        Args:
            folder: the folder, made if need be; an earlier network of this form in it is replaced.
            metrics: a metrics file of ``python -m deeplab_fast.eval``, or the record of :meth:`evaluate`, of these very
                weights: its figures go into the card, with their protocol.

        Raises:
            UserError: files of another kind are in the way, such as a run's, nothing can be written, or the metrics
                are of other weights.
        """
        return self._save(Path(folder), Path(folder).name, self._figures(metrics))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        metrics: Metrics | None = None,
        commit_message: str = "Push a network of deeplab_fast",
        private: bool | None = None,
        token: Token = None,
        branch: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Push what :meth:`save_pretrained` writes to a repository of the Hugging Face Hub (extra ``hub``).

        Its name and arguments are those of huggingface_hub's own mixins.

        Args:
            repo_id: ``OWNER/NAME``; made if need be, ``private`` or as its owner's default is.
            metrics: as of :meth:`save_pretrained`.
            commit_message: of the one commit.
            private: who sees a repository that is made.
            token: default the one that ``hf auth login`` stored.
            branch: default the main one.
            create_pr: open a pull request instead of committing.

        Returns:
            the URL of the commit, or of the pull request.

        Raises:
            UserError: the repository holds files of another kind, or cannot be written; or as :meth:`save_pretrained`.
        """
        if not is_repository(repo_id):
            raise UserError(f"repo_id={repo_id}: expected OWNER/NAME")
        figures = self._figures(metrics)  # before a repository is made for them
        return push(
            repo_id,
            lambda folder: self._save(folder, repo_id, figures),
            commit_message=commit_message,
            private=private,
            token=token,
            branch=branch,
            create_pr=create_pr,
        )

    def _figures(self, metrics: Metrics | None) -> dict[str, Any] | None:
        return None if metrics is None else read_metrics(metrics, weights_digest(self._network.model))

    def _save(self, folder: Path, place: str, figures: dict[str, Any] | None) -> Path:
        names = self.names if own_names(self.names) else ()
        tensors = {key: tensor.detach().cpu() for key, tensor in self._network.model.state_dict().items()}
        stored = as_json({name: getattr(self.config, name) for name in stored_flags(SegmenterConfig)})
        write_folder(folder, tensors, stored, names, model_card(self.config, names, place, figures))
        return folder

    def _frames(self, path: Path) -> Iterator[FrameSegmentation]:
        with open_video(path, self._network.protocol.decoding) as video:
            for frame, found in segment_frames(self._network, path, video.frames(), self.config.batch_size):
                kept = found.scored.probabilities() if self._keeps else None
                of_image = (found.classes, self.names, frame.image, self._colours, found.scored, kept)
                yield FrameSegmentation(*of_image, number=frame.number, time=frame.time)

    def _segment(self, images: list[np.ndarray]) -> list[Segmentation]:
        return [
            Segmentation(
                classes, self.names, image, self._colours, scored, scored.probabilities() if self._keeps else None
            )
            for image, (classes, scored) in zip(images, self._network.score(images), strict=True)
        ]
