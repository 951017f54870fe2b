"""Sources of data: files, a sample, typed or pasted text, a Hub dataset.

Builds the pickers and turns typed text into rows or files; parses no uploads.
"""

import csv
import io
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import show_user_errors
from sft_ui.context import PRIVATE
from trainer_backend.data.formats import SYNONYMS, named
from trainer_backend.data.readers import hub
from trainer_backend.data.readers.options import MAX_LINE, UPLOAD_SUFFIXES
from trainer_backend.errors import UserError
from trainer_backend.home import remove_old
from trainer_backend.recipe import samples

TYPED_ROWS = 4
SPOKEN_SUFFIXES = ", ".join(suffix.lstrip(".") for suffix in UPLOAD_SUFFIXES if suffix != ".gz")
UPLOAD_HINT = f"One or more files of up to 16 GB: {SPOKEN_SUFFIXES}; each also as .gz."
DEFAULT_HUB_ROWS = 100_000


@dataclass(frozen=True)
class Sources:
    """The components through which data comes in."""

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
    hub_known: gr.State  # {"revision", "splits"} of the dataset that was looked up


def build_sources() -> Sources:
    """Build the left column of the tab, and wire the pickers of the Hub."""
    upload = gr.File(
        label="Your data", file_count="multiple", height=132, elem_id="data-upload"
    )  # without file_types: Gradio would refuse other files in a message that passes
    gr.HTML(markup.line(UPLOAD_HINT, "quiet hint"))
    sample = gr.Radio(
        [(one.title, one.id) for one in samples()],
        label="Or try a sample",
        info="\n\n".join(f"**{one.title}**: {one.about}" for one in samples()),
        elem_id="data-sample",
    )
    grid, pasted, use_grid = _build_typed()
    hub_id, config, split, rows, use_hub, known = _build_hub()
    return Sources(
        upload, sample, grid, pasted, use_grid, hub_id, config, split, rows, use_hub, known
    )


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
            label="Or paste spreadsheet cells, a table with a header, or JSON",
            placeholder="prompt ⇥ answer, one example per line",
            lines=3,
            max_lines=8,
            elem_id="data-paste",
        )
        use_grid = gr.Button("Use these examples", elem_id="use-grid")
    return grid, pasted, use_grid


def _build_hub() -> tuple[gr.Textbox, gr.Dropdown, gr.Dropdown, gr.Number, gr.Button, gr.State]:
    with gr.Accordion("Or load a dataset from the Hugging Face Hub", open=False):
        with gr.Row(equal_height=False):
            hub_id = gr.Textbox(
                label="Dataset id",
                placeholder="owner/name",
                max_lines=1,
                scale=3,
                min_width=160,
                elem_id="hub-id",
            )
            look = gr.Button("Look up", size="sm", min_width=80, scale=1, elem_id="hub-look")
        with gr.Column(visible=False) as found:
            with gr.Row():
                config = gr.Dropdown([], label="Subset", min_width=120, elem_id="hub-config")
                split = gr.Dropdown([], label="Split", min_width=120, elem_id="hub-split")
            rows = gr.Number(
                DEFAULT_HUB_ROWS,
                label="Maximum rows",
                info="0 loads all rows.",
                precision=0,
                minimum=0,
                elem_id="hub-rows",
            )
            use = gr.Button("Load this dataset", variant="primary", elem_id="use-hub")
    known = gr.State({})

    @show_user_errors
    def choices(repo_id: str) -> tuple[Any, ...]:
        found = hub.hub_choices((repo_id or "").strip())
        splits = splits_of(found.configs)
        known = {"revision": found.revision, "splits": splits}
        return known, gr.update(visible=True), *config_update(known, next(iter(splits)))

    outputs = [known, found, config, split]
    look.click(choices, hub_id, outputs, **PRIVATE)
    hub_id.submit(choices, hub_id, outputs, **PRIVATE)
    config.input(config_update, [known, config], [config, split], **PRIVATE)
    return hub_id, config, split, rows, use, known


def unreadable_names(paths: Sequence[str]) -> Markup | str:
    """Why files cannot be read, by their names; "" if all have a name that can be."""
    names = [Path(path).name for path in paths]
    wrong = [name for name in names if not name.lower().endswith(UPLOAD_SUFFIXES)]
    if not wrong:
        return ""
    what = f"“{wrong[0]}” is not a kind of file that can be read here."
    if len(wrong) > 1:
        what = f"{len(wrong):,} of {len(names):,} files are of a kind that cannot be read here."
    fix = f"Save it as one of: {SPOKEN_SUFFIXES}. Nothing was loaded."
    return markup.error_card(UserError(what, ", ".join(wrong[:6]), fix))


def splits_of(configs: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """The splits of each subset of a Hub dataset."""
    return {str(config): [str(split) for split in splits] for config, splits in configs.items()}


def config_update(known: Mapping[str, Any], config: str) -> tuple[dict, dict]:
    """Updates of the subset and split pickers; the split “train” is chosen where it exists."""
    splits = known.get("splits") or {}
    names = splits.get(config, [])
    value = "train" if "train" in names else next(iter(names), None)
    return (
        gr.update(choices=list(splits), value=config, visible=len(splits) > 1),
        gr.update(choices=names, value=value),
    )


def typed_rows(grid: Sequence[Sequence[Any]]) -> list[dict[str, str]]:
    """The rows of the grid as {"prompt", "response"}; empty rows are left out."""
    rows = [["" if value is None else str(value) for value in row[:2]] for row in grid or []]
    return [{"prompt": row[0], "response": row[1]} for row in rows if any(v.strip() for v in row)]


def pasted_cells(text: str | None) -> list[list[str]]:
    """Two cells per row of text copied from a spreadsheet (tab-separated, quoted line breaks)."""
    csv.field_size_limit(MAX_LINE + 1)  # the same limit as for files
    return [[*row, "", ""][:2] for row in csv.reader(io.StringIO(text or ""), delimiter="\t")]


def pasted_kind(text: str) -> str:
    """The kind of pasted text: "json", "jsonl", "csv" (a table with a header) or "cells"."""
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
    """Write pasted text to a file of its kind, to be read like an upload."""
    path = home / "tmp" / f"pasted-{secrets.token_hex(8)}.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_old(path.parent, "pasted-*")
    path.write_text(text, encoding="utf-8", newline="")
    return path
