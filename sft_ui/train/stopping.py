"""Stop, Resume, and the end without saving: their buttons, their words and their events.

A second press of Stop does nothing here; ending a run without saving has a button of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import show_user_errors
from sft_ui.context import QUICK, Studio
from trainer_backend.runs import ACTIVE, LIVE, RESUMABLE, Run, open_run

OVERDUE_S = 20.0  # seconds after a stop request until the run may be ended without saving
STOPS = (
    "Stopping: the current step finishes and a checkpoint is saved. With large batches this takes "
    "a while."
)


@dataclass(frozen=True)
class Stopping:
    """Stop and Resume, and below them what shows when a stop takes long."""

    stop: gr.Button
    resume: gr.Button
    late: gr.Column
    lost: gr.HTML
    end: gr.Button
    confirm: gr.Row
    yes: gr.Button
    no: gr.Button

    def late_outputs(self) -> list[gr.blocks.Block]:
        """The components `shown_late` fills, in its order."""
        return [self.late, self.lost, self.end, self.confirm]


def build_late() -> list[Any]:
    """Build what shows when a stop takes long: the last five parts of `Stopping`, and its box."""
    with gr.Column(visible=False, elem_id="stop-late", elem_classes="card") as late:
        lost = gr.HTML()
        end = gr.Button("End now", size="md", min_width=110, elem_id="end-now")
        with gr.Row(visible=False) as confirm:
            yes = gr.Button(
                "End without saving",
                variant="stop",
                size="md",
                min_width=160,
                elem_id="end-now-yes",
            )
            no = gr.Button("Keep waiting", size="md", min_width=120, elem_id="end-now-no")
    return [late, lost, end, confirm, yes, no]


def wire_stopping(
    studio: Studio,
    parts: Stopping,
    run_id: gr.State,
    shown: list[Any],
    show: Callable[[Studio, str], list[Any]],
) -> None:
    """Wire the buttons; `show(studio, run_id)` returns the updates of `shown`."""

    @show_user_errors
    def stop(run_id: str) -> list[Any]:
        if not open_run(studio.home, run_id).stop_requested():  # a second one would kill it
            studio.scheduler.stop(run_id)
        return show(studio, run_id)

    @show_user_errors
    def resume(run_id: str) -> list[Any]:
        studio.scheduler.resume(run_id)
        return show(studio, run_id)

    @show_user_errors
    def end_now(run_id: str) -> list[Any]:
        studio.scheduler.end_now(run_id)
        gr.Info("The run was ended without saving.")
        return show(studio, run_id)

    parts.stop.click(stop, run_id, shown, **QUICK)
    parts.resume.click(resume, run_id, shown, **QUICK)
    parts.yes.click(end_now, run_id, shown, **QUICK)
    asks, waits = gr.update(visible=True), gr.update(visible=False)
    parts.end.click(lambda: [waits, asks], None, [parts.end, parts.confirm], **QUICK)
    parts.no.click(lambda: [asks, waits], None, [parts.end, parts.confirm], **QUICK)


def is_stopping(run: Run) -> bool:
    """Whether an active run was asked to stop and has not ended yet."""
    return run.state()["state"] in ACTIVE and run.stop_requested()


def stop_button(run: Run) -> dict[str, Any]:
    """Update of Stop: off while the run stops, so that no second press can end it."""
    if is_stopping(run):
        return gr.update(interactive=False, value="Stopping…")
    return gr.update(interactive=run.state()["state"] in LIVE, value="Stop")


def resume_button(run: Run) -> dict[str, Any]:
    """Update of Resume, which is “Try again” for a run without anything to go on from."""
    state, has_checkpoint = run.state()["state"], bool(run.checkpoints())
    if state in LIVE and state not in ACTIVE and has_checkpoint:
        return gr.update(interactive=False, value="Resuming…")
    words = "Resume" if has_checkpoint or state not in RESUMABLE else "Try again"
    return gr.update(interactive=state in RESUMABLE, value=words)


def shown_late(run: Run | None) -> list[Any]:
    """Updates of `Stopping.late_outputs` for a run; hidden unless its stop takes long."""
    seconds = run.stopping_seconds() if run and is_stopping(run) else None
    if run is None or seconds is None:
        return [gr.update(visible=False), "", gr.update(visible=True), gr.update(visible=False)]
    is_late = seconds >= OVERDUE_S
    words = markup.line(STOPS) + (markup.line(lost_words(run)) if is_late else Markup())
    ask = gr.update(visible=is_late)
    return [gr.update(visible=True), words, ask, gr.update(visible=False)]


def lost_words(run: Run) -> str:
    """What a run loses that is ended without saving."""
    step, kept = run.state().get("step") or 0, run.checkpoints()
    if not kept:
        return "End now does not save. There is no checkpoint yet, so all training is lost."
    lost = step - kept[-1].step
    steps = "1 step" if lost == 1 else f"{lost:,} steps"
    since = f"since the checkpoint of step {kept[-1].step:,}"
    if lost <= 0:
        return f"End now does not save again. Nothing was trained {since}."
    return f"End now does not save. The {steps} {since} are lost."
