"""The Data tab: bring data, see what was understood, what must be fixed, and what will be learned.

Files, formats and checks are in trainer_backend/data; how things look is in data_view.py.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from trainer_backend.data.files import SUFFIXES
from trainer_backend.data.store import (
    StoredDataset,
    create_dataset,
    create_from_rows,
    create_from_sample,
    open_dataset,
    remap_dataset,
)
from trainer_backend.errors import UserError
from trainer_backend.presets import samples

from . import cards, data_view, token_view
from .alerts import attempt, show_user_errors, tell
from .column_roles import ColumnRoles, build_column_roles, read_mapping, shown_for, visible_for
from .studio import PRIVATE, QUICK, Studio

TYPED_ROWS = 4


@dataclass(frozen=True)
class DataTab:
    """What the other tabs and the wiring need."""

    dataset_id: gr.State
    report: gr.HTML
    preview: gr.HTML
    tokens: gr.HTML
    row: gr.State
    roles: ColumnRoles
    filter: gr.Dropdown
    search: gr.Textbox
    start: gr.State
    page_line: gr.HTML
    browser: gr.Group


def build_data_tab(studio: Studio) -> DataTab:
    """Build the tab and its own events; what happens between tabs is wired in layout.py."""
    dataset_id, start, row = gr.State(""), gr.State(0), gr.State(None)
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            sources = _build_sources()
        with gr.Column(scale=8, min_width=340):
            notice = gr.HTML(elem_id="data-notice")
            report = gr.HTML(data_view.report(None, 0, 0), elem_id="data-report")
            roles = build_column_roles()
    with gr.Column(visible=False) as browser:
        search, filter, go_to = _build_finders()
        with gr.Row(equal_height=False):
            with gr.Column(scale=7, min_width=340):
                preview = gr.HTML(elem_id="data-preview", js_on_load=cards.PICK_SCRIPT)
                with gr.Row(equal_height=True):
                    back = gr.Button("← Back", size="sm", min_width=80, elem_id="rows-back")
                    page_line = gr.HTML(elem_id="rows-line")
                    on = gr.Button("Next →", size="sm", min_width=80, elem_id="rows-next")
            with gr.Column(scale=5, min_width=340):
                tokens = gr.HTML(token_view.hint(), elem_id="token-view")
    tab = DataTab(
        *(dataset_id, report, preview, tokens, row, roles, filter, search, start, page_line),
        browser,
    )
    _wire_sources(studio, tab, sources, notice)
    _wire_pages(studio, tab, back, on, go_to)
    return tab


def _build_finders():
    with gr.Row(equal_height=True):
        search = gr.Textbox(
            label="Search the rows",
            placeholder="Any text",
            scale=4,
            min_width=200,
            elem_id="row-search",
        )
        shown = gr.Dropdown(
            [("All rows", -1)], value=-1, label="Show", scale=4, min_width=200, elem_id="row-filter"
        )
        go_to = gr.Textbox(
            label="Go to row", placeholder="Number", scale=1, min_width=110, elem_id="row-go-to"
        )
    return search, shown, go_to


def _build_sources():
    upload = gr.File(
        label="Your data: " + ", ".join(suffix.lstrip(".") for suffix in SUFFIXES),
        file_types=list(SUFFIXES),
        height=150,
        elem_id="data-upload",
    )
    sample = gr.Radio(
        [(one.title, one.id) for one in samples()],
        label="Or try a sample",
        info=" ".join(f"{one.title}: {one.about}" for one in samples()),
        elem_id="data-sample",
    )
    with gr.Accordion("Or type a few examples", open=False):
        grid = gr.Dataframe(
            [["", ""]] * TYPED_ROWS,
            headers=["prompt", "response"],
            column_count=2,
            datatype="str",
            type="array",
            interactive=True,
            wrap=True,
            max_height=320,
            label="Type a prompt and its answer in each row",
            elem_id="data-grid",
        )
        pasted = gr.Textbox(
            label="Or paste two columns from a spreadsheet",
            placeholder="prompt ⇥ answer, one example a line",
            lines=3,
            max_lines=8,
            elem_id="data-paste",
        )
        use_grid = gr.Button("Use these examples", elem_id="use-grid")
    return upload, sample, grid, pasted, use_grid


def _wire_sources(studio: Studio, tab: DataTab, sources, notice: gr.HTML) -> None:
    upload, sample, grid, pasted, use_grid = sources

    def take(dataset: StoredDataset | None, error: UserError | None, sample_id=None) -> list:
        """The new dataset, or the old one and the error; the upload is free for the next file."""
        if error:
            tell(error)
        notice = cards.error_card(error) if error else ""
        return [gr.skip() if error else dataset.id, notice, None, sample_id]

    def from_file(path: str | None, progress=gr.Progress()):  # noqa: B008 - how Gradio asks for it
        if not path:
            return [gr.skip(), "", None, None]
        said = {"on_progress": lambda done, total: progress((done, total), "Reading", unit="bytes")}
        return take(*attempt(create_dataset, studio.home, Path(path), **said))

    def from_sample(sample_id: str | None):
        return take(*attempt(create_from_sample, studio.home, sample_id or ""), sample_id)

    def from_grid(rows: list[list], text: str):
        filled = typed_rows(rows) + typed_rows(pasted_cells(text))
        return take(*attempt(create_from_rows, studio.home, filled, name="Typed examples"))

    def remap(dataset_id: str, format: str, **columns: str):
        mapping = read_mapping(format, columns)
        return take(*attempt(remap_dataset, studio.home, dataset_id, mapping))

    out = [tab.dataset_id, notice, upload, sample]
    upload.upload(from_file, upload, out, **PRIVATE)
    sample.input(from_sample, sample, out, **PRIVATE)
    use_grid.click(from_grid, [grid, pasted], out, **PRIVATE)
    chosen = {"dataset_id": tab.dataset_id, "format": tab.roles.format, **tab.roles.columns}
    tab.roles.apply.click(remap, inputs_kwargs=chosen, outputs=out, **PRIVATE)
    tab.roles.format.input(visible_for, tab.roles.format, list(tab.roles.columns.values()), **QUICK)


def pasted_cells(text: str | None) -> list[list[str]]:
    """Cells as a spreadsheet copies them: tabs between columns, quotes around line breaks."""
    return [[*row, "", ""][:2] for row in csv.reader(io.StringIO(text or ""), delimiter="\t")]


def typed_rows(grid: list[list]) -> list[dict]:
    """The grid's filled rows as data rows. Raises nothing: empty rows are left out."""
    rows = [["" if value is None else str(value) for value in row[:2]] for row in grid or []]
    return [{"prompt": row[0], "response": row[1]} for row in rows if any(v.strip() for v in row)]


