"""Events between tabs that follow from data and settings: estimate, Start button, draft, counts.

Events within one tab belong to that tab.
"""

import json
from functools import partial
from typing import Any

import gradio as gr

from sft_ui.alerts import show_user_errors
from sft_ui.context import PRIVATE, QUICK, SETS_STATE, SILENT, Options, Studio
from sft_ui.data.events import wire_events
from sft_ui.data.lengths import feed
from sft_ui.data.wiring import settings_outputs, show_settings, wire_data
from sft_ui.model.basis import read_basis
from sft_ui.model.cards.estimating import estimate_now
from sft_ui.model.cards.settings_cards import settings_cards
from sft_ui.model.form_events import FormEvents, wire_form
from sft_ui.model.model_events import wire_restored
from sft_ui.model.recipe_files.travel import download_value, taken_from_run
from sft_ui.model.tab import about_preset
from sft_ui.model.template import wire_template_view
from sft_ui.page.parts import Page
from sft_ui.recipe_form import edits, read_form
from sft_ui.train.decision import choices_of, shown_question, undecided
from sft_ui.train.next_run_card.next_run import Asked, start_state


def wire_settings(studio: Studio, page: Page) -> None:
    """Recompute the estimate, the Start button and the draft when data or settings change."""
    data, model, train = page.data, page.model, page.train

    def refresh(dataset_id: str, preset: str, basis: dict, **values: Any) -> list[Any]:
        draft = {"dataset_id": dataset_id, "preset": preset, "basis": basis, "values": values}
        return [*cards(studio, page, dataset_id, preset, basis, values), draft]

    refreshed = [*card_outputs(page), page.draft]
    events = FormEvents(studio, model, data.feed.known)
    given = events.given(data.dataset_id)
    again = {"fn": refresh, "inputs_kwargs": given, "outputs": refreshed, **SILENT}
    again["trigger_mode"] = "always_last"
    gr.on(edits(model.fields.values()), **again)
    adapt = wire_form(events, data.dataset_id, again)
    for event in wire_template_view(studio, model.template, model.fields, page.chosen()):
        event.then(**again)
    train.chart.statuschange(**again)
    for name in ("model", "train"):
        page.opened[name].select(**adapt).then(**again)

    wire_events(studio, data)
    wire_data(studio, data, model.fields, page.opened["data"], (adapt, again))
    _wire_counts(studio, page, adapt, again)
    _wire_use_settings(studio, page, events, again)

    for button in data.ready.go_on:
        led_on = button.click(lambda: gr.Tabs(selected="model"), None, page.tabs, **QUICK)
        led_on.then(None, None, None, js="() => { scrollTo(0, 0); }", **PRIVATE)
    for at, button in enumerate(train.decision.buttons):
        names = ["chat_template", "lost_content"]
        decided = button.click(
            partial(_decide, page, at, names),
            inputs_kwargs=page.chosen(),
            outputs=[model.fields[name] for name in names],
            **QUICK,
        )
        decided.then(**again)


def _wire_counts(studio: Studio, page: Page, adapt: Options, again: Options) -> None:
    """When the tokens are counted, what follows from them is filled in and estimated anew."""
    data, model = page.data, page.model

    def count(dataset_id: str, preset: str, basis: dict, **values: Any) -> list[Any]:
        recipe, _ = read_form(values)
        if dataset_id and recipe:
            data.feed.watch(json.loads(feed.asked(dataset_id, recipe.to_dict())))
        followed: list[Any] = adapt["fn"](dataset_id, preset, basis, **values)
        return followed

    @show_user_errors
    def shown(dataset_id: str, **values: Any) -> list[Any]:
        return show_settings(studio, dataset_id, values)

    model.estimate.recheck(**{**adapt, "fn": count}).then(**again)
    counted = data.lengths.counted(**adapt)
    counted.then(
        shown,
        inputs_kwargs={"dataset_id": data.dataset_id, **model.fields},
        outputs=settings_outputs(data),
        **QUICK,
    ).then(**again)


def _wire_use_settings(studio: Studio, page: Page, events: FormEvents, again: Options) -> None:
    """Put the settings, and the data, of the shown run into the form."""
    train, model, data = page.train, page.model, page.data

    @show_user_errors
    def use(run_id: str, basis: dict, **values: Any) -> list[Any]:
        taken = taken_from_run(studio, run_id)
        filled = events.take(taken, basis, values)
        return [gr.Tabs(selected="model"), taken.dataset_id or gr.skip(), taken.said, *filled]

    used = train.use_settings.click(
        use,
        inputs_kwargs={"run_id": train.run_id, "basis": model.basis, **model.fields},
        outputs=[page.tabs, data.dataset_id, model.travel.said, *events.filled()],
        **SETS_STATE,
    )
    wire_restored(model.choice, used)
    used.then(**again)
    fix = {"inputs_kwargs": events.given(data.dataset_id), "outputs": events.filled(), **QUICK}
    train.next_run.use_fix.click(events.fix, **fix).then(**again)


def _decide(
    page: Page, at: int, names: list[str], dataset_id: str, preset: str, **values: Any
) -> list[Any]:
    """Updates of the form's fields `names` for the choice `at` of what Start asks."""
    lengths = page.data.feed.known(dataset_id, values)
    choices = choices_of(undecided(lengths, read_form(values)[0]))
    chosen = choices[at] if at < len(choices) else {}
    return [chosen.get(name, gr.skip()) for name in names]


def cards(
    studio: Studio, page: Page, dataset_id: str, preset: str, basis: dict, values: dict[str, Any]
) -> list[Any]:
    """Updates of `_card_outputs`."""
    lengths = page.data.feed.known(dataset_id, values) if dataset_id else None
    recipe, _ = read_form(values)
    found = estimate_now(studio, dataset_id, recipe, lengths)
    waits = bool(dataset_id and recipe) and page.data.feed.waits(dataset_id, values)
    read = read_basis(basis)
    return [
        settings_cards(studio, dataset_id, preset, read, values, found, waits),
        about_preset(preset, found),
        download_value(recipe, preset),
        *start_state(studio, Asked(dataset_id, preset, values, lengths, found)),
        *shown_question(undecided(lengths, recipe)),
    ]


def card_outputs(page: Page) -> list[gr.blocks.Block]:
    """The estimate, the recipe file, the Start button, the next run, and what Start asks."""
    train, model = page.train, page.model
    return [
        *(model.estimate, model.when, model.travel.download, train.start),
        *train.next_run.outputs(),
        *train.decision.outputs(),
    ]
