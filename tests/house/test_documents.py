"""Documents tell the truth: paths, commands, labels."""

import re

import pytest
from product_sources import ROOT

from trainer_backend.__main__ import build_parser
from trainer_backend.recipe.recipe import SETTINGS


def test_a_document_names_settings_as_the_form_does():
    labels = {one.label for one in SETTINGS.values()}
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text(encoding="utf-8")
        assert set(re.findall("“([^”]*)” in the form", text)) <= labels, path


DOCUMENTS = sorted(
    path for path in ROOT.rglob("*.md") if not {".venv", ".venv-latest"} & {*path.parts}
)


def paths_named(text: str) -> list[str]:
    """Paths of the project that a document names in backticks or in a diagram."""
    folders = r"trainer_backend|sft_ui|presets|tests|benchmarks|docs|\.ci|\.github"
    return re.findall(rf"(?<![\w./-])(?:{folders})/[\w./-]*\w/?", text)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_a_document_names_exists(path):
    missing = [one for one in paths_named(path.read_text("utf-8")) if not (ROOT / one).exists()]
    assert missing == []


def test_a_wrong_path_in_a_document_is_found():
    assert paths_named("see `docs/none.md` and trainer_backend/x/y.py.") == [
        "docs/none.md",
        "trainer_backend/x/y.py",
    ]


def test_commands_of_the_readme_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make (\w[\w-]*)", readme):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    known = build_parser().format_help()
    for command in re.findall(r"python -m trainer_backend (\w+)", readme):
        assert re.search(rf"^ +{command}\b", known, re.MULTILINE), command
