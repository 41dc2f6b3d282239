"""Counter-based random numbers: a draw is a function of what it is for, not of what was drawn before.

Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Any thread,
any process and a resumed run get the same numbers for the same (seed, epoch, sample).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)

# The last counter word: one stream of numbers for each purpose.
ORDER, AUGMENT, SHUFFLE, COLOUR, COLOUR_CHOICE, REPLACEMENT = range(6)


def philox4x32(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Return random words ``[..., 4]`` from counters of that shape by ten rounds; every word is below 2**32."""
    c0, c1, c2, c3 = (counter[..., i] for i in range(4))
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1)


def uniform(seed: int, epoch: int, sample: ArrayLike, stream: int) -> NDArray[np.float64]:
    """Draw four numbers in [0, 1), multiples of 2**-32, for each sample: ``[..., 4]``."""
    index = np.asarray(sample, dtype=np.uint64)
    counter = np.stack(np.broadcast_arrays(index & _LOW, index >> _SHIFT, np.uint64(epoch), np.uint64(stream)), axis=-1)
    words = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))
    return words.astype(np.float64) * 2.0**-32


def permutation(seed: int, epoch: int, n: int, stream: int = ORDER) -> NDArray[np.int64]:
    """Draw an order of ``range(n)``, ``[n]``: sorted by a 64-bit draw for each, ties by index."""
    u = uniform(seed, epoch, np.arange(n), stream)
    return np.lexsort((u[:, 1], u[:, 0])).astype(np.int64)
