"""A checker that finds what Pillow passes over in a damaged JPEG, which it decodes with pixels that libjpeg makes up.

The checker goes through a file's segments as libjpeg does (ITU-T T.81, annex B; it passes over what is no marker) and
through the bits of every scan (:mod:`.jpeg_scan`). The native decoders refuse the same (``csrc/cpu/jpeg.cpp``).
"""

import io
from dataclasses import dataclass, field
from functools import lru_cache

from PIL import Image

from .damage import Damage
from .jpeg_codes import CodeTable, code_table
from .jpeg_scan import Scan, ScanComponent, check_scan

END = b"\xff\xd9"
_MAX_SCANS = 100
_MAX_BLOCKS = 10  # of a unit (MCU)
_MAX_SIDE = 65500
_CODED_OTHERWISE = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_PROGRESSIVE = 0xC2
_KNOWN = (0xCC, 0xDC, *range(0xE0, 0xF0), 0xFE)  # passed over
_Tables = dict[tuple[int, int], CodeTable]


@dataclass
class Component:
    """A channel: sampling factors, and for each coefficient (zigzag order) the bits still to come, -1 if all."""

    identifier: int
    across: int
    down: int
    missing_bits: list[int] = field(default_factory=lambda: [-1] * 64)
    was_sent: bool = False
    nonzero: dict[int, int] = field(default_factory=dict)


@dataclass
class Frame:
    """The frame header (SOF)."""

    is_progressive: bool
    height: int
    width: int
    components: list[Component]

    @property
    def most_across(self) -> int:
        return max(c.across for c in self.components)

    @property
    def most_down(self) -> int:
        return max(c.down for c in self.components)


def read_header(data: bytes) -> Frame:
    """Read a file up to its first scan.

    Raises:
        Damage: it is not a JPEG that can be decoded.
    """
    return _Reader(data).header()


def needed_bytes(data: bytes) -> int:
    """Check a whole file; return how many of its bytes, with an end marker behind them, its pixels need.

    Raises:
        Damage: a scan ends before its last block, holds bits that are no code or its restart markers in another order;
            a channel or the last bits of a coefficient never come; there is no end marker.
    """
    return _Reader(data).read()


