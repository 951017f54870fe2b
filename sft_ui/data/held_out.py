"""The choice of held-out rows: a share of the data, or a file of the user's own.

Builds components and texts; the split itself belongs to the dataset store.
"""

from dataclasses import dataclass

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.data.reading.readings import Readings, build_reading_card
from trainer_backend.data.readers.options import UPLOAD_SUFFIXES
from trainer_backend.data.store import StoredDataset
from trainer_backend.recipe import label


@dataclass(frozen=True)
class HeldOutChoice:
    """The components of the choice; `said` describes the current one."""

    box: gr.Accordion
    said: gr.HTML
    share: gr.Slider
    show: gr.Button
    upload: gr.File
    reading: gr.HTML
    forget: gr.Button


def build_held_out(readings: Readings) -> HeldOutChoice:
    """Build the accordion; its events need the recipe and are wired with it."""
    with gr.Accordion("Held-out rows", open=False, elem_id="held-out") as box:
        with gr.Row(equal_height=False):
            with gr.Column(scale=6, min_width=300):
                said = gr.HTML(elem_id="held-out-said")
                share = gr.Slider(
                    0,
                    50,
                    value=5,
                    step=1,
                    label=f"{label('eval_fraction')}, in percent of the rows",
                    info="At least 16 rows or a fifth, at most 1,000. Also set in the Model tab.",
                    elem_id="held-out-share",
                )
                show = gr.Button("Show held-out rows", size="sm", elem_id="held-out-show")
            with gr.Column(scale=5, min_width=300):
                upload = gr.File(
                    label="Or use your own file for evaluation",
                    file_types=list(UPLOAD_SUFFIXES),
                    height=120,
                    elem_id="held-out-upload",
                )
                reading = build_reading_card(readings, "held-out-reading")
                forget = gr.Button(
                    "Use a share of the rows instead",
                    size="sm",
                    visible=False,
                    elem_id="held-out-no",
                )
    return HeldOutChoice(box, said, share, show, upload, reading, forget)


def held_out_words(dataset: StoredDataset | None, count: int) -> Markup | str:
    """What is held out now, in a sentence or two; `count` is the number of examples."""
    if dataset is None or not dataset.num_examples:
        return ""
    if dataset.held_out:
        own = dataset.held_out
        what = f"{own['count']:,} rows of “{own['name']}” are held out for evaluation."
        overlap = own.get("overlap") or 0
        appear = "appears" if overlap == 1 else "appear"
        twice = f" {overlap:,} of them also {appear} in the training rows." if overlap else ""
        return markup.line(what + twice)
    if not count:
        return markup.line("No rows are held out, so the run is not evaluated on new rows.")
    total = dataset.num_examples
    what = f"{count:,} of {total:,} examples are held out for evaluation and never trained on."
    how = "The split is random but repeatable, and duplicates stay on the same side."
    return markup.line(f"{what} {how}")
