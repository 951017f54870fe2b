"""Preference data: answers with a verdict, and the columns that make SFT data of the good ones.

A model is never trained on both answers: which rows and columns are the chosen ones is all that is
decided here, and always by the user.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from trainer_backend.data.formats.cells import all_of, mark_of, transcript_turns, turns_of
from trainer_backend.data.formats.mapping import EMPTY, ColumnMapping, plain_name, quoted
from trainer_backend.data.json_values import cell_text

CHOSEN = (
    "chosen", "preferred", "preferred_output", "preferred_response", "preferred_answer",
    "chosen_response", "chosen_answer", "chosen_output", "response_chosen", "answer_chosen",
    "good_response", "better_response", "positive", "winner",
)  # fmt: skip
REJECTED = (
    "rejected", "reject", "non_preferred", "nonpreferred", "dispreferred", "non_preferred_output",
    "non_preferred_response", "dispreferred_output", "dispreferred_response", "rejected_response",
    "rejected_answer", "rejected_output", "response_rejected", "answer_rejected", "bad_response",
    "worse_response", "loser", "rejected_messages", "rejected_conversation",
    "rejected_conversations",
)  # fmt: skip
LABELS = (
    "label", "kto_tag", "kto_label", "desirable", "is_desirable", "chosen", "is_chosen",
    "preferred", "is_preferred", "accepted", "is_accepted", "approved", "is_approved", "liked",
    "like", "thumbs_up", "thumb", "upvoted", "vote", "feedback", "is_good", "good", "correct",
    "is_correct", "is_acceptable", "verdict", "preference",
)  # fmt: skip
SCORES = ("score", "scores", "rating", "ratings", "reward", "rewards", "rank", "ranks",
          "overall_score", "quality")  # fmt: skip
VERDICTS = ("winner", "preference", "choice", "label", "labels", "score", "preferred", "better",
            "score_0", "score_a")  # fmt: skip
_TEXTS = ("response", "text", "content", "answer", "output", "completion")  # of a scored answer
INFINITE = float("inf")
SEVERAL = ("completions", "responses", "answers", "candidates", "outputs", "generations")


@dataclass(frozen=True)
class Preference:
    """What was seen, in words, and the mapping that trains on the chosen answers, if any does."""

    seen: str
    chosen: ColumnMapping | None
    remark: str = ""  # what else is to be said of the chosen answers


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
    talks = [name for name in chats if name not in rejected]
    if not chosen and talks and not plain:  # the conversations hold the chosen answers
        whole = ColumnMapping("messages", {"messages": talks[0]})
        return Preference(f"{quoted(rejected[0])} holds rejected answers", whole)
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
    lists = [name for name in columns if plain_name(name) in SEVERAL and _several(rows, name)]
    scores = [name for name in columns if plain_name(name) in SCORES]
    if lists and (_scored_inside(rows, lists[0]) or scores):
        seen = f"{quoted(lists[0])} holds several answers with scores"
        best = f" Of the answers in {quoted(lists[0])} the one with the best score."
        return Preference(seen, _of_list(rows, lists[0], scores, plain), best)
    scores = [name for name in scores if plain is None or name not in plain.roles.values()]
    if plain is None or "prompt" not in plain.roles or not scores:
        return None
    known: dict[str, set[str]] = {}
    for row in rows:
        known.setdefault(str(row.get(plain.roles["prompt"])), set()).add(str(row.get(scores[0])))
    if sum(len(found) > 1 for found in known.values()) * 2 <= len(known):
        return None
    seen = f"one prompt has several answers, each with its {quoted(scores[0])}"
    return Preference(seen, replace(plain, roles={**plain.roles, "score": scores[0]}))


def _of_list(
    rows: Sequence[Mapping], name: str, scores: Sequence[str], plain: ColumnMapping | None
) -> ColumnMapping | None:
    """`plain` maps the prompt to a stand-in answer."""
    if plain is None or "prompt" not in plain.roles:
        return None
    roles = {**plain.roles, "completion": name}
    if not _scored_inside(rows, name):
        roles["score"] = scores[0]
    return replace(plain, roles=roles)


def best_answer(answers: list, scores: object = None) -> object:
    """The best of a list of scored answers; the list itself if it is anything else.

    `scores` are theirs, in their order; without them the answers are objects with a score each.
    """
    if isinstance(scores, list) and len(scores) == len(answers) > 1:
        return max(zip(answers, scores, strict=True), key=lambda one: _number(one[1], -INFINITE))[0]
    if not all_of(_score_of, answers):
        return answers
    best = max(answers, key=lambda one: _number(one[_score_of(one)], -INFINITE))
    return next((best[key] for key in _TEXTS if key in best), best)


def _score_of(answer: object) -> str:
    """The key of an answer's score; "" for what is no scored answer."""
    if not isinstance(answer, dict) or not any(key in answer for key in _TEXTS):
        return ""
    return next((key for key in answer if plain_name(key) in SCORES), "")


def find_rivals(rows: Sequence[Mapping], columns: Sequence[str]) -> Preference | None:
    """Two answers in columns of their own, and a column that says which is better."""
    verdict = next((name for name in columns if plain_name(name) in VERDICTS), None)
    stems: dict[str, list[str]] = {}
    for name in columns:
        if found := re.fullmatch(r"(.*[a-z])_?(?:[abjk]|[0-2])", plain_name(name)):
            stems.setdefault(found[1], []).append(name)
    pair = next((names for names in stems.values() if len(names) > 1), None)
    if verdict is None or pair is None or verdict in pair:
        return None
    seen = f"{quoted(pair[0])} and {quoted(pair[1])} are rivals, {quoted(verdict)} says which wins"
    return Preference(seen, None)


def outdone(rows: Iterable[tuple[int, Mapping]], roles: Mapping[str, str]) -> set[int]:
    """The numbers of the rows whose prompt has a better answer in another row.

    The best score wins, of a rank the lowest; of equal ones the first. Rows without a readable
    score lose.
    """
    column = roles["score"]
    sign = -1 if plain_name(column) in ("rank", "ranks") else 1.0
    asked = [roles[role] for role in ("system", "history", "prompt", "input") if role in roles]
    best: dict[str, tuple[float, int]] = {}
    lost: set[int] = set()
    for number, row in rows:
        key = "\0".join(cell_text(row.get(name)) for name in asked)
        value = sign * _number(row.get(column), -sign * INFINITE)
        before = best.get(key)
        if before is not None and before[0] >= value:
            lost.add(number)
            continue
        if before is not None:
            lost.add(before[1])
        best[key] = value, number
    return lost


def _number(cell: object, otherwise: float) -> float:
    try:
        found = float(cell_text(cell))
    except ValueError:
        return otherwise
    return found if found == found else otherwise


def _several(rows: Sequence[Mapping], name: str) -> bool:
    cells = [row[name] for row in rows if row.get(name) not in EMPTY]
    return all_of(lambda cell: isinstance(cell, list) and len(cell) > 1, cells)


def _scored_inside(rows: Sequence[Mapping], name: str) -> bool:
    cells = [item for row in rows for item in row.get(name) or ()]
    return all_of(
        lambda item: isinstance(item, dict) and any(plain_name(key) in SCORES for key in item),
        cells,
    )
