"""Packages of AOTInductor: the network compiled for this kind of CPU, run by torch without tracing or compiling."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..config import ExportConfig
from ..errors import UserError
from .description import Description


def check_compiler() -> None:
    """Raise :class:`UserError` where there is no C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise UserError(
            "--format=aoti: needs a C++ compiler; expected g++ or clang++, or the one that $CXX names"
        ) from None


def write_aoti(program: torch.export.ExportedProgram, config: ExportConfig, words: Description, path: Path) -> None:
    """Write a traced network, compiled, as the package ``path``, whose name ends in ``.pt2``.

    Raises:
        UserError: the compiler fails.
    """
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.exc import CppCompileError

    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            aoti_compile_and_package(program, package_path=str(path), inductor_configs={"aot_inductor.metadata": words})
    except CppCompileError as error:
        said = next((line for line in str(error).splitlines() if "error:" in line), "no reason given")
        raise UserError(f"--format=aoti: the C++ compiler failed ({said.strip()[:200]})") from None


def open_aoti(path: Path) -> Callable[[Tensor], Tensor]:
    """Open a package as a function of a batch of images, as it takes them."""
    from torch._inductor import aoti_load_package

    return aoti_load_package(str(path))
