"""House rule: signals, locks, limits and process groups are used in one module."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = sorted([*ROOT.glob("trainer_backend/**/*.py"), *ROOT.glob("sft_ui/**/*.py")])
PRODUCT.append(ROOT / "app.py")
MODULES = {"signal", "fcntl", "msvcrt", "resource"}
CALLS = {"kill", "killpg", "setsid", "setpgid", "nice", "setpriority", "register_at_fork", "fork"}
OPTIONS = {"start_new_session", "process_group", "preexec_fn", "creationflags"}


def system_calls(tree: ast.AST) -> set[str]:
    """What a module uses that not every operating system has."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= MODULES & {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            found |= MODULES & {node.module or ""} | (
                CALLS & names if node.module == "os" else set()
            )
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "os":
            found |= CALLS & {node.attr}
        elif isinstance(node, ast.keyword):
            found |= OPTIONS & {node.arg or ""}
    return found


def test_the_operating_system_is_called_in_one_module():
    users = {str(path.relative_to(ROOT)) for path in PRODUCT if system_calls(_parse(path))}
    assert users == {"trainer_backend/processes.py"}


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "code",
    [
        "import signal",
        "from signal import SIGTERM",
        "from os import kill",
        "os.killpg(1, 9)",
        "os.nice(5)",
        "Popen([], start_new_session=True)",
    ],
)
def test_a_system_call_is_found(code):
    assert system_calls(ast.parse(code))


def test_portable_calls_are_allowed():
    assert not system_calls(ast.parse("process.kill()\nos.getpid()\nPopen([], cwd='.')"))
