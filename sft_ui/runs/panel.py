"""The chosen run of the Runs tab: open, rename, delete, its note and tags. Components and words."""

from dataclasses import dataclass

import gradio as gr

from trainer_backend.disk import in_words, size_of
from trainer_backend.runs import Run
from trainer_backend.runs.notes import MAX_NOTE

# The address of the run as a link; the chosen row knows its id.
COPY_LINK = """async () => {
  const run = document.querySelector('#runs-table tr.chosen')?.dataset.pick;
  const link = new URL(location.pathname, location.href);
  link.search = new URLSearchParams({ run: run ?? '', tab: 'train' });
  const button = document.querySelector('#run-link');
  let said = 'Copied';
  try { await navigator.clipboard.writeText(link.href); }
  catch { said = 'The browser does not allow copying'; }
  button.textContent = said;
  setTimeout(() => { button.textContent = 'Copy link'; }, 2000);
}"""


@dataclass(frozen=True)
class Panel:
    """The controls of the chosen run."""

    name: gr.Textbox
    open: gr.Button
    rename: gr.Button
    delete: gr.Button
    confirm: gr.Column
    lost: gr.HTML
    yes: gr.Button
    no: gr.Button
    note: gr.Textbox
    tags: gr.Textbox
    keep: gr.Button


def build_panel() -> Panel:
    """The controls, in the column that is being built."""
    name = gr.Textbox(label="Name", max_length=120, elem_id="run-name")
    with gr.Row():
        open_button = gr.Button("Open", variant="primary", min_width=90, elem_id="run-open")
        rename = gr.Button("Rename", min_width=90, elem_id="run-rename")
        link = gr.Button("Copy link", min_width=90, elem_id="run-link")
        delete = gr.Button("Delete…", variant="stop", min_width=90, elem_id="run-delete")
    link.click(None, None, None, js=COPY_LINK, api_visibility="private")
    with gr.Column(visible=False, elem_id="run-delete-confirm", elem_classes="card") as confirm:
        lost = gr.HTML()
        with gr.Row():
            yes = gr.Button(
                "Delete forever", variant="stop", size="md", min_width=140, elem_id="run-delete-yes"
            )
            no = gr.Button("Cancel", size="md", min_width=90, elem_id="run-delete-no")
    note = gr.Textbox(
        label="Note",
        placeholder="What you tried, what came out",
        lines=3,
        max_lines=8,
        max_length=MAX_NOTE,
        elem_id="run-note",
    )
    tags = gr.Textbox(label="Tags", placeholder="good, for review", elem_id="run-tags")
    keep = gr.Button("Save note and tags", elem_id="run-note-save")
    changes = (name, open_button, rename, delete, confirm, lost, yes, no)
    return Panel(*changes, note, tags, keep)


def deleted_words(run: Run) -> str:
    """What a deletion takes away."""
    kept = len(run.checkpoints())
    checkpoints = "1 checkpoint" if kept == 1 else f"{kept:,} checkpoints"
    what = f"its {checkpoints}, curves and log" if kept else "its curves and log"
    return (
        f"Delete “{run.name()}”? The run with {what} ({in_words(size_of(run.dir))}) goes for good. "
        "The data and exported files stay."
    )
