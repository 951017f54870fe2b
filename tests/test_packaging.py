"""The wheel: built from a copy of the tree without the network, complete, and able to run."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import trainer_backend

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("trainer_backend", "sft_ui", "presets")
BUILD = "import sys, setuptools.build_meta as build; print(build.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "LICENSE"):
        shutil.copy2(ROOT / name, tree / name)
    command = [sys.executable, "-c", BUILD, str(out)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


def test_the_wheel_holds_every_file_of_the_packages_and_presets(wheel):
    files = {path for name in FOLDERS for path in (ROOT / name).rglob("*.*") if path.is_file()}
    ours = {str(path.relative_to(ROOT)) for path in files if path.suffix != ".pyc"}
    expected = {f"trainer_backend/{name}" if name.startswith("presets") else name for name in ours}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == expected - {"trainer_backend/presets/README.md"}


def test_its_command_runs_from_an_empty_folder_and_finds_the_presets(wheel, tmp_path):
    site, here = tmp_path / "site", tmp_path / "empty"
    here.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        "import sys, sft_ui.main, trainer_backend.recipe.presets as presets\n"
        "print(presets.__file__, len(presets.model_presets()), len(presets.samples()))\n"
        "sys.exit(sft_ui.main.main(['check', presets.samples()[0].id, '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    file, models, samples = done.stdout.splitlines()[0].split()
    assert file.startswith(str(site)) and int(models) > 10 and int(samples) == 2


def test_the_one_command_of_the_project_is_the_app():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert list(project["scripts"]) == ["sft-studio"]
    [target] = project["scripts"].values()
    assert callable(EntryPoint("sft-studio", target, "console_scripts").load())


@pytest.mark.parametrize("program", [["app.py"], ["-m", "trainer_backend"]])
def test_every_way_in_tells_the_version(program):
    command = [sys.executable, *program, "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == f"SFT Studio {trainer_backend.__version__}"
