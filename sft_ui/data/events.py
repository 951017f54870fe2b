"""Events of the Data tab that need no recipe: loading, column roles, fixes, edits, stored datasets.

Handlers take ids and plain data; long work runs as a reading, outside this process.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt, show_user_errors, tell
from sft_ui.context import IN_TURN, PRIVATE, QUICK, SETS_STATE, Studio
from sft_ui.data.dataset_list import dataset_list, read_weights
from sft_ui.data.mapping_events import wire_mapping
from sft_ui.data.reading.readings import failure, shown_again, wire_read_again
from sft_ui.data.reading.sources import (
    pasted_cells,
    pasted_kind,
    typed_rows,
    unreadable_names,
    write_pasted,
)
from sft_ui.data.rows.card import Changes, read_changes
from sft_ui.data.rows.table import count_filter, rows_of_count
from sft_ui.data.tab import DataTab
from trainer_backend.data.store import (
    StoredDataset,
    create_from_rows,
    create_from_sample,
    list_datasets,
    open_dataset,
)
from trainer_backend.errors import UserError
from trainer_backend.runs import delete_dataset

MIX_SEED = 0
MAX_HUB_ROWS = 10_000_000


def wire_events(studio: Studio, tab: DataTab) -> None:
    """Wire every event of the tab that does not need the recipe."""
    _wire_sources(studio, tab)
    _wire_finish(studio, tab)
    wire_mapping(studio, tab)
    _wire_report(studio, tab)
    _wire_changes(studio, tab)
    _wire_stored(studio, tab)


def _wire_sources(studio: Studio, tab: DataTab) -> None:
    sources = tab.sources
    begun = [tab.reading, tab.notice, sources.upload]

    def begin(dataset_id: str, action: Callable[..., str], *args: Any, **how: Any) -> list[Any]:
        """Updates of `begun`: the id of the new reading, or why it did not start."""
        reading, error = attempt(action, *args, **how)
        return [reading or "", markup.error_card(error) + in_use(studio, dataset_id), None]

    def from_files(paths: list[str] | str | None, dataset_id: str) -> list[Any]:
        paths = [paths] if isinstance(paths, str) else paths
        refused = unreadable_names(paths or [])
        if refused or not paths:
            return [gr.skip(), refused and refused + in_use(studio, dataset_id), None]
        return begin(dataset_id, tab.readings.read, paths)

    def from_hub(  # noqa: PLR0913 - the pickers of the Hub
        dataset_id: str, repo_id: str, config: str, split: str, rows: float, known: dict
    ) -> list[Any]:
        revision = known.get("revision") if isinstance(known, dict) else None
        chosen = {"config": config or None, "split": split or "train", "revision": revision}
        return begin(dataset_id, read_hub, tab, repo_id, rows, chosen)

    sources.upload.upload(from_files, [sources.upload, tab.dataset_id], begun, **PRIVATE)
    chosen = [
        tab.dataset_id,
        sources.hub_id,
        sources.hub_config,
        sources.hub_split,
        sources.hub_rows,
    ]
    sources.use_hub.click(from_hub, [*chosen, sources.hub_known], begun, **PRIVATE)

    def loaded(dataset: StoredDataset | None, error: UserError | None) -> list[Any]:
        return [dataset.id if dataset else gr.skip(), markup.error_card(error)]

    def from_sample(sample_id: str | None) -> list[Any]:
        return loaded(*attempt(create_from_sample, studio.home, sample_id or ""))

    def from_text(rows: list[list], text: str, dataset_id: str) -> list[Any]:
        kind = pasted_kind(text or "")
        if kind != "cells":
            path = write_pasted(studio.home, text, kind)
            return [
                gr.skip(),
                *begin(dataset_id, tab.readings.read, [path], name="Pasted text")[:2],
            ]
        filled = typed_rows(rows) + typed_rows(pasted_cells(text))
        made = attempt(create_from_rows, studio.home, filled, name="Typed examples")
        dataset_id, notice = loaded(*made)
        return [dataset_id, "", notice]

    out = [tab.dataset_id, tab.notice]
    sources.sample.input(from_sample, sources.sample, out, **SETS_STATE)
    typed = [tab.dataset_id, tab.reading, tab.notice]
    given = [sources.grid, sources.pasted, tab.dataset_id]
    sources.use_grid.click(from_text, given, typed, **SETS_STATE)


def in_use(studio: Studio, dataset_id: str) -> Markup | str:
    """Which data stay in use while others are read or after they failed; "" without any."""
    dataset, _ = attempt(open_dataset, studio.home, dataset_id) if dataset_id else (None, None)
    return markup.line(f"Still in use: “{dataset.label}”.", "still-in-use") if dataset else ""


def read_hub(tab: DataTab, repo_id: str, rows: float, chosen: dict[str, Any]) -> str:
    """Start loading a config, split and revision of a Hub dataset; returns the reading's id.

    Raises UserError when `rows` is out of range.
    """
    repo_id = (repo_id or "").strip()
    limit = int(rows or 0)
    if not 0 <= limit <= MAX_HUB_ROWS:
        what = f"The row limit must be between 0 and {MAX_HUB_ROWS:,}."
        raise UserError(what, "Maximum rows", "Enter a number in this range; 0 loads all rows.")
    arguments = {"repo_id": repo_id, **chosen, "max_rows": limit or None}
    return tab.readings.work("hub_dataset", arguments, repo_id)


def _wire_finish(studio: Studio, tab: DataTab) -> None:
    def finished(event: gr.EventData, kept: dict | None, dataset_id: str) -> list[Any]:
        """Show the dataset of a finished reading, or its error with what could be done instead."""
        reading = str(getattr(event, "reading", ""))
        again = shown_again(tab.readings, reading)
        try:
            dataset = tab.readings.result(reading)
        except UserError as error:
            said = failure(tab.readings, reading, error) + in_use(studio, dataset_id)
            return [gr.skip(), said, gr.skip(), None, *again]
        saved = isinstance(kept, dict) and kept.get("dataset_id") == dataset.parent
        return [dataset.id, "", None if saved else gr.skip(), None, *again]

    out = [tab.dataset_id, tab.notice, tab.rows.changes, tab.sources.sample, *tab.again.outputs()]
    tab.reading.finished(finished, [tab.rows.changes, tab.dataset_id], out, **SETS_STATE)

    @show_user_errors
    def take_offer(event: gr.EventData) -> tuple[str, str]:
        return tab.readings.again(str(event.reading), dict(event.offer)), ""

    begun = [tab.reading, tab.notice]
    tab.notice.offer(take_offer, None, begun, **PRIVATE)
    wire_read_again(tab.readings, tab.again, begun)


def _wire_report(studio: Studio, tab: DataTab) -> None:
    @show_user_errors
    def clean(event: gr.EventData, dataset_id: str) -> str:
        dataset = open_dataset(studio.home, dataset_id)
        fixes = {str(code): str(switch) for code, switch in dict(event.fixes).items()}
        arguments = {"dataset_id": dataset.id, "fixes": fixes}
        return tab.readings.work("apply_fixes", arguments, dataset.name)

    @show_user_errors
    def show_version(event: gr.EventData) -> str:
        return open_dataset(studio.home, str(event.id)).id

    @show_user_errors
    def clean_lengths(event: gr.EventData, dataset_id: str) -> str:
        dataset, code = open_dataset(studio.home, dataset_id), str(event.code)
        rows = rows_of_count(dataset, count_filter(str(event.count), code, int(event.limit)))
        arguments = {"dataset_id": dataset.id, "fixes": {code: "drop"}, "rows": {code: rows}}
        return tab.readings.work("apply_fixes", arguments, dataset.name)

    @show_user_errors
    def train_on_chosen(dataset_id: str) -> str:
        dataset = open_dataset(studio.home, dataset_id)
        if dataset.chosen is None:
            fix = "Choose which column is the prompt and which is the answer."
            raise UserError("No chosen answers are known of this data.", dataset.name, fix)
        arguments = {"dataset_id": dataset.id, "mapping": asdict(dataset.chosen)}
        return tab.readings.work("remap_dataset", arguments, dataset.name)

    tab.report.chosen(train_on_chosen, tab.dataset_id, tab.reading, **PRIVATE)
    tab.report.clean(clean, tab.dataset_id, tab.reading, **PRIVATE)
    tab.lengths.clean(clean_lengths, tab.dataset_id, tab.reading, **PRIVATE)
    for part in (tab.report, tab.stored):
        part.open(show_version, None, tab.dataset_id, **IN_TURN, **SETS_STATE)


def _wire_changes(studio: Studio, tab: DataTab) -> None:
    rows = tab.rows

    @show_user_errors
    def save(kept: dict | None, dataset_id: str) -> str:
        changes = read_changes(kept, dataset_id)
        dataset = open_dataset(studio.home, dataset_id)
        edits = {str(row): cells for row, cells in changes.edits.items()}
        arguments = {"dataset_id": dataset.id, "edits": edits, "drops": list(changes.drops)}
        return tab.readings.work("edit_rows", arguments, dataset.name)

    def keep(event: gr.EventData, kept: dict | None, dataset_id: str) -> dict[str, Any]:
        row, cells = int(event.row), {str(name): str(v) for name, v in dict(event.cells).items()}
        cells = as_before(studio, dataset_id, row, cells)
        return read_changes(kept, dataset_id).edited(row, cells).to_dict()

    def drop(event: gr.EventData, kept: dict | None, dataset_id: str) -> dict[str, Any]:
        return read_changes(kept, dataset_id).dropped(int(event.row)).to_dict()

    def restore(event: gr.EventData, kept: dict | None, dataset_id: str) -> dict[str, Any]:
        return read_changes(kept, dataset_id).restored(int(event.row)).to_dict()

    given = [rows.changes, tab.dataset_id]
    for listener, handler in (
        (rows.card.keep, keep),
        (rows.card.drop, drop),
        (rows.card.restore, restore),
    ):
        listener(handler, given, rows.changes, **SETS_STATE)
    rows.changes_bar.save(save, given, tab.reading, **PRIVATE)
    rows.changes_bar.undo(
        lambda dataset_id: Changes(dataset_id).to_dict(), tab.dataset_id, rows.changes, **SETS_STATE
    )


def as_before(studio: Studio, dataset_id: str, row: int, cells: dict[str, str]) -> dict[str, str]:
    """The cells with the line endings of the stored row, which a browser turns into \\n."""
    dataset = open_dataset(studio.home, dataset_id)
    place = dataset.place_of(row)
    old = dict(dataset.page(place, 1)[0]).get(row, {}) if place is not None else {}
    return {
        name: text.replace("\n", "\r\n") if "\r\n" in (old.get(name) or "") else text
        for name, text in cells.items()
    }


def _wire_stored(studio: Studio, tab: DataTab) -> None:
    def listed(dataset_id: str) -> Markup:
        return dataset_list(list_datasets(studio.home), dataset_id)

    def remove(event: gr.EventData, dataset_id: str) -> list[Any]:
        _, error = attempt(delete_dataset, studio.home, str(event.id))
        if error:
            tell(error)
            return [gr.skip(), markup.error_card(error), listed(dataset_id)]
        gone = dataset_id == event.id
        return ["" if gone else gr.skip(), "", listed(dataset_id)]

    @show_user_errors
    def mix(event: gr.EventData) -> str:
        parts = read_weights(event.weights)
        name = str(event.name or "").strip() or "Mix"
        arguments = {"parts": [list(part) for part in parts], "name": name, "seed": MIX_SEED}
        return tab.readings.work("mix_datasets", arguments, name)

    out = [tab.dataset_id, tab.notice, tab.stored]
    tab.stored.remove(remove, tab.dataset_id, out, **SETS_STATE)
    tab.stored.mix(mix, None, tab.reading, **PRIVATE)
    tab.stored_box.expand(listed, tab.dataset_id, tab.stored, **QUICK)
    tab.dataset_id.change(listed, tab.dataset_id, tab.stored, **QUICK)
