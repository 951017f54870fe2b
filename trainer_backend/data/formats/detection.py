"""Detects the format of rows from column names and values of the first rows.

Where the two disagree, the mapping is only a suggestion for the user. No row is converted here.
"""

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trainer_backend.data.formats.cells import (
    bare_calls,
    is_history,
    named_turns_of,
    transcript_turns,
    turns_of,
)
from trainer_backend.data.formats.columns.choice import written_columns
from trainer_backend.data.formats.columns.guess import guess_pair, guess_words, is_doubtful
from trainer_backend.data.formats.columns.preference import (
    CHOSEN,
    SEVERAL,
    Preference,
    find_label,
    find_pairs,
    find_rivals,
    find_scores,
)
from trainer_backend.data.formats.columns.rendered import rendered_words
from trainer_backend.data.formats.columns.unreadable import (
    ASKED,
    find_questionable,
    find_unreadable,
)
from trainer_backend.data.formats.columns.unused import THOUGHTS, holds_text, unused_text
from trainer_backend.data.formats.conversations import holds_tools, to_messages
from trainer_backend.data.formats.mapping import (
    EMPTY,
    SYNONYMS,
    ColumnMapping,
    columns_of,
    describe_mapping,
    listed,
    named,
    plain_name,
    quoted,
)
from trainer_backend.data.images import holds_image
from trainer_backend.errors import RowError

DETECT_ROWS, DETECT_CHARS = 500, 4 * 1024 * 1024
MAX_KINDS = 4  # formats that one file may mix
PREFERENCE, UNUSED = "preference_data", "unused_text"
_LABELS = {"label", "labels", "class", "category", "sentiment", "score", "summary"}


@dataclass(frozen=True)
class Detection:
    """The mapping found, described in `sentence`; `sure` is False if the user should decide.

    A sure detection has a mapping. An unsure one says what to do in `advice`; `code` is the code of
    the finding, and `chosen` the mapping that trains on the chosen answers of preference data.
    """

    mapping: ColumnMapping | None
    sentence: str
    sure: bool
    columns: list[str] = field(default_factory=list)
    code: str = ""
    advice: str = ""
    chosen: ColumnMapping | None = None
    remark: str = ""  # what is to be said of the cells under the mapping; part of `sentence`


@dataclass(frozen=True)
class _Seen:
    """The first rows, and which of their columns may have which role."""

    rows: Sequence[dict]
    columns: list[str]
    chats: list[str]  # columns of conversations
    found: dict[str, list[str]]  # by the names alone
    extra: dict[str, str]  # system, tools, images


def first_rows(rows: Iterator[tuple[int, dict]]) -> list[tuple[int, dict]]:
    """The numbered rows for detect_format: 500, or about 4 million characters of them.

    No more is taken from `rows`.
    """
    first: list[tuple[int, dict]] = []
    size = 0
    for number, row in rows:
        first.append((number, row))
        size += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(first) >= DETECT_ROWS or size > DETECT_CHARS:
            break
    return first


def detect_format(rows: Sequence[dict]) -> Detection:
    """Detect the format of the first rows; mixed formats get one mapping each (`also`)."""
    columns = columns_of(rows)
    found = _detect_one(rows, columns)
    groups = [] if found.code in (PREFERENCE, "token_rows") else _groups(rows, found)
    if not groups:
        return found
    kinds: dict[tuple[str, ...], ColumnMapping] = {}
    for group in groups:
        one = _detect_one(group, columns_of(group))
        if not one.sure or one.mapping is None:
            return found
        kinds.setdefault(tuple(one.mapping.needed()), one.mapping)
    main, *others = kinds.values()
    if not others:
        return found
    mixed = replace(main, also=tuple(others))
    return Detection(mixed, describe_mapping(mixed, columns), True, columns)