def _wire_pages(studio: Studio, tab: DataTab, back: gr.Button, on: gr.Button, go_to) -> None:
    shown = [tab.preview, tab.page_line, tab.start]
    asked = [tab.dataset_id, tab.start, tab.search, tab.filter, tab.row]

    def page(step: int):
        @show_user_errors
        def turn(dataset_id, start, query, problem, row):
            return show_page(studio, dataset_id, start + step, query, problem, row)

        return turn

    @show_user_errors
    def first(dataset_id, start, query, problem, row):
        return show_page(studio, dataset_id, 0, query, problem, row)

    @show_user_errors
    def jump(dataset_id, number):
        first_row = int(number) - 1 if str(number).strip().isdecimal() else 0
        return (*show_page(studio, dataset_id, first_row, "", -1, None), "", -1)

    back.click(page(-data_view.PAGE_ROWS), asked, shown, **QUICK)
    on.click(page(data_view.PAGE_ROWS), asked, shown, **QUICK)
    tab.search.submit(first, asked, shown, **QUICK)
    tab.search.blur(first, asked, shown, **QUICK)
    tab.filter.input(first, asked, shown, **QUICK)
    go_to.submit(
        jump,
        [tab.dataset_id, go_to],
        [*shown, tab.search, tab.filter],
        **QUICK,
    )


def show_page(studio: Studio, dataset_id: str, start: int, query: str, problem: int, row):
    """One page of rows: (table, where we are, first row shown)."""
    if not dataset_id:
        return "", "", 0
    dataset = open_dataset(studio.home, dataset_id)
    only = None
    if isinstance(problem, int) and 0 <= problem < len(dataset.problems):
        only = list(dataset.problems[problem].rows)
    start = max(0, start)
    rows, total = dataset.page(start, data_view.PAGE_ROWS, query or "", only)
    if not rows and total:
        start = (total - 1) // data_view.PAGE_ROWS * data_view.PAGE_ROWS
        rows, total = dataset.page(start, data_view.PAGE_ROWS, query or "", only)
    where = cards.line(data_view.page_line(start, len(rows), total), "quiet")
    return data_view.rows_table(dataset, rows, row), where, start


def show_dataset(studio: Studio, dataset_id: str, eval_fraction: float, held_out: int) -> list:
    """Everything the tab shows of a dataset; outputs are `dataset_outputs`."""
    dataset = open_dataset(studio.home, dataset_id) if dataset_id else None
    table, where, start = show_page(studio, dataset_id, 0, "", -1, None)
    choices = data_view.problem_choices(dataset.problems if dataset else [])
    return [
        data_view.report(dataset, held_out, eval_fraction),
        *(table, where, start, ""),
        gr.update(choices=choices, value=-1),
        *(None, token_view.hint(), gr.update(visible=dataset is not None)),
        *shown_for(dataset),
    ]


def show_report(studio: Studio, dataset_id: str, eval_fraction: float, held_out: int) -> str:
    """The report alone, with the held-out share as the form has it now."""
    dataset = open_dataset(studio.home, dataset_id) if dataset_id else None
    return data_view.report(dataset, held_out, eval_fraction)


def dataset_outputs(tab: DataTab) -> list:
    """The components `show_dataset` fills, in its order."""
    return [
        *(tab.report, tab.preview, tab.page_line, tab.start, tab.search, tab.filter),
        *(tab.row, tab.tokens, tab.browser),
        *tab.roles.outputs(),
    ]


def show_tokens(studio: Studio, dataset_id: str, row: int, fields: dict) -> str:
    """One row as tokens. A row the checks left out says so instead."""
    model = str(fields.get("base_model") or "").rstrip("/").rpartition("/")[2]
    view, error = attempt(studio.model_process.token_view, dataset_id, row, fields)
    return cards.error_card(error) if error else token_view.token_card(view, row, model)
