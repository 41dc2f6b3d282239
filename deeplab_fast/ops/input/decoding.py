"""Options of decoding image files, wherever they are decoded."""

from typing import NamedTuple, Protocol, Self

MAX_PIXELS = 1 << 26  # 64 Mpixel: an image beyond this is a mistake or an attack
_MAX_BYTES = 1 << 28  # of a file, unless more pixels are allowed: then 4 for each


class _Flags(Protocol):
    @property
    def exif(self) -> str: ...

    @property
    def max_pixels(self) -> int: ...


class Decoding(NamedTuple):
    """Options of decoding: turn images as their EXIF orientation says, and the most pixels one may have."""

    apply_exif: bool = True
    max_pixels: int = MAX_PIXELS

    @classmethod
    def of(cls, flags: _Flags) -> Self:
        """Return what ``--exif`` and ``--max_pixels`` say."""
        return cls(flags.exif == "apply", flags.max_pixels)

    @property
    def max_bytes(self) -> int:
        """Largest size of a file."""
        return 4 * self.max_pixels if self.max_pixels > MAX_PIXELS else _MAX_BYTES


DEFAULT_DECODING = Decoding()
