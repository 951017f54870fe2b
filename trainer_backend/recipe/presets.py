"""Models, recipes and samples offered by name. Only here is the folder of presets read."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from trainer_backend.errors import UserError
from trainer_backend.recipe.recipe import Recipe, parse_settings
from trainer_backend.recipe.recipe_file import load_recipe

T = TypeVar("T", "ModelPreset", "RecipePreset", "Sample")
_PACKAGE = Path(__file__).resolve().parent.parent
_PLACES = (_PACKAGE / "presets", _PACKAGE.parent / "presets")  # installed, or in a source tree
PRESETS = next((folder for folder in _PLACES if folder.is_dir()), _PLACES[-1])


@dataclass(frozen=True)
class ModelPreset:
    """A model to start from; `recipe` holds settings it needs (usually none).

    `config` are the sizes of its config.json, so that it can be judged without the Hub.
    """

    id: str
    title: str
    base_model: str
    parameters: str
    licence: str
    notes: str
    gated: bool = False
    chat: bool = True
    images: bool = False  # reads images beside text
    order: int = 50
    recipe: dict[str, Any] = field(default_factory=dict)
    num_parameters: int | None = None
    weight_bytes: int | None = None  # of its safetensors files on the Hub
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RecipePreset:
    """A named set of settings. `sample` is the data used when none is given."""

    id: str
    title: str
    when: str
    settings: dict[str, Any]
    sample: str | None = None
    order: int = 50


@dataclass(frozen=True)
class Sample:
    """A small bundled dataset; `checkable` is how answers can be compared by a program."""

    id: str
    title: str
    about: str
    file: str
    licence: str
    checkable: str = "none"

    @property
    def path(self) -> Path:
        return PRESETS / "samples" / self.file


def _read(folder: str, kind: type[T]) -> list[T]:
    presets = []
    for path in sorted((PRESETS / folder).glob("*.yaml")):
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        presets.append(kind(**{"id": path.stem, **values}))
    return sorted(presets, key=lambda one: (getattr(one, "order", 0), one.id))


@lru_cache(maxsize=1)
def model_presets() -> list[ModelPreset]:
    """The models offered by name, smallest first."""
    return _read("models", ModelPreset)


@lru_cache(maxsize=1)
def recipe_presets() -> list[RecipePreset]:
    """The recipes offered by name, quickest first."""
    return _read("recipes", RecipePreset)


@lru_cache(maxsize=1)
def samples() -> list[Sample]:
    """The bundled datasets."""
    return _read("samples", Sample)


def recipe_preset(preset_id: str) -> RecipePreset:
    """The recipe preset with this id. Raises UserError if there is none."""
    for preset in recipe_presets():
        if preset.id == preset_id:
            return preset
    names = ", ".join(preset.id for preset in recipe_presets())
    raise UserError(
        f"There is no preset “{str(preset_id)[:60]}”.", "preset", f"Use one of: {names}."
    )


def recipe_from(preset_id: str, **overrides: Any) -> Recipe:
    """A preset's recipe with some settings changed. Raises UserError."""
    settings = parse_settings(recipe_preset(preset_id).settings, f"preset {preset_id}")
    return Recipe.from_dict({**settings, **overrides})


def recipe_from_request(values: dict[str, Any]) -> Recipe:
    """A recipe from {field: value}, with "preset" as its base if given. Raises UserError."""
    if not isinstance(values, dict):
        raise UserError(
            "The recipe is not a JSON object.", "recipe_json", 'Send {"preset": "quick_try"}.'
        )
    rest = {name: value for name, value in values.items() if name != "preset"}
    preset = values.get("preset")
    return recipe_from(preset, **rest) if preset else Recipe.from_dict(rest)


def resolve_recipe(name_or_path: str) -> tuple[Recipe, RecipePreset | None]:
    """RECIPE of the command line: a preset name or a YAML file. Raises UserError."""
    if any(preset.id == name_or_path for preset in recipe_presets()):
        return recipe_from(name_or_path), recipe_preset(name_or_path)
    path = Path(name_or_path).expanduser()
    if path.suffix in (".yaml", ".yml") or path.exists():
        return load_recipe(path), None
    recipe_preset(name_or_path)  # raises a UserError that lists the presets
    raise AssertionError(name_or_path)


def differences(recipe: Recipe, preset: Recipe) -> dict[str, tuple[Any, Any]]:
    """The settings that differ: {field: (value in the preset, value now)}."""
    now, then = recipe.to_dict(), preset.to_dict()
    return {name: (then[name], now[name]) for name in now if now[name] != then[name]}
