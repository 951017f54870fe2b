"""The house rules, checked on the code itself: walls, sizes, late imports, documents."""

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from trainer_backend.recipe.recipe import SETTINGS
from trainer_backend.runs import files
from trainer_backend.runs.state import STATES

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for folder in ("trainer_backend", "sft_ui", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
) + [ROOT / "app.py"]
PRODUCT = [path for path in SOURCES if not path.is_relative_to(ROOT / "benchmarks")]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
# words that are a setting's label too, and mean something else there
NO_SETTINGS = {
    "sft_ui/chat/tab.py": {"System prompt"},
    "sft_ui/chat/conversation.py": {"Base model"},
    "trainer_backend/training/card.py": {"Learning rate", "Method"},
}
MAX_LINES, MAX_FUNCTION = 450, 60


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


def test_the_backend_never_imports_gradio_and_only_the_page_does():
    for path in SOURCES:
        allowed = path.is_relative_to(ROOT / "sft_ui") or path.name == "app.py"
        if not allowed:
            assert "gradio" not in imports(parse(path)), path


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


def test_a_document_names_settings_as_the_form_does():
    labels = {one.label for one in SETTINGS.values()}
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text(encoding="utf-8")
        assert set(re.findall("“([^”]*)” in the form", text)) <= labels, path


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


def test_there_are_no_rooms_without_a_name():
    forbidden = {"utils", "helpers", "common", "manager", "base", "misc"}
    assert [path for path in SOURCES if path.stem in forbidden] == []


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


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "presets/README.md"])
def test_every_path_a_document_names_exists(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    folders = "trainer_backend|sft_ui|presets|tests|benchmarks|docs|\\.ci"
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", text)
    missing = [path for path in named if not (ROOT / path).exists()]
    assert missing == []


def test_commands_of_the_readme_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make (\w[\w-]*)", readme):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    parser = (ROOT / "trainer_backend" / "__main__.py").read_text(encoding="utf-8")
    for command in re.findall(r"python -m trainer_backend (\w+)", readme):
        assert f'"{command}"' in parser, command


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


def third_party(paths: list[Path]) -> set[str]:
    """The packages that files import, by the names they are installed under."""
    beside = [*ROOT.iterdir(), *(ROOT / "tests").rglob("*"), *(ROOT / "benchmarks").iterdir()]
    own = {path.stem for path in beside}
    names = set().union(*(imports(parse(path)) for path in paths)) - own - sys.stdlib_module_names
    installed = packages_distributions()
    return {canonicalize_name(installed.get(name, [name])[0]) for name in names}


def required(lines: list[str]) -> dict[str, Requirement]:
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(one.name): one for one in found}


def pins(name: str) -> dict[str, Requirement]:
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    return required([line for line in lines if line and not line.startswith("-")])


def ranges() -> tuple[dict[str, Requirement], dict[str, Requirement]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return required(project["dependencies"]), required(project["optional-dependencies"]["dev"])


def test_every_package_that_is_imported_is_declared():
    app = [path for path in SOURCES if not path.is_relative_to(ROOT / "benchmarks")]
    assert third_party(app) - pins("requirements.txt").keys() == set()
    measured_against = {"trl"}  # installed by whoever runs that measurement
    everything = pins("requirements.txt").keys() | pins("requirements-dev.txt").keys()
    assert third_party([*SOURCES, *TESTS]) - everything - measured_against == set()


@pytest.mark.parametrize(("file", "group"), [("requirements.txt", 0), ("requirements-dev.txt", 1)])
def test_every_pin_lies_in_the_range_of_pyproject(file, group):
    pinned, allowed = pins(file), ranges()[group]
    assert pinned.keys() == allowed.keys()
    for name, pin in pinned.items():
        [one] = pin.specifier
        assert one.operator == "==" and allowed[name].specifier.contains(one.version), name
        assert pin.marker == allowed[name].marker, name


def test_what_else_is_installed_is_pinned_once():
    rest = pins("constraints.txt")
    assert (
        rest.keys() & (pins("requirements.txt").keys() | pins("requirements-dev.txt").keys())
        == set()
    )
    assert [
        name for name, pin in rest.items() if not re.fullmatch(r"==[\w.]+", str(pin.specifier))
    ] == []


def test_a_space_gets_the_gradio_that_is_pinned():
    front = (ROOT / "README.md").read_text(encoding="utf-8").split("---")[1]
    pinned = str(pins("requirements.txt")["gradio"].specifier).removeprefix("==")
    assert re.search(r"^sdk_version: (.*)$", front, re.MULTILINE)[1] == pinned


def test_the_page_parses_no_file_of_a_visitor_in_its_own_process():
    package, harmless = "trainer_backend.data.readers", {"options", "hub"}
    for path in SOURCES:
        if path.is_relative_to(ROOT / "sft_ui") or path.name == "app.py":
            for node in ast.walk(parse(path)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package):
                    rooms = {*node.module.removeprefix(package).split(".")} - {""}
                    assert (rooms or {one.name for one in node.names}) <= harmless, path
