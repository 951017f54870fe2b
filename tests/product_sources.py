"""The files of the project, for the tests that check the house rules on them."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


SOURCES = sorted(
    path
    for folder in ("trainer_backend", "sft_ui", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
) + [ROOT / "app.py"]


PRODUCT = [path for path in SOURCES if not path.is_relative_to(ROOT / "benchmarks")]


TESTS = sorted((ROOT / "tests").rglob("*.py"))


def imports(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def words_of(tree: ast.Module) -> list[str]:
    """The texts of a file that a user may read: all but docstrings."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and ast.get_docstring(node) is not None
    }
    texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [t.value for t in texts if isinstance(t.value, str) and id(t) not in docs]
