"""Packages: what is imported is declared, and what is declared is pinned."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from product_sources import ROOT, SOURCES, TESTS, imports, parse


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


FILES = ("requirements.txt", "requirements-dev.txt", "requirements-gpu.txt")
WITH_TORCH = {"triton"}  # each CUDA build of torch asks for one exact version: ours would clash


def ranges() -> dict[str, dict[str, Requirement]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    groups = (project["dependencies"], extras["dev"], extras["gpu"])
    return dict(zip(FILES, map(required, groups), strict=True))


def all_pins() -> set[str]:
    return set().union(*(pins(name).keys() for name in FILES))


def test_every_package_that_is_imported_is_declared():
    app = [path for path in SOURCES if not path.is_relative_to(ROOT / "benchmarks")]
    assert third_party(app) - pins("requirements.txt").keys() - WITH_TORCH == set()
    measured_against = {"trl", "unsloth"}  # installed by whoever runs that measurement
    known = all_pins() | measured_against | WITH_TORCH
    assert third_party([*SOURCES, *TESTS]) - known == set()


@pytest.mark.parametrize("file", FILES)
def test_every_pin_lies_in_the_range_of_pyproject(file):
    pinned, allowed = pins(file), ranges()[file]
    assert pinned.keys() == allowed.keys()
    for name, pin in pinned.items():
        [one] = pin.specifier
        assert one.operator == "==" and allowed[name].specifier.contains(one.version), name
        assert pin.marker == allowed[name].marker, name


def test_what_else_is_installed_is_pinned_once():
    rest = pins("constraints.txt")
    assert rest.keys() & (all_pins() | WITH_TORCH) == set()
    assert [
        name for name, pin in rest.items() if not re.fullmatch(r"==[\w.]+", str(pin.specifier))
    ] == []


def test_a_space_gets_the_gradio_that_is_pinned():
    front = (ROOT / "README.md").read_text(encoding="utf-8").split("---")[1]
    pinned = str(pins("requirements.txt")["gradio"].specifier).removeprefix("==")
    assert re.search(r"^sdk_version: (.*)$", front, re.MULTILINE)[1] == pinned
