"""``_C.pyi`` says what the extension's bindings are: every name, and the names of arguments in order."""

import ast
import re
from pathlib import Path

import pytest

from deeplab_fast.ops import extension

NATIVE = extension.load()[0]
pytestmark = pytest.mark.skipif(NATIVE is None, reason="the extension is not built or switched off")

STUB = ast.parse((Path(__file__).parents[2] / "deeplab_fast/_C.pyi").read_text())


def arguments(function):
    """Names in a stub's function."""
    return [argument.arg for argument in function.args.args]


def bound(callable_):
    """Names in the signature that pybind11 writes as the docstring's first line."""
    signature = callable_.__doc__.splitlines()[0]
    inside = signature[signature.index("(") + 1 : signature.rindex(")")]
    while inside != (inside := re.sub(r"\[[^\[\]]*\]", "", inside)):  # what is in brackets has commas too
        pass
    return re.findall(r"(?:^|, )(\w+)", inside)


def public(names):
    return {name for name in names if not name.startswith("_")}


def test_the_stub_has_every_name_and_no_other():
    stated = {node.name for node in STUB.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    stated |= {node.target.id for node in STUB.body if isinstance(node, ast.AnnAssign)}
    assert stated == public(dir(NATIVE))


def test_functions_take_the_arguments_that_the_stub_says():
    functions = [node for node in STUB.body if isinstance(node, ast.FunctionDef)]
    assert len(functions) > 20
    for function in functions:
        assert arguments(function) == bound(getattr(NATIVE, function.name)), function.name


def test_methods_take_the_arguments_that_the_stub_says():
    loader = next(node for node in STUB.body if isinstance(node, ast.ClassDef) and node.name == "Loader")
    methods = [node for node in loader.body if isinstance(node, ast.FunctionDef)]
    assert public(method.name for method in methods) == public(vars(NATIVE.Loader))
    for method in methods:
        assert arguments(method) == bound(getattr(NATIVE.Loader, method.name)), method.name
