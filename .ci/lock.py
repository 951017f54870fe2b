"""Pins of the packages: what this environment holds becomes what everyone installs.

`ranges` prints what pyproject.toml allows; without it the pins of the requirements files, the
constraints and the README's sdk_version are rewritten from the packages installed beside the
running Python.
"""

import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = ("requirements.txt", "requirements-dev.txt", "requirements-gpu.txt")
PIN = re.compile(r"^([\w.-]+)==([^\s;]+)", re.MULTILINE)
# pip, setuptools and wheel come with the environment, as in `pip freeze`; torch's CUDA builds each
# ask for a Triton of their own
NOT_OURS = {"pip", "setuptools", "wheel", "triton"}
HEAD = """\
# Every package that the packages of the requirements files bring along.
# Written by `make lock`. torch pins the CUDA packages of its builds itself.
"""


def ranges() -> list[str]:
    extras = PROJECT["optional-dependencies"]
    return PROJECT["dependencies"] + extras["dev"] + extras["gpu"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, str]:
    """Versions without the suffix of a build ("+cpu"), which differs from machine to machine."""
    return {normal(one.name): one.version.split("+")[0] for one in distributions()}


def renew_pins(file: Path, versions: dict[str, str]) -> set[str]:
    """Put today's versions into a requirements file; the names it pins."""
    text = file.read_text(encoding="utf-8")
    names = {normal(name) for name, _ in PIN.findall(text)}
    if missing := names - versions.keys():
        sys.exit(f"{file.name} pins what pyproject.toml does not name: {sorted(missing)}")
    new = PIN.sub(lambda pin: f"{pin[1]}=={versions[normal(pin[1])]}", text)
    file.write_text(new, encoding="utf-8")
    return names


def lock() -> None:
    oldest = PROJECT["requires-python"].removeprefix(">=")
    if oldest != f"{sys.version_info.major}.{sys.version_info.minor}":
        sys.exit(f"The pins must fit Python {oldest}: make lock PYTHON=python{oldest}")
    versions = installed()
    direct = set().union(*(renew_pins(ROOT / name, versions) for name in REQUIREMENTS))
    rest = sorted(versions.keys() - direct - NOT_OURS)
    lines = "".join(f"{name}=={versions[name]}\n" for name in rest)
    (ROOT / "constraints.txt").write_text(HEAD + lines, encoding="utf-8")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    front = f"sdk_version: {versions['gradio']}"
    readme.write_text(re.sub(r"sdk_version: \S+", front, text, count=1), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["ranges"]:
        sys.stdout.writelines(f"{one}\n" for one in ranges())
    else:
        lock()
