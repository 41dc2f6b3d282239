"""The counts of each image of an evaluation, kept sparse: of the classes that it has or was given, no others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageCounts:
    """Pixels of each image by class.

    ``samples`` int64 ``[n]``: each image's number in the source, rising. The rows ``starts[i] .. starts[i + 1]``
    (int64 ``[n + 1]``) are image ``i``'s: ``classes`` int16 ``[rows]`` and ``pixels`` int32 ``[rows, 3]``: found, of
    the truth, of the prediction. A hundred thousand images of five classes each take 8 MB.
    """

    samples: NDArray[np.int64]
    starts: NDArray[np.int64]
    classes: NDArray[np.int16]
    pixels: NDArray[np.int32]

    @classmethod
    def of(cls, samples: Sequence[int], matrices: NDArray[np.int64]) -> "ImageCounts":
        """Make the counts of the confusion matrices ``[n, C, C]`` (rows: truth) of the images of these numbers."""
        hits = np.diagonal(matrices, axis1=1, axis2=2)
        pixels = np.stack([hits, matrices.sum(2), matrices.sum(1)], axis=2)
        occurs = pixels[..., 1:].any(2)
        starts = np.concatenate([[0], np.cumsum(occurs.sum(1))]).astype(np.int64)
        numbers = np.array(samples, np.int64)
        return cls(numbers, starts, np.nonzero(occurs)[1].astype(np.int16), pixels[occurs].astype(np.int32))

    @classmethod
    def joined(cls, parts: Sequence["ImageCounts"]) -> "ImageCounts":
        """Put the images of all parts, at least one, in the order of their numbers."""
        samples = np.concatenate([part.samples for part in parts])
        sizes = np.concatenate([np.diff(part.starts) for part in parts])
        begins = np.cumsum(sizes) - sizes
        order = np.argsort(samples, kind="stable")
        starts = np.concatenate([[0], np.cumsum(sizes[order])]).astype(np.int64)
        rows = np.arange(starts[-1]) + np.repeat(begins[order] - starts[:-1], sizes[order])
        classes = np.concatenate([part.classes for part in parts])
        pixels = np.concatenate([part.pixels for part in parts])
        return cls(samples[order], starts, classes[rows], pixels[rows])

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def miou(self) -> NDArray[np.float64]:
        """Mean IoU of each image over the classes in its truth or prediction: ``[n]``, NaN without labelled pixels."""
        hits, truth, predicted = self.pixels.astype(np.float64).T
        return self._over(hits / (truth + predicted - hits), np.diff(self.starts))

    @property
    def miou_by_sample(self) -> dict[int, float]:
        """``miou`` of each image with a labelled pixel by its number in the source."""
        found = zip(self.samples.tolist(), self.miou.tolist(), strict=True)
        return {sample: miou for sample, miou in found if not np.isnan(miou)}

    @property
    def labelled(self) -> NDArray[np.int64]:
        """Labelled pixels of each image: ``[n]``."""
        return self._by_image(self.pixels[:, 1]).astype(np.int64)

    @property
    def pixel_accuracy(self) -> NDArray[np.float64]:
        """Share of each image's labelled pixels whose class was found: ``[n]``, NaN where there is none."""
        return self._over(self.pixels[:, 0], self.labelled)

    def _over(self, values: NDArray, totals: NDArray[np.int64]) -> NDArray[np.float64]:
        sums = self._by_image(values)
        return np.divide(sums, totals, out=np.full(len(self), np.nan), where=totals > 0)

    def _by_image(self, values: NDArray) -> NDArray[np.float64]:
        """Sum values ``[rows]`` image by image: ``[n]``."""
        image = np.repeat(np.arange(len(self)), np.diff(self.starts))
        return np.bincount(image, weights=values, minlength=len(self)).astype(np.float64)
