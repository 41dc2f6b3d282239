import numpy as np
import pytest

from deeplab_fast.data.philox import AUGMENT, ORDER, permutation, philox4x32, uniform


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # known answers of the Random123 distribution, philox4x32 10
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter, key, expected):
    assert philox4x32(np.array(counter, np.uint64), key).tolist() == list(expected)


def test_a_draw_does_not_depend_on_what_it_is_drawn_with():
    together = uniform(7, 3, np.arange(50), AUGMENT)
    assert np.array_equal(together[17], uniform(7, 3, 17, AUGMENT))
    assert together.min() >= 0
    assert together.max() < 1
    assert not np.array_equal(together, uniform(7, 4, np.arange(50), AUGMENT))
    assert not np.array_equal(together, uniform(7, 3, np.arange(50), ORDER))


def test_draws_are_uniform():
    u = uniform(1, 0, np.arange(20_000), AUGMENT)
    assert np.abs(u.mean(0) - 0.5).max() < 0.01
    assert np.abs(np.corrcoef(u.T) - np.eye(4)).max() < 0.03


def test_permutation():
    p = permutation(5, 2, 1000)
    assert sorted(p) == list(range(1000))
    assert not np.array_equal(p, permutation(5, 3, 1000))
    assert np.array_equal(p, permutation(5, 2, 1000))
