"""Column roles: the picker in each column header, and a preview of the rows under a choice.

Does not guess roles; format detection has done that.
"""

from collections.abc import Mapping
from itertools import islice

from markupsafe import Markup

from sft_ui import markup
from trainer_backend.data.formats import (
    ColumnMapping,
    Example,
    check_mapping,
    mapping_of,
    to_example,
)
from trainer_backend.data.store import StoredDataset, pages
from trainer_backend.errors import RowError, UserError

ROLE_WORDS = {
    "prompt": "Prompt",
    "input": "Input (added after the prompt)",
    "history": "Earlier turns (before the prompt)",
    "completion": "Answer",
    "reasoning": "Reasoning before the answer",
    "label": "Good answer? (only rows with yes)",
    "score": "Score (only the best answer)",
    "system": "System message",
    "messages": "Conversation",
    "tools": "Tools",
    "images": "Images",
    "text": "Full text",
}
PAIR, CHAT, TEXT = ("prompt", "input", "history"), ("messages",), ("text",)
PREVIEW_ROWS, PREVIEW_CHARS = 2, 700
SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}


def picker(column: str, role: str) -> Markup:
    """The picker in one column's header."""
    choices = [("", "not used"), *ROLE_WORDS.items()]
    used = Markup(' class="used"') if role else ""
    template = Markup(
        '<select{} data-column="{column}" aria-label="Role of the column {column}">{}</select>'
    )
    return template.format(used, markup.options(choices, role), column=column)


def roles_of(dataset: StoredDataset, chosen: Mapping[str, str] | None = None) -> dict[str, str]:
    """{role: column} as chosen on the page, else as the dataset uses them, else as suggested."""
    if chosen is not None:
        return dict(chosen)
    mapping = dataset.mapping or dataset.suggestion
    return dict(mapping.roles) if mapping else {}


def read_mapping(roles: object, dataset: StoredDataset) -> ColumnMapping:
    """The mapping chosen with the pickers. Raises UserError when roles are missing or conflict."""
    known = roles if isinstance(roles, dict) else {}
    chosen = {role: str(known[role]) for role in ROLE_WORDS if known.get(role)}
    kinds = [kind for kind in (PAIR, CHAT, TEXT) if any(role in chosen for role in kind)]
    if not kinds and "completion" not in chosen:
        fix = "In the table header, choose which column is the prompt and which is the answer."
        raise UserError("No column has a role yet.", dataset.name, fix)
    if len(kinds) > 1:
        names = " and ".join(f"“{ROLE_WORDS[r]}”" for kind in kinds for r in kind if r in chosen)
        fix = "Choose a prompt and an answer, or a conversation, or a full text."
        raise UserError(f"{names} cannot be combined.", dataset.name, fix)
    if dataset.mapping is not None and dataset.mapping.roles == chosen:
        return dataset.mapping
    mapping = mapping_of(chosen, dataset.name, dataset.mapping or dataset.suggestion)
    check_mapping(mapping, dataset.columns, dataset.name)
    return mapping


def mapping_preview(
    dataset: StoredDataset, mapping: ColumnMapping, system_prompt: str = ""
) -> Markup:
    """The first rows under a mapping: as conversations, or why a row cannot be used."""
    rows = pages.iter_rows(dataset.dir / "rows.parquet")
    first = islice(rows, PREVIEW_ROWS)
    shown = Markup().join(_shown(number, row, mapping, system_prompt) for number, row in first)
    return Markup('<div class="turns-stack">{}</div>').format(shown)


def example_preview(dataset: StoredDataset) -> Markup | str:
    """The first rows under the dataset's mapping, or under the suggested one."""
    mapping = dataset.mapping or dataset.suggestion
    return mapping_preview(dataset, mapping, dataset.system_prompt) if mapping else ""


def _shown(number: int, row: dict, mapping: ColumnMapping, system_prompt: str) -> Markup:
    try:
        return example_turns(to_example(number, row, mapping, system_prompt), f"Row {number:,}")
    except RowError as error:
        reason = markup.line(f"Row {number:,} cannot be used: {error.what} {error.fix}", "quiet")
        return Markup('<div class="turns">{}</div>').format(reason)


def example_turns(example: Example, title: str) -> Markup:
    """One example as the conversation, or the text, that is trained on."""
    if example.messages is None:
        turns = _turn("text", example.text or "")
    else:
        turns = Markup().join(_turn(one["role"], _content(one)) for one in example.messages)
    tools = f" · {len(example.tools)} tools" if example.tools else ""
    return Markup('<div class="turns"><h4>{}{}</h4>{}</div>').format(title, tools, turns)


def _content(message: dict) -> str:
    content = message.get("content")
    text = content if isinstance(content, str) else "" if content is None else str(content)
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
