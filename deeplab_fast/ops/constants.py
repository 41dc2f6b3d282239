"""Tensors that depend on sizes and devices alone: each is made once, and is of use to whoever asks later."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

import torch
from torch.utils._python_dispatch import _disable_current_modes

P = ParamSpec("P")
T = TypeVar("T")


def kept(most: int | None) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Keep what a function returns for the last ``most`` arguments, for all of them where None.

    The tensors are ordinary ones, whatever the first caller is in: one made in inference mode can never be saved for a
    backward pass, one made in ``FakeTensorMode`` holds no values. While ``torch.compile`` traces, the function is
    called as it stands.
    """

    def decorate(make: Callable[P, T]) -> Callable[P, T]:
        def outside(*args: P.args, **kwargs: P.kwargs) -> T:
            with torch.inference_mode(False), torch.enable_grad(), _disable_current_modes():
                return make(*args, **kwargs)

        once: Callable[..., T] = lru_cache(most)(outside)

        @wraps(make)
        def get(*args: P.args, **kwargs: P.kwargs) -> T:
            return make(*args, **kwargs) if torch.compiler.is_compiling() else once(*args, **kwargs)

        return get

    return decorate
