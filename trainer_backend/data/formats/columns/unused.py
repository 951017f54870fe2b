"""Columns of text that a mapping would leave out, told apart from ids, labels, titles and copies.

Only the first rows are looked at. What a column may be used for is not decided here.
"""

from collections.abc import Mapping, Sequence

from trainer_backend.data.formats.mapping import SYNONYMS, ColumnMapping, plain_name, unused_columns
from trainer_backend.data.json_values import cell_text

THOUGHTS = (*SYNONYMS["reasoning"], "rationale", "explanation", "justification", "deliberation")
_NAMED = {*SYNONYMS["input"], *SYNONYMS["history"], *THOUGHTS}
ASIDE = {
    "id", "url", "link", "title", "source", "license", "citation", "meta", "metadata", "tags",
    "path", "file", "file_name", "filename", "timestamp", "date", "author", "model", "embedding",
    "system", "system_prompt",
}  # fmt: skip
MIN_COPY = 20  # characters: a shorter text may stand in another by chance
LOOKED_AT, MIN_CHARS, MIN_WORDS, WIDE = 100, 50, 6, "\u2e80"


def unused_text(
    rows: Sequence[Mapping], columns: Sequence[str], mapping: ColumnMapping
) -> list[str]:
    """The columns with text of substance that the mapping leaves out.

    Substance: cells of some length that differ, in at least half of the rows, and that are neither
    part of the cells used nor made of them. A column with a telling name (context, history,
    rationale, …) needs only to hold something. Conversations are thought whole: beside them only
    such names count.
    """
    chat = "messages" in mapping.roles
    names = unused_columns(mapping, columns)
    names = [name for name in names if not chat or plain_name(name) in _NAMED]
    return [name for name in names if _is_substance(rows, name, mapping)]


def _is_substance(rows: Sequence[Mapping], name: str, mapping: ColumnMapping) -> bool:
    if plain_name(name) in ASIDE or plain_name(name).startswith("original_"):
        return False
    telling = plain_name(name) in _NAMED
    rows = rows if telling else rows[:LOOKED_AT]
    filled = [(row, cell_text(row[name]).strip()) for row in rows if row.get(name)]
    cells = [(row, text) for row, text in filled if text not in ("", "[]", "{}")][:LOOKED_AT]
    if not cells:
        return False
    if not telling and (len(cells) * 2 < len(rows) or not _is_prose([text for _, text in cells])):
        return False
    copies = sum(_is_copy(text, row, mapping) for row, text in cells)
    return copies * 2 < len(cells)


def _is_prose(texts: list[str]) -> bool:
    if len(set(texts)) * 2 < len(texts):
        return False
    wide = sum(text[:200] > WIDE for text in texts) * 2 > len(texts)  # scripts without spaces
    mean = sum(map(len, texts)) / len(texts)
    words = sum(len(text.split()) for text in texts) / len(texts)
    return mean >= MIN_CHARS / 2 if wide else mean >= MIN_CHARS and words >= MIN_WORDS


def _is_copy(text: str, row: Mapping, mapping: ColumnMapping) -> bool:
    """Whether a text stands in the cells used, or holds the answer: a rendering of the row."""
    used = [cell_text(row.get(name)) for name in mapping.roles.values()]
    answer = cell_text(row.get(mapping.roles.get("completion", ""))).strip()
    asked = cell_text(row.get(mapping.roles.get("prompt", ""))).strip()
    inside = len(text) >= MIN_COPY and any(text in one or _escaped(text) in one for one in used)
    rendered = len(asked) >= MIN_COPY / 2 and answer and asked in text and answer in text
    return inside or bool(rendered)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def holds_text(rows: Sequence[Mapping], name: str) -> bool:
    """Whether the filled cells of a column are text, numbers, or lists of texts."""
    cells = [row[name] for row in rows if row.get(name)]
    return not any(isinstance(cell, dict) or is_nested_list(cell) for cell in cells)


def is_nested_list(cell: object) -> bool:
    """Whether a cell is a list of anything but texts."""
    return isinstance(cell, list) and not all(isinstance(one, str) for one in cell)
