"""The four steps of the way above the tabs: which are done, which one is open, where to go."""

from collections.abc import Collection

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt
from sft_ui.context import Studio
from sft_ui.theme import static_text
from trainer_backend.data.store import open_dataset
from trainer_backend.runs import LIVE, open_run

STEPS = ("data", "model", "train", "chat")


def build_stepper() -> gr.HTML:
    """The component; its event `go` carries the name of the tab to open."""
    return gr.HTML(stepper(()), js_on_load=static_text("stepper.js"), elem_id="stepper")


def stepper(done: Collection[str]) -> Markup:
    """The steps as buttons; the script marks the one whose tab is open."""
    step = Markup(
        '<li><button type="button" id="step-{}" data-step="{}" data-state="{}">'
        '<span class="mark" aria-hidden="true">{}</span>{}<span class="visually-hidden"> {}</span>'
        "</button></li>"
    )
    rows = (
        (
            *(name, name, "done" if name in done else "todo"),
            *("✓" if name in done else number, name.capitalize()),
            "(done)" if name in done else "",
        )
        for number, name in enumerate(STEPS, 1)
    )
    return Markup('<nav aria-label="Steps"><ol>{}</ol></nav>').format(markup.each(step, rows))


def steps_done(studio: Studio, dataset_id: str, run_id: str) -> set[str]:
    """The steps that the chosen data and the shown run have behind them."""
    dataset, _ = attempt(open_dataset, studio.home, dataset_id) if dataset_id else (None, None)
    run, _ = attempt(open_run, studio.home, run_id) if run_id else (None, None)
    has_data = dataset is not None and dataset.mapping is not None and bool(dataset.num_examples)
    has_model = run is not None and bool(run.checkpoints())
    trained = has_model and run is not None and run.state()["state"] not in LIVE
    known = {"data": has_data, "model": run is not None, "train": trained}
    return {name for name, is_done in known.items() if is_done}
