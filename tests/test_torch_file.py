"""Files of torch.save: as torch writes them, and what went wrong on the way is what is raised."""

import io
import sys

import pytest
import torch

from deeplab_fast.storage import torch_file

CONTENT = {"weight": torch.arange(3000.0), "step": 7, "bias": torch.ones(20)}


class FailsAt:
    """A file whose write ``number``, from 1, raises ``error``."""

    def __init__(self, number, error):
        self.left, self.error, self.file = number, error, io.BytesIO()

    def write(self, data):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return self.file.write(data)

    def flush(self):
        pass


def test_the_bytes_are_those_of_torch_save():
    ours, torch_s = io.BytesIO(), io.BytesIO()
    torch_file.save(CONTENT, ours)
    torch.save(CONTENT, torch_s)
    assert ours.getvalue() == torch_s.getvalue()


def save(file):
    torch_file.save(CONTENT, file)


def save_while_another_error_is_handled(file):
    try:
        raise ValueError
    except ValueError:
        save(file)


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), MemoryError(), KeyboardInterrupt()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("save", [save, save_while_another_error_is_handled])
def test_an_error_of_any_write_is_raised(error, save):
    counting = FailsAt(0, None)
    torch_file.save(CONTENT, counting)
    writes = -counting.left
    assert writes > 5
    for number in range(1, writes + 1):
        with pytest.raises(type(error)) as raised:
            save(FailsAt(number, error))
        assert raised.value is error


def test_an_error_between_the_writes_is_raised():
    """A signal comes where a function of Python's begins, before anything could catch what it raises."""
    file = io.BytesIO()

    def calls_until(moment):
        count = 0

        def on_event(frame, event, argument):
            nonlocal count
            if event == "call" and frame.f_code.co_filename in (torch_file.__file__, torch.serialization.__file__):
                count += 1
                if count == moment:
                    sys.setprofile(None)
                    raise KeyboardInterrupt

        sys.setprofile(on_event)
        try:
            torch_file.save(CONTENT, file)
        finally:
            sys.setprofile(None)
        return count

    for moment in range(2, calls_until(0) + 1):
        with pytest.raises(KeyboardInterrupt):
            calls_until(moment)
