"""Columns to meaning: which column is what, and one row as an Example of messages or text.

After this room nothing knows Alpaca or ShareGPT. Messages are read in conversations.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer_backend.data.column_names import (
    SYNONYMS,
    columns_of,
    is_label,
    listed,
    named,
    plain_name,
    quoted,
)
from trainer_backend.data.conversations import RowError, as_list, to_messages, with_system
from trainer_backend.data.json_values import BadJSON, cell_text, parse
from trainer_backend.errors import UserError

FORMATS = {
    "prompt_completion": ("prompt", "completion"),
    "alpaca": ("prompt", "completion"),
    "messages": ("messages",),
    "sharegpt": ("messages",),
    "text": ("text",),
}  # the roles each format needs
ROLE_NAMES = ("prompt", "completion", "system", "input", "messages", "text", "tools")


@dataclass(frozen=True)
class Mapping:
    """How columns become messages: `roles` maps prompt, completion, system, … to column names."""

    format: str
    roles: dict[str, str]


@dataclass(frozen=True)
class Detection:
    """What the columns seem to mean, in words; `sure` is False when the user should decide."""

    mapping: Mapping | None
    sentence: str
    sure: bool
    columns: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Example:
    """One training example and the row it came from; exactly one of messages and text is set."""

    row: int
    messages: list[dict] | None
    text: str | None
    tools: list | None = None
    images: list | None = None  # names below the dataset's folder; ImageBytes before it is stored


def detect_format(rows: Sequence[dict]) -> Detection:
    """Tell the format from the first rows: names and values must agree, else it is not sure."""
    columns = columns_of(rows)
    chats = [name for name in columns if _is_chat_column(rows, name)]
    if chats:
        return _detect_chat(rows, columns, chats)
    found = {role: named(columns, role) for role in SYNONYMS}
    if "rejected" in map(plain_name, columns):
        mapping = _suggest_pair(columns, found)
        return _unsure(columns, "This looks like preference data (chosen and rejected)", mapping)
    if _is_alpaca(found):
        return _detect_alpaca(columns, found)
    prompts = [name for name in found["prompt"] if name not in found["completion"]]
    if len(prompts) == 1 and len(found["completion"]) == 1:
        roles = {"prompt": prompts[0], "completion": found["completion"][0]}
        return _sure(columns, "prompt_completion", roles | _extra(found))
    if not prompts and not found["completion"] and found["text"]:
        others = [name for name in columns if name not in found["text"]]
        if len(found["text"]) == 1 and not any(is_label(name) for name in others):
            return _sure(columns, "text", {"text": found["text"][0]})
    return _unsure(columns, _why_unsure(prompts, found), _suggest_pair(columns, found))


def _why_unsure(prompts: list[str], found: dict[str, list[str]]) -> str:
    if prompts and not found["completion"]:
        return "There is a prompt but no answer among the columns"
    if found["completion"] and not prompts:
        return "There is an answer but no prompt among the columns"
    return "The columns could mean more than one thing"


def _is_alpaca(found: dict[str, list[str]]) -> bool:
    instruction = [name for name in found["prompt"] if plain_name(name) == "instruction"]
    extras = {"instruction", *SYNONYMS["input"]}
    alone = all(plain_name(name) in extras for name in found["prompt"])
    one_answer = len(found["completion"]) == 1
    return len(instruction) == 1 and alone and one_answer and len(found["input"]) < 2


def _detect_alpaca(columns: list[str], found: dict[str, list[str]]) -> Detection:
    prompt = next(name for name in found["prompt"] if plain_name(name) == "instruction")
    roles = {"prompt": prompt, "completion": found["completion"][0]}
    if found["input"]:
        roles["input"] = found["input"][0]
    return _sure(columns, "alpaca", roles | _extra(found))


def _detect_chat(rows: Sequence[dict], columns: list[str], chats: list[str]) -> Detection:
    likely = [name for name in chats if plain_name(name) in SYNONYMS["messages"]] or chats
    first = next(item for row in rows for item in _turns(row.get(likely[0])))
    roles = {"messages": likely[0]}
    roles |= {role: names[0] for role in ("system", "tools") if (names := named(columns, role))}
    format = "sharegpt" if "from" in first else "messages"
    pair = {name for name in chats if plain_name(name) in ("prompt", "completion", "response")}
    if len(pair) == 2 and len(chats) == 2:
        completion = next(name for name in chats if plain_name(name) != "prompt")
        prompt = next(name for name in chats if name != completion)
        return _sure(columns, "prompt_completion", {"prompt": prompt, "completion": completion})
    if len(likely) == 1:
        return _sure(columns, format, roles)
    return _unsure(columns, "Several columns hold conversations", Mapping(format, roles))


def _extra(found: dict[str, list[str]]) -> dict[str, str]:
    return {"system": found["system"][0]} if len(found["system"]) == 1 else {}


def _turns(value: Any) -> list[dict]:
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return []
    try:
        turns = as_list(value)
    except RowError:
        return []
    fits = all(isinstance(turn, dict) and turn.keys() & {"role", "from"} for turn in turns)
    return turns if fits else []


def _is_chat_column(rows: Sequence[dict], name: str) -> bool:
    filled = [row[name] for row in rows if row.get(name)]
    return bool(filled) and sum(bool(_turns(value)) for value in filled) > len(filled) / 2


def _suggest_pair(columns: list[str], found: dict[str, list[str]]) -> Mapping | None:
    """The likeliest pair of columns, for the pickers to begin with; the user decides."""
    if len(columns) == 1:
        return Mapping("text", {"text": columns[0]})
    if not columns:
        return None
    prompt = (found["prompt"] or columns)[0]
    rest = [name for name in columns if name != prompt]
    likely = [name for name in found["completion"] if name != prompt]
    return Mapping("prompt_completion", {"prompt": prompt, "completion": (likely or rest)[0]})


def _sure(columns: list[str], format: str, roles: dict[str, str]) -> Detection:
    mapping = Mapping(format, roles)
    return Detection(mapping, describe_mapping(mapping, columns), True, columns)


def _unsure(columns: list[str], why: str, mapping: Mapping | None) -> Detection:
    names = listed(columns, 12) or "no columns"
    sentence = f"{why} ({names}): choose which column is the prompt and which is the answer."
    if any(len(name) > 40 for name in columns):
        sentence += " If the first line is not a header, add one, for example: prompt,response."
    return Detection(mapping, sentence, False, columns)


def describe_mapping(mapping: Mapping, columns: Sequence[str] = ()) -> str:
    """Say in one or two plain sentences what each column is used for."""
    role = {name: quoted(column) for name, column in mapping.roles.items()}
    if mapping.format == "text":
        said = f"Plain text from {role['text']}: the model learns all of it."
    elif "messages" in role:
        style = "ShareGPT conversations" if mapping.format == "sharegpt" else "Conversations"
        said = f"{style} from {role['messages']}."
    else:
        style = "Alpaca instructions" if mapping.format == "alpaca" else "Prompt and response pairs"
        said = f"{style}: prompt from {role['prompt']}"
        said += f" followed by {role['input']}" if "input" in role else ""
        said += f", answer from {role['completion']}."
    said += f" System message from {role['system']}." if "system" in role else ""
    said += f" Tools from {role['tools']}." if "tools" in role else ""
    unused = [name for name in columns if name not in mapping.roles.values()]
    return said + (f" Not used: {listed(unused, 6)}." if unused else "")


def check_mapping(mapping: Mapping, columns: Sequence[str], where: str) -> None:
    """Refuse a mapping that misses a role or names a column that is not there."""
    fix = f"Choose one of {listed(columns, 12)}."
    needed = FORMATS.get(mapping.format)
    if needed is None:
        raise UserError(
            f"Unknown format {quoted(mapping.format)}.", where, f"Use one of {', '.join(FORMATS)}."
        )
    for role in needed:
        if not mapping.roles.get(role):
            what = f"No column is chosen for the {role}."
            raise UserError(what, where, fix)
    for role, column in mapping.roles.items():
        if role not in ROLE_NAMES:
            raise UserError(f"Unknown role {quoted(role)}.", where, f"Use {', '.join(ROLE_NAMES)}.")
        if column not in columns:
            raise UserError(f"There is no column {quoted(column)}.", where, fix)
    if len(set(mapping.roles.values())) < len(mapping.roles):
        raise UserError("One column is chosen twice.", where, "Choose a different column for each.")


def to_example(row_number: int, row: dict, mapping: Mapping, system_prompt: str = "") -> Example:
    """One row as an Example; RowError says why it cannot be one."""
    roles = mapping.roles
    if mapping.format == "text":
        text = cell_text(row.get(roles["text"]))
        if not text.strip():
            raise RowError("The text is empty.", "Fill it in, or leave the row out.")
        return Example(row_number, None, text)
    if "messages" in roles:
        messages = to_messages(row.get(roles["messages"]))
    else:
        messages = _pair_messages(row, roles)
    own = cell_text(row.get(roles["system"])) if "system" in roles else ""
    messages = with_system(messages, own if own.strip() else system_prompt)
    tools = _tools(row.get(roles["tools"])) if "tools" in roles else None
    return Example(row_number, messages, None, tools)


def _pair_messages(row: dict, roles: dict[str, str]) -> list[dict]:
    prompt, completion = row.get(roles["prompt"]), row.get(roles["completion"])
    if _turns(prompt) or _turns(completion):
        sides = (_side(prompt, "user"), _side(completion, "assistant"))
        return to_messages([turn for side in sides for turn in side])
    asked, answer = cell_text(prompt), cell_text(completion)
    extra = cell_text(row.get(roles["input"])) if "input" in roles else ""
    if extra.strip():
        asked = f"{asked}\n\n{extra}" if asked.strip() else extra
    if not answer.strip():
        missing = roles["completion"] not in row
        what = "The answer is missing." if missing else "The answer is empty."
        raise RowError(what, "Fill it in, or leave the row out.")
    if not asked.strip():
        raise RowError("The prompt is empty.", "Fill it in, or leave the row out.")
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def _side(value: Any, role: str) -> list[dict]:
    return _turns(value) or [{"role": role, "content": cell_text(value)}]


def _tools(value: Any) -> list | None:
    """The tools a row offers the model: a list, or the JSON text of one."""
    if isinstance(value, str) and value.strip():
        try:
            value = parse(value)
        except BadJSON:
            raise RowError("The tools are not JSON.", "Write them as a list of objects.") from None
    if not value:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise RowError("The tools are not a list of objects.", "Write them as a list of objects.")
    return value
