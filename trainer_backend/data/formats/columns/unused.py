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
LOOKED_AT, MIN_CHARS, MIN_WORDS, WIDE = 100, 50, 6, "\u2e80"


def unused_text(
    rows: Sequence[Mapping], columns: Sequence[str], mapping: ColumnMapping, min_chars: int = 0
) -> list[str]:
    """The columns with text of substance that the mapping leaves out.

    Substance: cells of some length that differ, in at least half of the rows, and that are neither
    part of the cells used nor made of them. A column with a telling name (context, history,
    rationale, …) needs only `min_chars`, by default a few words. Conversations are thought whole:
    beside them only such names count.
    """
    chat = "messages" in mapping.roles
    names = unused_columns(mapping, columns)
    names = [name for name in names if not chat or plain_name(name) in _NAMED]
    return [name for name in names if _is_substance(rows[:LOOKED_AT], name, mapping, min_chars)]


def _is_substance(
    rows: Sequence[Mapping], name: str, mapping: ColumnMapping, min_chars: int
) -> bool:
    if plain_name(name) in ASIDE:
        return False
    filled = [(row, cell_text(row[name]).strip()) for row in rows if row.get(name)]
    cells = [(row, text) for row, text in filled if text not in ("", "[]", "{}")]
    if len(cells) * 2 < len(rows) or not _is_prose([text for _, text in cells], name, min_chars):
        return False
    copies = sum(_is_copy(text, row, mapping) for row, text in cells)
    return copies * 2 < len(cells)


def _is_prose(texts: list[str], name: str, min_chars: int) -> bool:
    if not texts or len(set(texts)) * 2 < len(texts):
        return False
    telling = plain_name(name) in _NAMED
    least = (min_chars or 12) if telling else MIN_CHARS
    wide = sum(text[:200] > WIDE for text in texts) * 2 > len(texts)  # scripts without spaces
    mean = sum(map(len, texts)) / len(texts)
    words = sum(len(text.split()) for text in texts) / len(texts)
    return mean >= (least / 2 if wide else least) and (telling or wide or words >= MIN_WORDS)


def _is_copy(text: str, row: Mapping, mapping: ColumnMapping) -> bool:
    """Whether a text stands in the cells used, or holds the answer: a rendering of the row."""
    used = [cell_text(row.get(name)) for name in mapping.roles.values()]
    answer = cell_text(row.get(mapping.roles.get("completion", ""))).strip()
    asked = cell_text(row.get(mapping.roles.get("prompt", ""))).strip()
    inside = any(text in one or _escaped(text) in one for one in used)
    return inside or bool(answer and asked and answer in text and asked in text)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def holds_text(rows: Sequence[Mapping], name: str) -> bool:
    """Whether the filled cells of a column are text or numbers, or there are none."""
    return not any(isinstance(row.get(name), list | dict) and row[name] for row in rows)
