"""A recipe as a YAML file, one setting a line."""

from pathlib import Path

import yaml

from trainer_backend.errors import UserError
from trainer_backend.home import write_atomic
from trainer_backend.recipe.recipe import Recipe


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file. Raises UserError when it is unreadable or holds a bad setting."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "The recipe file cannot be read.", str(path), f"Check the file: {error}."
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(
            "The recipe file is not valid YAML.",
            f"{path}{line}",
            "Write one “setting: value” a line.",
        ) from error
    return Recipe.from_dict(values, str(path))


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML, atomically."""
    write_atomic(path, yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True))
