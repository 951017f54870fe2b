"""The Train tab: start, watch, stop and resume one run.

The live view is live_chart.py; runs are driven by trainer_backend/scheduling/scheduler.py.
"""

import uuid
from dataclasses import dataclass

import gradio as gr

from sft_ui import markup
from sft_ui.alerts import attempt, show_user_errors
from sft_ui.context import QUICK, Studio
from sft_ui.recipe_form import read_form
from sft_ui.sizes import sizes_for
from sft_ui.train.after_run import AfterRun, build_after_run, shown_after, wire_after_run
from sft_ui.train.live_chart import build_live_chart
from trainer_backend.data.store import open_dataset
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
    """What the wiring in layout.py needs."""

    run_id: gr.State
    start_key: gr.State
    start: gr.Button
    stop: gr.Button
    resume: gr.Button
    talk: gr.Button
    next_card: gr.HTML
    run_card: gr.HTML
    chart: gr.HTML
    after: AfterRun
    shown: gr.events.Dependency  # after which the page shows another run


def build_train_tab(studio: Studio) -> TrainTab:
    """Build the tab; Start is wired in layout.py, where data and form meet."""
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
        talk = gr.Button("Talk to it →", interactive=False, min_width=120, elem_id="talk-to-it")
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
    parts = (start, stop, resume, talk, next_card, run_card, chart)
    return TrainTab(run_id, start_key, *parts, after, shown)


def _wire(studio: Studio, run_id: gr.State, chart: gr.HTML, buttons: list):
    @show_user_errors
    def stop(run_id: str):
        studio.scheduler.stop(run_id)
        state = open_run(studio.home, run_id).state()["state"]
        if state in ACTIVE:
            gr.Info(
                "Stopping: the current step is finished and saved. Nothing is lost. "
                "Stop again after some seconds ends it at once."
            )
        return run_buttons(studio, run_id)

    @show_user_errors
    def resume(run_id: str):
        studio.scheduler.resume(run_id)
        return run_buttons(studio, run_id)

    stop_button, resume_button, *_ = buttons
    stop_button.click(stop, run_id, buttons, **QUICK)
    resume_button.click(resume, run_id, buttons, **QUICK)
    chart.statuschange(lambda run: run_buttons(studio, run), run_id, buttons, **QUICK)
    return run_id.change(
        lambda run: [run, *run_buttons(studio, run)], run_id, [chart, *buttons], **QUICK
    )


def run_buttons(studio: Studio, run_id: str) -> list:
    """What Stop, Resume and Talk allow now, and the card of the run."""
    run, error = attempt(readable_run, studio, run_id) if run_id else (None, None)
    if run is None:
        said = markup.error_card(error) if error else ""
        return [*([gr.update(interactive=False)] * 3), said, *shown_after(None)]
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
    """The run with this id. Raises UserError when there is none, or a file of it is damaged."""
    run = open_run(studio.home, run_id)
    run.recipe()
    return run


def run_card(run: Run) -> str:
    """The run as it was started: its own snapshot, never the form."""
    recipe, spec, state = run.recipe(), run.spec(), run.state()
    rows = state.get("num_train_rows")
    pairs = [
        (label("base_model"), recipe.base_model),
        ("Data", spec["dataset"]["name"]),
        ("Began with", _beginning(spec)),
        ("Learns from", f"{rows:,} rows" if rows else None),
        ("Held out", f"{state['num_eval_rows']:,} rows" if state.get("num_eval_rows") else None),
        *recipe_facts(recipe),
        (label("precision"), state.get("precision")),
        ("On", spec.get("hardware")),
        ("Run", run.id),
    ]
    names = ", ".join(map(label, locked_fields()))
    locked = markup.more("What cannot change within this run", markup.line(names, "quiet"))
    return markup.card(run.name(), markup.facts(pairs), locked)


def _beginning(spec: dict) -> str | None:
    start = spec.get("start")
    return f"step {start['step']} of {start['run']}" if start else None


def recipe_facts(recipe: Recipe) -> list[tuple[str, object]]:
    """A recipe in a few lines."""
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


def missing(studio: Studio, dataset_id: str, values: dict) -> str:
    """What is still needed before a run can start; "" when nothing is."""
    if not dataset_id:
        return "Choose data first"
    dataset, error = attempt(open_dataset, studio.home, dataset_id)
    if error:
        return "Choose data first"
    if dataset.mapping is None:
        return "Choose what the columns mean first"
    if not dataset.num_examples:
        return "The data has no usable row"
    recipe, problems = read_form(values)
    if recipe is None:
        return f"Correct {problems[0].what.split('”')[0].strip('“')} first"
    return ""


def start_state(studio: Studio, dataset_id: str, preset_id: str, values: dict) -> list:
    """The Start button and the card of the run it would start."""
    reason = missing(studio, dataset_id, values)
    waits = any(run.state()["state"] in LIVE for run in list_runs(studio.home)[:20])
    words = "Start training" + (" (waits for the run before it)" if waits else "")
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


def start_run(studio: Studio, dataset_id: str, preset_id: str, key: str, values: dict) -> Run:
    """Create the run and hand it to the scheduler. The same key twice is the same run."""
    recipe, problems = read_form(values)
    if recipe is None:
        recipe = Recipe.from_dict(values, "Model tab")  # raises what the first problem says
    dataset = open_dataset(studio.home, dataset_id)
    run = create_run(studio.home, recipe, dataset, preset=preset_id, key=key or None)
    studio.scheduler.wake()
    return run


def new_key() -> str:
    """A fresh key, so that a double click starts one run."""
    return uuid.uuid4().hex
