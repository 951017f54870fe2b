"""The Runs tab: list, open, rename, delete and export runs.

Reads run folders; exports are written by the model process.
"""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt, show_user_errors
from sft_ui.blind.button import build_blind_button
from sft_ui.context import IN_TURN, PRIVATE, QUICK, SETS_STATE, SILENT, Options, Studio
from sft_ui.runs.table import runs_table
from sft_ui.theme import static_text
from trainer_backend.disk import in_words, size_of
from trainer_backend.errors import UserError
from trainer_backend.models import snippet
from trainer_backend.runs import Run, list_runs, open_run, unreadable_runs

FORMATS = [
    ("Adapter (small, needs the base model)", "adapter"),
    ("Merged model (complete)", "merged"),
    ("GGUF file (llama.cpp, Ollama)", "gguf"),
    ("Script (reproduces the run)", "script"),
]
MAX_RUNS = 200
MAX_FILE_NAME = 60  # characters of a run's name in that of its export
EXPORT = "Export and download"
CLICK_DOWNLOAD = "() => setTimeout(() => document.querySelector('#export-file')?.click(), 150)"


@dataclass(frozen=True)
class RunsTab:
    """What the page needs of the tab."""

    chosen: gr.State
    table: gr.HTML
    open: gr.Button
    refreshed: list[gr.blocks.Block]  # the components that `show_runs` updates


@dataclass(frozen=True)
class Changes:
    """The controls that rename and delete the chosen run."""

    name: gr.Textbox
    open: gr.Button
    rename: gr.Button
    delete: gr.Button
    confirm: gr.Column
    lost: gr.HTML
    yes: gr.Button
    no: gr.Button


def build_runs_tab(studio: Studio) -> RunsTab:
    """Build the tab and its events, except opening a run, which crosses tabs."""
    chosen = gr.State("")
    with gr.Row():
        gr.HTML(markup.line("Choose a run to open, rename, export or delete it.", "quiet"))
        refresh = gr.Button("Refresh", size="sm", scale=0, min_width=100, elem_id="runs-refresh")
    table = gr.HTML(runs_table([], ""), elem_id="runs-table", js_on_load=_script())
    with gr.Column(visible=False) as panel, gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            changes = _build_changes()
            build_blind_button("runs")
        with gr.Column(scale=6, min_width=320):
            format = gr.Radio(FORMATS, value="adapter", label="Export as", elem_id="export-format")
            export = gr.Button(EXPORT, variant="primary", elem_id="export-run")
            code = gr.HTML(elem_id="load-snippet")
    # pressed by a script only; the style sheet hides it, as updates around it would show it again
    file = gr.DownloadButton("Download", elem_id="export-file")
    shown = [table, panel, changes.name, changes.confirm, code]
    tab = RunsTab(chosen, table, changes.open, shown)
    _wire_choosing(studio, tab, refresh, format, code)
    _wire_changes(studio, tab, changes)
    _wire_export(studio, tab, format, export, file)
    return tab


def _script() -> str:
    return markup.PICK_SCRIPT + static_text("runs/runs_table.js")


def _build_changes() -> Changes:
    name = gr.Textbox(label="Name", max_length=120, elem_id="run-name")
    with gr.Row():
        open_button = gr.Button("Open", variant="primary", min_width=90, elem_id="run-open")
        rename = gr.Button("Rename", min_width=90, elem_id="run-rename")
        delete = gr.Button("Delete…", variant="stop", min_width=90, elem_id="run-delete")
    with gr.Column(visible=False, elem_id="run-delete-confirm", elem_classes="card") as confirm:
        lost = gr.HTML()
        with gr.Row():
            yes = gr.Button(
                "Delete forever", variant="stop", size="md", min_width=140, elem_id="run-delete-yes"
            )
            no = gr.Button("Cancel", size="md", min_width=90, elem_id="run-delete-no")
    return Changes(name, open_button, rename, delete, confirm, lost, yes, no)


def _wire_choosing(
    studio: Studio, tab: RunsTab, refresh: gr.Button, format: gr.Radio, code: gr.HTML
) -> None:
    def choose(event: gr.EventData) -> str:
        return str(event.id)

    tab.table.pick(choose, None, tab.chosen, **IN_TURN, **SETS_STATE)
    tab.chosen.change(lambda run: show_runs(studio, run), tab.chosen, tab.refreshed, **QUICK)
    refresh.click(lambda run: show_runs(studio, run), tab.chosen, tab.refreshed, **QUICK)
    tab.table.stale(lambda run: table_of(studio, run), tab.chosen, tab.table, **SILENT)
    format.input(
        lambda run, kind: load_code(studio, run, kind), [tab.chosen, format], code, **QUICK
    )