@lru_cache(maxsize=1)
def _usual_tables() -> _Tables:
    """Read the tables that libjpeg takes where a file has none, from a file it wrote (T.81, annex K.3)."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG")
    reader = _Reader(buffer.getvalue())
    reader.header()
    return reader.tables


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 2
        self.frame: Frame | None = None
        self.tables: _Tables = {}
        self.restart_interval = 0

    def header(self) -> Frame:
        if self._next_segment() != 0xDA:
            raise Damage("no image before the end marker", self.at)
        self._scan_header()
        assert self.frame is not None
        channels = len(self.frame.components)
        if channels not in (1, 3, 4):
            raise Damage(f"{channels} channels; expected 1, 3 or 4", self.at)
        return self.frame

    def read(self) -> int:
        frame = self.header()
        several = frame.is_progressive or self.components_in_scan < len(frame.components)
        if not frame.is_progressive:
            self.tables = _usual_tables() | self.tables
        self._check_scan()
        if not several:
            end = self.at
            if self.data.find(END, end) < 0:
                raise Damage("Premature end of input file", len(self.data))
            return end
        scans = 1
        while self._next_segment() == 0xDA:
            scans += 1
            if scans > _MAX_SCANS:
                raise Damage(f"more than {_MAX_SCANS} scans", self.at)
            self._scan_header()
            self._check_scan()
        for component in frame.components:
            if not component.was_sent or (frame.is_progressive and any(component.missing_bits)):
                raise Damage("Premature end of input file", self.at)
        return self.at

    # ------------------------------------------------------------ segments

    def _take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise Damage("Premature end of input file", len(self.data))
        self.at += count
        return self.data[self.at - count : self.at]

    def _next_marker(self) -> int:
        while True:
            self.at = self.data.find(b"\xff", self.at)
            if self.at < 0:
                raise Damage("Premature end of input file", len(self.data))
            while (byte := self._take(1)[0]) == 0xFF:
                pass
            if byte:
                return byte

    def _next_segment(self) -> int:
        """Read segments up to the next scan or the end of the image; return that marker."""
        while True:
            marker = self._next_marker()
            if marker in (0xD9, 0xDA):
                return marker
            if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # no body
                continue
            start = self.at - 2
            length = int.from_bytes(self._take(2), "big")
            body = self._take(max(length - 2, 0))
            if length < 2 and marker in (0xC4, 0xDB):
                raise Damage("bogus marker length", start)
            if marker in (0xC0, 0xC1, _PROGRESSIVE):
                self._frame(marker, body, start)
            elif marker in _CODED_OTHERWISE:
                raise Damage(f"JPEG process SOF{marker - 0xC0}; expected baseline or progressive, Huffman-coded", start)
            elif marker == 0xC4:
                self._code_tables(body, start)
            elif marker == 0xDB:
                _check_quantisation(body, start)
            elif marker == 0xDD:
                if length != 4:
                    raise Damage("bogus restart interval", start)
                self.restart_interval = int.from_bytes(body, "big")
            elif marker not in _KNOWN:
                raise Damage(f"unsupported marker type 0x{marker:02x}", start)

    def _frame(self, marker: int, body: bytes, start: int) -> None:
        if self.frame is not None or len(body) < 6 or len(body) != 6 + 3 * body[5]:
            raise Damage("bogus frame header", start)
        height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
        if body[0] != 8:
            raise Damage(f"{body[0]} bits a sample; expected 8", start)
        if not (height and width and body[5]):
            raise Damage("an image without pixels", start)
        if max(height, width) > _MAX_SIDE:
            raise Damage(f"a side of more than {_MAX_SIDE} pixels", start)
        components = []
        for identifier, factors, _ in zip(body[6::3], body[7::3], body[8::3], strict=True):
            across, down = factors >> 4, factors & 15
            components.append(Component(identifier, across, down))
        self.frame = Frame(marker == _PROGRESSIVE, height, width, components)

    def _code_tables(self, body: bytes, start: int) -> None:
        while len(body) > 16:
            index, counts = body[0], body[1:17]
            total = sum(counts)
            if total > 256 or total > len(body) - 17 or index & 0xEF > 3:
                raise Damage("bogus Huffman table", start)
            self.tables[index >> 4, index & 15] = code_table(counts, body[17 : 17 + total])
            body = body[17 + total :]
        if body:
            raise Damage("bogus marker length", start)

    # ------------------------------------------------------------ scans

    def _scan_header(self) -> None:
        start = self.at - 2
        length = int.from_bytes(self._take(2), "big")
        body = self._take(max(length - 2, 0))
        frame = self.frame
        if frame is None:
            raise Damage("a scan before the frame header", start)
        if len(body) < 4 or not 1 <= body[0] <= 4 or len(body) != 4 + 2 * body[0]:
            raise Damage("bogus scan header", start)
        if any(not (1 <= c.across <= 4 and 1 <= c.down <= 4) for c in frame.components) or len(frame.components) > 10:
            raise Damage("bogus sampling factors", start)
        self.components_in_scan = body[0]
        self.slots: list[tuple[int, int]] = []
        self.chosen: list[Component] = []
        for i, (identifier, slots) in enumerate(zip(body[1:-3:2], body[2:-3:2], strict=True)):
            # In the frame's order: so libjpeg looks for it.
            found = next((c for c in frame.components[i:] if c.identifier == identifier), None)
            if found is None or any(found is other for other in self.chosen):
                raise Damage(f"invalid component {identifier} of a scan", start)
            self.chosen.append(found)
            self.slots.append((slots >> 4, slots & 15))
        self.first, self.last = body[-3], body[-2]
        self.high, self.low = body[-1] >> 4, body[-1] & 15

    def _check_scan(self) -> None:
        frame = self.frame
        assert frame is not None
        if frame.is_progressive:
            self._check_progression(self.at)
        else:
            self.first, self.last, self.high, self.low = 0, 63, 0, 0  # libjpeg does not look at them either
        side_x, side_y = 8 * frame.most_across, 8 * frame.most_down
        if len(self.chosen) == 1:
            only = self.chosen[0]
            columns = -(-frame.width * only.across // side_x)
            rows = -(-frame.height * only.down // side_y)
        else:
            columns, rows = -(-frame.width // side_x), -(-frame.height // side_y)
        components, blocks = [], 0
        for component, (dc, ac) in zip(self.chosen, self.slots, strict=True):
            count = 1 if len(self.chosen) == 1 else component.across * component.down
            blocks += count
            wants_dc = self.first == 0 and self.high == 0
            wants_ac = self.last > 0
            components.append(
                ScanComponent(
                    count,
                    self._table(0, dc) if wants_dc else None,
                    self._table(1, ac) if wants_ac else None,
                    component.nonzero,
                )
            )
            component.was_sent = True
        if blocks > _MAX_BLOCKS:
            raise Damage("sampling factors too large for an interleaved scan", self.at)
        scan = Scan(
            components, columns * rows, self.restart_interval, frame.is_progressive, self.first, self.last,
            self.high, self.low,
        )  # fmt: skip
        self.at = check_scan(self.data, self.at, scan)

    def _table(self, kind: int, slot: int) -> CodeTable:
        if (kind, slot) not in self.tables:
            raise Damage(f"Huffman table 0x{slot:02x} was not defined", self.at)
        return self.tables[kind, slot]

    def _check_progression(self, at: int) -> None:
        """Check that each bit of a coefficient comes once, the higher ones first (T.81, G.1.1.1)."""
        fits = self.last == 0 if self.first == 0 else self.first <= self.last < 64 and len(self.chosen) == 1
        fits = fits and self.low <= 13 and self.high in (0, self.low + 1)
        for component in self.chosen:
            missing = component.missing_bits
            fits = fits and (self.first == 0 or missing[0] >= 0)
            for k in range(self.first, self.last + 1):
                fits = fits and self.high == max(missing[k], 0)
                if not fits:
                    raise Damage("inconsistent progression sequence", at)
                missing[k] = self.low


def _check_quantisation(body: bytes, start: int) -> None:
    while body:
        if body[0] & 15 > 3:
            raise Damage("bogus quantisation table", start)
        size = 1 + (128 if body[0] >> 4 else 64)
        if len(body) < size:
            raise Damage("bogus marker length", start)
        body = body[size:]
