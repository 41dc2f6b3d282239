"""Imports run downward only, and importing the package is cheap."""

import ast
import itertools
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "deeplab_fast"

# Each layer may import itself and those below it. Siblings on one line do not know each other.
LAYERS = [
    {"compare", "eval", "export", "predict", "prepare", "segmenter", "train"},
    {"training"},
    {"exporting", "prediction", "report"},
    {"evaluation"},
    {"data", "model"},
    {"ops"},
    {"cli", "distributed", "runtime"},
    {"storage"},
    {"config", "signals"},
    {"errors", "requirements"},
]


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            yield parts, path


def imported(parts, path):
    """Top-level parts of the package that a module imports."""
    package = ("deeplab_fast", *parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            names = [(*module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        for name in names:
            if (
                name[0] == "deeplab_fast"
                and len(name) > 1
                and (PACKAGE / name[1]).with_suffix(".py").exists() | (PACKAGE / name[1]).is_dir()
            ):
                yield name[1]


def test_every_module_has_a_layer():
    assert {parts[0] for parts, _ in modules()} == set().union(*LAYERS)


def test_imports_run_downward():
    level = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    wrong = []
    for parts, path in modules():
        if parts[-1] == "__main__":  # a command line
            continue
        for name in imported(parts, path):
            same = name == parts[0]
            if not same and level[name] <= level[parts[0]]:
                wrong.append(f"{'.'.join(parts)} imports {name}")
    assert wrong == []


def test_ops_know_neither_model_nor_data():
    for parts, path in modules():
        if parts[0] == "ops":
            assert set(imported(parts, path)) <= {"ops", "runtime", "storage", "errors", "requirements"}
        if parts[0] == "data":
            assert "model" not in set(imported(parts, path))


def test_only_native_imports_the_extension():
    users = [path.name for _, path in modules() if "deeplab_fast._C" in path.read_text()]
    assert users == ["extension.py"]


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, deeplab_fast; print(sorted({'torch', 'numpy', 'PIL', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


IMPORT_EACH = """
import importlib, os, sys
import torch  # what all of them need, once

heavy = {"torch._dynamo", "torch.onnx", "sympy", "scipy", "matplotlib", "tensorboard", "av", "huggingface_hub"}
for program in sys.argv[1:]:
    if not (child := os.fork()):
        importlib.import_module(f"deeplab_fast.{program}")
        print(program, *sorted(heavy & set(sys.modules)), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_program_starts_without_what_it_may_not_need():
    programs = [*sorted(LAYERS[0]), "runtime"]
    command = [sys.executable, "-c", IMPORT_EACH, *programs]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n") == [*programs, ""]


def test_public_api():
    import deeplab_fast

    model = deeplab_fast.build_model(deeplab_fast.ModelConfig(backbone="resnet18"))
    assert callable(deeplab_fast.load_pretrained)
    assert model.align_corners


def private_names(path):
    """Names with a leading underscore that a module takes from another one of the project."""
    tree, modules = ast.parse(path.read_text()), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (
            node.level or (node.module or "").startswith(("deeplab_fast", "benchmarks"))
        ):
            for alias in node.names:
                if alias.name.startswith("_") and alias.name not in ("_C", "__version__"):
                    yield alias.name
                modules.add(alias.asname or alias.name)
    for node in ast.walk(tree):
        of_module = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
        if of_module and node.attr.startswith("_") and not node.attr.startswith("__"):
            yield f"{node.value.id}.{node.attr}"


def test_no_module_takes_a_private_name_of_another():
    files = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "benchmarks").rglob("*.py")]
    found = {str(path.relative_to(PACKAGE.parent)): sorted(private_names(path)) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


def test_no_two_test_files_share_a_name():
    """pytest imports them by it."""
    names = sorted(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [a for a, b in itertools.pairwise(names) if a == b] == []
