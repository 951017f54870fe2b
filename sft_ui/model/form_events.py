"""Events of the Model tab: what fills the form, follows the data, applies the fix, goes back.

Handlers take the form's values and return updates of `filled`; other tabs are given as functions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from sft_ui.alerts import attempt
from sft_ui.context import PRIVATE, QUICK, Options, Studio
from sft_ui.model.basis import Basis, baseline, followed, preset_for, read_basis, with_data
from sft_ui.model.cards.estimating import estimate_now
from sft_ui.model.choice import preset_recipe
from sft_ui.model.model_events import wire_model, wire_restored
from sft_ui.model.recipe_files.travel import Taken, refused, taken_from_file
from sft_ui.model.tab import ModelTab
from sft_ui.recipe_form import (
    CONDITIONAL,
    DECIDING,
    field_update,
    form_values,
    read_form,
    relevance,
)
from sft_ui.sizes import machine_now, sizes_for
from trainer_backend.data.store import LengthReport, open_dataset
from trainer_backend.models.facts import model_facts
from trainer_backend.recipe import SETTINGS, Data, Recipe
from trainer_backend.recipe.suggestion import LENGTH_STEP

MOST_TOKENS = 1_048_576  # the largest maximum length that a recipe takes
Known = Callable[[str, Mapping[str, Any]], LengthReport | None]


@dataclass(frozen=True)
class FormEvents:
    """The handlers of the form. `known` gives the counted lengths of a dataset."""

    studio: Studio
    tab: ModelTab
    known: Known

    def filled(self) -> list[gr.blocks.Block]:
        """The components that handlers fill: preset, basis, and every field."""
        return [self.tab.preset, self.tab.basis, *self.tab.fields.values()]

    def given(self, dataset_id: gr.State) -> Options:
        """The inputs of handlers."""
        tab = self.tab
        return {"dataset_id": dataset_id, "preset": tab.preset, "basis": tab.basis, **tab.fields}

    def adapt(self, dataset_id: str, preset: str, basis: dict, **values: Any) -> list[Any]:
        """Let preset and fields follow data and model, where the user has not changed them."""
        before = read_basis(basis)
        chosen, after = self._basis(dataset_id, preset, before, values["base_model"])
        changes: dict[str, Any] = {}
        model = values["base_model"]
        old = self._baseline(preset, before.base_model or model, before)
        new = self._baseline(chosen, model, after)
        if old and new and not after.kept:
            changes = followed(values, old, new)
        shown = gr.skip() if chosen == preset else chosen
        return [shown, after.to_dict(), *self._updates(values, changes)]

    def fill(self, dataset_id: str, preset: str, basis: dict, **values: Any) -> list[Any]:
        """Fill the form with the preset that the user chose."""
        own = replace(read_basis(basis), own_preset=True, kept=False)
        _, after = self._basis(dataset_id, preset, own, values["base_model"])
        recipe = baseline(self.studio.home, preset, values["base_model"], after.settings)
        changes = {n: v for n, v in form_values(recipe).items() if n != "base_model"}
        return [gr.skip(), after.to_dict(), *self._updates(values, changes)]

    def fix(self, dataset_id: str, preset: str, basis: dict, **values: Any) -> list[Any]:
        """Apply the settings that the estimate found to fit."""
        recipe, _ = read_form(values)
        found = estimate_now(self.studio, dataset_id, recipe, self.known(dataset_id, values))
        changes: dict[str, Any] = {}
        if recipe and found and found.fix:
            fitting = form_values(replace(recipe, **found.fix))
            changes = {name: fitting[name] for name in found.fix}
        return [gr.skip(), gr.skip(), *self._updates(values, changes)]

    def back(
        self, event: gr.EventData, dataset_id: str, preset: str, basis: dict, **values: Any
    ) -> list[Any]:
        """Set one setting, or all of them, back to the preset."""
        before = self._baseline(preset, values["base_model"], read_basis(basis))
        then = form_values(before) if before else {}
        one = getattr(event, "field", None)
        names = [one] if one in SETTINGS else list(then)
        changes = {n: then[n] for n in names if n in then and n != "base_model"}
        return [gr.skip(), gr.skip(), *self._updates(values, changes)]

    def take(self, taken: Taken, basis: object, values: Mapping[str, Any]) -> list[Any]:
        """Fill the form with settings from elsewhere, which nothing changes by itself then."""
        kept = replace(
            read_basis(basis), own_preset=True, kept=True, base_model=taken.recipe.base_model
        )
        kept = replace(kept, settings={}, reasons={})
        updates = self._updates(values, form_values(taken.recipe))
        return [taken.preset or gr.skip(), kept.to_dict(), *updates]

    def _baseline(self, preset: str, base_model: str, basis: Basis) -> Recipe | None:
        found, _ = attempt(baseline, self.studio.home, preset, base_model, basis.settings)
        return found

    def _basis(
        self, dataset_id: str, preset: str, before: Basis, base_model: str
    ) -> tuple[str, Basis]:
        """The preset for the data, and what the data suggests with it."""
        dataset = None
        if dataset_id:
            dataset, _ = attempt(open_dataset, self.studio.home, dataset_id)
        is_own = dataset is not None and bool(dataset.num_examples) and not dataset.sample
        chosen = preset
        if dataset is not None and dataset.num_examples:
            chosen = preset_for(preset, before, is_sample=not is_own)
        recipe, _ = attempt(preset_recipe, chosen, base_model, self.studio.home)
        if recipe is None:
            return preset, before
        data = self._data(dataset_id, recipe) if is_own else None
        return chosen, with_data(before, recipe, dataset_id, data, machine_now().num_devices)

    def _data(self, dataset_id: str, recipe: Recipe) -> Data:
        rows, _ = sizes_for(self.studio, dataset_id, recipe)
        lengths = self.known(dataset_id, form_values(recipe))
        if lengths is None:
            return Data(rows)
        reads = model_facts(self.studio.home, recipe.base_model).max_positions
        fits = self._tokens_that_fit(dataset_id, recipe, lengths)
        return Data(rows, lengths.total, reads, fits)

    def _tokens_that_fit(
        self, dataset_id: str, recipe: Recipe, lengths: LengthReport
    ) -> int | None:
        """The maximum length there is memory for; None where every row fits, or none would."""
        tokens, limit = int(lengths.total.max(initial=0)), None
        while tokens > LENGTH_STEP:
            asked = replace(recipe, max_length=min(tokens, MOST_TOKENS))
            found = estimate_now(self.studio, dataset_id, asked, lengths)
            if found is None or found.fits is not False:
                return limit
            limit = tokens = tokens // 2 // LENGTH_STEP * LENGTH_STEP
        return None

    def _updates(self, values: Mapping[str, Any], changes: Mapping[str, Any]) -> list[Any]:
        """Updates of all fields: new values, and which of the conditional ones show."""
        if not changes:
            return [gr.skip()] * len(self.tab.fields)
        recipe, _ = read_form({**values, **changes})
        shown = relevance(recipe) if recipe else {}
        updates = []
        for name in self.tab.fields:
            visible: dict[str, Any] = {"visible": shown[name]} if name in shown else {}
            if name in changes:
                updates.append(field_update(name, changes[name], **visible))
            else:
                updates.append(gr.update(visible=shown[name]) if visible else gr.skip())
        return updates


def wire_form(events: FormEvents, dataset_id: gr.State, refresh: Options) -> Options:
    """Wire the tab; returns the event in which the form follows data and model.

    `refresh` are the arguments of the event that updates the cards.
    """
    tab = events.tab
    into = {"inputs_kwargs": events.given(dataset_id), "outputs": events.filled(), **QUICK}
    adapt = {"fn": events.adapt, **into}
    filled = tab.preset.input(events.fill, **into)
    wire_restored(tab.choice, filled)
    filled.then(**refresh)
    for taken in wire_model(tab.choice):
        taken.then(**adapt).then(**refresh)
    tab.estimate.fix(events.fix, **into).then(**refresh)
    tab.estimate.back(events.back, **into).then(**refresh)
    tab.estimate.reset(events.back, **into).then(**refresh)
    _wire_relevance(tab)
    _wire_upload(events, into, refresh)
    return adapt


def _wire_relevance(tab: ModelTab) -> None:
    def show_relevant(**values: Any) -> list[Any]:
        recipe, _ = read_form(values)
        shown = relevance(recipe) if recipe else {}
        return [gr.update(visible=shown[name]) if shown else gr.skip() for name in CONDITIONAL]

    gr.on(
        [tab.fields[name].input for name in DECIDING],
        show_relevant,
        inputs_kwargs=dict(tab.fields),
        outputs=[tab.fields[name] for name in CONDITIONAL],
        trigger_mode="always_last",
        **QUICK,
    )


def _wire_upload(events: FormEvents, into: Options, refresh: Options) -> None:
    travel = events.tab.travel

    def take(path: str, dataset_id: str, preset: str, basis: dict, **values: Any) -> list[Any]:
        taken, error = attempt(taken_from_file, path)
        if taken is None:
            return [*[gr.skip()] * len(into["outputs"]), refused(error) if error else ""]
        return [*events.take(taken, basis, values), taken.said]

    given = {"path": travel.upload, **into["inputs_kwargs"]}
    outputs = [*into["outputs"], travel.said]
    loaded = travel.upload.upload(take, inputs_kwargs=given, outputs=outputs, **PRIVATE)
    wire_restored(events.tab.choice, loaded)
    loaded.then(**refresh)
