"""What the form holds as long as the user changes nothing: preset, the model's wishes, the data.

Here it is decided which fields follow when preset, model or data change: those that still hold
what was filled in. No component is built here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sft_ui.alerts import attempt
from sft_ui.model.choice import preset_recipe
from sft_ui.recipe_form import form_values
from trainer_backend.recipe import Data, Recipe, suggested

SAMPLE_PRESET, OWN_PRESET = "quick_try", "balanced"


@dataclass(frozen=True)
class Basis:
    """What was filled in besides the preset. Kept in the browser, hence plain data.

    `own_preset`: the user chose the preset. `kept`: the form holds the settings of a file or a run,
    which nothing changes by itself. `settings` and `reasons` are what the dataset `dataset_id`
    suggests, `base_model` is the model whose wishes are in the form.
    """

    own_preset: bool = False
    kept: bool = False
    base_model: str = ""
    dataset_id: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def read_basis(kept: object) -> Basis:
    """The basis as a browser kept it; the default where it is damaged."""
    known = Basis().to_dict()
    if not isinstance(kept, dict) or any(
        not isinstance(kept.get(name, value), type(value)) for name, value in known.items()
    ):
        return Basis()
    basis = Basis(**{name: kept[name] for name in known if name in kept})
    recipe, _ = attempt(Recipe.from_dict, basis.settings)
    is_text = all(isinstance(one, str) for one in basis.reasons.values())
    return basis if recipe and is_text else Basis()


def baseline(home: Path, preset_id: str, base_model: str, settings: Mapping[str, Any]) -> Recipe:
    """What the form would hold without a change by the user. Raises UserError."""
    return replace(preset_recipe(preset_id, base_model, home), **settings)


def preset_for(preset_id: str, basis: Basis, is_sample: bool) -> str:
    """The preset for a dataset: the user's own choice, else by what kind of data it is."""
    if basis.own_preset or basis.kept:
        return preset_id
    return SAMPLE_PRESET if is_sample else OWN_PRESET


def with_data(
    basis: Basis, preset: Recipe, dataset_id: str, data: Data | None, devices: int = 1
) -> Basis:
    """The basis with what the data suggests; None stands for a sample, which suggests nothing.

    `preset` is the preset's recipe for the model. While the tokens of the same data are counted
    anew, the length stays that was suggested before.
    """
    now = replace(basis, base_model=preset.base_model, dataset_id=dataset_id)
    if data is None or basis.kept:
        return replace(now, settings={}, reasons={})
    settings, reasons = suggested(preset, data, devices)
    name = "max_length"
    if not len(data.lengths) and basis.dataset_id == dataset_id and name in basis.settings:
        settings[name] = basis.settings[name]
        reasons[name] = basis.reasons.get(name, "")
    return replace(now, settings=settings, reasons=reasons)


def followed(values: Mapping[str, Any], before: Recipe, after: Recipe) -> dict[str, Any]:
    """The fields that change with the baseline: {field: form value}; the user's own stay."""
    was, now = form_values(before), form_values(after)
    return {
        name: now[name]
        for name, value in values.items()
        if name in now and now[name] != was[name] and value == was[name]
    }