def _groups(rows: Sequence[dict], found: Detection) -> list[list[dict]]:
    """The rows grouped by which cells are filled, largest group first; [] if all are alike."""
    if found.sure and found.mapping:
        needed = found.mapping.needed()
        if all(row.get(column) for row in rows for column in needed):
            return []
    shapes = [tuple(name for name, cell in row.items() if cell not in EMPTY) for row in rows]
    common = [shape for shape, _ in Counter(shapes).most_common() if shape]
    if not 1 < len(common) <= MAX_KINDS * 4:
        return []
    return [
        [row for row, own in zip(rows, shapes, strict=True) if own == shape] for shape in common
    ]


def _detect_one(rows: Sequence[dict], columns: list[str]) -> Detection:
    if known := find_unreadable(rows, columns):
        return Detection(None, known.sentence, False, columns, known.code, known.advice)
    seen = _see(rows, columns)
    mapping = _any_pair(seen)
    if rivals := find_pairs(rows, columns, mapping, seen.chats):
        return _preference(seen, rivals)
    mapping, why = _certain(seen)
    several = [name for name in columns if plain_name(name) in SEVERAL]
    scored = mapping or _pair(seen, several[:1])
    marked = find_label(rows, columns, mapping) or find_scores(rows, columns, scored)
    if marked := marked or (find_rivals(rows, columns) if mapping is None or why else None):
        return _preference(seen, marked)
    doubt = find_questionable(rows, columns) if "messages" not in suggested(mapping) else None
    if doubt:
        return _unsure(columns, doubt.sentence, mapping, doubt.advice)
    if mapping is None or (not why and is_doubtful(rows, mapping)):
        if guess := _guess(seen):
            return _guessed(columns, guess)
    if mapping is None or why:
        return _unsure(columns, why, mapping)
    unused = unused_text(rows, columns, mapping)
    if unused:
        return _unused(columns, mapping, unused)
    remark = rendered_words(rows, mapping) + _json_words(rows, mapping)
    sentence = describe_mapping(mapping, columns) + remark
    return Detection(mapping, sentence, True, columns, remark=remark)


def _json_words(rows: Sequence[dict], mapping: ColumnMapping) -> str:
    """What is said of answers that are neither text nor turns."""
    name = mapping.roles.get("completion", "")
    cells = [row[name] for row in rows if isinstance(row.get(name), list | dict) and row[name]]
    if not any(not turns_of(cell) and not bare_calls(cell) for cell in cells[:50]):
        return ""
    return f" Where {quoted(name)} holds a list or an object, its JSON is learned as text."


def suggested(mapping: ColumnMapping | None) -> dict[str, str]:
    """The roles of a mapping, if there is one."""
    return mapping.roles if mapping else {}


def _see(rows: Sequence[dict], columns: list[str]) -> _Seen:
    chats = [name for name in columns if _mostly(_turns(name), rows, name)]
    found = {role: named(columns, role) for role in SYNONYMS}
    answers = [name for name in columns if plain_name(name) == "answers"]
    found["completion"] += [name for name in answers if _mostly(bare_calls, rows, name)]
    return _Seen(rows, columns, chats, found, _extra(rows, columns, found))


def _turns(name: str) -> Callable[[Any], list]:
    """What finds the turns in the cells of this column."""
    return named_turns_of if plain_name(name) in SYNONYMS["messages"] else turns_of


def _certain(seen: _Seen) -> tuple[ColumnMapping | None, str]:
    """(the mapping that names and values agree on, "") or (None or a suggestion, why not)."""
    found, pair = seen.found, _pair(seen, seen.found["completion"])
    chats = [name for name in seen.chats if pair is None or name not in found["history"]]
    if chats:
        talks = [name for name in chats if plain_name(name) in SYNONYMS["messages"]]
        sides = {pair.roles["prompt"], pair.roles["completion"]} if pair else set()
        if talks or not set(chats) <= sides:
            return _chat(seen, talks or chats)
    if pair:
        return pair, ""
    prompts = [name for name in found["prompt"] if name not in found["completion"]]
    if not prompts and not found["completion"] and found["text"] and "images" not in seen.extra:
        others = [name for name in seen.columns if name not in found["text"]]
        if len(found["text"]) == 1 and _LABELS.isdisjoint(map(plain_name, others)):
            return ColumnMapping("text", {"text": found["text"][0]}), ""
    spoken = [name for name in seen.columns if _mostly(transcript_turns, seen.rows, name)]
    if spoken and not prompts and not found["completion"]:
        roles = {"messages": spoken[0]} | seen.extra
        return ColumnMapping(
            "messages", roles
        ), f"{quoted(spoken[0])} is a conversation in one text"
    return None, _why_unsure(prompts, found)