def _wire_changes(studio: Studio, tab: RunsTab, parts: Changes) -> None:
    @show_user_errors
    def rename(run_id: str, text: str) -> list[Any]:
        open_run(studio.home, run_id).rename(text)
        return show_runs(studio, run_id)

    @show_user_errors
    def remove(run_id: str) -> list[Any]:
        open_run(studio.home, run_id).delete()
        gr.Info("The run and its files were deleted.")
        return ["", *show_runs(studio, "")]

    for trigger in (parts.rename.click, parts.name.submit):
        trigger(rename, [tab.chosen, parts.name], tab.refreshed, **QUICK)

    @show_user_errors
    def ask(run_id: str) -> list[Any]:
        return [gr.update(visible=True), markup.line(deleted_words(open_run(studio.home, run_id)))]

    parts.delete.click(ask, tab.chosen, [parts.confirm, parts.lost], **QUICK)
    parts.no.click(lambda: gr.update(visible=False), None, parts.confirm, **QUICK)
    parts.yes.click(remove, tab.chosen, [tab.chosen, *tab.refreshed], **SETS_STATE)


def _wire_export(
    studio: Studio, tab: RunsTab, format: gr.Radio, export: gr.Button, file: gr.DownloadButton
) -> None:
    ready = gr.update(value=EXPORT, interactive=True)

    @show_user_errors
    def make(run_id: str, kind: str) -> Iterator[tuple[Any, Any]]:
        run = open_run(studio.home, run_id)
        yield gr.skip(), gr.update(value="Exporting…", interactive=False)
        path = studio.model_process.export(run.id, kind)
        yield str(named_copy(path, run.name(), kind)), ready

    out: Options = {"outputs": [file, export], "show_progress": "hidden", "concurrency_limit": 2}
    made = export.click(make, [tab.chosen, format], trigger_mode="once", **out, **PRIVATE)
    made.success(None, None, None, js=CLICK_DOWNLOAD, **PRIVATE)
    made.failure(lambda: ready, None, export, **QUICK)


def named_copy(path: Path, name: str, kind: str) -> Path:
    """The exported file under the name of its run, beside it; without a copy where possible."""
    words = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:MAX_FILE_NAME] or "run"
    target = path.parent / "named" / path.stem / f"{words}-{kind}{path.suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in target.parent.iterdir():
        old.unlink()
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)
    return target


def deleted_words(run: Run) -> str:
    """What a deletion takes away."""
    kept = len(run.checkpoints())
    checkpoints = "1 checkpoint" if kept == 1 else f"{kept:,} checkpoints"
    what = f"its {checkpoints}, curves and log" if kept else "its curves and log"
    return (
        f"Delete “{run.name()}”? The run with {what} ({in_words(size_of(run.dir))}) goes for good. "
        "The data and exported files stay."
    )


def show_runs(studio: Studio, run_id: str) -> list[Any]:
    """Updates of `RunsTab.refreshed`: the table, and the panel of the chosen run."""
    run, _ = attempt(open_run, studio.home, run_id) if run_id else (None, None)
    table = table_of(studio, run_id)
    if run is None:
        return [table, gr.update(visible=False), "", gr.update(visible=False), ""]
    code = load_code(studio, run_id, "adapter")
    return [table, gr.update(visible=True), run.name(), gr.update(visible=False), code]


def table_of(studio: Studio, chosen: str) -> Markup:
    """The table of all runs."""
    runs = list_runs(studio.home)
    shown = [one.summary() for one in runs[:MAX_RUNS]]
    shown += [_unreadable(one, error) for one, error in unreadable_runs(studio.home)]
    return runs_table(shown, chosen or "", left_out=len(runs[MAX_RUNS:]))


def _unreadable(run: Run, error: UserError) -> dict[str, Any]:
    """The summary of a run that cannot be opened, so that it does not vanish from the table."""
    unknown = dict.fromkeys(("loss", "eval_loss", "elapsed_seconds", "error", "no_progress"))
    words = {"base_model": "–", "dataset": "–", "state": f"Cannot be read: {error.what}"}
    created = {"created_at": run.dir.stat().st_mtime, "step": 0, "total_steps": 0}
    return {"id": run.id, "name": run.name(), **words, **unknown, **created}


def load_code(studio: Studio, run_id: str, kind: str) -> Markup | str:
    """A card with the code that uses an export outside the studio."""
    run, _ = attempt(open_run, studio.home, run_id) if run_id else (None, None)
    if run is None:
        return ""
    try:
        text = snippet(run.recipe(), kind)
    except UserError as error:
        return markup.card(error.what, markup.line(error.fix))
    body = Markup('<pre class="snippet" tabindex="0" aria-label="Code">{}</pre>')
    return markup.card("How to use it", body.format(text))
