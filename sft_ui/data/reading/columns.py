"""What each column means: a picker in every column header, and what the choice makes of the rows.

What the columns seem to mean is decided in trainer_backend/data/formats/detection.py.
"""

from collections.abc import Iterable
from itertools import islice

from markupsafe import Markup

from sft_ui import markup
from trainer_backend.data.formats import ColumnMapping, Example, check_mapping, to_example
from trainer_backend.data.store import StoredDataset, pages
from trainer_backend.errors import RowError, UserError

ROLE_WORDS = {
    "prompt": "Prompt",
    "input": "Input, after the prompt",
    "completion": "Answer",
    "system": "System message",
    "messages": "Conversation",
    "tools": "Tools",
    "images": "Images",
    "text": "Text to learn whole",
}
PAIR, CHAT, TEXT = ("prompt", "input", "completion"), ("messages",), ("text",)
PREVIEW_ROWS, PREVIEW_CHARS = 3, 700
MAPPING_HINT = (
    "Every column of the table below has a picker in its header. "
    "This is how the first rows read then:"
)
SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}


def picker(column: str, role: str) -> Markup:
    """The picker in one column's header."""
    choices = [("", "not used"), *ROLE_WORDS.items()]
    used = Markup(' class="used"') if role else ""
    template = Markup(
        '<select{} data-column="{column}" aria-label="What the column {column} is">{}</select>'
    )
    return template.format(used, markup.options(choices, role), column=column)


def roles_of(dataset: StoredDataset) -> dict[str, str]:
    """Role → column as the dataset is used now, or as it seems to be meant."""
    mapping = dataset.mapping or dataset.suggestion
    return dict(mapping.roles) if mapping else {}


def read_mapping(roles: object, dataset: StoredDataset) -> ColumnMapping:
    """The mapping that the pickers describe. Raises UserError when they contradict each other."""
    known = roles if isinstance(roles, dict) else {}
    chosen = {role: str(known[role]) for role in ROLE_WORDS if known.get(role)}
    kinds = [kind for kind in (PAIR, CHAT, TEXT) if any(role in chosen for role in kind)]
    if not kinds:
        fix = "Choose above the table which column is the prompt and which is the answer."
        raise UserError("No column has a meaning yet.", dataset.name, fix)
    if len(kinds) > 1:
        names = " and ".join(f"“{ROLE_WORDS[r]}”" for kind in kinds for r in kind if r in chosen)
        fix = "Choose prompt and answer, or a conversation, or a text."
        raise UserError(f"{names} do not go together.", dataset.name, fix)
    if dataset.mapping is not None and dataset.mapping.roles == chosen:
        return dataset.mapping
    mapping = ColumnMapping(_format(kinds[0], chosen, dataset), chosen)
    check_mapping(mapping, dataset.columns, dataset.name)
    return mapping


def _format(kind: tuple[str, ...], chosen: dict[str, str], dataset: StoredDataset) -> str:
    if kind is TEXT:
        return "text"
    if kind is PAIR:
        return "alpaca" if "input" in chosen else "prompt_completion"
    found = dataset.mapping or dataset.suggestion
    return "sharegpt" if found and found.format == "sharegpt" else "messages"


def mapping_preview(
    dataset: StoredDataset, mapping: ColumnMapping, system_prompt: str = ""
) -> Markup:
    """The first rows as the mapping reads them: conversations, or why a row cannot be used."""
    rows = pages.iter_rows(dataset.dir / "rows.parquet")
    return _stack(_shown(number, row, mapping, system_prompt) for number, row in _first(rows))


def example_preview(dataset: StoredDataset) -> Markup | str:
    """The first rows as the dataset uses them now, or as it is suggested to use them."""
    mapping = dataset.mapping or dataset.suggestion
    return mapping_preview(dataset, mapping, dataset.system_prompt) if mapping else ""


def _first(rows: Iterable) -> Iterable:
    return islice(rows, PREVIEW_ROWS)


def _shown(number: int, row: dict, mapping: ColumnMapping, system_prompt: str) -> Markup:
    try:
        return example_turns(to_example(number, row, mapping, system_prompt), f"Row {number:,}")
    except RowError as error:
        said = markup.line(f"Row {number:,} cannot be used: {error.what} {error.fix}", "quiet")
        return Markup('<div class="turns">{}</div>').format(said)


def example_turns(example: Example, title: str) -> Markup:
    """One example as the conversation that is trained on."""
    if example.messages is None:
        turns = _turn("text", example.text or "")
    else:
        turns = Markup().join(_turn(one["role"], _content(one)) for one in example.messages)
    tools = f" · {len(example.tools)} tools" if example.tools else ""
    return Markup('<div class="turns"><h4>{}{}</h4>{}</div>').format(title, tools, turns)


def _content(message: dict) -> str:
    said = message.get("content")
    text = said if isinstance(said, str) else "" if said is None else str(said)
    calls = [_call(one) for one in message.get("tool_calls") or ()]
    thinking = message.get("reasoning_content") or message.get("thinking") or ""
    thought = f"(thinks) {thinking}" if thinking else ""
    return "\n".join(filter(None, [thought, text, *calls]))


def _call(call: dict) -> str:
    function = call.get("function", call) if isinstance(call, dict) else {}
    return f"(calls) {function.get('name', '')} {function.get('arguments', '')}"


def _turn(role: str, text: str) -> Markup:
    shown = text if len(text) <= PREVIEW_CHARS else text[:PREVIEW_CHARS] + "…"
    kind = "learned-turn" if role in ("assistant", "text") else "context-turn"
    speaker = SPEAKERS.get(role, role.capitalize())
    template = Markup('<div class="said {}"><b>{}</b><span>{}</span></div>')
    return template.format(kind, speaker, shown)


def _stack(pieces: Iterable[Markup]) -> Markup:
    return Markup('<div class="turns-stack">{}</div>').format(Markup().join(pieces))
