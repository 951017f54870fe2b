"""What can follow a run that is over: start again as an error offers, train longer, build on it.

Each makes a new run, or queues the old one with more steps.
"""

from dataclasses import dataclass

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import show_user_errors
from sft_ui.context import SETS_STATE, Studio
from sft_ui.recipe_form import read_form
from trainer_backend.data.store import open_dataset
from trainer_backend.errors import UserError
from trainer_backend.recipe import SETTINGS, Recipe
from trainer_backend.runs import OVER, Run, new_run_from, open_run, retry_run

WAYS = (
    "Train longer goes on with the same data and settings to the number given. "
    "A new run takes the data and settings chosen now."
)


@dataclass(frozen=True)
class AfterRun:
    """The three buttons and the number beside “Train longer”."""

    retry: gr.Button
    box: gr.Column
    length: gr.Number
    longer: gr.Button
    build_on: gr.Button

    def outputs(self) -> list:
        """The components `shown_after` fills, in its order."""
        return [self.retry, self.box, self.length]


def build_after_run() -> AfterRun:
    """Build the buttons; they come and go with the state of the run that is shown."""
    retry = gr.Button("Start again", variant="primary", visible=False, elem_id="retry-run")
    with gr.Column(visible=False, elem_id="after-run", elem_classes="card") as box:
        gr.HTML(Markup("<h3>Should it learn more?</h3>") + markup.line(WAYS, "quiet"))
        with gr.Row():
            length = gr.Number(label="Epochs in all", min_width=110, elem_id="longer-length")
            longer = gr.Button("Train longer", size="md", min_width=120, elem_id="train-longer")
        build_on = gr.Button("New run from these weights", size="md", elem_id="build-on-run")
    return AfterRun(retry, box, length, longer, build_on)


def wire_after_run(studio: Studio, after: AfterRun, run_id: gr.State, shown: list, show) -> None:
    """Wire retry and “Train longer”; `show` fills `shown` with what the run allows now."""

    @show_user_errors
    def retry(run_id: str):
        run = start_again(studio, run_id)
        gr.Info("A new run starts with the settings that were offered.")
        return run.id

    @show_user_errors
    def longer(run_id: str, length: float | None):
        studio.scheduler.resume(run_id, longer_by(open_run(studio.home, run_id).recipe(), length))
        return show(studio, run_id)

    after.retry.click(retry, run_id, run_id, **SETS_STATE)
    after.longer.click(longer, [run_id, after.length], shown, **SETS_STATE)


def shown_after(run: Run | None) -> list:
    """What `AfterRun.outputs` show for a run (None: nothing)."""
    state = run.state() if run else {"state": "idle"}
    offer = ((state.get("error") or {}).get("offer") or {}).get("retry")
    is_over = run is not None and state["state"] in OVER and run.result() is not None
    retry = gr.update(visible=offer is not None, value=offer_words(offer or {}))
    return [retry, gr.update(visible=is_over), _length(run.recipe()) if is_over else gr.skip()]


def _length(recipe: Recipe):
    if recipe.max_steps > 0:
        return gr.update(label="Steps in all", value=recipe.max_steps * 2)
    return gr.update(label="Epochs in all", value=recipe.num_train_epochs + 1)


def offer_words(changes: dict) -> str:
    """The settings an error offers, as the words of a button."""
    if not changes:
        return "Start again from the base model"
    settings = ((SETTINGS[name], value) for name, value in changes.items() if name in SETTINGS)
    return f"Start again with {', '.join(f'{one.label} {one.words(v)}' for one, v in settings)}"


def start_again(studio: Studio, run_id: str) -> Run:
    """A new run with what the failed one's error offers. Raises UserError when it offers none."""
    run = open_run(studio.home, run_id)
    again = retry_run(run, key=f"retry {run.id} {run.state().get('attempt', 0)}")
    studio.scheduler.wake()
    return again


def longer_by(recipe: Recipe, length: float | None) -> dict:
    """The one setting that makes a run longer. Raises UserError when it would not."""
    name = "max_steps" if recipe.max_steps > 0 else "num_train_epochs"
    before = getattr(recipe, name)
    if length is None or length <= before:
        what = f"The run already goes to {before:g} {'steps' if name == 'max_steps' else 'epochs'}."
        raise UserError(what, "Train longer", f"Enter a number above {before:g}.")
    return {name: int(length) if name == "max_steps" else length}


def start_from(studio: Studio, run_id: str, dataset_id: str, preset: str, key: str, values: dict):
    """A new run from the weights of the one shown, with the data and settings of the page."""
    recipe, _ = read_form(values)
    recipe = recipe or Recipe.from_dict(values, "Model tab")  # raises what the first problem says
    run = open_run(studio.home, run_id)
    dataset = open_dataset(studio.home, dataset_id) if dataset_id else None
    new = new_run_from(run, recipe, dataset, preset=preset, key=key or None)
    studio.scheduler.wake()
    return new
