"""Triton's interpreter without what it does over and over: more than half of its time, and no result depends on it."""

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any


class PatchOnce:
    """Replace the language's functions once a launch, not at each call of a device function.

    The interpreter looks through the whole of ``triton.language`` at each of them to find it replaced already.
    """

    def __init__(self, patch: Callable[[FunctionType], Any], languages: tuple[Any, ...], nothing: Any) -> None:
        """Stand in for ``patch``, which returns what undoes it, ``nothing`` where nothing was done."""
        self.patch, self.languages, self.nothing = patch, languages, nothing
        self.done: set[int] = set()
        self.seen_by = functools.cache(self._seen_by)

    def _seen_by(self, fn: FunctionType) -> frozenset[int]:
        """Return which of the languages a function's module has a name for, by their place."""
        known = {id(value) for value in fn.__globals__.values()}
        return frozenset(i for i, language in enumerate(self.languages) if id(language) in known)

    def __call__(self, fn: FunctionType) -> Any:
        seen = self.seen_by(fn)
        if seen and seen <= self.done:
            return self.nothing
        scope = self.patch(fn)
        self.done |= seen
        undo = scope.restore

        def restore() -> None:
            self.done.clear()
            undo()

        scope.restore = restore
        return scope


def cached_by_name(numpy_type: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Remember NumPy's type of each of Triton's by its name; not all of those can be hashed."""
    known: dict[str, Any] = {}

    def get(triton_type: Any) -> Any:
        name = triton_type.name
        if name not in known:
            known[name] = numpy_type(triton_type)
        return known[name]

    return get


def speed_up() -> None:
    """Change the interpreter of this process; one of another version that has not these names stays as it is."""
    try:
        from triton import language
        from triton.runtime import interpreter

        patch, nothing = interpreter._patch_lang, interpreter._LangPatchScope()
        numpy_type, options = interpreter._get_np_dtype, interpreter.InterpreterOptions(sanitize_overflow=False)
    except (ImportError, AttributeError, TypeError):
        return
    interpreter._patch_lang = PatchOnce(patch, (language, language.core), nothing)
    interpreter._get_np_dtype = cached_by_name(numpy_type)  # it makes a table of them, to look up one
    # Every sum and product of integers once more in 64 bits: one that overflows gives a wrong result, which tests see.
    interpreter.interpreter_builder.options = options
