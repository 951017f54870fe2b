"""What the Data tab shows of a dataset, and what of it depends on the recipe or changes it.

Events within the tab are data_events.py; everything else between tabs is layout.py.
"""

import gradio as gr

from sft_ui import markup
from sft_ui.alerts import attempt, show_user_errors
from sft_ui.context import PRIVATE, QUICK, SETS_STATE, Studio
from sft_ui.data import report
from sft_ui.data.held_out import held_out_words
from sft_ui.data.lengths import feed
from sft_ui.data.reading.columns import example_preview
from sft_ui.data.row_events import show_page, wire_rows
from sft_ui.data.rows import table as row_table
from sft_ui.data.rows import tokens
from sft_ui.data.rows.card import changes_bar, read_changes
from sft_ui.data.statistics import statistics_cards
from sft_ui.data.tab import DataTab
from sft_ui.recipe_form import read_form
from sft_ui.sizes import machine_now, sizes_for
from trainer_backend.data.checks import read_statistics
from trainer_backend.data.store import StoredDataset, list_datasets, open_dataset
from trainer_backend.recipe import Recipe, label, total_steps


def wire_data(studio: Studio, tab: DataTab, fields: dict, opened: gr.Tab, refresh: dict) -> None:
    """Connect the tab with the recipe's form; `refresh` are the arguments of the page's update."""
    given = {"dataset_id": tab.dataset_id, **fields}
    _wire_show(studio, tab, given, opened, refresh)
    wire_rows(studio, tab, given, fields)
    _wire_takeover(studio, tab, fields, given, refresh)


def _wire_show(studio: Studio, tab: DataTab, given: dict, opened: gr.Tab, refresh: dict) -> None:
    @show_user_errors
    def show(dataset_id, was_shown, start, kept, **values):
        return show_dataset(studio, dataset_id, (was_shown, start, kept), values)

    asked = {**given, "was_shown": tab.shown, "start": tab.rows.start, "kept": tab.rows.changes}
    shown = tab.dataset_id.change(show, inputs_kwargs=asked, outputs=dataset_outputs(tab), **QUICK)
    shown.then(**refresh)

    @show_user_errors
    def again(dataset_id, **values):
        return show_settings(studio, dataset_id, values)

    opened.select(again, inputs_kwargs=given, outputs=settings_outputs(tab), **QUICK)


def show_dataset(studio: Studio, dataset_id: str, before: tuple, values: dict) -> list:
    """Everything the tab shows of a dataset; outputs are `dataset_outputs`.

    `before` is what was shown: (dataset id, first row, changes kept). A new version of the same
    data stays at its place.
    """
    was_shown, start, kept = before
    dataset = open_dataset(studio.home, dataset_id) if dataset_id else None
    changes = read_changes(kept, dataset_id)
    goes_on = dataset is not None and bool(was_shown) and dataset.parent == was_shown
    settings = show_settings(studio, dataset_id, values)
    view = row_table.View()
    table, where, first = show_page(studio, dataset_id, start if goes_on else 0, view, changes)
    choices = row_table.filter_choices(dataset.problems if dataset else [])
    return [
        *settings,
        *(table, where, first, "", gr.update(choices=choices, value=row_table.ALL), "row"),
        *(None, tokens.hint(), "", changes_bar(changes)),
        *(gr.update(visible=dataset is not None), dataset_id),
        *_mapper_shown(dataset),
        statistics_card(dataset),
    ]


def dataset_outputs(tab: DataTab) -> list:
    """The components `show_dataset` fills, in its order."""
    rows, mapper = tab.rows, tab.mapper
    return [
        *settings_outputs(tab),
        *(rows.preview, rows.line, rows.start, rows.search, rows.filter, rows.sort),
        *(rows.row, tab.tokens, rows.card, rows.changes_bar),
        *(tab.browser, tab.shown),
        *(mapper.box, mapper.roles, mapper.system_prompt, mapper.preview),
        tab.statistics,
    ]


