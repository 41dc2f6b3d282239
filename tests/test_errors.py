"""A user's mistake is one line that can be printed, whatever the names in it; what says that memory was not enough."""

import errno

import pytest

from deeplab_fast.errors import UserError, is_out_of_memory


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("a b: expected é 猫", "a b: expected é 猫"),
        ("a\nb\r\x1b[2J.png: missing", r"a\nb\r\x1b[2J.png: missing"),
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("half \ud800", r"half \ud800"),
        ("e\u0301\u3000x", "e\u0301\u3000x"),
    ],
)
def test_what_breaks_a_line_is_escaped(message, said):
    error = UserError(message)
    assert str(error) == said
    assert error.args == (said,)
    assert len(said.encode().splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "no"), True),
        (RuntimeError("std::future_error: Broken promise"), True),
        (OSError(errno.EIO, "out of memory"), False),
        (RuntimeError("DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("a size"), False),
        (ImportError("lib.so: failed to map segment from shared object"), True),
        (ImportError("lib.so: cannot allocate memory in static TLS block"), False),
        (ImportError("No module named 'x'"), False),
        (UserError("out of memory"), False),
    ],
)
def test_what_says_that_memory_was_not_enough(error, is_memory):
    assert is_out_of_memory(error) is is_memory
