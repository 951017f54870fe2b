"""The Train tab: start, watch, stop and resume one run.

Reads run folders and calls the scheduler; never trains itself.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt, show_user_errors
from sft_ui.context import QUICK, Studio
from sft_ui.recipe_form import read_form
from sft_ui.sizes import sizes_for
from sft_ui.train.after_run import AfterRun, build_after_run, shown_after, wire_after_run
from sft_ui.train.decision import Decision, build_decision, undecided
from sft_ui.train.live_chart import build_live_chart
from trainer_backend.data.store import LengthReport, open_dataset
from trainer_backend.models import model_facts
from trainer_backend.recipe import SETTINGS, Recipe, label, recipe_presets
from trainer_backend.runs import (
    ACTIVE,
    LIVE,
    RESUMABLE,
    Run,
    create_run,
    list_runs,
    locked_fields,
    open_run,
)


@dataclass(frozen=True)
class TrainTab:
    """What the page needs of the tab."""

    run_id: gr.State
    start_key: gr.State
    start: gr.Button
    stop: gr.Button
    resume: gr.Button
    talk: gr.Button
    next_card: gr.HTML
    decision: Decision
    run_card: gr.HTML
    chart: gr.HTML
    after: AfterRun
    shown: Dependency  # the event after which another run is shown


def build_train_tab(studio: Studio) -> TrainTab:
    """Build the tab. Starting a run needs data and settings, so the page wires it."""
    run_id, start_key = gr.State(""), gr.State("")
    with gr.Row():
        start = gr.Button(
            "Choose data first",
            variant="primary",
            interactive=False,
            scale=3,
            min_width=180,
            elem_id="start-training",
        )
        stop = gr.Button(
            "Stop", variant="stop", interactive=False, min_width=90, elem_id="stop-training"
        )
        resume = gr.Button("Resume", interactive=False, min_width=90, elem_id="resume-training")
        talk = gr.Button("Chat with it →", interactive=False, min_width=120, elem_id="talk-to-it")
    decision = build_decision()
    with gr.Row(equal_height=False):
        with gr.Column(scale=9, min_width=340):
            chart = build_live_chart(studio)
        with gr.Column(scale=3, min_width=260):
            run_card = gr.HTML(elem_id="run-card")
            after = build_after_run()
            next_card = gr.HTML(elem_id="next-run")
    buttons = [stop, resume, talk, run_card, *after.outputs()]
    shown = _wire(studio, run_id, chart, buttons)
    wire_after_run(studio, after, run_id, buttons, run_buttons)
    return TrainTab(
        *(run_id, start_key, start, stop, resume, talk, next_card, decision),
        *(run_card, chart, after, shown),
    )


def _wire(studio: Studio, run_id: gr.State, chart: gr.HTML, buttons: list[Any]) -> Dependency:
    @show_user_errors
    def stop(run_id: str) -> list[Any]:
        studio.scheduler.stop(run_id)
        state = open_run(studio.home, run_id).state()["state"]
        if state in ACTIVE:
            gr.Info(
                "Stopping. The current step finishes and a checkpoint is saved. "
                "Press Stop again after five seconds to end it immediately."
            )
        return run_buttons(studio, run_id)

    @show_user_errors
    def resume(run_id: str) -> list[Any]:
        studio.scheduler.resume(run_id)
        return run_buttons(studio, run_id)

    stop_button, resume_button, *_ = buttons
    stop_button.click(stop, run_id, buttons, **QUICK)
    resume_button.click(resume, run_id, buttons, **QUICK)
    chart.statuschange(lambda run: run_buttons(studio, run), run_id, buttons, **QUICK)
    return run_id.change(
        lambda run: [run, *run_buttons(studio, run)], run_id, [chart, *buttons], **QUICK
    )


def run_buttons(studio: Studio, run_id: str) -> list[Any]:
    """Updates of Stop, Resume, Chat, the card of the run and the actions after it."""
    run, error = attempt(readable_run, studio, run_id) if run_id else (None, None)
    if run is None:
        off = gr.update(interactive=False)
        return [off, off, off, markup.error_card(error), *shown_after(None)]
    state = run.state()["state"]
    has_model = bool(run.checkpoints())
    return [
        gr.update(interactive=state in LIVE),
        gr.update(interactive=state in RESUMABLE),
        gr.update(interactive=has_model, variant="primary" if state == "finished" else "secondary"),
        run_card(run),
        *shown_after(run),
    ]


def readable_run(studio: Studio, run_id: str) -> Run:
    """The run with this id. Raises UserError when it is missing or its recipe is damaged."""
    run = open_run(studio.home, run_id)
    run.recipe()
    return run


def run_card(run: Run) -> Markup:
    """The card of a run, from its own snapshot of data and settings, not from the form."""
    recipe, spec, state = run.recipe(), run.spec(), run.state()
    rows = state.get("num_train_rows")
    pairs = [
        (label("base_model"), recipe.base_model),
        ("Data", spec["dataset"]["name"]),
        ("Started from", _beginning(spec)),
        ("Training rows", f"{rows:,}" if rows else None),
        ("Held-out rows", f"{state['num_eval_rows']:,}" if state.get("num_eval_rows") else None),
        ("Prompts as trained", _prompts(state.get("prompts"))),
        *recipe_facts(recipe),
        (label("precision"), state.get("precision")),
        ("Hardware", spec.get("hardware")),
        ("Run", run.id),
    ]
    names = ", ".join(map(label, locked_fields()))
    locked = markup.more("Settings fixed for this run", markup.line(names, "quiet"))
    return markup.card(run.name(), markup.facts(pairs), locked)


def _prompts(measured: Mapping[str, int] | None) -> str | None:
    """Of how many rows the chat prompt is how the trained text begins."""
    return f"{measured['prefix']:,} of {measured['rows']:,} rows" if measured else None


def _beginning(spec: Mapping[str, Any]) -> str | None:
    start = spec.get("start")
    return f"step {start['step']} of {start['run']}" if start else None


def recipe_facts(recipe: Recipe) -> list[tuple[str, object]]:
    """The main settings of a recipe as pairs of label and text."""
    length = (
        f"{recipe.max_steps:,} steps"
        if recipe.max_steps > 0
        else f"{recipe.num_train_epochs:g} epochs"
    )
    batch = f"{recipe.per_device_train_batch_size} × {recipe.gradient_accumulation_steps}"
    size = f", rank {recipe.lora_r}" if recipe.adapter != "full" else ""
    return [
        (label("adapter"), SETTINGS["adapter"].words(recipe.adapter) + size),
        ("Length", length),
        ("Batch", batch),
        (label("learning_rate"), f"{recipe.learning_rate}"),
    ]


def missing(studio: Studio, dataset_id: str, values: Mapping[str, Any]) -> str:
    """What must be done before a run can start; "" when nothing."""
    if not dataset_id:
        return "Choose data first"
    dataset, _ = attempt(open_dataset, studio.home, dataset_id)
    if dataset is None:
        return "Choose data first"
    if dataset.mapping is None:
        return "Choose the column roles first"
    if not dataset.num_examples:
        return "The data has no usable rows"
    recipe, problems = read_form(values)
    if recipe is None:
        return f"Fix {problems[0].what.split('”')[0].strip('“')} first"
    if model_facts(studio.home, recipe.base_model).is_refused:
        return "Choose another model first"
    return ""


def start_state(
    studio: Studio,
    dataset_id: str,
    preset_id: str,
    values: Mapping[str, Any],
    lengths: LengthReport | None = None,
) -> list[Any]:
    """Updates: the Start button and the card of the run it would start.

    `lengths` are the counts of this dataset with these settings, if they are known.
    """
    reason = missing(studio, dataset_id, values)
    if not reason and undecided(lengths, read_form(values)[0]):
        reason = "Decide about the omitted content first"
    waits = any(run.state()["state"] in LIVE for run in list_runs(studio.home)[:20])
    words = "Start training" + (" (queued behind the current run)" if waits else "")
    button = gr.update(value=reason or words, interactive=not reason)
    recipe, _ = read_form(values)
    if recipe is None or not dataset_id or reason.startswith("Choose data"):
        return [button, markup.card("Next run", markup.line(f"{reason}.", "quiet"))]
    dataset = open_dataset(studio.home, dataset_id)
    train, held_out = sizes_for(studio, dataset_id, recipe)
    pairs = [
        (label("base_model"), recipe.base_model),
        ("Data", dataset.label),
        ("Rows", f"{train:,} + {held_out:,} held out"),
        ("Preset", {one.id: one.title for one in recipe_presets()}.get(preset_id, preset_id)),
        *recipe_facts(recipe),
    ]
    return [button, markup.card("Next run", markup.facts(pairs))]


def start_run(
    studio: Studio,
    dataset_id: str,
    preset_id: str,
    key: str,
    values: dict,
    lengths: LengthReport | None = None,
) -> Run:
    """Create a run and wake the scheduler; the same key returns the same run.

    Raises UserError when the form or the dataset is invalid, or when `lengths`, the counts with
    these settings, show that content is lost about which nothing is decided.
    """
    recipe, _ = read_form(values)
    recipe = recipe or Recipe.from_dict(values, "Model tab")  # raises the first problem
    if question := undecided(lengths, recipe):
        raise question
    dataset = open_dataset(studio.home, dataset_id)
    run = create_run(studio.home, recipe, dataset, preset=preset_id, key=key or None)
    studio.scheduler.wake()
    return run


def new_key() -> str:
    """A new idempotency key: a double click starts one run."""
    return uuid.uuid4().hex
