"""Detects the format of rows from column names and values of the first rows.

Where the two disagree, the mapping is only a suggestion for the user. No row is converted here.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trainer_backend.data.formats.conversations import holds_tools, turns_of
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

DETECT_ROWS, DETECT_CHARS = 500, 4 * 1024 * 1024
MAX_KINDS = 4  # formats that one file may mix
_LABELS = {"label", "labels", "class", "category", "sentiment", "score", "summary"}


@dataclass(frozen=True)
class Detection:
    """The mapping found, described in `sentence`; `sure` is False if the user should decide.

    A sure detection has a mapping.
    """

    mapping: ColumnMapping | None
    sentence: str
    sure: bool
    columns: list[str] = field(default_factory=list)


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
    groups = _groups(rows, found)
    if not groups:
        return found
    kinds: dict[tuple[str, ...], ColumnMapping] = {}
    for group in groups:
        one = _detect_one(group, columns_of(group))
        if not one.sure or one.mapping is None:
            return found
        kinds.setdefault(tuple(one.mapping.needed()), one.mapping)
    main, *others = kinds.values()
    return _sure(columns, replace(main, also=tuple(others))) if others else found


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
    chats = [name for name in columns if _mostly(turns_of, rows, name)]
    found = {role: named(columns, role) for role in SYNONYMS}
    extra = _extra(rows, columns, found)
    if "rejected" in map(plain_name, columns):
        mapping = _suggest_pair(columns, found)
        if chats and "prompt" not in map(plain_name, columns):
            mapping = ColumnMapping("messages", {"messages": chats[0]})
        return _unsure(columns, "This looks like preference data (chosen and rejected)", mapping)
    prompts = [name for name in found["prompt"] if name not in found["completion"]]
    one_pair = len(prompts) == 1 and len(found["completion"]) == 1
    if chats:
        talks = [name for name in chats if plain_name(name) in SYNONYMS["messages"]]
        if talks or not (one_pair and set(chats) <= {*prompts, *found["completion"]}):
            return _detect_chat(rows, columns, talks or chats, extra)
    elif alpaca := _alpaca_roles(found):
        return _sure(columns, ColumnMapping("alpaca", alpaca | extra))
    if one_pair:
        roles = {"prompt": prompts[0], "completion": found["completion"][0]}
        return _sure(columns, ColumnMapping("prompt_completion", roles | extra))
    if not prompts and not found["completion"] and found["text"] and "images" not in extra:
        others = [name for name in columns if name not in found["text"]]
        if len(found["text"]) == 1 and _LABELS.isdisjoint(map(plain_name, others)):
            return _sure(columns, ColumnMapping("text", {"text": found["text"][0]}))
    return _unsure(columns, _why_unsure(prompts, found), _suggest_pair(columns, found))


def _why_unsure(prompts: list[str], found: dict[str, list[str]]) -> str:
    if prompts and not found["completion"]:
        return "There is a prompt but no answer among the columns"
    if found["completion"] and not prompts:
        return "There is an answer but no prompt among the columns"
    return "The columns could mean more than one thing"


def _alpaca_roles(found: dict[str, list[str]]) -> dict[str, str]:
    """The roles of instruction, output and perhaps input; {} if the columns are not Alpaca's."""
    instruction = [name for name in found["prompt"] if plain_name(name) == "instruction"]
    extras = {"instruction", *SYNONYMS["input"]}
    alone = all(plain_name(name) in extras for name in found["prompt"])
    one_each = len(instruction) == len(found["completion"]) == 1
    if not (alone and one_each and len(found["input"]) < 2):
        return {}
    roles = {"prompt": instruction[0], "completion": found["completion"][0]}
    return roles | ({"input": found["input"][0]} if found["input"] else {})


def _detect_chat(
    rows: Sequence[dict], columns: list[str], likely: list[str], extra: dict[str, str]
) -> Detection:
    first = next(turn for row in rows for turn in turns_of(row.get(likely[0])))
    roles = {"messages": likely[0]} | extra
    mapping = ColumnMapping("sharegpt" if "from" in first else "messages", roles)
    if len(likely) == 1:
        return _sure(columns, mapping)
    return _unsure(columns, "Several columns hold conversations", mapping)


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


def _suggest_pair(columns: list[str], found: dict[str, list[str]]) -> ColumnMapping | None:
    """The likeliest pair of columns: where the column pickers start."""
    if len(columns) == 1:
        return ColumnMapping("text", {"text": columns[0]})
    if not columns:
        return None
    prompt = (found["prompt"] or columns)[0]
    rest = [name for name in columns if name != prompt]
    likely = [name for name in found["completion"] if name != prompt]
    return ColumnMapping("prompt_completion", {"prompt": prompt, "completion": (likely or rest)[0]})


def _sure(columns: list[str], mapping: ColumnMapping) -> Detection:
    sentence = describe_mapping(mapping, columns)
    used = {*mapping.roles.values(), *(name for one in mapping.also for name in one.roles.values())}
    named_only = [name for name in named(columns, "images") if name not in used]
    if named_only:
        sentence += f" The images that {quoted(named_only[0])} names are not in the upload."
    return Detection(mapping, sentence, True, columns)


def _unsure(columns: list[str], why: str, mapping: ColumnMapping | None) -> Detection:
    names = listed(columns, 12) or "no columns"
    sentence = f"{why} ({names}): choose which column is the prompt and which is the answer."
    if any(len(name) > 40 for name in columns):
        sentence += " If the first line is not a header, add one, for example: prompt,response."
    return Detection(mapping, sentence, False, columns)
