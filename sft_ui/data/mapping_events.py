"""Events of the column roles: chosen beside the button or in the table's headers, and applied.

Handlers take ids and plain data; the new version is made as a reading, outside this process.
"""

from dataclasses import asdict
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui.alerts import show_user_errors
from sft_ui.context import IN_TURN, PRIVATE, QUICK, SETS_STATE, Studio
from sft_ui.data.reading.choice import choice_preview, column_choice
from sft_ui.data.reading.columns import read_mapping, roles_of
from sft_ui.data.row_events import show_page, view_of
from sft_ui.data.rows.card import read_changes
from sft_ui.data.tab import DataTab
from trainer_backend.data.store import StoredDataset, open_dataset


def wire_mapping(studio: Studio, tab: DataTab) -> None:
    """Wire the pickers, the preview under them and the button."""
    mapper = tab.mapper
    _wire_choices(studio, tab)

    def preview(dataset_id: str, roles: dict | None, system_prompt: str) -> tuple[Any, Any]:
        if not dataset_id:
            return "", gr.skip()
        return choice_preview(open_dataset(studio.home, dataset_id), roles, system_prompt)

    @show_user_errors
    def apply(dataset_id: str, roles: dict | None, system_prompt: str) -> str:
        dataset = open_dataset(studio.home, dataset_id)
        mapping = read_mapping(roles_of(dataset, roles), dataset)
        arguments = {
            "dataset_id": dataset.id,
            "mapping": asdict(mapping),
            "system_prompt": system_prompt or "",
        }
        return tab.readings.work("remap_dataset", arguments, dataset.name)

    given = [tab.dataset_id, mapper.roles, mapper.system_prompt]
    shown = [mapper.preview, mapper.apply]
    mapper.system_prompt.change(preview, given, shown, trigger_mode="always_last", **QUICK)
    mapper.apply.click(apply, given, tab.reading, **PRIVATE)


def _wire_choices(studio: Studio, tab: DataTab) -> None:
    mapper, rows = tab.mapper, tab.rows

    def opened(dataset_id: str, roles: object) -> tuple[StoredDataset, dict[str, str]]:
        known = roles if isinstance(roles, dict) else {}
        named = {str(role): str(column) for role, column in known.items()}
        return open_dataset(studio.home, dataset_id), named

    def in_header(event: gr.EventData, dataset_id: str, system_prompt: str) -> list[Any]:
        dataset, roles = opened(dataset_id, event.roles)
        shown = choice_preview(dataset, roles, system_prompt)
        return [roles, *shown, gr.update(open=True), column_choice(dataset, roles)]

    def beside_button(
        event: gr.EventData,
        dataset_id: str,
        system_prompt: str,
        start: int,
        kept: Any,
        row: int | None,
        *found: Any,
    ) -> list[Any]:
        dataset, roles = opened(dataset_id, event.roles)
        view, changes = view_of(*found), read_changes(kept, dataset_id)
        table = show_page(studio, dataset_id, start, view, changes, roles=roles, row=row)[0]
        return [roles, *choice_preview(dataset, roles, system_prompt), table]

    asked = [tab.dataset_id, mapper.system_prompt]
    changed = [mapper.roles, mapper.preview, mapper.apply]
    rows.preview.roles(
        in_header, asked, [*changed, mapper.box, mapper.choice], **IN_TURN, **SETS_STATE
    )
    page = [rows.start, rows.changes, rows.row, rows.search, rows.filter, rows.sort, tab.share]
    mapper.choice.roles(
        beside_button, [*asked, *page], [*changed, rows.preview], **IN_TURN, **SETS_STATE
    )


def mapper_shown(dataset: StoredDataset | None) -> list[Any]:
    """Updates of `mapper_outputs` for a dataset."""
    if dataset is None:
        return [gr.update(visible=False), None, "", Markup(), "", gr.skip()]
    return [
        gr.update(visible=True, open=not dataset.sure),
        *(None, dataset.system_prompt, column_choice(dataset)),
        *choice_preview(dataset, None, ""),
    ]


def mapper_outputs(tab: DataTab) -> list[gr.blocks.Block]:
    """The components that `mapper_shown` updates, in its order."""
    mapper = tab.mapper
    choice = [mapper.box, mapper.roles, mapper.system_prompt, mapper.choice]
    return [*choice, mapper.preview, mapper.apply]
