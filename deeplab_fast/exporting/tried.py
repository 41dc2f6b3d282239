"""Images and labels that a file is tried on, found before any work."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..config import ExportConfig
from ..data.sources import Source, list_source
from .images import batches_of, check_headers, drawn_images, images_of, read_images, spread

logger = logging.getLogger("deeplab_fast")

CHECKED, CALIBRATED = 20, 100  # images of a folder, at most


@dataclass(frozen=True)
class Tried:
    """Images to compare on (drawn ones where there are none), images that show the ranges of maps, labelled ones."""

    config: ExportConfig
    checked: list[Path]
    calibrated: list[Path]
    labelled: Source | None

    @classmethod
    def of(cls, config: ExportConfig) -> "Tried":
        """Find the images that the flags name; raise :class:`UserError` where there are none."""
        checked = images_of(config.check_images, "check_images") if config.check_images else []
        given = images_of(config.int8_images, "int8_images") if config.int8_images else []
        calibrated = spread(given, CALIBRATED)
        if given and not checked:
            checked = sorted(set(given) - set(calibrated)) or calibrated
            if len(given) == len(calibrated):
                logger.info("8 bits: compared on the images that the ranges are found on; --check_images takes others")
        checked = spread(checked, CHECKED)
        check_headers({*checked, *calibrated}, config)
        labelled = list_source(config.data_root, config.data_lst) if config.data_lst else None
        return cls(config, checked, calibrated, labelled)

    def batches(self) -> Iterator[Tensor]:
        """Yield the images to compare on, as uint8 batches ``[N, H, W, 3]``."""
        drawn = drawn_images(self.config.size or self.config.crop_size)
        return batches_of(read_images(self.checked, self.config) if self.checked else drawn, self.config)

    def calibration(self) -> Iterator[Tensor]:
        """Yield the images that show the ranges, as uint8 batches ``[N, H, W, 3]``."""
        return batches_of(read_images(self.calibrated, self.config), self.config)
