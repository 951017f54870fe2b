"""Guesses prompt and answer where names are not the usual ones: by names and cells, or not at all.

A guess is only offered to the user, never trained on by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer_backend.data.formats.columns.headers import (
    ANSWER,
    ASK,
    DOCUMENT,
    GOOD,
    STRONG,
    UNCLEAR,
    Header,
    read_header,
)
from trainer_backend.data.formats.columns.kinds import (
    CLASSES,
    DATES,
    EMAILS,
    IDS,
    LINKS,
    PHRASES,
    PROSE,
    TEXTS,
    kind_of,
)
from trainer_backend.data.formats.mapping import ColumnMapping, quoted

_NOTHING = (*TEXTS, CLASSES)  # kinds that may be text a model reads or writes


@dataclass(frozen=True)
class _Column:
    name: str
    header: Header
    kind: str


def guess_pair(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> ColumnMapping | None:
    """Prompt and answer, where names and cells of the first rows leave one reading; else None.

    Ids, dates, numbers, addresses and classes are never a prompt; classes are an answer only
    where a column named like a label stands beside the one text of the table.
    """
    known = [_Column(name, read_header(name), kind_of(rows, name)) for name in columns]
    texts = [one for one in known if one.kind in TEXTS]
    if any(one.header.side == UNCLEAR for one in texts):
        return None
    answers = _best([one for one in texts if _is_side(one, ANSWER)])
    if answers is None:
        return _classes(known)
    asks = _asks(texts, answers)
    if asks is None:
        return None
    return ColumnMapping("prompt_completion", {"prompt": asks.name, "completion": answers.name})


def _is_side(column: _Column, side: str) -> bool:
    return column.header.side == side and (column.kind == PROSE or not column.header.bare)


def _best(columns: list[_Column]) -> _Column | None:
    """The one whose name says most; of several alike the better one, as “final” before “draft”."""
    if not columns:
        return None
    most = max(one.header.strength for one in columns)
    best = [one for one in columns if one.header.strength == most]
    if len(best) > 1:
        choice = max(one.header.choice for one in best)
        best = [one for one in best if one.header.choice == choice]
    if len(best) > 1 and PHRASES in {one.kind for one in best}:
        best = [one for one in best if one.kind == PROSE]
    return best[0] if len(best) == 1 and best[0].header.choice >= 0 else None


def _asks(texts: list[_Column], answer: _Column) -> _Column | None:
    """The column that the answer answers."""
    others = [one for one in texts if one is not answer]
    asks = [one for one in others if _is_side(one, ASK)]
    if pair := answer.header.pair:
        same = [one for one in asks if one.header.pair == pair]
        near = [one for one in asks if one.header.pair or one.header.strength == STRONG]
        near = [one for one in near if one.header.pair != DOCUMENT or len(others) == 1]
        asks = same if same or pair == DOCUMENT else near
    best = _best(asks)
    if best is None or best.header.strength >= GOOD:
        return best
    rivals = [one for one in others if one.kind == PROSE and not one.header.side]
    return None if rivals else best


def _classes(known: list[_Column]) -> ColumnMapping | None:
    """The one text and its class, in a table for classification."""
    labels = [one for one in known if one.header.label]
    texts = [one for one in known if one.kind == PROSE]
    answered = any(one.header.side == ANSWER for one in known)
    if answered or len(labels) != 1 or len(texts) != 1 or labels[0].kind not in _NOTHING:
        return None
    if texts[0] is labels[0]:
        return None
    roles = {"prompt": texts[0].name, "completion": labels[0].name}
    return ColumnMapping("prompt_completion", roles)


def is_doubtful(rows: Sequence[Mapping[str, Any]], mapping: ColumnMapping) -> bool:
    """Whether the prompt or the answer of a pair is a column of ids, dates or addresses."""
    sides = [mapping.roles[side] for side in ("prompt", "completion") if side in mapping.roles]
    return any(kind_of(rows, name) in (IDS, DATES, EMAILS, LINKS) for name in sides)


def guess_words(mapping: ColumnMapping) -> str:
    """What was guessed, in a sentence."""
    roles = mapping.roles
    return (
        f"By their names and texts, {quoted(roles['prompt'])} is the prompt and "
        f"{quoted(roles['completion'])} is the answer"
    )
