"""Preference data: answers with a verdict, and the columns that make SFT data of the good ones.

A model is never trained on both answers: which rows and columns are the chosen ones is all that is
decided here, and always by the user.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from trainer_backend.data.formats.cells import all_of, mark_of, transcript_turns, turns_of
from trainer_backend.data.formats.mapping import EMPTY, ColumnMapping, plain_name, quoted

CHOSEN = (
    "chosen", "preferred", "preferred_output", "preferred_response", "preferred_answer",
    "chosen_response", "chosen_answer", "chosen_output", "response_chosen", "answer_chosen",
    "good_response", "better_response", "positive", "winner",
)  # fmt: skip
REJECTED = (
    "rejected", "reject", "non_preferred", "nonpreferred", "dispreferred", "non_preferred_output",
    "non_preferred_response", "dispreferred_output", "dispreferred_response", "rejected_response",
    "rejected_answer", "rejected_output", "response_rejected", "answer_rejected", "bad_response",
    "worse_response", "loser",
)  # fmt: skip
LABELS = (
    "label", "kto_tag", "kto_label", "desirable", "is_desirable", "chosen", "is_chosen",
    "preferred", "is_preferred", "accepted", "is_accepted", "approved", "is_approved", "liked",
    "like", "thumbs_up", "thumb", "upvoted", "vote", "feedback", "is_good", "good", "correct",
    "is_correct", "is_acceptable", "verdict", "preference",
)  # fmt: skip
SCORES = ("score", "scores", "rating", "ratings", "reward", "rewards", "rank", "ranks",
          "overall_score", "quality")  # fmt: skip
_SEVERAL = ("completions", "responses", "answers", "candidates", "outputs", "generations")


@dataclass(frozen=True)
class Preference:
    """What was seen, in words, and the mapping that trains on the chosen answers, if any does."""

    seen: str
    chosen: ColumnMapping | None


def find_pairs(
    rows: Sequence[Mapping], columns: Sequence[str], plain: ColumnMapping | None, chats: list[str]
) -> Preference | None:
    """Chosen and rejected answers side by side (DPO, ORPO, reward models); None for other data.

    `plain` maps the prompt and what belongs to it to a stand-in answer, if there is a prompt.
    """
    rejected = [name for name in columns if plain_name(name) in REJECTED]
    if not rejected:
        return None
    chosen = next((name for name in columns if plain_name(name) in CHOSEN), "")
    if not chosen and plain:
        chosen = plain.roles["completion"]
    if not chosen:
        return Preference(f"{quoted(rejected[0])} holds rejected answers", None)
    seen = f"{quoted(chosen)} holds chosen answers, {quoted(rejected[0])} rejected ones"
    return Preference(seen, _of_chosen(rows, chosen, rejected, plain, chats))


def _of_chosen(
    rows: Sequence[Mapping],
    chosen: str,
    rejected: Sequence[str],
    plain: ColumnMapping | None,
    chats: Sequence[str],
) -> ColumnMapping | None:
    cells = [row[chosen] for row in rows if row.get(chosen) not in EMPTY]
    talks = [turns_of(cell) or transcript_turns(cell) for cell in cells]
    whole = sum(len(talk) > 1 for talk in talks) > len(cells) / 2  # asked and answered within
    extra = {} if plain is None else {
        role: name for role, name in plain.roles.items() if role in ("system", "tools")
    }  # fmt: skip
    if whole:
        return ColumnMapping("messages", {"messages": chosen} | extra)
    before = [name for name in chats if name not in (chosen, *rejected)]
    if plain is not None and not (before and plain.roles["prompt"] not in before):
        return replace(plain, roles={**plain.roles, "completion": chosen})
    if before:
        return ColumnMapping("messages", {"messages": before[0], "completion": chosen} | extra)
    return None


def find_label(
    rows: Sequence[Mapping], columns: Sequence[str], plain: ColumnMapping | None
) -> Preference | None:
    """Answers that are each marked as good or bad (KTO); None for other data.

    `plain` is the mapping without the label.
    """
    if plain is None or plain.format == "text":
        return None
    for name in columns:
        if plain_name(name) not in LABELS or name in plain.roles.values():
            continue
        cells = [row[name] for row in rows if row.get(name) not in EMPTY]
        if not all_of(lambda cell: mark_of(cell) is not None, cells):
            continue
        bad = sum(mark_of(cell) is False for cell in cells)
        seen = f"{quoted(name)} marks answers as good or bad ({bad:,} of {len(cells):,} as bad)"
        return Preference(seen, replace(plain, roles={**plain.roles, "label": name}))
    return None


def find_scores(
    rows: Sequence[Mapping], columns: Sequence[str], plain: ColumnMapping | None
) -> Preference | None:
    """Several answers to one prompt with a score each; None for other data."""
    lists = [name for name in columns if plain_name(name) in _SEVERAL and _several(rows, name)]
    scores = [name for name in columns if plain_name(name) in SCORES]
    if lists and (scores or _scored_inside(rows, lists[0])):
        return Preference(f"{quoted(lists[0])} holds several answers with scores", None)
    if plain is None or "prompt" not in plain.roles or not scores:
        return None
    known: dict[str, set[str]] = {}
    for row in rows:
        known.setdefault(str(row.get(plain.roles["prompt"])), set()).add(str(row.get(scores[0])))
    if sum(len(found) > 1 for found in known.values()) * 2 <= len(known):
        return None
    seen = f"one prompt has several answers, each with its {quoted(scores[0])}"
    return Preference(seen, None)


def _several(rows: Sequence[Mapping], name: str) -> bool:
    cells = [row[name] for row in rows if row.get(name) not in EMPTY]
    return all_of(lambda cell: isinstance(cell, list) and len(cell) > 1, cells)


def _scored_inside(rows: Sequence[Mapping], name: str) -> bool:
    cells = [item for row in rows for item in row.get(name) or ()]
    return all_of(
        lambda item: isinstance(item, dict) and any(plain_name(key) in SCORES for key in item),
        cells,
    )
