"""Docstrings say first what a function does: a verb in the imperative; and those of arrays say their shapes."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "deeplab_fast"
BENCHMARKS = PACKAGE.parent / "benchmarks"

# What a docstring of a function may begin with. A new verb is added here on purpose.
VERBS = [
    "Add", "Allocate", "Answer", "Assign", "Augment", "Average", "Begin", "Bring", "Build", "Call", "Check",
    "Choose", "Close", "Collect", "Compare", "Compute", "Continue", "Convert", "Convolve", "Copy", "Count",
    "Decode", "Describe", "Do", "Download", "Draw", "Drop", "Encode", "Evaluate", "Export", "Fill", "Find", "Give",
    "Join", "Keep", "Launch", "Lay", "Leave", "Let", "List", "Load", "Lock", "Log", "Look", "Make", "Map",
    "Measure", "Merge", "Move", "Name", "Note", "Open", "Pack", "Parse", "Predict", "Print", "Push", "Put", "Raise",
    "Read", "Refuse", "Remove", "Resize", "Return", "Run", "Say", "Score", "Seed", "Segment", "Set", "Sort", "Specify",
    "Start", "Sum", "Take", "Tell", "Train", "Turn", "Unpack", "Upsample", "Wait", "Write", "Yield",
]  # fmt: skip

# What no docstring may begin with: it says where, how or of what, not what.
REFUSED = {
    "About", "After", "Again", "Along", "As", "At", "Before", "Behind", "Beside", "By", "For", "From", "How", "If",
    "In", "Of", "On", "That", "This", "To", "What", "When", "Where", "Whether", "Which", "Who", "Whose", "Why", "With",
    "Within",
}  # fmt: skip
ARRAYS = {"ArrayLike", "NDArray", "Tensor", "ndarray"}
SHAPE = re.compile(r"\[[^\]]*[A-Za-z0-9*][^\]]*\]|\b(scalar|shapes?|0-dim)\b")


def modules():
    """Parsed modules by their path in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text())


def decorators(node):
    """Last words of a definition's decorators, as ``property`` of ``functools.cached_property``."""
    calls = (d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)
    return {ast.unparse(call).rpartition(".")[2].removeprefix("cached_") for call in calls}


def public(tree, where):
    """Public classes, functions and methods: pairs of name and node. Triton's kernels do not count."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            name = f"{where}:{node.name}" if isinstance(tree, ast.Module) else f"{where}.{node.name}"
            if "jit" not in decorators(node):
                yield name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node, name)


@pytest.fixture(scope="module")
def definitions():
    return [found for name, tree in modules() for found in public(tree, name)]


def is_action(node):
    return isinstance(node, ast.FunctionDef) and not decorators(node) & {"property", "setter"}


def first_word(docstring):
    return re.split(r"[\s,:;.]", docstring, maxsplit=1)[0]


def is_short(node):
    """Tell whether a body is one line, docstring apart."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return not body or body[-1].end_lineno == body[0].lineno


def test_verbs_are_sorted_and_imperative():
    assert sorted(set(VERBS)) == VERBS
    assert [verb for verb in VERBS if verb.endswith("s") and not verb.endswith(("ss", "us"))] == []


def test_every_module_and_class_has_a_docstring(definitions):
    classes = [(name, node) for name, node in definitions if isinstance(node, ast.ClassDef)]
    assert [name for name, node in [*modules(), *classes] if not ast.get_docstring(node)] == []


def test_every_function_of_more_than_a_line_has_a_docstring(definitions):
    functions = [(name, node) for name, node in definitions if isinstance(node, ast.FunctionDef)]
    assert [name for name, node in functions if not ast.get_docstring(node) and not is_short(node)] == []


def test_functions_begin_with_a_verb(definitions):
    words = {
        name: first_word(text) for name, node in definitions if is_action(node) and (text := ast.get_docstring(node))
    }
    assert {name: word for name, word in words.items() if word not in VERBS} == {}


def test_classes_and_properties_say_what_they_are(definitions):
    words = {
        name: first_word(text)
        for name, node in definitions
        if not is_action(node) and (text := ast.get_docstring(node))
    }
    assert {name: word for name, word in words.items() if word in REFUSED or word.startswith(("``(", ":"))} == {}


def test_modules_and_private_classes_say_what_they_are():
    """Those of ``benchmarks/`` too."""
    trees = [*modules(), *((path.name, ast.parse(path.read_text())) for path in BENCHMARKS.rglob("*.py"))]
    nodes = [(name, n) for name, tree in trees for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef)]
    words = {(name, first_word(ast.get_docstring(node) or "")) for name, node in nodes}
    assert {found for found in words if found[1] in REFUSED} == set()


def takes_arrays(annotation, aliases):
    """Tell whether a type holds arrays whose shape can be said; those of a dict have many."""
    if isinstance(annotation, ast.Attribute):
        return annotation.attr in ARRAYS
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in ("dict", "Callable", "Mapping"):
        return False
    if isinstance(annotation, ast.Name):
        return annotation.id in ARRAYS | aliases
    return any(takes_arrays(child, aliases) for child in ast.iter_child_nodes(annotation))


def aliases_of(tree):
    """Names that a module gives to types of arrays."""
    pairs = [(node.targets[0], node.value) for node in tree.body if isinstance(node, ast.Assign)]
    return {
        target.id
        for target, value in pairs
        if isinstance(target, ast.Name) and ast.unparse(value).startswith("NDArray[")
    }


def test_functions_of_arrays_state_shapes():
    wrong = []
    for module, tree in modules():
        for name, node in public(tree, module):
            text = ast.get_docstring(node) or ""
            if isinstance(node, ast.FunctionDef) and text and not SHAPE.search(text):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                types = [t for t in [*(a.annotation for a in arguments), node.returns] if t is not None]
                wrong += [name] if any(takes_arrays(t, aliases_of(tree)) for t in types) else []
    assert wrong == []
