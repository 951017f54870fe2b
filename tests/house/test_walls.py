"""Who may import, read or replace what."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

from product_sources import ROOT, SOURCES, imports, parse


def test_the_backend_never_imports_gradio_and_only_the_page_does():
    for path in SOURCES:
        allowed = path.is_relative_to(ROOT / "sft_ui") or path.name == "app.py"
        if not allowed:
            assert "gradio" not in imports(parse(path)), path


def test_presets_hold_no_code():
    assert list((ROOT / "presets").rglob("*.py")) == []


def test_presets_are_read_in_one_place():
    for path in SOURCES:
        if path.name not in ("presets.py", "make_samples.py"):
            text = path.read_text()
            assert '/ "presets"' not in text, path


def test_remote_code_is_never_trusted():
    for path in SOURCES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                literal = isinstance(node.value, ast.Constant)
                assert not (literal and node.value.value is True), path


def trainer_methods() -> set[str]:
    """Names of the methods of SFTTrainer and of transformers' Trainer, read without an import."""
    library = Path(importlib.util.find_spec("transformers").origin).parent / "trainer.py"
    return {
        method.name
        for path in [library, *SOURCES]
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ClassDef) and node.name in ("Trainer", "SFTTrainer", "RunTrainer")
        for method in node.body
        if isinstance(method, ast.FunctionDef)
    }


def assigned(tree: ast.AST) -> list[tuple[str, str]]:
    """(object, attribute) of each attribute that is set, by `x.y = …` or by setattr(x, "y", …)."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.append((ast.unparse(node.value), node.attr))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "setattr":
            name = node.args[1]
            found.append((ast.unparse(node.args[0]), getattr(name, "value", "")))
    return found


def test_no_method_of_a_trainer_is_replaced_on_an_instance():
    methods = trainer_methods()
    assert {"_save_checkpoint", "compute_loss", "check_finite"} <= methods
    source = "trainer.evaluate = f\nself._trainer.log = f\nsetattr(trainer, 'train', f)"
    assert len(assigned(ast.parse(source))) == 3
    for path in SOURCES:
        replaced = [
            name
            for owner, name in assigned(parse(path))
            if owner.split(".")[-1].strip("_") == "trainer" and name in methods
        ]
        assert replaced == [], path


def test_the_web_process_imports_neither_torch_nor_transformers():
    code = (
        "import sys, app, sft_ui.layout, trainer_backend, trainer_backend.serving.client\n"
        "print([m for m in ('torch', 'transformers', 'peft') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.stdout.strip().splitlines()[-1:] == ["[]"], done.stdout + done.stderr


def readers_imported(tree: ast.AST) -> set[str]:
    """Modules of the file readers that a file imports; “readers” for the package itself."""
    found = set()
    for node in ast.walk(tree):
        imports_names = isinstance(node, ast.Import | ast.ImportFrom)
        names = [alias.name for alias in node.names] if imports_names else []
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        whole = [f"{module}.{name}" for name in names] if module else names
        for one in whole:
            _, package, rest = one.partition("trainer_backend.data.readers")
            found |= {rest.split(".")[1] if rest else "readers"} if package else set()
    return found


def test_the_page_parses_no_file_of_a_visitor_in_its_own_process():
    for path in SOURCES:
        if path.is_relative_to(ROOT / "sft_ui") or path.name == "app.py":
            assert readers_imported(parse(path)) <= {"options", "hub"}, path


def test_every_way_to_import_a_reader_is_seen():
    ways = {
        "from trainer_backend.data import readers": {"readers"},
        "from trainer_backend.data.readers import read_rows": {"read_rows"},
        "from trainer_backend.data.readers.files import read_rows": {"files"},
        "import trainer_backend.data.readers.csv_reader": {"csv_reader"},
        "from trainer_backend.data.store import label": set(),
    }
    assert {code: readers_imported(ast.parse(code)) for code in ways} == ways
