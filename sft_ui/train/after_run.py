"""Actions on a run that has ended: retry with suggested settings, train longer, build on it.

“Train longer” queues the same run with more steps; the other two create a new run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import show_user_errors
from sft_ui.context import SETS_STATE, Studio
from sft_ui.recipe_form import read_form
from trainer_backend.data.checks import CHOICE_WORDS, MOST_CHOICES
from trainer_backend.data.store import open_dataset
from trainer_backend.errors import UserError
from trainer_backend.recipe import SETTINGS, STARTER_MODEL, Recipe
from trainer_backend.runs import OVER, Run, new_run_from, open_run, retry_run

Show = Callable[[Studio, str], list[Any]]
WAYS = (
    "Train longer continues with the same data and settings up to the total you enter. "
    "A new run uses the data and settings chosen now."
)


@dataclass(frozen=True)
class AfterRun:
    """The buttons and the number beside “Train longer”; `others` retry with another choice."""

    retry: gr.Button
    others: list[gr.Button]
    box: gr.Column
    length: gr.Number
    longer: gr.Button
    build_on: gr.Button

    def outputs(self) -> list[gr.blocks.Block]:
        """The components `shown_after` fills, in its order."""
        return [self.retry, self.box, self.length, *self.others]


def build_after_run() -> AfterRun:
    """Build the buttons; which of them show depends on the state of the run."""
    retry = gr.Button("Start again", variant="primary", visible=False, elem_id="retry-run")
    others = [
        gr.Button("Start again", visible=False, elem_id=f"retry-run-{at}")
        for at in range(2, MOST_CHOICES + 1)
    ]
    with gr.Column(visible=False, elem_id="after-run", elem_classes="card") as box:
        gr.HTML(Markup("<h3>Train further</h3>") + markup.line(WAYS, "quiet"))
        with gr.Row():
            length = gr.Number(label="Total epochs", min_width=110, elem_id="longer-length")
            longer = gr.Button("Train longer", size="md", min_width=120, elem_id="train-longer")
        build_on = gr.Button("New run from these weights", size="md", elem_id="build-on-run")
    return AfterRun(retry, others, box, length, longer, build_on)


def wire_after_run(
    studio: Studio, after: AfterRun, run_id: gr.State, shown: list[Any], show: Show
) -> None:
    """Wire retry and “Train longer”; `show(studio, run_id)` returns the updates of `shown`."""

    @show_user_errors
    def retry(at: int, run_id: str) -> str:
        run = start_again(studio, run_id, at)
        gr.Info("Started a new run with the suggested settings.")
        return run.id

    @show_user_errors
    def longer(run_id: str, length: float | None) -> list[Any]:
        studio.scheduler.resume(run_id, longer_by(open_run(studio.home, run_id).recipe(), length))
        return show(studio, run_id)

    for at, button in enumerate([after.retry, *after.others]):
        button.click(partial(retry, at), run_id, run_id, **SETS_STATE)
    after.longer.click(longer, [run_id, after.length], shown, **SETS_STATE)


def shown_after(run: Run | None) -> list[Any]:
    """Updates of `AfterRun.outputs` for a run; without one, all are hidden."""
    hidden = gr.update(visible=False)
    if run is None:
        return [hidden, hidden, gr.skip(), *[hidden] * (MOST_CHOICES - 1)]
    offers = offers_of(run)
    can_extend = run.state()["state"] in OVER and run.result() is not None
    retry, *others = [gr.update(visible=True, value=offer_words(offer)) for offer in offers] + [
        hidden
    ] * (MOST_CHOICES - len(offers))
    length = _length(run.recipe()) if can_extend else gr.skip()
    return [retry, gr.update(visible=can_extend), length, *others]


def offers_of(run: Run) -> list[dict[str, Any]]:
    """The changes of settings with which a failed run could start again, the best first."""
    offer = (run.state().get("error") or {}).get("offer") or {}
    if "choices" in offer:
        return list(offer["choices"])[:MOST_CHOICES]
    return [offer["retry"]] if offer.get("retry") is not None else []


def _length(recipe: Recipe) -> dict[str, Any]:
    if recipe.max_steps > 0:
        return gr.update(label="Total steps", value=recipe.max_steps * 2)
    return gr.update(label="Total epochs", value=recipe.num_train_epochs + 1)


def offer_words(changes: Mapping[str, Any]) -> str:
    """The label of the retry button: the settings that an error suggests."""
    if not changes:
        return "Start again from the base model"
    if dict(changes) == {"base_model": STARTER_MODEL}:
        return "Try the starter model instead"
    decided = [CHOICE_WORDS[pair] for pair in changes.items() if pair in CHOICE_WORDS]
    if len(decided) == len(changes):
        return f"Start again: {', '.join(decided)}"
    settings = ((SETTINGS[name], value) for name, value in changes.items() if name in SETTINGS)
    return f"Start again with {', '.join(f'{one.label} {one.words(v)}' for one, v in settings)}"


def start_again(studio: Studio, run_id: str, at: int = 0) -> Run:
    """A new run with the settings a failed run's error suggests: the choice `at`.

    Raises UserError without any.
    """
    run = open_run(studio.home, run_id)
    offers = offers_of(run)
    key = f"retry {run.id} {run.state().get('attempt', 0)}{f' {at}' if at else ''}"
    again = retry_run(run, offers[at] if at < len(offers) else None, key=key)
    studio.scheduler.wake()
    return again


def longer_by(recipe: Recipe, length: float | None) -> dict[str, float]:
    """The setting that extends a run. Raises UserError unless it exceeds the current total."""
    name = "max_steps" if recipe.max_steps > 0 else "num_train_epochs"
    before = getattr(recipe, name)
    if length is None or length <= before:
        unit = "steps" if name == "max_steps" else "epochs"
        what = f"The run already trains for {before:g} {unit}."
        raise UserError(what, "Train longer", f"Enter a number above {before:g}.")
    return {name: int(length) if name == "max_steps" else length}


def start_from(
    studio: Studio, run_id: str, dataset_id: str, preset: str, key: str, values: dict
) -> Run:
    """A new run from another's weights. Raises UserError if form or checkpoint is missing."""
    recipe, _ = read_form(values)
    recipe = recipe or Recipe.from_dict(values, "Model tab")  # raises the first problem
    run = open_run(studio.home, run_id)
    dataset = open_dataset(studio.home, dataset_id) if dataset_id else None
    new = new_run_from(run, recipe, dataset, preset=preset, key=key or None)
    studio.scheduler.wake()
    return new
