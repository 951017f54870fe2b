"""Events of the Data tab that need the recipe's form: what is shown of a dataset, and the split.

Reads and sets form fields by name; knows no other tab.
"""

from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt, show_user_errors
from sft_ui.context import PRIVATE, QUICK, SETS_STATE, Options, Studio
from sft_ui.data import report
from sft_ui.data.held_out import held_out_words
from sft_ui.data.lengths import feed
from sft_ui.data.mapping_events import mapper_outputs, mapper_shown
from sft_ui.data.row_events import show_page, wire_rows
from sft_ui.data.rows import table as row_table
from sft_ui.data.rows import tokens
from sft_ui.data.rows.card import changes_bar, read_changes
from sft_ui.data.statistics import statistics_cards
from sft_ui.data.tab import DataTab
from sft_ui.recipe_form import Fields, read_form
from sft_ui.sizes import machine_now, sizes_for
from trainer_backend.data.checks import read_statistics
from trainer_backend.data.store import StoredDataset, list_datasets, open_dataset
from trainer_backend.recipe import Recipe, changed_to, label, parse_settings, total_steps


def wire_data(
    studio: Studio, tab: DataTab, fields: Fields, opened: gr.Tab, follow: tuple[Options, Options]
) -> None:
    """Wire the tab to the recipe's form.

    `follow` are the arguments of the events by which the form follows other data, and by which
    what depends on the form is updated.
    """
    given, refresh = {"dataset_id": tab.dataset_id, **fields}, follow[1]
    _wire_show(studio, tab, given, opened, follow)
    wire_rows(studio, tab, given, fields)
    _wire_takeover(studio, tab, fields, given, refresh)


def _wire_show(
    studio: Studio, tab: DataTab, given: Options, opened: gr.Tab, follow: tuple[Options, Options]
) -> None:
    @show_user_errors
    def show(dataset_id: str, was_shown: str, start: int, kept: Any, **values: Any) -> list[Any]:
        return show_dataset(studio, dataset_id, (was_shown, start, kept), values)

    asked = {**given, "was_shown": tab.shown, "start": tab.rows.start, "kept": tab.rows.changes}
    adapt, refresh = follow
    filled = tab.dataset_id.change(**adapt)
    shown = filled.then(show, inputs_kwargs=asked, outputs=dataset_outputs(tab), **QUICK)
    shown.then(**refresh)

    @show_user_errors
    def again(dataset_id: str, **values: Any) -> list[Any]:
        return show_settings(studio, dataset_id, values)

    opened.select(again, inputs_kwargs=given, outputs=settings_outputs(tab), **QUICK)


def show_dataset(
    studio: Studio, dataset_id: str, before: tuple[str, int, Any], values: dict[str, Any]
) -> list[Any]:
    """Updates of `dataset_outputs`: everything the tab shows of a dataset.

    `before` is the previous (dataset id, first row, unsaved changes): a new version of the same
    data stays on the same page of rows.
    """
    was_shown, start, kept = before
    dataset = open_dataset(studio.home, dataset_id) if dataset_id else None
    changes = read_changes(kept, dataset_id)
    is_successor = dataset is not None and bool(was_shown) and dataset.parent == was_shown
    settings = show_settings(studio, dataset_id, values)
    view = row_table.View()
    table, where, first = show_page(studio, dataset_id, start if is_successor else 0, view, changes)
    choices = row_table.filter_choices(dataset.problems if dataset else [])
    return [
        *settings,
        *(table, where, first, "", gr.update(choices=choices, value=row_table.ALL), "row"),
        *(None, tokens.hint(), "", changes_bar(changes)),
        *(gr.update(visible=dataset is not None), dataset_id),
        *mapper_shown(dataset),
        statistics_card(dataset),
    ]


def dataset_outputs(tab: DataTab) -> list[gr.blocks.Block]:
    """The components that `show_dataset` updates, in its order."""
    rows = tab.rows
    return [
        *settings_outputs(tab),
        *(rows.preview, rows.line, rows.start, rows.search, rows.filter, rows.sort),
        *(rows.row, tab.tokens, rows.card, rows.changes_bar),
        *(tab.browser, tab.shown),
        *mapper_outputs(tab),
        tab.statistics,
    ]


def statistics_card(dataset: StoredDataset | None) -> Markup | str:
    """Roles, turns, lengths and languages; "" without data."""
    return statistics_cards(read_statistics(dataset.dir)) if dataset else ""


