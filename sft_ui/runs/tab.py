"""The Runs tab: the table, its filters, the chosen run, exports and the comparison.

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
from gradio.components import Component
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt, show_user_errors
from sft_ui.blind.button import build_blind_button
from sft_ui.context import IN_TURN, PRIVATE, QUICK, SETS_STATE, SILENT, Options, Studio
from sft_ui.runs.compare.component import build_comparison
from sft_ui.runs.listing import listed_rows, tag_choices
from sft_ui.runs.panel import Panel, build_panel, deleted_words
from sft_ui.runs.table import LARGEST_FIRST, runs_table
from sft_ui.runs.view import STATES, Row, View, next_sort, shown_rows
from sft_ui.theme import static_text
from trainer_backend.errors import UserError
from trainer_backend.models import snippet
from trainer_backend.runs import open_run
from trainer_backend.runs.notes import write_notes

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
    asked: list[Component]  # the inputs of `show_runs`: the chosen run, and the view
    refreshed: list[gr.blocks.Block]  # the components that `show_runs` updates


def build_runs_tab(studio: Studio) -> RunsTab:
    """Build the tab and its events, except opening a run, which crosses tabs."""
    chosen, sort = gr.State(""), gr.State(View().sort)
    build_comparison(studio)
    with gr.Column(elem_id="compare-pick"):
        with gr.Row(elem_id="runs-filters"):
            wide: Options = {"container": False, "scale": 4, "min_width": 200}
            hint = "Filter by name, model, data, tag or note"
            text = gr.Textbox(label="Filter", placeholder=hint, elem_id="runs-filter", **wide)
            small: Options = {"container": False, "scale": 1, "min_width": 130}
            state = gr.Dropdown(STATES, value="", label="State", elem_id="runs-state", **small)
            tags: list[tuple[str, str]] = tag_choices([])
            tag = gr.Dropdown(tags, value="", label="Tag", elem_id="runs-tag", **small)
        table = gr.HTML(runs_table([], ""), elem_id="runs-table", js_on_load=_script())
    with gr.Column(visible=False, elem_id="run-panel") as box, gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            panel = build_panel()
            build_blind_button("runs")
        with gr.Column(scale=6, min_width=320):
            format = gr.Radio(FORMATS, value="adapter", label="Export as", elem_id="export-format")
            export = gr.Button(EXPORT, variant="primary", elem_id="export-run")
            code = gr.HTML(elem_id="load-snippet")
    # pressed by a script only; the style sheet hides it, as updates around it would show it again
    file = gr.DownloadButton("Download", elem_id="export-file")
    asked: list[Component] = [chosen, text, state, tag, sort]
    shown = [table, tag, box, panel.name, panel.confirm, code, panel.note, panel.tags]
    tab = RunsTab(chosen, table, panel.open, asked, shown)
    _wire_choosing(studio, tab, format, code)
    _wire_view(studio, tab, [text, state, tag], sort)
    _wire_panel(studio, tab, panel)
    _wire_export(studio, tab, format, export, file)
    return tab


def _script() -> str:
    return static_text("runs/runs_table.js")


def _wire_choosing(studio: Studio, tab: RunsTab, format: gr.Radio, code: gr.HTML) -> None:
    def choose(event: gr.EventData) -> str:
        return str(event.id)

    tab.table.pick(choose, None, tab.chosen, **IN_TURN, **SETS_STATE)
    tab.chosen.change(lambda *asked: show_runs(studio, *asked), tab.asked, tab.refreshed, **QUICK)
    tab.table.stale(lambda *asked: table_of(studio, *asked), tab.asked, tab.table, **SILENT)
    format.input(
        lambda run, kind: load_code(studio, run, kind), [tab.chosen, format], code, **QUICK
    )


def _wire_view(
    studio: Studio, tab: RunsTab, filters: list[gr.Textbox | gr.Dropdown], sort: gr.State
) -> None:
    """The filters and the heads of the columns; only the table changes."""

    def turn(now: str, event: gr.EventData) -> str:
        return next_sort(now, str(event.column), LARGEST_FIRST)

    again: Options = {"outputs": tab.table, "trigger_mode": "always_last", **SILENT}
    for one in filters:
        one.input(lambda *asked: table_of(studio, *asked), tab.asked, **again)
    turned = tab.table.sort(turn, sort, sort, **IN_TURN, **SETS_STATE)
    turned.then(lambda *asked: table_of(studio, *asked), tab.asked, tab.table, **SILENT)


def _wire_panel(studio: Studio, tab: RunsTab, parts: Panel) -> None:
    @show_user_errors
    def rename(name: str, run_id: str, *view: str) -> list[Any]:
        open_run(studio.home, run_id).rename(name)
        return show_runs(studio, run_id, *view)

    @show_user_errors
    def remove(run_id: str, *view: str) -> list[Any]:
        open_run(studio.home, run_id).delete()
        gr.Info("The run and its files were deleted.")
        return ["", *show_runs(studio, "", *view)]

    @show_user_errors
    def keep(note: str, tags: str, run_id: str, *view: str) -> list[Any]:
        write_notes(open_run(studio.home, run_id).dir, note, tags)
        gr.Info("Note and tags are saved with the run.")
        return show_runs(studio, run_id, *view)

    for trigger in (parts.rename.click, parts.name.submit):
        trigger(rename, [parts.name, *tab.asked], tab.refreshed, **QUICK)
    for trigger in (parts.keep.click, parts.tags.submit):
        trigger(keep, [parts.note, parts.tags, *tab.asked], tab.refreshed, **QUICK)

    @show_user_errors
    def ask(run_id: str) -> list[Any]:
        return [gr.update(visible=True), markup.line(deleted_words(open_run(studio.home, run_id)))]

    parts.delete.click(ask, tab.chosen, [parts.confirm, parts.lost], **QUICK)
    parts.no.click(lambda: gr.update(visible=False), None, parts.confirm, **QUICK)
    parts.yes.click(remove, tab.asked, [tab.chosen, *tab.refreshed], **SETS_STATE)


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


def show_runs(studio: Studio, run_id: str, *view: str) -> list[Any]:
    """Updates of `RunsTab.refreshed`: the table and its tags, and the panel of the chosen run."""
    run, _ = attempt(open_run, studio.home, run_id) if run_id else (None, None)
    rows = listed_rows(studio.home)
    table = _table(rows, run_id, View(*view))
    tags = gr.update(choices=tag_choices(rows))
    if run is None:
        hidden = gr.update(visible=False)
        return [table, tags, hidden, "", hidden, "", "", ""]
    notes, code = run.notes(), load_code(studio, run_id, "adapter")
    shown = [gr.update(visible=True), run.name(), gr.update(visible=False), code]
    return [table, tags, *shown, notes.text, ", ".join(notes.tags)]


def table_of(studio: Studio, chosen: str, *view: str) -> Markup:
    """The table of the runs that the view asks for."""
    return _table(listed_rows(studio.home), chosen, View(*view))


def _table(rows: list[Row], chosen: str, view: View) -> Markup:
    found = shown_rows(rows, view)
    return runs_table(found[:MAX_RUNS], chosen or "", view, left_out=len(found[MAX_RUNS:]))


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
