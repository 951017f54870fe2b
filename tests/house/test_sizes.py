"""Files, functions and folders are small, and a file says what lives in it."""

import ast
import re

import pytest
from product_sources import PRODUCT, ROOT, SOURCES, TESTS, parse

MAX_LINES, MAX_FUNCTION, MAX_FILES = 450, 60, 16


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_small_and_says_what_lives_in_it(path):
    tree = parse(path)
    doc = ast.get_docstring(tree) or ""
    assert len(path.read_text().splitlines()) <= MAX_LINES
    assert doc and doc.strip(), "a module docstring says what lives here"
    sizes = {
        node.name: node.end_lineno - node.body[0].lineno  # a long signature is no long function
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: size for name, size in sizes.items() if size > MAX_FUNCTION} == {}


@pytest.mark.parametrize("path", TESTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_test_file_is_small(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_there_are_no_rooms_without_a_name():
    forbidden = {"utils", "helpers", "common", "manager", "base", "misc"}
    assert [path for path in SOURCES if path.stem in forbidden] == []


def test_a_folder_holds_at_most_sixteen_files():
    folders = {path.parent for path in PRODUCT} - {ROOT}
    crowded = {str(one): len(list(one.glob("*.*"))) for one in folders}
    assert {one: files for one, files in crowded.items() if files > MAX_FILES} == {}


def test_a_docstring_of_a_module_sends_no_reader_to_another_file():
    for path in SOURCES:
        doc = re.sub(r"https?://\S+", "", ast.get_docstring(parse(path)) or "")
        assert re.findall(r"[\w/-]+\.(?:py|js|css|html)\b", doc) == [], path


def test_the_tests_mirror_the_tree():
    for path in TESTS:
        folder = path.parent.relative_to(ROOT / "tests")
        if folder.parts[:1] in (("trainer_backend",), ("sft_ui",)):
            assert (ROOT / folder).is_dir(), path
