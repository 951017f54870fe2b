"""Texts of the product: labels come from the settings table, and text is never markup."""

import ast
import re

import pytest
from product_sources import ROOT, SOURCES, imports, parse, words_of

from trainer_backend.recipe.recipe import SETTINGS

# words that are a setting's label too, and mean something else there
NO_SETTINGS = {
    "sft_ui/chat/controls.py": {"System prompt"},
    "sft_ui/chat/panes.py": {"Base model"},
    "trainer_backend/training/card.py": {"Learning rate", "Method"},
}


def test_a_label_in_a_text_comes_from_the_table_of_settings():
    labels = {one.label for one in SETTINGS.values()}
    others = {"Save as", "CSV UTF-8"}  # of a spreadsheet program
    for path in SOURCES:
        if path.name == "recipe.py" or path.is_relative_to(ROOT / "benchmarks"):
            continue
        said = words_of(parse(path))
        quoted = {one for text in said for one in re.findall("“([A-Z][^”]*)”", text)}
        assert quoted <= others, f"{path}: take the label of a setting from label(name)"
        listed = {one for text in said for one in re.split("; | and |, ", text)}
        assert labels & listed <= NO_SETTINGS.get(str(path.relative_to(ROOT)), set()), path


TAG = re.compile(r"</?[a-zA-Z]")


def markup_calls(tree: ast.AST) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and "Markup" in (getattr(node.func, "id", ""), getattr(node.func, "attr", ""))
    ]


def each_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """The function that fills a template many times: the one that makes Markup of a joined text."""
    return [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "each"]


def unsafe_html(tree: ast.Module) -> list[int]:
    """Lines with tags outside a Markup template, or a template that is no constant or unquoted."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    templates = [given for call in markup_calls(tree) for given in call.args]
    allowed = docs | {id(given) for given in templates}
    trusted = {id(one) for name in each_functions(tree) for one in ast.walk(name)}
    found = [
        one
        for one in templates
        if (not isinstance(one, ast.Constant) or "={" in str(one.value)) and id(one) not in trusted
    ]
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and TAG.search(node.value) and id(node) not in allowed:
            found.append(node)
    return sorted({node.lineno for node in found})


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_tags_stand_in_markup_templates_only(path):
    if path.is_relative_to(ROOT / "sft_ui"):
        tree = parse(path)
        assert "html" not in imports(tree), "a Markup template escapes what it is given"
        assert unsafe_html(tree) == []


def test_one_function_alone_makes_markup_of_a_text():
    assert sum(len(each_functions(parse(path))) for path in SOURCES) == 1


@pytest.mark.parametrize(
    "code, is_safe",
    [
        ("Markup('<b>{}</b>').format(text)", True),
        ("Markup('<b>' '</b>')", True),
        ("Markup()", True),
        ("def f():\n    '''A <select> of names.'''", True),
        ("script = 'if (a < b) { c(); }'", True),
        ("f'<b>{text}</b>'", False),
        ("'<b>' + text", False),
        ("'<b>{}</b>'.format(text)", False),
        ("'<b>%s</b>' % text", False),
        ("Markup(f'<b>{text}</b>')", False),
        ("Markup(text)", False),
        ("Markup('<b>' + text)", False),
        ("cards.Markup(text)", False),
        ("Markup('<b title={}>').format(text)", False),
    ],
)
def test_unsafe_html_is_recognised(code, is_safe):
    assert (unsafe_html(ast.parse(code)) == []) is is_safe