def _any_pair(seen: _Seen) -> ColumnMapping | None:
    """The prompt with what belongs to it, and the chosen answer or the only one."""
    chosen = [name for name in seen.columns if plain_name(name) in CHOSEN]
    return _pair(seen, chosen[:1] or seen.found["completion"])


def _pair(seen: _Seen, completions: list[str]) -> ColumnMapping | None:
    """Prompt and answer, if exactly one column is each of them; with what belongs to them."""
    if len(completions) != 1:
        return None
    prompts = [name for name in seen.found["prompt"] if name not in completions]
    instruction = [name for name in prompts if plain_name(name) == "instruction"]
    alone = all(plain_name(name) in {"instruction", *SYNONYMS["input"]} for name in prompts)
    is_alpaca = len(instruction) == 1 and alone and not _is_chat(seen, completions + prompts)
    if not is_alpaca and len(prompts) != 1:
        return None
    prompt = instruction[0] if is_alpaca else prompts[0]
    roles = {"prompt": prompt, "completion": completions[0]}
    inputs = [name for name in seen.found["input"] if name not in roles.values()]
    if len(inputs) == 1 and holds_text(seen.rows, inputs[0]):
        roles["input"] = inputs[0]
    if history := _history(seen):
        roles["history"] = history
    mapping = ColumnMapping("alpaca" if is_alpaca else "prompt_completion", roles | seen.extra)
    return _with_reasoning(seen, mapping)


def _is_chat(seen: _Seen, names: list[str]) -> bool:
    return any(name in seen.chats for name in names)


def _history(seen: _Seen) -> str:
    """The column of earlier turns; one that is empty so far may be filled further down."""
    names = seen.found["history"]
    filled = [row[name] for name in names for row in seen.rows if row.get(name) not in EMPTY]
    if len(names) != 1 or not all(is_history(cell) or cell == "[]" for cell in filled[:50]):
        return ""
    return names[0]


def _with_reasoning(seen: _Seen, mapping: ColumnMapping) -> ColumnMapping:
    names = [name for name in seen.found["reasoning"] if name not in mapping.roles.values()]
    if len(names) != 1 or not unused_text(seen.rows, names, mapping):
        return mapping
    return replace(mapping, roles={**mapping.roles, "reasoning": names[0]})


def _chat(seen: _Seen, likely: list[str]) -> tuple[ColumnMapping, str]:
    rows, name = seen.rows, likely[0]
    first = next(turn for row in rows for turn in _turns(name)(row.get(name)))
    roles = {"messages": name} | seen.extra
    answers = [one for one in seen.found["completion"] if one != name and one not in seen.chats]
    if len(answers) == 1 and not _mostly(_is_answered, rows, name):
        roles["completion"] = answers[0]
    mapping = ColumnMapping("sharegpt" if "from" in first else "messages", roles)
    mapping = _with_reasoning(seen, mapping)
    return mapping, "" if len(likely) == 1 else "Several columns hold conversations"


def _is_answered(cell: Any) -> bool:
    """Whether a conversation has a message of the assistant, or cannot be read."""
    try:
        return any(one["role"] == "assistant" for one in to_messages(cell, lambda part: None))
    except RowError:
        return True


def _preference(seen: _Seen, found: Preference) -> Detection:
    """Preference data never trains without a decision: the chosen answers, or other columns."""
    suggestion = found.chosen or _guess(seen)
    what = "train on the chosen answers only, or " if found.chosen else ""
    sentence = (
        f"This looks like preference data: {found.seen} (columns {listed(seen.columns, 12)}): "
        f"{what}choose which column is the prompt and which is the answer."
    )
    advice = _how_to_choose(suggestion)
    if found.chosen:
        advice = f"Train on the chosen answers with one click (in the terminal: --chosen). {advice}"
    return Detection(
        *(suggestion, sentence, False, seen.columns, PREFERENCE, advice),
        chosen=found.chosen,
        remark=found.remark,
    )