def _mapper_shown(dataset: StoredDataset | None) -> list:
    if dataset is None:
        return [gr.update(visible=False), None, "", ""]
    preview = example_preview(dataset)
    return [gr.update(visible=True, open=not dataset.sure), None, dataset.system_prompt, preview]


def statistics_card(dataset: StoredDataset | None) -> str:
    """Roles, turns, lengths and languages; nothing without examples."""
    return statistics_cards(read_statistics(dataset.dir)) if dataset else ""


def show_settings(studio: Studio, dataset_id: str, values: dict) -> list:
    """What changes with the recipe: report, lengths, held-out rows; `settings_outputs`."""
    recipe, _ = read_form(values)
    dataset = open_dataset(studio.home, dataset_id) if dataset_id else None
    train, held_out = sizes_for(studio, dataset_id, recipe)
    share = recipe.eval_fraction if recipe else 0.0
    versions = report.family(dataset, list_datasets(studio.home)) if dataset else ()
    return [
        report.report(dataset, held_out, share, versions),
        lengths_asked(dataset, recipe, train),
        held_out_words(dataset, held_out),
        round(share * 100),
        gr.update(visible=bool(dataset and dataset.held_out)),
        [share, recipe.seed if recipe else 0],
    ]


def settings_outputs(tab: DataTab) -> list:
    """The components `show_settings` fills, in its order."""
    held_out = tab.held_out
    return [
        *(tab.report, tab.lengths, held_out.said, held_out.share, held_out.forget),
        tab.share,
    ]


def lengths_asked(dataset: StoredDataset | None, recipe: Recipe | None, train: int) -> str:
    """What the length chart asks the server; nothing without examples or with a wrong form."""
    if dataset is None or not dataset.num_examples or recipe is None:
        return ""
    steps = total_steps(recipe, train, machine_now().num_devices) if train else 0
    return feed.asked(dataset.id, recipe.to_dict(), steps)


def _wire_takeover(studio: Studio, tab: DataTab, fields: dict, given: dict, refresh: dict) -> None:
    """The limit of the chart and the held-out share go into the recipe's form."""

    def take_limit(event: gr.EventData):
        limit = int(event.max_length)
        gr.Info(f"{label('max_length')}: {limit:,} tokens. It is also set in the Model tab.")
        return limit

    @show_user_errors
    def shown(dataset_id, **values):
        return show_settings(studio, dataset_id, values)

    after = {"inputs_kwargs": given, "outputs": settings_outputs(tab), **QUICK}
    taken = tab.lengths.takeover(take_limit, None, fields["max_length"], **QUICK)
    taken.then(shown, **after).then(**refresh)
    held_out = tab.held_out
    share = held_out.share.release(
        lambda percent: percent / 100, held_out.share, fields["eval_fraction"], **QUICK
    )
    share.then(shown, **after).then(**refresh)
    _wire_own_held_out(tab)


def _wire_own_held_out(tab: DataTab) -> None:
    held_out = tab.held_out

    def begin(path: str | None):
        if not path:
            return gr.skip(), None, ""
        reading, error = attempt(tab.readings.read, [path])
        return reading or "", None, markup.error_card(error) if error else ""

    def finished(event: gr.EventData, dataset_id: str):
        other, error = attempt(tab.readings.result, str(event.reading))
        if error:
            return gr.skip(), markup.error_card(error)
        arguments = {"dataset_id": dataset_id, "held_out_id": other.id}
        return tab.readings.work("with_held_out", arguments, other.name), ""

    @show_user_errors
    def forget(dataset_id: str):
        arguments = {"dataset_id": dataset_id, "held_out_id": None}
        return tab.readings.work("with_held_out", arguments, "Held-out rows")

    out = [held_out.reading, held_out.upload, tab.notice]
    held_out.upload.upload(begin, held_out.upload, out, **PRIVATE)
    held_out.reading.finished(finished, tab.dataset_id, [tab.reading, tab.notice], **SETS_STATE)
    held_out.forget.click(forget, tab.dataset_id, tab.reading, **PRIVATE)
