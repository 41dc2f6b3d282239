"""The only import of the compiled extension; keeps the reason where it, or a part of it, is not there."""

import importlib
import sys
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import torch

from ..runtime.switches import environment_switch
from .native_sources import digest_of

_PACKAGE = Path(__file__).resolve().parents[1]
_PARTS = ("JPEG", "PNG", "deflate", "CUDA", "GEMM")
_MISSING = "missing: "
_BUILD = "build it with 'pip install -e .'"


@lru_cache(maxsize=1)
def load() -> tuple[ModuleType | None, str]:
    """Return the extension module, or None and why not.

    Raises:
        UserError: DEEPLAB_FAST_NO_EXT is neither on nor off.
    """
    if environment_switch("DEEPLAB_FAST_NO_EXT"):
        return None, "switched off by DEEPLAB_FAST_NO_EXT"
    try:
        module = importlib.import_module("deeplab_fast._C")
    except ImportError as error:
        if (hidden := _hidden_package()) is not None:
            return None, f"the source in {_PACKAGE} hides the installed {hidden}, which has it; run from another folder"
        if others := _of_other_pythons(_PACKAGE):
            return None, f"built for another Python ({others}); this is {sys.implementation.cache_tag}: {_BUILD}"
        return None, f"not built or not loadable ({error}); {_BUILD} where a C++17 compiler is"
    if _is_stale(module, _PACKAGE.parent / "csrc"):
        return None, f"built from other sources than those in {_PACKAGE.parent / 'csrc'}; {_BUILD}"
    return module, ""


def _of_other_pythons(package: Path) -> str:
    """Return the tags of builds that this Python cannot load; nothing where it could load one of them."""
    suffixes = {path.name.removeprefix("_C") for path in package.glob("_C.*.so")}
    if suffixes & set(EXTENSION_SUFFIXES):
        return ""
    return ", ".join(sorted(suffix.removeprefix(".").removesuffix(".so") for suffix in suffixes))


def _is_stale(module: ModuleType, sources: Path) -> bool:
    """Tell whether a build is not of the sources beside the package. Beside an installed one there are none."""
    return (sources / "api.h").is_file() and module.build_info().get("sources") != digest_of(sources)


def _hidden_package() -> Path | None:
    """Return another copy of this package on Python's path that has its extension, or None."""
    for entry in sys.path:
        copy = Path(entry, _PACKAGE.name).resolve()
        if copy != _PACKAGE and any((copy / f"_C{suffix}").is_file() for suffix in EXTENSION_SUFFIXES):
            return copy
    return None


@lru_cache(maxsize=1)
def decoder() -> tuple[ModuleType | None, str]:
    """Return the extension where it can decode both JPEG and PNG, or None and why not."""
    module, reason = load()
    if module is None:
        return None, reason
    info = module.build_info()
    lacking = [f"{part} {info[part]}" for part in ("JPEG", "PNG") if info[part].startswith(_MISSING)]
    return (None, "; ".join(lacking)) if lacking else (module, "")


def cuda() -> tuple[ModuleType | None, str]:
    """Return the extension where it was built with CUDA, or None and why not."""
    return _with("CUDA")


def gemm() -> tuple[ModuleType | None, str]:
    """Return the extension where it was built with the products for BatchNorm, or None and why not."""
    return _with("GEMM")


def _with(part: str) -> tuple[ModuleType | None, str]:
    module, reason = load()
    if module is None:
        return None, reason
    found = module.build_info()[part]
    return (None, found.removeprefix(_MISSING)) if found.startswith(_MISSING) else (module, "")


@lru_cache(maxsize=64)
def cuda_on(device: torch.device) -> tuple[ModuleType | None, str]:
    """Return the extension where its kernels run on this GPU, or None and why not; asked of the driver once."""
    module, reason = cuda()
    if module is None:
        return None, reason
    with torch.cuda.device(device):
        reason = module.cuda_missing()
    return (None, f"its kernels do not run on this GPU ({reason})") if reason else (module, "")


def status() -> list[tuple[str, str]]:
    """Return (part, finding) pairs for the capability report: what is built, and what is missing and why."""
    module, reason = load()
    if module is None:
        return [("extension", f"none: {reason}; the Python references serve, several times slower")]
    info = module.build_info()
    found = [("extension", f"{info['compiler']}, loops for {module.vector_extension()}")]
    found += [(f"  {part}", info[part]) for part in _PARTS]
    if decoder()[0] is None:
        found.append(("  decoding", "through Pillow, slower, until JPEG and PNG are both there"))
    if cuda()[0] is not None and torch.cuda.is_available():
        reason = cuda_on(torch.device("cuda", torch.cuda.current_device()))[1]
        found.append(("  kernels", f"not used: {reason}" if reason else "run on the current GPU"))
    return found
