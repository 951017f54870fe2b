"""The events of choosing a model: search as one types, take a model, ask the Hub about it.

A model is taken at once by what is known here; the Hub is asked after that, since it may be slow.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency
from markupsafe import Markup

from sft_ui.alerts import show_user_errors
from sft_ui.context import QUICK, Options, Studio
from sft_ui.model.card import model_card
from sft_ui.model.choice import (
    Applied,
    Chosen,
    fitted,
    restored_wishes,
    without_wishes,
    words_of,
)
from sft_ui.model.search import ModelSearch, hub_list, local_list, same_model
from sft_ui.recipe_form import Fields, read_form, relevance
from trainer_backend.models import ModelFacts, model_facts
from trainer_backend.models.facts import names_here

LOCAL = ("starter", "cache", "folder")
MAX_WORDS = 200  # characters of a search


@dataclass(frozen=True)
class ModelEvents:
    """What wiring needs: the box, the card, the preset, the form, and what was chosen."""

    studio: Studio
    search: ModelSearch
    about: gr.HTML
    preset: gr.Radio
    fields: Fields
    chosen: gr.State

    def given(self) -> Options:
        """The inputs of every event."""
        return {"preset_id": self.preset, "chosen": self.chosen, **self.fields}

    def filled(self) -> list[gr.blocks.Block]:
        """The outputs of taking a model: card, what was chosen, every field of the form."""
        return [self.about, self.chosen, *self.fields.values()]


def wire_model(events: ModelEvents) -> list[Dependency]:
    """Wire the box and the card; returns the events that may put other values into the form."""
    _wire_lists(events)
    search, filled = events.search, events.filled()
    given = {"inputs_kwargs": events.given(), "outputs": filled, **QUICK}

    @show_user_errors
    def picked(event: gr.EventData, preset_id: str, chosen: Chosen, **values: Any) -> list[Any]:
        return _taken(events, str(event.id), preset_id, chosen, values)

    @show_user_errors
    def typed(preset_id: str, chosen: Chosen, **values: Any) -> list[Any]:
        name = str(values["base_model"] or "")
        if name == chosen.model:  # the box was only left
            return [gr.skip()] * len(filled)
        return _taken(events, name, preset_id, chosen, values)

    @show_user_errors
    def ask(preset_id: str, chosen: Chosen, **values: Any) -> list[Any]:
        if chosen.asked or values["base_model"] != chosen.model:
            return [gr.skip()] * len(filled)  # nothing was chosen, or something else meanwhile
        facts = model_facts(events.studio.home, chosen.model, ask_hub=True)
        return _filled(events, facts, preset_id, chosen, values)

    # gr.on does not accept custom events
    taken = [
        search.here.choose(picked, **given),
        events.about.use(picked, **given),
        search.model.input(typed, **given, trigger_mode="always_last"),
    ]
    asked = [one.then(ask, **given, trigger_mode="always_last") for one in taken]
    return [*taken, *asked]


def _wire_lists(events: ModelEvents) -> None:
    """Wire what is listed while one types: first what is known here, then the Hub's answer."""
    search, home = events.search, events.studio.home
    given = {"inputs_kwargs": events.given(), **QUICK, "trigger_mode": "always_last"}

    def find(event: gr.EventData, preset_id: str, chosen: Chosen, **values: Any) -> Markup:
        recipe, _ = read_form(without_wishes(chosen.wishes, values))
        return local_list(home, str(event.words)[:MAX_WORDS], recipe)

    def ask(event: gr.EventData, preset_id: str, chosen: Chosen, **values: Any) -> Markup:
        recipe, _ = read_form(without_wishes(chosen.wishes, values))
        return hub_list(home, str(event.words)[:MAX_WORDS], recipe)

    search.here.find(show_user_errors(find), outputs=search.here, **given)
    search.here.ask(show_user_errors(ask), outputs=search.hub, **given)


def wire_restored(events: ModelEvents, loaded: Dependency) -> None:
    """After a page load: the card of the restored model, at once and then with the Hub's word."""
    given = {"inputs_kwargs": events.given(), "outputs": [events.about, events.chosen], **QUICK}

    def known(preset_id: str, chosen: Chosen, **values: Any) -> list[Any]:
        return restore_model(events, preset_id, values, ask_hub=False)

    def asked(preset_id: str, chosen: Chosen, **values: Any) -> list[Any]:
        return restore_model(events, preset_id, values, ask_hub=True)

    loaded.then(show_user_errors(known), **given).then(show_user_errors(asked), **given)


def restore_model(
    events: ModelEvents, preset_id: str, values: Mapping[str, Any], *, ask_hub: bool
) -> list[Any]:
    """(card, `Chosen`) of a form that was restored or filled, whose values stay."""
    home = events.studio.home
    facts = model_facts(home, values["base_model"] or "", ask_hub=ask_hub)
    applied = restored_wishes(preset_id, facts, values)
    return [
        card_of(events.studio, facts, preset_id, applied, asking=not ask_hub),
        Chosen(facts.base_model, applied),
    ]


def card_of(
    studio: Studio, facts: ModelFacts, preset_id: str, applied: Applied, *, asking: bool
) -> Markup:
    """The card of a model; models on this machine are offered where something is wrong."""
    others = names_here(studio.home) if facts.problem else []
    asking = asking and facts.place not in LOCAL and not facts.is_refused
    return model_card(facts, words_of(preset_id, facts, applied), others, asking=asking)


def _taken(
    events: ModelEvents, base_model: str, preset_id: str, chosen: Chosen, values: dict[str, Any]
) -> list[Any]:
    name = same_model(base_model)
    facts = model_facts(events.studio.home, name)
    return _filled(events, facts, preset_id, chosen, values, asking=True)


def _filled(
    events: ModelEvents,
    facts: ModelFacts,
    preset_id: str,
    chosen: Chosen,
    values: dict[str, Any],
    *,
    asking: bool = False,
) -> list[Any]:
    """Updates of `ModelEvents.filled` for a model."""
    changed, wishes = fitted(preset_id, facts, chosen.wishes, values)
    if facts.base_model != values["base_model"]:
        changed["base_model"] = facts.base_model
    recipe, _ = read_form({**values, **changed})
    shown = relevance(recipe) if recipe else {}
    updates = []
    for name in events.fields:
        update = {"value": changed[name]} if name in changed else {}
        update |= {"visible": shown[name]} if name in shown else {}
        updates.append(gr.update(**update) if update else gr.skip())
    card = card_of(events.studio, facts, preset_id, wishes, asking=asking)
    return [card, Chosen(facts.base_model, wishes, asked=not asking), *updates]
