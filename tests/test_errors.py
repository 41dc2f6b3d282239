"""A user's mistake is one line that can be printed, whatever the names in it."""

import pytest

from deeplab_fast.errors import UserError


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
