"""The Runs tab: every run, opened, renamed, deleted, exported.

Exports are written by the model process; what a run is lives in trainer_backend/runs/create.py.
"""

import time
from dataclasses import dataclass

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
    ("Script (repeats the run)", "script"),
]
MAX_RUNS = 200
HEADERS = ("Run", "Name", "Model", "Data", "State", "Steps", "Loss", "Eval loss", "Time", "Started")
CLICK_DOWNLOAD = "() => setTimeout(() => document.querySelector('#export-file')?.click(), 150)"


@dataclass(frozen=True)
class RunsTab:
    """What the wiring in layout.py needs."""

    chosen: gr.State
    table: gr.HTML
    open: gr.Button
    refreshed: list


def build_runs_tab(studio: Studio) -> RunsTab:
    """Build the tab and its events; opening a run in the Train tab is wired in layout.py."""
    chosen = gr.State("")
    with gr.Row():
        gr.HTML(markup.line("Choose a run to open, rename, export or delete it.", "quiet"))
        refresh = gr.Button("Refresh", size="sm", scale=0, min_width=100, elem_id="runs-refresh")
    table = gr.HTML(runs_table([], ""), elem_id="runs-table", js_on_load=markup.PICK_SCRIPT)
    with gr.Column(visible=False) as panel, gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            name, open_button, rename, deleting = _build_changes()
        with gr.Column(scale=6, min_width=320):
            format = gr.Radio(
                FORMATS, value="adapter", label="Take it away as", elem_id="export-format"
            )
            export = gr.Button("Make and download", variant="primary", elem_id="export-run")
            file = gr.DownloadButton("Download", visible="hidden", elem_id="export-file")
            code = gr.HTML(elem_id="load-snippet")
    shown = [table, panel, name, deleting[1], code]
    tab = RunsTab(chosen, table, open_button, shown)
    _wire_choosing(studio, tab, refresh, format, code)
    _wire_changes(studio, tab, name, rename, deleting)
    _wire_export(studio, tab, format, export, file)
    return tab


def _build_changes() -> tuple:
    name = gr.Textbox(label="Name", max_length=120, elem_id="run-name")
    with gr.Row():
        open_button = gr.Button("Open", variant="primary", min_width=90, elem_id="run-open")
        rename = gr.Button("Rename", min_width=90, elem_id="run-rename")
        delete = gr.Button("Delete…", variant="stop", min_width=90, elem_id="run-delete")
    with gr.Row(visible=False) as confirm:
        yes = gr.Button("Delete for good", variant="stop", min_width=130, elem_id="run-delete-yes")
        no = gr.Button("Keep it", min_width=90, elem_id="run-delete-no")
    return name, open_button, rename, (delete, confirm, yes, no)


def _wire_choosing(studio: Studio, tab: RunsTab, refresh, format, code) -> None:
    def choose(event: gr.EventData):
        return str(event.id)

    tab.table.pick(choose, None, tab.chosen, **SETS_STATE)
    tab.chosen.change(lambda run: show_runs(studio, run), tab.chosen, tab.refreshed, **QUICK)
    refresh.click(lambda run: show_runs(studio, run), tab.chosen, tab.refreshed, **QUICK)
    format.input(
        lambda run, kind: load_code(studio, run, kind), [tab.chosen, format], code, **QUICK
    )


def _wire_changes(studio: Studio, tab: RunsTab, name, rename, deleting: tuple) -> None:
    delete, confirm, yes, no = deleting

    @show_user_errors
    def give_name(run_id: str, text: str):
        open_run(studio.home, run_id).rename(text)
        return show_runs(studio, run_id)

    @show_user_errors
    def remove(run_id: str):
        open_run(studio.home, run_id).delete()
        gr.Info("The run and its files are deleted.")
        return ["", *show_runs(studio, "")]

    rename.click(give_name, [tab.chosen, name], tab.refreshed, **QUICK)
    name.submit(give_name, [tab.chosen, name], tab.refreshed, **QUICK)
    delete.click(lambda: gr.update(visible=True), None, confirm, **QUICK)
    no.click(lambda: gr.update(visible=False), None, confirm, **QUICK)
    yes.click(remove, tab.chosen, [tab.chosen, *tab.refreshed], **SETS_STATE)


def _wire_export(studio: Studio, tab: RunsTab, format, export, file) -> None:
    @show_user_errors
    def make(run_id: str, kind: str, progress=gr.Progress()):  # noqa: B008 - how Gradio asks for it
        progress(None, desc="Writing the files")
        return str(studio.model_process.export(open_run(studio.home, run_id).id, kind))

    made = export.click(make, [tab.chosen, format], file, concurrency_limit=2, **PRIVATE)
    made.success(None, None, None, js=CLICK_DOWNLOAD, **PRIVATE)


def show_runs(studio: Studio, run_id: str) -> list:
    """The table and, for the chosen run, its panel; outputs are `RunsTab.refreshed`."""
    run, _ = attempt(open_run, studio.home, run_id) if run_id else (None, None)
    runs = list_runs(studio.home)
    shown = [one.summary() for one in runs[:MAX_RUNS]]
    shown += [_unreadable(one, error) for one, error in unreadable_runs(studio.home)]
    table = runs_table(shown, run_id or "", left_out=len(runs[MAX_RUNS:]))
    if run is None:
        return [table, gr.update(visible=False), "", gr.update(visible=False), ""]
    code = load_code(studio, run_id, "adapter")
    return [table, gr.update(visible=True), run.name(), gr.update(visible=False), code]


def _unreadable(run: Run, error: UserError) -> dict:
    """What the table shows of a run that cannot be opened, so that nobody thinks it is lost."""
    unknown = dict.fromkeys(("loss", "eval_loss", "elapsed_seconds", "error", "no_progress"))
    words = {"base_model": "–", "dataset": "–", "state": f"cannot be read: {error.what}"}
    created = {"created_at": run.dir.stat().st_mtime, "step": 0, "total_steps": 0}
    return {"id": run.id, "name": run.name(), **words, **unknown, **created}


def runs_table(summaries: list[dict], chosen: str, left_out: int = 0) -> Markup:
    """Runs, newest first, and how many older ones are left out."""
    if not summaries:
        return markup.empty(
            "No runs yet", "Start one in the Train tab. Every run stays here until you delete it."
        )
    rows = [(one["id"], one["id"][-6:], _cells(one)) for one in summaries]
    older = "older run is" if left_out == 1 else "older runs are"
    more = f"{left_out:,} {older} not shown; “python -m trainer_backend runs” lists all."
    note = markup.line(more, "quiet") if left_out else ""
    table = markup.table("Runs", HEADERS, rows, chosen)
    return Markup('<div class="card">{}{}</div>').format(table, note)


def _cells(one: dict) -> list[object]:
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


def _state(one: dict) -> str:
    """The state, and for a failed run the short reason."""
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
    """How to use the export without the studio."""
    run, _ = attempt(open_run, studio.home, run_id) if run_id else (None, None)
    if run is None:
        return ""
    recipe, unreadable = attempt(run.recipe)
    if unreadable:
        return markup.card(unreadable.what, markup.line(unreadable.fix))
    text = snippet(recipe, kind)
    body = Markup('<pre class="snippet" tabindex="0" aria-label="Code">{}</pre>')
    return markup.card("How to use it", body.format(text))
