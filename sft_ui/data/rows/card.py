"""One row as an editable card (cells, images), and the changes that are not saved yet.

Changes live in the browser; saving them creates a new version of the dataset.
"""

from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from sft_ui import markup
from sft_ui.data.dataset_files import image_address
from sft_ui.data.rows.chats import chat_bubbles
from trainer_backend.data.store import StoredDataset

MAX_EDITED_CHARS = 200_000


@dataclass(frozen=True)
class Changes:
    """Edited and dropped rows of one dataset that are not saved yet."""

    dataset_id: str = ""
    edits: dict[int, dict[str, str]] = field(default_factory=dict)
    drops: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.edits or self.drops)

    def edited(self, row: int, cells: dict[str, str]) -> "Changes":
        """With these cells of a row changed."""
        edits = {**self.edits, row: {**self.edits.get(row, {}), **cells}}
        return Changes(self.dataset_id, edits, self.drops)

    def dropped(self, row: int) -> "Changes":
        """Without this row."""
        edits = {number: cells for number, cells in self.edits.items() if number != row}
        return Changes(self.dataset_id, edits, tuple(sorted({*self.drops, row})))

    def restored(self, row: int) -> "Changes":
        """With this row as it was."""
        edits = {number: cells for number, cells in self.edits.items() if number != row}
        return Changes(self.dataset_id, edits, tuple(one for one in self.drops if one != row))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the browser, read again by `read_changes`."""
        edits = [[row, cells] for row, cells in self.edits.items()]
        return {"dataset_id": self.dataset_id, "edits": edits, "drops": list(self.drops)}


def read_changes(kept: object, dataset_id: str) -> Changes:
    """The changes kept in the browser, if they are valid and belong to this dataset."""
    if not isinstance(kept, dict) or kept.get("dataset_id") != dataset_id:
        return Changes(dataset_id)
    edits, drops = kept.get("edits"), kept.get("drops")
    if not isinstance(edits, list) or not isinstance(drops, list):
        return Changes(dataset_id)
    known = {
        one[0]: {str(name): str(text) for name, text in one[1].items()}
        for one in edits
        if isinstance(one, list) and len(one) == 2 and isinstance(one[1], dict) and _is_row(one[0])
    }
    return Changes(dataset_id, known, tuple(row for row in drops if _is_row(row)))


def _is_row(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def row_card(dataset: StoredDataset, row: int, cells: dict[str, str], changes: Changes) -> Markup:
    """The card of one row: a text box per column, and buttons to apply, drop or restore.

    A conversation is shown as bubbles, with its text boxes folded.
    """
    changed = changes.edits.get(row, {})
    columns = used_first(dataset)
    boxes = Markup().join(_box(name, cells.get(name), changed.get(name)) for name in columns)
    if chat := _chat(dataset, row):
        is_open = Markup(" open") if changed else ""
        fold = Markup("<details{}><summary>Edit the cells of this row</summary>{}</details>")
        boxes = chat + fold.format(is_open, boxes)
    images = row_images(dataset, row)
    if images:
        images = Markup('<div class="row-images">{}</div>').format(images)
    if row in changes.drops:
        note = markup.line("This row will be dropped when you save.", "quiet")
        buttons = note + _button("restore", "Restore this row")
    else:
        restore = _button("restore", "Undo change") if changed else ""
        keep = _button("keep", "Apply change", disabled=True)
        buttons = keep + restore + _button("drop", "Drop this row", kind="careful")
    template = Markup(
        '<div class="card row-card" data-edit="{0}"><h3>Row {0:,}</h3>{1}{2}'
        '<div class="row-buttons">{3}</div></div>'
    )
    return template.format(row, images, boxes, buttons)


def used_first(dataset: StoredDataset) -> list[str]:
    """The columns that are trained on, then the others."""
    used = list(dict.fromkeys(dataset.mapping.roles.values())) if dataset.mapping else []
    return [*used, *(name for name in dataset.columns if name not in used)]


def _chat(dataset: StoredDataset, row: int) -> Markup | str:
    """The row as a conversation; "" for a prompt with its answer, which the text boxes show."""
    mapping = dataset.mapping
    if mapping is None or not any("messages" in one.roles for one in (mapping, *mapping.also)):
        return ""
    example = dataset.example(row)
    return chat_bubbles(example) if example and example.messages else ""


def _box(name: str, text: str | None, changed: str | None) -> Markup:
    shown = changed if changed is not None else text or ""
    if len(shown) > MAX_EDITED_CHARS:
        note = markup.line(f"{name}: too long to edit here ({len(shown):,} characters).", "quiet")
        return Markup('<div class="field">{}</div>').format(note)
    mark = " changed" if changed is not None else ""
    lines = min(10, max(2, shown.count("\n") + 1 + len(shown) // 60))
    template = Markup(
        '<label class="field{mark}"><span>{name}</span>'
        '<textarea data-column="{name}" rows="{lines}" spellcheck="false">\n'
        "{shown}</textarea></label>"
    )
    return template.format(mark=mark, name=name, lines=lines, shown=shown)


def _button(action: str, words: str, *, disabled: bool = False, kind: str = "") -> Markup:
    template = Markup('<button type="button" class="action small {}" data-{}="1"{}>{}</button>')
    return template.format(kind, action, " disabled" if disabled else "", words)


def row_images(dataset: StoredDataset, row: int) -> Markup:
    """The images of a row as <img> tags, loaded lazily."""
    example = dataset.example(row)
    # a stored example holds the names of its images, never their bytes
    names = [str(name) for name in example.images or ()] if example else []
    return markup.each(
        Markup('<img loading="lazy" alt="Image {} of row {:,}" src="{}">'),
        (
            (number, row, image_address(dataset.id, name))
            for number, name in enumerate(names, start=1)
        ),
    )


def changes_bar(changes: Changes) -> Markup | str:
    """The number of unsaved changes, with buttons to save or discard them; "" without any."""
    if not changes:
        return ""
    counts = [(len(changes.edits), "edited"), (len(changes.drops), "dropped")]
    words = " and ".join(f"{n:,} {'row' if n == 1 else 'rows'} {what}" for n, what in counts if n)
    template = Markup(
        '<div class="changes" role="status"><b>{}, not saved yet.</b>'
        '<button type="button" class="action" data-save="1" id="save-changes">'
        'Save as a new version</button><button type="button" class="action small" data-undo="1">'
        "Discard changes</button></div>"
    )
    return template.format(words)
