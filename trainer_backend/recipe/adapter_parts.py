"""The layers and modules that a recipe names for its adapter, read from text.

Whether a model has them is found out when it is loaded, not here.
"""

import re

from trainer_backend.errors import UserError
from trainer_backend.recipe.labels import label
from trainer_backend.recipe.recipe import Recipe

MOST_LAYERS = 10_000
_RANGE = re.compile(r"(\d{1,5})(?:\s*[-–]\s*(\d{1,5}))?")  # noqa: RUF001 - people type both dashes


def parse_layers(text: str) -> list[int]:
    """“0-2, 20” as [0, 1, 2, 20], ascending and each once; [] for an empty text: every layer.

    Layers count from 0, and a range includes both ends. Raises UserError for anything else.
    """
    found: set[int] = set()
    for part in filter(None, (one.strip() for one in text.split(","))):
        match = _RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last >= MOST_LAYERS:
            raise UserError(
                f"“{part[:40]}” names no layers.",
                label("layers_to_transform"),
                "Write numbers and ranges with commas, for example “0-7, 20”.",
            )
        found |= set(range(first, last + 1))
    return sorted(found)


def parse_names(text: str) -> list[str]:
    """“lm_head, embed_tokens” as a list, each name once."""
    return list(dict.fromkeys(filter(None, (one.strip() for one in text.split(",")))))


def check_layers(recipe: Recipe, num_layers: int) -> None:
    """Raise UserError when a recipe names layers that a model of `num_layers` does not have."""
    asked = parse_layers(recipe.layers_to_transform)
    if asked and asked[-1] >= num_layers:
        raise UserError(
            f"The model has no layer {asked[-1]}.",
            f"{label('layers_to_transform')} of {recipe.base_model}",
            f"It has the layers 0 to {num_layers - 1}.",
        )