def _why_unsure(prompts: list[str], found: dict[str, list[str]]) -> str:
    if prompts and not found["completion"]:
        return "There is a prompt but no answer among the columns"
    if found["completion"] and not prompts:
        return "There is an answer but no prompt among the columns"
    return "The columns could mean more than one thing"


def _extra(rows: Sequence[dict], columns: list[str], found: dict[str, list[str]]) -> dict[str, str]:
    """The columns of the system message, the tools and the images, if there are any."""
    extra = {"system": found["system"][0]} if len(found["system"]) == 1 else {}
    tools = [name for name in found["tools"] if _mostly(holds_tools, rows, name)]
    extra |= {"tools": tools[0]} if tools else {}
    images = [name for name in columns if _mostly(holds_image, rows, name)]
    by_name = named(images, "images") or images
    return extra | ({"images": by_name[0]} if by_name else {})


def _mostly(test: Callable[[Any], object], rows: Sequence[dict], name: str) -> bool:
    """Whether more than half of the values in a column pass a test."""
    filled = [row[name] for row in rows if row.get(name) not in EMPTY]
    return sum(bool(test(value)) for value in filled) > len(filled) / 2


def _guess(seen: _Seen) -> ColumnMapping | None:
    """What names and cells leave no doubt about: where the column pickers start."""
    if len(seen.columns) == 1:
        return ColumnMapping("text", {"text": seen.columns[0]})
    return guess_pair(seen.rows, seen.columns)


def _guessed(columns: list[str], guess: ColumnMapping) -> Detection:
    """A guess is trained on only when the user says so."""
    if guess.format == "text":
        why = "There is only one column, so it could only be learned as plain text"
        return _unsure(columns, why, guess)
    sentence = (
        f"{guess_words(guess)}. This is a guess from {listed(columns, 12)}: check the first "
        "row, or choose other columns."
    )
    advice = f"Is it right? Then use these columns. In the terminal: {_option(guess)}"
    return Detection(guess, sentence, False, columns, ASKED, advice)


def _unused(columns: list[str], mapping: ColumnMapping, unused: list[str]) -> Detection:
    """A certain mapping that would leave text of substance unused: the user decides."""
    free = "input" if "prompt" in mapping.roles and "input" not in mapping.roles else ""
    thought = plain_name(unused[0]) in THOUGHTS and "reasoning" not in mapping.roles
    role = "reasoning" if thought else free
    more = {role: unused[0]} if role else {}
    wider = replace(mapping, roles={**mapping.roles, **more})
    are = "hold" if len(unused) > 1 else "holds"
    sentence = (
        f"{describe_mapping(mapping, columns)} But {listed(unused, 6)} {are} text that would be "
        "left out of training: choose which column is what, or leave it out."
    )
    advice = f"{_how_to_choose(wider)} (to leave it out: {_option(mapping)})"
    return Detection(mapping, sentence, False, columns, UNUSED, advice)


def _unsure(
    columns: list[str], why: str, mapping: ColumnMapping | None, advice: str = ""
) -> Detection:
    names = listed(columns, 12) or "no columns"
    sentence = f"{why} ({names}): choose which column is the prompt and which is the answer."
    if any(len(name) > 40 for name in columns):
        sentence += " If the first line is not a header, add one, for example: prompt,response."
    advice = f"{advice} {_how_to_choose(mapping)}".strip()
    return Detection(mapping, sentence, False, columns, ASKED, advice)


def _how_to_choose(mapping: ColumnMapping | None) -> str:
    advice = "Choose the columns, then use them. In the terminal:"
    if mapping is None or any(len(name) > 60 for name in mapping.roles.values()):
        return f"{advice} --columns prompt=COLUMN,completion=COLUMN"
    return f"{advice} {_option(mapping)}"


def _option(mapping: ColumnMapping) -> str:
    """The option of the command line that chooses these columns, as a shell takes it."""
    return f"--columns {shlex.quote(written_columns(mapping))}"
