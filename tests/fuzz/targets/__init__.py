"""The fuzz targets of Python, by name; atheris is not needed to import them.

Every module of this folder that has a ``TARGET`` or ``TARGETS`` is one or several of them.
"""

import importlib
import pkgutil

from .target import Target


def _found() -> list[Target]:
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return [
        target
        for module in modules
        for target in (*getattr(module, "TARGETS", ()), *filter(None, [getattr(module, "TARGET", None)]))
    ]


TARGETS = {target.name: target for target in _found()}
