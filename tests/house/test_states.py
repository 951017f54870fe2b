"""States and file names of a run are spelled in one place."""

import ast
import re
from pathlib import Path

from product_sources import PRODUCT, ROOT, SOURCES, parse

from trainer_backend.runs import files
from trainer_backend.runs.state import STATES


def of_a_run(path: Path) -> bool:
    """Whether the file is one of the two that may spell the states and the names of files."""
    return path.parent.name == "runs" and path.name in ("state.py", "files.py")


def words_in(tree: ast.AST) -> list[str]:
    """The texts of a module but its docstrings; of an f-string each part."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said
    ]


def test_the_files_of_a_run_are_named_in_one_place():
    names = {value for name, value in vars(files).items() if name.isupper() and "." in value}
    names.remove(files.RECIPE)  # an export has one too
    named = re.compile(r"(?<![\w.])(" + "|".join(map(re.escape, names)) + r")(?!\w)")
    assert named.search("run-*/spec.json") and not named.search("trainer_state.json")
    found = {
        str(path.relative_to(ROOT)): words
        for path in PRODUCT
        if not of_a_run(path) and (words := [w for w in words_in(parse(path)) if named.search(w)])
    }
    of_datasets = "trainer_backend/data/readers/hub_files.py"  # the datasets library's own
    assert list(found) == [of_datasets]


def test_one_module_writes_the_state_of_a_run():
    writers = ("write_json", "write_atomic", "open", "write_text", "write_bytes", "replace")
    for path in SOURCES:
        for call in (node for node in ast.walk(parse(path)) if isinstance(node, ast.Call)):
            name = getattr(call.func, "id", getattr(call.func, "attr", ""))
            used = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
            assert of_a_run(path) or not (name in writers and "STATE" in used), path
            given = {keyword.arg for keyword in call.keywords}
            assert not (name in ("update", "amend") and "state" in given), path


def test_groups_of_states_are_spelled_in_one_place():
    for path in (path for path in PRODUCT if not of_a_run(path)):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Tuple | ast.List | ast.Set):
                words = [one.value for one in node.elts if isinstance(one, ast.Constant)]
                more = any(isinstance(one, ast.Starred) for one in node.elts)
                is_group = len(words) + more > 1 and words and set(words) <= set(STATES)
                assert not is_group, f"{path}:{node.lineno}"
            if isinstance(node, ast.Assign):
                names = {getattr(target, "id", "") for target in node.targets}
                assert not names & {"LIVE", "ACTIVE", "OVER", "RESUMABLE", "STATES"}, path
    state = "|".join(STATES)
    for path in (ROOT / "sft_ui").rglob("*.js"):
        script = path.read_text(encoding="utf-8")
        assert not re.search(rf"\[\s*['\"]({state})['\"]\s*,", script), path
        assert not re.search(r"(const|let|var) (LIVE|ACTIVE|OVER)\b", script), path
