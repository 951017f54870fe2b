"""Choosing a model: the preset's recipe for it, and the settings that it changes in the form.

What a model wants belongs to the preset, so it is no change of the user's; another model undoes it
wherever the user has not set something else since.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sft_ui.recipe_form import form_values
from trainer_backend.models import ModelFacts, model_facts
from trainer_backend.models.wishes import wishes_in_words, with_wishes
from trainer_backend.recipe import Recipe, recipe_from

NO_HOME = Path("/nonexistent")
Applied = dict[str, list[Any]]  # field → [value without the wish, value that the model wanted]


@dataclass(frozen=True)
class Chosen:
    """The model that the form is set for, the wishes of it that were applied, and whether all
    that can be known of it was asked for."""

    model: str
    wishes: Applied = field(default_factory=dict)
    asked: bool = True


def preset_recipe(preset_id: str, base_model: str, home: Path | None = None) -> Recipe:
    """A preset's recipe for a model, with the settings that the model wants.

    Without `home` what the Hub once said of the model is not known.
    """
    facts = model_facts(home or NO_HOME, base_model or Recipe().base_model)
    return with_wishes(recipe_from(preset_id), facts)


def wishes_of(preset_id: str, facts: ModelFacts) -> Applied:
    """What a model changes in a preset's recipe."""
    plain = form_values(recipe_from(preset_id, base_model=facts.base_model or Recipe().base_model))
    wanted = form_values(with_wishes(recipe_from(preset_id), facts)) if facts.base_model else plain
    return {name: [plain[name], wanted[name]] for name in plain if plain[name] != wanted[name]}


def fitted(
    preset_id: str, facts: ModelFacts, applied: Applied, values: Mapping[str, Any]
) -> tuple[dict[str, Any], Applied]:
    """(changed fields of the form, wishes now applied) when a model is chosen.

    `applied` are the wishes of the model before; `values` is the form.
    """
    now = without_wishes(applied, values)
    taken = {}
    for name, (plain, wanted) in wishes_of(preset_id, facts).items():
        if now.get(name) == plain:
            now[name], taken[name] = wanted, [plain, wanted]
    changed = {name: now[name] for name in now if now[name] != values.get(name)}
    return changed, taken


def without_wishes(applied: Applied, values: Mapping[str, Any]) -> dict[str, Any]:
    """The form as it was without the wishes of the model, where the user has not set others."""
    undone = {name: plain for name, (plain, wanted) in applied.items() if values[name] == wanted}
    return {**values, **undone}


def restored_wishes(preset_id: str, facts: ModelFacts, values: Mapping[str, Any]) -> Applied:
    """The wishes of a model that a restored form has."""
    wanted = wishes_of(preset_id, facts)
    return {name: pair for name, pair in wanted.items() if values.get(name) == pair[1]}


def words_of(preset_id: str, facts: ModelFacts, applied: Applied) -> list[str]:
    """Sentences about the settings that a model has changed."""
    if not facts.base_model or not applied:
        return []
    return wishes_in_words(recipe_from(preset_id), facts, set(applied))
