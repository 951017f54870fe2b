"""What a model wants of the settings: its stored bits, its images, its longest text.

The wishes belong to the preset that is applied to the model; they are no change of the user's.
"""

from dataclasses import replace
from typing import Any

from trainer_backend.models.facts import ModelFacts, preset_of
from trainer_backend.recipe import SETTINGS, Recipe, label

IMAGE_LENGTH = 2048  # a large image alone takes a thousand tokens and more


def with_wishes(recipe: Recipe, facts: ModelFacts) -> Recipe:
    """The recipe of a preset, as a model wants it."""
    return replace(recipe, base_model=facts.base_model, **_wishes(recipe, facts))


def wishes_in_words(recipe: Recipe, facts: ModelFacts, fields: set[str]) -> list[str]:
    """A sentence for each reason of a model to set some of these fields otherwise."""
    wanted = {name: v for name, v in _wishes(recipe, facts).items() if name in fields}
    reasons = {
        "adapter": f"This model is stored in {facts.bits} bits",
        "precision": f"This model is stored in {facts.bits} bits",
        "packing": "This model reads images",
        "max_length": _about_length(recipe, facts),
    }
    told: dict[str, list[str]] = {}
    for name, value in wanted.items():
        changes = told.setdefault(reasons.get(name, "This model needs it"), [])
        changes.append(f"{label(name)}{'' if changes else ' is set'} to {_words(name, value)}")
    return [
        f"{reason}, so {changes[0]}{''.join(f' and {one}' for one in changes[1:])}."
        for reason, changes in told.items()
    ]


def _words(name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return SETTINGS[name].words(value)


def _about_length(recipe: Recipe, facts: ModelFacts) -> str:
    limit = facts.max_positions
    if limit is not None and limit < recipe.max_length:
        return f"This model reads at most {limit:,} tokens"
    return "Images take many tokens"


def _wishes(recipe: Recipe, facts: ModelFacts) -> dict[str, Any]:
    """The settings that a model wants, by its preset or else by its facts."""
    preset = preset_of(facts.base_model)
    wanted = dict(preset.recipe) if preset else _by_facts(recipe, facts)
    length = wanted.get("max_length", recipe.max_length)
    limit = facts.max_positions
    if limit is not None and limit < length and limit >= _least_length():
        wanted["max_length"] = limit
    return wanted


def _by_facts(recipe: Recipe, facts: ModelFacts) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    if facts.bits == 4:
        wanted |= {"adapter": "qlora", "precision": "int4"}
    elif facts.bits == 8:
        wanted |= {"adapter": "lora", "precision": "int8"}
    if facts.images:
        wanted |= {"packing": False, "max_length": max(recipe.max_length, IMAGE_LENGTH)}
    return wanted


def _least_length() -> float:
    limits = SETTINGS["max_length"].limits
    return limits[0] if limits else 1
