"""The Runs tab: list, open, rename, delete and export runs.

Reads run folders; exports are written by the model process.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt, show_user_errors
from sft_ui.context import PRIVATE, QUICK, SETS_STATE, Studio
from trainer_backend.errors import CODES, UserError
from trainer_backend.models import snippet
from trainer_backend.runs import Run, list_runs, open_run, unreadable_runs

FORMATS = [
    ("Adapter (small, needs the base model)", "adapter"),
    ("Merged model (complete)", "merged"),
    ("GGUF file (llama.cpp, Ollama)", "gguf"),
    ("Script (reproduces the run)", "script"),
]
MAX_RUNS = 200
HEADERS = ("Run", "Name", "Model", "Data", "State", "Steps", "Loss", "Eval loss", "Time", "Started")
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
    confirm: gr.Row
    yes: gr.Button
    no: gr.Button


def build_runs_tab(studio: Studio) -> RunsTab:
    """Build the tab and its events, except opening a run, which crosses tabs."""
    chosen = gr.State("")
    with gr.Row():
        gr.HTML(markup.line("Choose a run to open, rename, export or delete it.", "quiet"))
        refresh = gr.Button("Refresh", size="sm", scale=0, min_width=100, elem_id="runs-refresh")
    table = gr.HTML(runs_table([], ""), elem_id="runs-table", js_on_load=markup.PICK_SCRIPT)
    with gr.Column(visible=False) as panel, gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            changes = _build_changes()
        with gr.Column(scale=6, min_width=320):
            format = gr.Radio(FORMATS, value="adapter", label="Export as", elem_id="export-format")
            export = gr.Button("Export and download", variant="primary", elem_id="export-run")
            file = gr.DownloadButton("Download", visible="hidden", elem_id="export-file")
            code = gr.HTML(elem_id="load-snippet")
    shown = [table, panel, changes.name, changes.confirm, code]
    tab = RunsTab(chosen, table, changes.open, shown)
    _wire_choosing(studio, tab, refresh, format, code)
    _wire_changes(studio, tab, changes)
    _wire_export(studio, tab, format, export, file)
    return tab


def _build_changes() -> Changes:
    name = gr.Textbox(label="Name", max_length=120, elem_id="run-name")
    with gr.Row():
        open_button = gr.Button("Open", variant="primary", min_width=90, elem_id="run-open")
        rename = gr.Button("Rename", min_width=90, elem_id="run-rename")
        delete = gr.Button("Delete…", variant="stop", min_width=90, elem_id="run-delete")
    with gr.Row(visible=False) as confirm:
        yes = gr.Button("Delete forever", variant="stop", min_width=130, elem_id="run-delete-yes")
        no = gr.Button("Cancel", min_width=90, elem_id="run-delete-no")
    return Changes(name, open_button, rename, delete, confirm, yes, no)


def _wire_choosing(
    studio: Studio, tab: RunsTab, refresh: gr.Button, format: gr.Radio, code: gr.HTML
) -> None:
    def choose(event: gr.EventData) -> str:
        return str(event.id)

    tab.table.pick(choose, None, tab.chosen, **SETS_STATE)
    tab.chosen.change(lambda run: show_runs(studio, run), tab.chosen, tab.refreshed, **QUICK)
    refresh.click(lambda run: show_runs(studio, run), tab.chosen, tab.refreshed, **QUICK)
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
    parts.delete.click(lambda: gr.update(visible=True), None, parts.confirm, **QUICK)
    parts.no.click(lambda: gr.update(visible=False), None, parts.confirm, **QUICK)
    parts.yes.click(remove, tab.chosen, [tab.chosen, *tab.refreshed], **SETS_STATE)


def _wire_export(
    studio: Studio, tab: RunsTab, format: gr.Radio, export: gr.Button, file: gr.DownloadButton
) -> None:
    @show_user_errors
    def make(run_id: str, kind: str, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008 - Gradio's way
        progress(None, desc="Writing files")
        return str(studio.model_process.export(open_run(studio.home, run_id).id, kind))

    made = export.click(make, [tab.chosen, format], file, concurrency_limit=2, **PRIVATE)
    made.success(None, None, None, js=CLICK_DOWNLOAD, **PRIVATE)


def show_runs(studio: Studio, run_id: str) -> list[Any]:
    """Updates of `RunsTab.refreshed`: the table, and the panel of the chosen run."""
    run, _ = attempt(open_run, studio.home, run_id) if run_id else (None, None)
    runs = list_runs(studio.home)
    shown = [one.summary() for one in runs[:MAX_RUNS]]
    shown += [_unreadable(one, error) for one, error in unreadable_runs(studio.home)]
    table = runs_table(shown, run_id or "", left_out=len(runs[MAX_RUNS:]))
    if run is None:
        return [table, gr.update(visible=False), "", gr.update(visible=False), ""]
    code = load_code(studio, run_id, "adapter")
    return [table, gr.update(visible=True), run.name(), gr.update(visible=False), code]


def _unreadable(run: Run, error: UserError) -> dict[str, Any]:
    """The summary of a run that cannot be opened, so that it does not vanish from the table."""
    unknown = dict.fromkeys(("loss", "eval_loss", "elapsed_seconds", "error", "no_progress"))
    words = {"base_model": "–", "dataset": "–", "state": f"cannot be read: {error.what}"}
    created = {"created_at": run.dir.stat().st_mtime, "step": 0, "total_steps": 0}
    return {"id": run.id, "name": run.name(), **words, **unknown, **created}


def runs_table(summaries: Sequence[dict], chosen: str, left_out: int = 0) -> Markup:
    """The runs, newest first, and how many older ones are not shown."""
    if not summaries:
        return markup.empty(
            "No runs yet", "Start one in the Train tab. Runs stay here until you delete them."
        )
    rows = [(one["id"], one["id"][-6:], _cells(one)) for one in summaries]
    older = "older run is" if left_out == 1 else "older runs are"
    more = f"{left_out:,} {older} not shown; “python -m trainer_backend runs” lists them all."
    note = markup.line(more, "quiet") if left_out else ""
    table = markup.table("Runs", HEADERS, rows, chosen)
    return Markup('<div class="card">{}{}</div>').format(table, note)


def _cells(one: Mapping[str, Any]) -> list[object]:
    steps = f"{one['step'] or 0:,} of {one['total_steps']:,}" if one["total_steps"] else "–"
    return [
        one["name"],
        one["base_model"].rstrip("/").rpartition("/")[2],
        one["dataset"],
        _state(one),
        steps,
        _number(one["loss"]),
        _number(one["eval_loss"]),
        _duration(one["elapsed_seconds"]),
        time.strftime("%d %b %H:%M", time.localtime(one["created_at"])),
    ]


def _state(one: Mapping[str, Any]) -> str:
    """The state; for a failed run, with a short reason."""
    code = (one["error"] or {}).get("code")
    if one["state"] == "failed" and code in CODES:
        return f"failed: {CODES[code]}"
    return "no progress" if one["no_progress"] else one["state"]


def _number(value: float | None) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "–"


def _duration(seconds: float | None) -> str:
    if not seconds:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


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
