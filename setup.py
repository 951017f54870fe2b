"""The packages of the wheel; everything else stands in pyproject.toml.

`presets/` holds data only and lies at the top of the tree; in the wheel it is package data.
"""

from setuptools import find_packages, setup

PRESETS = "trainer_backend.presets"

setup(
    packages=[*find_packages(include=["trainer_backend*", "sft_ui*"]), PRESETS],
    package_dir={PRESETS: "presets"},
)
