"""A recipe as YAML, one setting a line: read from a file or an upload, and written."""

from pathlib import Path
from typing import Any

import yaml

from trainer_backend.errors import UserError
from trainer_backend.home import write_atomic
from trainer_backend.recipe.recipe import Recipe

MAX_BYTES = 1_000_000  # of a recipe file; a long system prompt takes a few thousand


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file. Raises UserError when it is unreadable or holds a bad setting."""
    return read_recipe(Path(path), str(path))


def read_recipe(path: Path, where: str) -> Recipe:
    """Read a recipe file that messages call `where`. Raises UserError as `load_recipe` does."""
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise UserError(
                f"This file is too large for a recipe ({size / 1e6:,.0f} MB).",
                where,
                "Choose a YAML file of settings. Data belongs in the Data tab.",
            )
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "The recipe file cannot be read.", where, f"Check the file: {_reason(error)}."
        ) from error
    return Recipe.from_dict(_settings(text, where), where)


def _reason(error: OSError | ValueError) -> str:
    """Why it cannot be read, without the path of a file that the server keeps."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return getattr(error, "strerror", None) or "it cannot be opened"


def _settings(text: str, where: str) -> dict[str, Any]:
    try:
        values = yaml.load(text, Loader=_OneValueEach) or {}
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        if isinstance(error, _Repeated):
            fix = "Keep one of them."
            raise UserError(f"“{error.name}” is set twice.", f"{where}{line}", fix) from None
        raise UserError(
            "The recipe file is not valid YAML.",
            f"{where}{line}",
            "Write one “setting: value” a line.",
        ) from error
    if isinstance(values, dict):
        lists = [str(name)[:60] for name, one in values.items() if isinstance(one, dict | list)]
        if lists:
            # its text is not written out: a few nested anchors make it as long as the memory
            what = f"“{lists[0]}” holds a list or further settings, not one value."
            raise UserError(what, where, "Write one “setting: value” a line.")
    return values


class _Repeated(yaml.MarkedYAMLError):
    """A setting that stands twice in a file, of which YAML would silently keep the last."""

    def __init__(self, name: str, mark: yaml.Mark):
        super().__init__(problem=f"{name} is repeated", problem_mark=mark)
        self.name = name


class _OneValueEach(yaml.SafeLoader):
    """The safe loader, which refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        names = (key for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key in names:
            if key.value in seen:
                raise _Repeated(key.value[:60], key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def recipe_text(recipe: Recipe) -> str:
    """A recipe as YAML, every setting by name."""
    return yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML, atomically."""
    write_atomic(path, recipe_text(recipe))
