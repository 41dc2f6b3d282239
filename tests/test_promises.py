"""docs/reliability.md names tests that exist and try what it says, and none of them changed unseen."""

import ast
import json
import re

import pytest

from tests.promises import NOTES, PAGE, TESTS, digests, functions_of, promises

PROMISES = promises(PAGE.read_text())
MARK = re.compile(r"mark\.fault\(\s*\"([^\"]+)\"")


def marks_of(test):
    """Faults that a file of tests is marked with, by itself or by what it imports from its folder."""
    path = TESTS.parent / test.partition("::")[0]
    text = path.read_text()
    for shared in re.findall(r"^from (tests\.faults\.\w+) import", text, re.M):
        text += (TESTS.parent / shared.replace(".", "/")).with_suffix(".py").read_text()
    return set(MARK.findall(text))


def test_the_page_is_read():
    assert len([promise for promise in PROMISES if promise.what]) > 20
    assert len([promise for promise in PROMISES if not promise.what]) > 3


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.fault[:40])
def test_each_promise_is_held_by_tests_that_exist(promise):
    for test in promise.tests:
        assert functions_of(test), test


@pytest.mark.parametrize("promise", [p for p in PROMISES if p.what], ids=lambda promise: promise.fault)
def test_each_fault_is_tried_by_a_test_that_is_marked_so(promise):
    assert any(promise.fault in marks_of(test) for test in promise.tests)


def test_each_mark_is_a_promise():
    marked = {
        mark for path in TESTS.rglob("*.py") if path.name != "test_plugin.py" for mark in MARK.findall(path.read_text())
    }
    assert marked - {"what is done to the program"} == {promise.fault for promise in PROMISES if promise.what}


def test_no_test_that_holds_a_promise_changed_unseen():
    expected, found = json.loads(NOTES.read_text()), digests(PAGE.read_text())
    changed = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    assert not changed, f"see that these still hold what they promise, then run python -m tests.promises: {changed}"


def test_a_test_that_is_removed_or_weakened_is_noticed(tmp_path):
    """The check can fail: an assertion less is another digest, a test less is none."""
    page = "| a | b | 1 | `tests/test_promises.py::test_the_page_is_read` |"
    (name,) = digests(page)
    node = functions_of(name)[name]
    before = ast.dump(node)
    node.body.pop()
    assert ast.dump(node) != before
    with pytest.raises(LookupError, match="is no test"):
        digests(page.replace("is_read", "is_gone"))
