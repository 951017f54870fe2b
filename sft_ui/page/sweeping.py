"""Trying several values: the fold of the Train tab meets the data and the form of other tabs."""

from typing import Any

import gradio as gr

from sft_ui.alerts import attempt, show_user_errors
from sft_ui.context import QUICK, SETS_STATE, Studio
from sft_ui.page.parts import Page
from sft_ui.recipe_form import read_form
from sft_ui.sweep.fold import planned, queue_plan, queued, shown_plan, values_label
from sft_ui.train.decision import undecided
from sft_ui.train.next_run_card.next_run import missing
from trainer_backend.data.store import StoredDataset, open_dataset
from trainer_backend.errors import UserError
from trainer_backend.recipe import Recipe


def wire_sweep(studio: Studio, page: Page) -> None:
    """Say what the runs would take as the fold changes, and queue them."""
    fold = page.train.sweep
    given = {f"line_{at}": one for at, one in enumerate(fold.given())}
    inputs = {**page.chosen(), **given}

    def said(dataset_id: str, preset: str, **values: Any) -> list[Any]:
        lines = [values.pop(name) for name in given]
        if reason := missing(studio, dataset_id, values):
            return shown_plan(None, f"{reason}.")
        recipe, dataset = _taken(studio, dataset_id, values)
        plan, error = attempt(planned, studio, recipe, dataset, lines)
        return shown_plan(plan, "", error)

    @show_user_errors
    def start(dataset_id: str, preset: str, **values: Any) -> list[Any]:
        lines = [values.pop(name) for name in given]
        recipe, dataset = _taken(studio, dataset_id, values)
        if question := undecided(page.data.feed.known(dataset_id, values), recipe):
            raise question
        plan = planned(studio, recipe, dataset, lines)
        if plan is None:
            raise UserError("No values were written.", "Try several values", "Write two or more.")
        sweep = queue_plan(studio, plan, dataset, preset)
        gr.Info(f"{len(sweep.runs)} runs are queued and start by themselves.")
        return [sweep.runs[0].id, *queued(sweep)]

    shown = {"inputs_kwargs": inputs, "outputs": [fold.said, fold.queue], **QUICK}
    shown["trigger_mode"] = "always_last"
    changing: list[Any] = [*fold.names, *fold.values, fold.halving]
    events = [one.change for one in changing]
    for event in (*events, fold.box.expand, page.opened["train"].select):
        event(said, **shown)
    for name, values in zip(fold.names, fold.values, strict=True):
        name.change(lambda chosen: gr.update(label=values_label(chosen)), name, values, **QUICK)
    fold.queue.click(
        start,
        inputs_kwargs=inputs,
        outputs=[page.train.run_id, fold.said, fold.queue],
        trigger_mode="once",
        **SETS_STATE,
    )


def _taken(studio: Studio, dataset_id: str, values: dict[str, Any]) -> tuple[Recipe, StoredDataset]:
    """The recipe of the form and the dataset. Raises UserError."""
    recipe, _ = read_form(values)
    recipe = recipe or Recipe.from_dict(values, "Model tab")  # raises the first problem
    return recipe, open_dataset(studio.home, dataset_id)
