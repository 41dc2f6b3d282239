"""The Huffman codes of a JPEG file as tables, looked up by the next 16 bits of a scan."""

from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from .damage import Damage

END, BROKEN = 64, 200  # steps over coefficients: the block ends; the bits are no code


class CodeTable:
    """One Huffman table as DHT has it: ``counts`` of the codes of 1 to 16 bits, and their ``symbols``.

    Its tables are uint8 ``[65536]``, looked up by the next 16 bits.
    """

    def __init__(self, counts: bytes, symbols: bytes) -> None:
        self.counts, self.symbols = counts, symbols

    @cached_property
    def _codes(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Length of the code there, 0 for none, and its symbol."""
        lengths, symbols = np.zeros(1 << 16, np.uint8), np.zeros(1 << 16, np.uint8)
        code, number = 0, 0
        for length, count in enumerate(self.counts, 1):
            for _ in range(count):
                begin = code << (16 - length)
                lengths[begin : begin + (1 << (16 - length))] = length
                symbols[begin : begin + (1 << (16 - length))] = self.symbols[number]
                code, number = code + 1, number + 1
            if count and code >= 1 << length:  # no code is all ones (T.81, C.2)
                raise Damage("bogus Huffman table", 0)
            code <<= 1
        return lengths, symbols

    @cached_property
    def dc_bits(self) -> NDArray[np.uint8]:
        """Bits of a DC code and of the value behind it, 0 where there is no code: ``[65536]``."""
        if any(symbol > 15 for symbol in self.symbols):
            raise Damage("bogus Huffman table", 0)
        lengths, symbols = self._codes
        return lengths + symbols * (lengths > 0)

    @cached_property
    def ac_bits(self) -> NDArray[np.uint8]:
        """Bits of an AC code and of the value behind it, 0 where there is no code: ``[65536]``."""
        lengths, symbols = self._codes
        return lengths + (symbols & 15)

    @cached_property
    def ac_steps(self) -> NDArray[np.uint8]:
        """Coefficients from this code to the next: ``[65536]``."""
        lengths, symbols = self._codes
        runs, sizes = symbols >> 4, symbols & 15
        steps = np.where((sizes == 0) & (runs != 15), END, runs + 1)
        return np.where(lengths > 0, steps, BROKEN).astype(np.uint8)

    @property
    def lengths(self) -> NDArray[np.uint8]:
        """Bits of the code, 0 where there is none: ``[65536]``."""
        return self._codes[0]

    @property
    def values(self) -> NDArray[np.uint8]:
        """Symbol of the code: ``[65536]``."""
        return self._codes[1]


@lru_cache(maxsize=16)
def code_table(counts: bytes, symbols: bytes) -> CodeTable:
    """Return a table; most files have the same ones."""
    return CodeTable(counts, symbols)