def show_settings(studio: Studio, dataset_id: str, values: dict[str, Any]) -> list[Any]:
    """Updates of `settings_outputs`: report, lengths and held-out rows under the recipe."""
    recipe, _ = read_form(values)
    dataset = open_dataset(studio.home, dataset_id) if dataset_id else None
    train, held_out = sizes_for(studio, dataset_id, recipe)
    share = recipe.eval_fraction if recipe else 0.0
    versions = report.family(dataset, list_datasets(studio.home)) if dataset else []
    return [
        report.report(dataset, held_out, share, versions),
        lengths_asked(dataset, recipe, train),
        held_out_words(dataset, held_out),
        round(share * 100),
        gr.update(visible=bool(dataset and dataset.held_out)),
        [share, recipe.seed if recipe else 0],
        *ready_shown(dataset, train),
    ]


def ready_shown(dataset: StoredDataset | None, train: int) -> list[Any]:
    """Updates of the bar that leads on: hidden until there is something to train on."""
    ready = dataset is not None and dataset.sure and train > 0
    words = f"Ready: {train:,} {'example' if train == 1 else 'examples'} for training."
    return [gr.update(visible=ready), markup.line(words), gr.update(visible=ready)]


def settings_outputs(tab: DataTab) -> list[gr.blocks.Block]:
    """The components that `show_settings` updates, in its order."""
    held_out = tab.held_out
    return [
        *(tab.report, tab.lengths, held_out.said, held_out.share, held_out.forget),
        *(tab.share, tab.ready.bar, tab.ready.said, tab.ready.end),
    ]


def lengths_asked(dataset: StoredDataset | None, recipe: Recipe | None, train: int) -> str:
    """The value of the length chart; "" without examples or with an invalid form."""
    if dataset is None or not dataset.num_examples or recipe is None:
        return ""
    steps = total_steps(recipe, train, machine_now().num_devices) if train else 0
    return feed.asked(dataset.id, recipe.to_dict(), steps)


def _wire_takeover(
    studio: Studio, tab: DataTab, fields: Fields, given: Options, refresh: Options
) -> None:
    """Copy the chart's limit and the held-out share into the recipe's form."""

    def take_limit(event: gr.EventData) -> int:
        limit = int(event.max_length)
        gr.Info(f"{label('max_length')} set to {limit:,} tokens, here and in the Model tab.")
        return limit

    @show_user_errors
    def shown(dataset_id: str, **values: Any) -> list[Any]:
        return show_settings(studio, dataset_id, values)

    after = {"inputs_kwargs": given, "outputs": settings_outputs(tab), **QUICK}
    taken = tab.lengths.takeover(take_limit, None, fields["max_length"], **QUICK)
    taken.then(shown, **after).then(**refresh)
    names = ["chat_template", "lost_content"]

    def decide(event: gr.EventData) -> list[Any]:
        change = {name: value for name, value in dict(event.change).items() if name in names}
        settings = parse_settings(change, "the chart of token lengths")
        gr.Info(f"Set {changed_to(settings)}, here and in the Model tab.")
        return [settings.get(name, gr.skip()) for name in names]

    decided = tab.lengths.decide(decide, None, [fields[name] for name in names], **QUICK)
    decided.then(shown, **after).then(**refresh)
    held_out = tab.held_out
    share = held_out.share.release(
        lambda percent: percent / 100, held_out.share, fields["eval_fraction"], **QUICK
    )
    share.then(shown, **after).then(**refresh)
    _wire_own_held_out(tab)


def _wire_own_held_out(tab: DataTab) -> None:
    held_out = tab.held_out

    def begin(path: str | None) -> tuple[Any, Any, Any]:
        if not path:
            return gr.skip(), None, ""
        reading, error = attempt(tab.readings.read, [path])
        return reading or "", None, markup.error_card(error)

    def finished(event: gr.EventData, dataset_id: str) -> tuple[Any, Any]:
        other, error = attempt(tab.readings.result, str(event.reading))
        if other is None:
            return gr.skip(), markup.error_card(error)
        arguments = {"dataset_id": dataset_id, "held_out_id": other.id}
        return tab.readings.work("with_held_out", arguments, other.name), ""

    @show_user_errors
    def forget(dataset_id: str) -> str:
        arguments = {"dataset_id": dataset_id, "held_out_id": None}
        return tab.readings.work("with_held_out", arguments, "Held-out rows")

    out = [held_out.reading, held_out.upload, tab.notice]
    held_out.upload.upload(begin, held_out.upload, out, **PRIVATE)
    held_out.reading.finished(finished, tab.dataset_id, [tab.reading, tab.notice], **SETS_STATE)
    held_out.forget.click(forget, tab.dataset_id, tab.reading, **PRIVATE)
