"""The Train tab: start and watch one run.

Reads run folders and calls the scheduler; never trains itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt
from sft_ui.blind.button import build_blind_button
from sft_ui.context import QUICK, Studio
from sft_ui.evaluation.result import build_result
from sft_ui.sweep.fold import SweepFold, build_sweep
from sft_ui.train.after_run import AfterRun, build_after_run, shown_after, wire_after_run
from sft_ui.train.decision import Decision, build_decision
from sft_ui.train.live_chart import build_live_chart
from sft_ui.train.next_run_card.next_run import (
    NextRun,
    build_commands,
    build_fit_question,
    build_next_card,
    recipe_facts,
)
from sft_ui.train.stopping import (
    Stopping,
    build_late,
    resume_button,
    shown_late,
    stop_button,
    wire_stopping,
)
from trainer_backend.recipe import label
from trainer_backend.runs import LIVE, Run, locked_fields, open_run


@dataclass(frozen=True)
class TrainTab:
    """What the page needs of the tab."""

    run_id: gr.State
    start_key: gr.State
    start: gr.Button
    stop: gr.Button
    resume: gr.Button
    talk: gr.Button
    next_run: NextRun
    decision: Decision
    sweep: SweepFold
    use_settings: gr.Button
    run_card: gr.HTML
    chart: gr.HTML
    result: gr.HTML
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
    stopping = Stopping(stop, resume, *build_late())
    result = build_result(studio)
    decision = build_decision()
    question = build_fit_question()
    commands = build_commands()
    sweep = build_sweep()
    with gr.Row(equal_height=False):
        with gr.Column(scale=9, min_width=340):
            chart = build_live_chart(studio)
        with gr.Column(scale=3, min_width=260):
            run_card = gr.HTML(elem_id="run-card")
            use_settings = gr.Button(
                "Use this run's settings", size="md", visible=False, elem_id="use-settings"
            )
            build_blind_button("train")
            after = build_after_run()
            next_card = build_next_card()
    next_run = NextRun(*question, next_card, commands)
    buttons: list[Any] = [stop, resume, talk, run_card, use_settings]
    buttons += [*after.outputs(), *stopping.late_outputs(), start]
    shown = _wire(studio, run_id, chart, buttons)
    wire_stopping(studio, stopping, run_id, buttons, run_buttons)
    wire_after_run(studio, after, run_id, buttons, run_buttons)
    return TrainTab(
        *(run_id, start_key, start, stop, resume, talk, next_run, decision, sweep),
        *(use_settings, run_card, chart, result, after, shown),
    )


def _wire(studio: Studio, run_id: gr.State, chart: gr.HTML, buttons: list[Any]) -> Dependency:
    chart.statuschange(lambda run: run_buttons(studio, run), run_id, buttons, **QUICK)
    return run_id.change(
        lambda run: [run, *run_buttons(studio, run)], run_id, [chart, *buttons], **QUICK
    )


def run_buttons(studio: Studio, run_id: str) -> list[Any]:
    """Updates of Stop, Resume, Chat, the card, the actions after it, a late stop, and Start's look.

    The primary look belongs to what one would press now: Start, or Chat once the run has finished;
    while a run trains, to neither.
    """
    run, error = attempt(readable_run, studio, run_id) if run_id else (None, None)
    start = gr.update(variant="primary" if run is None else "secondary")
    if run is None:
        off, stop = gr.update(interactive=False), gr.update(interactive=False, value="Stop")
        resume = gr.update(interactive=False, value="Resume")
        card, hidden = markup.error_card(error), gr.update(visible=False)
        return [stop, resume, off, card, hidden, *shown_after(None), *shown_late(None), start]
    state = run.state()["state"]
    has_model, is_done = bool(run.checkpoints()), state == "finished"
    look = "primary" if is_done and has_model else "secondary"
    if not (state in LIVE or look == "primary"):
        start = gr.update(variant="primary")
    return [
        stop_button(run),
        resume_button(run),
        gr.update(interactive=has_model, variant=look),
        run_card(run),
        gr.update(visible=True),
        *shown_after(run),
        *shown_late(run),
        start,
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
