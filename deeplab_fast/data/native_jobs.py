"""Samples made into jobs of native threads, and what they come to: pixels in a batch's memory, or why there are none.

Images that native threads cannot decode are decoded by Pillow in Python threads, which hand the pixels on to native
ones and wait for them: so no more than one decoded image a thread is in memory.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from deeplab_fast.errors import UserError
from deeplab_fast.ops import PILLOW_SUFFIXES, SampleLoader, decode_image, image_size, pillow_format
from deeplab_fast.ops.input.sample_loader import CropOptions, Crops, Failure, Jobs, Ragged

from .augment import colour_matrix
from .dataset import TrainingSet
from .pairs import size_error, value_error
from .philox import AUGMENT, uniform

Wanted = list[tuple[int, int]]  # (epoch, index) of each sample of a batch
Target = Crops | Ragged

_Loading = Callable[[], list[Failure]]  # waits for some samples
_DECODING = "decoding"  # a fault of our own, whose text names the file


@dataclass
class Begun:
    """Samples on their way: a ticket of those that native threads read, if any, and ways to wait for each other one."""

    ticket: int | None
    others: list[_Loading]
    is_done: Callable[[], bool]


class NativeJobs:
    """Loads samples into places of a batch's memory, by ``threads`` threads (0: when they are waited for)."""

    def __init__(self, dataset: TrainingSet, threads: int) -> None:
        augment, source = dataset.augment, dataset.source
        self.dataset = dataset
        self.options = CropOptions(
            augment.crop_size, augment.min_scale, augment.max_scale, augment.bicubic, augment.ignore_label
        )
        files = source.files()
        self._for_pillow = {i for i, name in enumerate(files) if name.lower().endswith(PILLOW_SUFFIXES)}
        self.samples = SampleLoader(
            files, self.options, dataset.num_classes, threads, dataset.decoding, source.stamps()
        )
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None  # made where there is such an image
        self._misnamed: set[int] = set()  # samples whose image's name does not say that Pillow must decode it
        self._draws: tuple[int, NDArray[np.float64]] | None = None  # the epoch, and the draws of its samples

    def draws_of(self, wanted: Wanted) -> NDArray[np.float64]:
        """Return the draws of samples of one epoch, ``[N, 4]``.

        They are drawn for a whole epoch: to draw for a batch alone would cost as much time.
        """
        epoch = wanted[0][0]
        if self._draws is None or self._draws[0] != epoch:
            drawn = uniform(self.dataset.seed, epoch, np.arange(len(self.dataset.source)), AUGMENT)
            self._draws = epoch, drawn
        return self._draws[1][[index for _, index in wanted]]

    def begin(self, wanted: Wanted, indexes: list[int], target: Target, places: list[int]) -> Begun:
        """Begin to load the samples ``indexes``, augmented as drawn for ``wanted``, of one epoch, into ``places``.

        Waits first for those that are still to come from elsewhere.

        Raises:
            UserError: they do not come.
        """
        self.dataset.source.require(indexes)
        by_pillow = [self._needs_pillow(index) for index in indexes]
        native = [i for i, other in enumerate(by_pillow) if not other]
        ticket = None
        if native:
            jobs = self._jobs([wanted[i] for i in native], [indexes[i] for i in native])
            ticket = self.samples.submit(jobs, target, [places[i] for i in native])
        loads = []
        for i in (i for i, other in enumerate(by_pillow) if other):
            jobs = self._jobs([wanted[i]], [indexes[i]])
            loads.append(self._load_later(partial(self._load_decoded, jobs, indexes[i], target, places[i])))
        return Begun(ticket, [load for load, _ in loads], lambda: all(is_done() for _, is_done in loads))

    def done(self, begun: Begun) -> bool:
        """Tell whether :meth:`finish` would return at once."""
        return (begun.ticket is None or self.samples.done(begun.ticket)) and begun.is_done()

    def finish(
        self, begun: Begun, wanted: Wanted, indexes: list[int], target: Target, places: list[int]
    ) -> list[Failure]:
        """Wait for what :meth:`begin` began with these arguments; return the samples that failed, by their places."""
        failures = self.samples.wait(begun.ticket) if begun.ticket is not None else []
        others = [failure for load in begun.others for failure in load()]
        for failure in failures:
            i = places.index(failure.place)
            if failure.fault == "image" and self._is_misnamed(indexes[i]):
                self._misnamed.add(indexes[i])
                jobs = self._jobs([wanted[i]], [indexes[i]])
                others += self._load_decoded(jobs, indexes[i], target, failure.place)
            else:
                others.append(failure)
        return sorted(others)

    def error(self, failure: Failure, index: int) -> UserError:
        """Make the error of a sample that failed; names its file."""
        if failure.fault == _DECODING:
            return UserError(failure.text)
        image, label = self.dataset.source.where(index)
        if failure.fault == "value":
            return value_error(int(failure.text), label, self.dataset.num_classes, self.options.ignore_label)
        if failure.fault == "size":
            try:
                return self._size_error(index)
            except UserError as error:  # the file is no longer what it was
                return error
        return UserError(f"{image if failure.fault == 'image' else label}: {failure.text}")

    def close(self) -> None:
        """Drop what is not begun and wait for what is."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self.samples.close()

    def _jobs(self, wanted: Wanted, indexes: list[int]) -> Jobs:
        dataset = self.dataset
        extracts = [[*image, *label] for image, label in map(dataset.source.byte_ranges, indexes)]
        colours = np.empty((0, 12), np.int32)
        if dataset.augment.photometric:
            colours = np.stack([colour_matrix(dataset.seed, epoch, index).ravel() for epoch, index in wanted])
        return Jobs(np.array(extracts, np.int64), self.draws_of(wanted), colours)

    def _needs_pillow(self, index: int) -> bool:
        named_so = bool(self._for_pillow) and self.dataset.source.byte_ranges(index)[0].file in self._for_pillow
        return named_so or index in self._misnamed

    def _is_misnamed(self, index: int) -> bool:
        try:
            return bool(pillow_format(self.dataset.source.read(index).image))
        except UserError:
            return False

    def _load_later(self, load: _Loading) -> tuple[_Loading, Callable[[], bool]]:
        """Begin to load in a thread, where there are any; return what waits for it and what asks whether it is done."""
        if not self._threads:
            return load, lambda: False
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads)
        future: Future[list[Failure]] = self._pool.submit(load)
        return future.result, future.done

    def _load_decoded(self, jobs: Jobs, index: int, target: Target, place: int) -> list[Failure]:
        """Decode an image here and let native threads do the rest of its sample."""
        where = self.dataset.source.where(index)[0]
        try:
            image = decode_image(self.dataset.source.read(index).image, where, self.dataset.decoding)
        except UserError as error:
            return [Failure(place, _DECODING, str(error))]
        return self.samples.wait(self.samples.submit(jobs, target, [place], [image]))

    def _size_error(self, index: int) -> UserError:
        """Tell in full, from the files themselves, how the sizes of image and label differ."""
        sample, decoding = self.dataset.source.read(index), self.dataset.decoding
        size = image_size(sample.image, sample.image_where, decoding)
        as_stored = decoding._replace(apply_exif=False)  # labels are never turned
        return size_error(sample, size, image_size(sample.label, sample.label_where, as_stored), decoding)
