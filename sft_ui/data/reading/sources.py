"""Where data comes from: files, a sample, text that is typed or pasted, a Hub dataset.

What happens with it then is in data_tab.py.
"""

import csv
import io
import json
import secrets
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from sft_ui import markup
from sft_ui.alerts import show_user_errors
from sft_ui.context import PRIVATE
from trainer_backend.data import readers
from trainer_backend.data.formats import SYNONYMS, named
from trainer_backend.data.readers.options import MAX_LINE, UPLOAD_SUFFIXES
from trainer_backend.home import remove_old
from trainer_backend.recipe import samples

TYPED_ROWS = 4
SPOKEN_SUFFIXES = ", ".join(suffix.lstrip(".") for suffix in UPLOAD_SUFFIXES if suffix != ".gz")
DEFAULT_HUB_ROWS = 100_000


@dataclass(frozen=True)
class Sources:
    """The components data comes in through."""

    upload: gr.File
    sample: gr.Radio
    grid: gr.Dataframe
    pasted: gr.Textbox
    use_grid: gr.Button
    hub_id: gr.Textbox
    hub_config: gr.Dropdown
    hub_split: gr.Dropdown
    hub_rows: gr.Number
    use_hub: gr.Button
    hub_known: gr.State  # the revision that was looked at, and its splits


def build_sources() -> Sources:
    """Build the left column of the tab and the events of the Hub's pickers."""
    upload = gr.File(
        label="Your data: one file or several",
        file_types=list(UPLOAD_SUFFIXES),
        file_count="multiple",
        height=150,
        elem_id="data-upload",
    )
    gr.HTML(markup.line(f"Reads {SPOKEN_SUFFIXES}, each also as .gz", "quiet hint"))
    sample = gr.Radio(
        [(one.title, one.id) for one in samples()],
        label="Or try a sample",
        info="\n\n".join(f"**{one.title}**: {one.about}" for one in samples()),
        elem_id="data-sample",
    )
    typed = _build_typed()
    return Sources(upload, sample, *typed, *_build_hub())


def _build_typed() -> tuple[gr.Dataframe, gr.Textbox, gr.Button]:
    with gr.Accordion("Or type a few examples, or paste text", open=False):
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
            label="Or paste cells of a spreadsheet, a table with a header, or JSON",
            placeholder="prompt ⇥ answer, one example a line",
            lines=3,
            max_lines=8,
            elem_id="data-paste",
        )
        use_grid = gr.Button("Use these examples", elem_id="use-grid")
    return grid, pasted, use_grid


def _build_hub():
    with gr.Accordion("Or take a dataset of the Hugging Face Hub", open=False):
        with gr.Row(equal_height=False):
            hub_id = gr.Textbox(
                label="Dataset id",
                placeholder="owner/name",
                max_lines=1,
                scale=3,
                min_width=160,
                elem_id="hub-id",
            )
            look = gr.Button("Look", size="sm", min_width=70, scale=1, elem_id="hub-look")
        with gr.Column(visible=False) as found:
            with gr.Row():
                config = gr.Dropdown([], label="Part", min_width=120, elem_id="hub-config")
                split = gr.Dropdown([], label="Split", min_width=120, elem_id="hub-split")
            rows = gr.Number(
                DEFAULT_HUB_ROWS,
                label="Rows at most",
                info="0 reads all of them.",
                precision=0,
                minimum=0,
                elem_id="hub-rows",
            )
            use = gr.Button("Load this dataset", variant="primary", elem_id="use-hub")
    known = gr.State({})

    @show_user_errors
    def choices(repo_id: str):
        choices = readers.hub_choices((repo_id or "").strip())
        splits = splits_of(choices.configs)
        known = {"revision": choices.revision, "splits": splits}
        return known, gr.update(visible=True), *config_update(known, next(iter(splits)))

    outputs = [known, found, config, split]
    look.click(choices, hub_id, outputs, **PRIVATE)
    hub_id.submit(choices, hub_id, outputs, **PRIVATE)
    config.input(config_update, [known, config], [config, split], **PRIVATE)
    return hub_id, config, split, rows, use, known


def splits_of(configs: dict) -> dict[str, list[str]]:
    """The splits of each part of a Hub dataset."""
    return {str(config): [str(split) for split in splits] for config, splits in configs.items()}


def config_update(known: dict, config: str) -> tuple[dict, dict]:
    """The two pickers for a chosen part; training data first where there is some."""
    splits = known.get("splits") or {}
    names = splits.get(config, [])
    value = "train" if "train" in names else next(iter(names), None)
    return (
        gr.update(choices=list(splits), value=config, visible=len(splits) > 1),
        gr.update(choices=names, value=value),
    )


def typed_rows(grid: list[list]) -> list[dict]:
    """The grid's filled rows as data rows. Raises nothing: empty rows are left out."""
    rows = [["" if value is None else str(value) for value in row[:2]] for row in grid or []]
    return [{"prompt": row[0], "response": row[1]} for row in rows if any(v.strip() for v in row)]


def pasted_cells(text: str | None) -> list[list[str]]:
    """Cells as a spreadsheet copies them: tabs between columns, quotes around line breaks."""
    csv.field_size_limit(MAX_LINE + 1)  # of this process: as long a text as a file may hold
    return [[*row, "", ""][:2] for row in csv.reader(io.StringIO(text or ""), delimiter="\t")]


def pasted_kind(text: str) -> str:
    """What pasted text is: "json", "jsonl", "csv" (a table with a header) or "cells"."""
    start = text.lstrip()
    if start.startswith("["):
        return "json"
    if start.startswith("{"):
        return "jsonl" if _is_json(start.splitlines()[0]) else "json"
    header = start.splitlines()[0] if start else ""
    names = [name.strip().strip('"') for name in _split_header(header)]
    roles = sum(bool(named(names, role)) for role in SYNONYMS)
    return "csv" if len(names) > 1 and roles > 1 else "cells"


def _split_header(line: str) -> list[str]:
    delimiter = max("\t,;|", key=line.count)
    return line.split(delimiter)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def write_pasted(home: Path, text: str, kind: str) -> Path:
    """Pasted text as a file of its kind, to be read like any other."""
    path = home / "tmp" / f"pasted-{secrets.token_hex(8)}.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_old(path.parent, "pasted-*")
    path.write_text(text, encoding="utf-8", newline="")
    return path
