"""What happens in the Data tab: reading, columns, fixes, changes, stored datasets.

Every event hands over ids and plain data; what needs the recipe's settings is data_wiring.py.
"""

from dataclasses import asdict

import gradio as gr

from sft_ui import markup
from sft_ui.alerts import attempt, show_user_errors, tell
from sft_ui.context import PRIVATE, QUICK, SETS_STATE, Studio
from sft_ui.data.dataset_list import dataset_list, read_weights
from sft_ui.data.reading.columns import mapping_preview, read_mapping
from sft_ui.data.reading.readings import failure, shown_again, wire_read_again
from sft_ui.data.reading.sources import pasted_cells, pasted_kind, typed_rows, write_pasted
from sft_ui.data.rows.card import Changes, read_changes
from sft_ui.data.rows.table import count_filter, rows_of_count
from sft_ui.data.tab import DataTab
from trainer_backend.data.store import (
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
    """Connect everything of the tab that does not need the recipe."""
    _wire_sources(studio, tab)
    _wire_finish(studio, tab)
    _wire_mapping(studio, tab)
    _wire_report(studio, tab)
    _wire_changes(studio, tab)
    _wire_stored(studio, tab)


def _wire_sources(studio: Studio, tab: DataTab) -> None:
    sources = tab.sources
    begun = [tab.reading, tab.notice, sources.upload]

    def begin(action, *args, **kwargs) -> list:
        """Outputs `begun`: the reading that began, or why it did not."""
        reading, error = attempt(action, *args, **kwargs)
        return [reading or "", markup.error_card(error) if error else "", None]

    def from_files(paths: list[str] | str | None):
        paths = [paths] if isinstance(paths, str) else paths
        return begin(tab.readings.read, paths) if paths else [gr.skip(), "", None]

    def from_hub(repo_id: str, config: str, split: str, rows: float, known: dict):
        revision = known.get("revision") if isinstance(known, dict) else None
        chosen = {"config": config or None, "split": split or "train", "revision": revision}
        return begin(read_hub, tab, repo_id, rows, chosen)

    sources.upload.upload(from_files, sources.upload, begun, **PRIVATE)
    chosen = [sources.hub_id, sources.hub_config, sources.hub_split, sources.hub_rows]
    sources.use_hub.click(from_hub, [*chosen, sources.hub_known], begun, **PRIVATE)

    def from_sample(sample_id: str | None):
        dataset, error = attempt(create_from_sample, studio.home, sample_id or "")
        return [gr.skip() if error else dataset.id, markup.error_card(error) if error else ""]

    def from_text(rows: list[list], text: str):
        kind = pasted_kind(text or "")
        if kind != "cells":
            path = write_pasted(studio.home, text, kind)
            return [gr.skip(), *begin(tab.readings.read, [path], name="Pasted text")[:2]]
        filled = typed_rows(rows) + typed_rows(pasted_cells(text))
        dataset, error = attempt(create_from_rows, studio.home, filled, name="Typed examples")
        return [gr.skip() if error else dataset.id, "", markup.error_card(error) if error else ""]

    out = [tab.dataset_id, tab.notice]
    sources.sample.input(from_sample, sources.sample, out, **SETS_STATE)
    typed = [tab.dataset_id, tab.reading, tab.notice]
    sources.use_grid.click(from_text, [sources.grid, sources.pasted], typed, **SETS_STATE)


def read_hub(tab: DataTab, repo_id: str, rows: float, chosen: dict) -> str:
    """Begin to load the chosen config, split and revision of a Hub dataset; the reading."""
    repo_id = (repo_id or "").strip()
    limit = int(rows or 0)
    if not 0 <= limit <= MAX_HUB_ROWS:
        fix = f"Write a number from 0 (all rows) to {MAX_HUB_ROWS:,}."
        raise UserError("So many rows cannot be loaded.", "Rows at most", fix)
    arguments = {"repo_id": repo_id, **chosen, "max_rows": limit or None}
    return tab.readings.work("hub_dataset", arguments, repo_id)


def _wire_finish(studio: Studio, tab: DataTab) -> None:
    def finished(event: gr.EventData, kept: dict | None):
        """The dataset of a reading that ended, or its error with what could be done instead."""
        reading = str(getattr(event, "reading", ""))
        dataset, error = attempt(tab.readings.result, reading)
        again = shown_again(tab.readings, reading)
        if error:
            return [gr.skip(), failure(tab.readings, reading, error), gr.skip(), None, *again]
        saved = isinstance(kept, dict) and kept.get("dataset_id") == dataset.parent
        return [dataset.id, "", None if saved else gr.skip(), None, *again]

    out = [tab.dataset_id, tab.notice, tab.rows.changes, tab.sources.sample, *tab.again.outputs()]
    tab.reading.finished(finished, tab.rows.changes, out, **SETS_STATE)

    @show_user_errors
    def take_offer(event: gr.EventData):
        return tab.readings.again(str(event.reading), dict(event.offer)), ""

    begun = [tab.reading, tab.notice]
    tab.notice.offer(take_offer, None, begun, **PRIVATE)
    wire_read_again(tab.readings, tab.again, begun)


def _wire_mapping(studio: Studio, tab: DataTab) -> None:
    mapper = tab.mapper

    def chosen(event: gr.EventData, dataset_id: str, system_prompt: str):
        roles = dict(event.roles) if isinstance(event.roles, dict) else {}
        return [roles, gr.update(open=True), preview(dataset_id, roles, system_prompt)]

    def preview(dataset_id: str, roles: dict | None, system_prompt: str):
        if not dataset_id:
            return ""
        dataset = open_dataset(studio.home, dataset_id)
        return roles_preview(dataset, roles, system_prompt)

    @show_user_errors
    def apply(dataset_id: str, roles: dict | None, system_prompt: str):
        dataset = open_dataset(studio.home, dataset_id)
        mapping = read_mapping(roles_or_known(dataset, roles), dataset)
        arguments = {
            "dataset_id": dataset.id,
            "mapping": asdict(mapping),
            "system_prompt": system_prompt or "",
        }
        return tab.readings.work("remap_dataset", arguments, dataset.name)

    asked = [tab.dataset_id, mapper.system_prompt]
    shown = [mapper.roles, mapper.box, mapper.preview]
    # every choice, in its turn: “always_last” would come with the choice of the first event
    in_turn = {"trigger_mode": "multiple", "concurrency_limit": 1}
    tab.rows.preview.roles(chosen, asked, shown, **in_turn, **SETS_STATE)
    given = [tab.dataset_id, mapper.roles, mapper.system_prompt]
    mapper.system_prompt.change(preview, given, mapper.preview, trigger_mode="always_last", **QUICK)
    mapper.apply.click(apply, given, tab.reading, **PRIVATE)


def roles_or_known(dataset, roles: dict | None) -> dict:
    """The roles the user chose on the page, else those the dataset has."""
    if roles is not None:
        return roles
    mapping = dataset.mapping or dataset.suggestion
    return mapping.roles if mapping else {}


def roles_preview(dataset, roles: dict | None, system_prompt: str) -> str:
    """How the first rows read under the chosen columns, or what is wrong with the choice."""
    mapping, error = attempt(read_mapping, roles_or_known(dataset, roles), dataset)
    if error:
        return markup.line(f"{error.what} {error.fix}", "quiet")
    return mapping_preview(dataset, mapping, system_prompt or "")


def _wire_report(studio: Studio, tab: DataTab) -> None:
    @show_user_errors
    def clean(event: gr.EventData, dataset_id: str):
        dataset = open_dataset(studio.home, dataset_id)
        fixes = {str(code): str(switch) for code, switch in dict(event.fixes).items()}
        arguments = {"dataset_id": dataset.id, "fixes": fixes}
        return tab.readings.work("apply_fixes", arguments, dataset.name)

    @show_user_errors
    def show_version(event: gr.EventData):
        return open_dataset(studio.home, str(event.id)).id

    @show_user_errors
    def clean_lengths(event: gr.EventData, dataset_id: str):
        dataset, code = open_dataset(studio.home, dataset_id), str(event.code)
        rows = rows_of_count(dataset, count_filter(str(event.count), code, int(event.limit)))
        arguments = {"dataset_id": dataset.id, "fixes": {code: "drop"}, "rows": {code: rows}}
        return tab.readings.work("apply_fixes", arguments, dataset.name)

    tab.report.clean(clean, tab.dataset_id, tab.reading, **PRIVATE)
    tab.lengths.clean(clean_lengths, tab.dataset_id, tab.reading, **PRIVATE)
    for part in (tab.report, tab.stored):
        part.open(show_version, None, tab.dataset_id, **SETS_STATE)


def _wire_changes(studio: Studio, tab: DataTab) -> None:
    rows = tab.rows

    def changed(event: gr.EventData, kept: dict | None, dataset_id: str, action: str):
        changes, row = read_changes(kept, dataset_id), int(event.row)
        if action == "keep":
            cells = {str(name): str(text) for name, text in dict(event.cells).items()}
            changes = changes.edited(row, as_before(studio, dataset_id, row, cells))
        else:
            changes = changes.dropped(row) if action == "drop" else changes.restored(row)
        return changes.to_dict()

    @show_user_errors
    def save(kept: dict | None, dataset_id: str):
        changes = read_changes(kept, dataset_id)
        dataset = open_dataset(studio.home, dataset_id)
        edits = {str(row): cells for row, cells in changes.edits.items()}
        arguments = {"dataset_id": dataset.id, "edits": edits, "drops": list(changes.drops)}
        return tab.readings.work("edit_rows", arguments, dataset.name)

    def keep(event: gr.EventData, kept, dataset_id):
        return changed(event, kept, dataset_id, "keep")

    def drop(event: gr.EventData, kept, dataset_id):
        return changed(event, kept, dataset_id, "drop")

    def restore(event: gr.EventData, kept, dataset_id):
        return changed(event, kept, dataset_id, "restore")

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
    """Line ends as the row has them: a text box of a browser turns all of them into one kind."""
    dataset = open_dataset(studio.home, dataset_id)
    place = dataset.place_of(row)
    old = dict(dataset.page(place, 1)[0]).get(row, {}) if place is not None else {}
    return {
        name: text.replace("\n", "\r\n") if "\r\n" in (old.get(name) or "") else text
        for name, text in cells.items()
    }


def _wire_stored(studio: Studio, tab: DataTab) -> None:
    def listed(dataset_id: str) -> str:
        return dataset_list(list_datasets(studio.home), dataset_id)

    def remove(event: gr.EventData, dataset_id: str):
        _, error = attempt(delete_dataset, studio.home, str(event.id))
        if error:
            tell(error)
            return [gr.skip(), markup.error_card(error), listed(dataset_id)]
        gone = dataset_id == event.id
        return ["" if gone else gr.skip(), "", listed(dataset_id)]

    @show_user_errors
    def mix(event: gr.EventData):
        parts = read_weights(event.weights)
        name = str(event.name or "").strip() or "Mix"
        arguments = {"parts": [list(part) for part in parts], "name": name, "seed": MIX_SEED}
        return tab.readings.work("mix_datasets", arguments, name)

    out = [tab.dataset_id, tab.notice, tab.stored]
    tab.stored.remove(remove, tab.dataset_id, out, **SETS_STATE)
    tab.stored.mix(mix, None, tab.reading, **PRIVATE)
    tab.stored_box.expand(listed, tab.dataset_id, tab.stored, **QUICK)
    tab.dataset_id.change(listed, tab.dataset_id, tab.stored, **QUICK)
