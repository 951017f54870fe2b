"""Which rows are held out: a share of them, or a file of one's own.

Which rows that makes is decided in trainer_backend/data/store/split.py.
"""

from dataclasses import dataclass

import gradio as gr

from sft_ui import markup
from sft_ui.data.reading.readings import Readings, build_reading_card
from trainer_backend.data.readers.options import UPLOAD_SUFFIXES
from trainer_backend.data.store import StoredDataset
from trainer_backend.recipe import label


@dataclass(frozen=True)
class HeldOutChoice:
    """The components of the choice."""

    box: gr.Accordion
    said: gr.HTML
    share: gr.Slider
    show: gr.Button
    upload: gr.File
    reading: gr.HTML
    forget: gr.Button


def build_held_out(readings: Readings) -> HeldOutChoice:
    """Build the accordion; its events are wired in data_wiring.py."""
    with gr.Accordion("Rows that are held out", open=False, elem_id="held-out") as box:
        with gr.Row(equal_height=False):
            with gr.Column(scale=6, min_width=300):
                said = gr.HTML(elem_id="held-out-said")
                share = gr.Slider(
                    0,
                    50,
                    value=5,
                    step=1,
                    label=f"{label('eval_fraction')}, in percent of the rows",
                    info="At least 16 rows or a fifth, at most 1,000. Same as in the Model tab.",
                    elem_id="held-out-share",
                )
                show = gr.Button("Show the held-out rows", size="sm", elem_id="held-out-show")
            with gr.Column(scale=5, min_width=300):
                upload = gr.File(
                    label="Or hold out a file of your own",
                    file_types=list(UPLOAD_SUFFIXES),
                    height=120,
                    elem_id="held-out-upload",
                )
                reading = build_reading_card(readings, "held-out-reading")
                forget = gr.Button(
                    "Go back to a share of the rows",
                    size="sm",
                    visible=False,
                    elem_id="held-out-no",
                )
    return HeldOutChoice(box, said, share, show, upload, reading, forget)


def held_out_words(dataset: StoredDataset | None, count: int) -> str:
    """What is held out now, in a sentence or two."""
    if dataset is None or not dataset.num_examples:
        return ""
    if dataset.held_out:
        own = dataset.held_out
        said = f"{own['count']:,} rows of “{own['name']}” are kept apart to measure."
        overlap = own.get("overlap") or 0
        stand = "stands" if overlap == 1 else "stand"
        twice = f" {overlap:,} of them also {stand} in the training rows." if overlap else ""
        return markup.line(said + twice)
    if not count:
        return markup.line("No row is held out: the run cannot tell how well it does on new rows.")
    said = (
        f"{count:,} of {dataset.num_examples:,} examples are kept apart to measure, never learned."
    )
    how = "The choice is random but always the same, and equal rows stay together."
    return markup.line(f"{said} {how}")
