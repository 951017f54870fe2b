"""Two plain pickers, prompt and answer, with the other roles under a fold, and the button's state.

The same choice can be made in the headers of the table; a change there is shown here.
"""

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.data.reading.columns import (
    ROLE_WORDS,
    example_preview,
    mapping_preview,
    read_mapping,
    roles_of,
)
from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import UserError

ASK_WORDS = {
    "prompt": "The person asks (prompt)",
    "completion": "The model should answer (completion)",
    "messages": "The whole conversation (messages)",
    "text": "The text to learn",
}
PAIR = ("prompt", "completion")
READY, NOT_READY = "Use these columns", "Choose both columns first"


def column_choice(dataset: StoredDataset, roles: Mapping[str, str] | None = None) -> Markup:
    """The pickers; `roles` ({role: column}) is the choice so far, else as the dataset uses them."""
    chosen = roles_of(dataset, roles)
    first = next((one for one in (("messages",), ("text",)) if one[0] in chosen), PAIR)
    if "messages" in chosen and "completion" in chosen:
        first = ("messages", "completion")
    places = {column: str(at) for at, column in enumerate(dataset.columns)}
    choices = [("", "Choose a column"), *((places[name], name) for name in dataset.columns)]
    others = [("", "not used"), *choices[1:]]

    def pickers(names: list[str], options: list[tuple[str, str]]) -> Markup:
        return Markup().join(
            _picker(role, options, places.get(chosen.get(role, ""), "") if role in chosen else "")
            for role in names
        )

    rest = [role for role in ROLE_WORDS if role not in first]
    inside = Markup('<div class="sides">{}</div>').format(pickers(rest, others))
    is_open = Markup(" open") if any(role in chosen for role in rest) else ""
    template = Markup(
        '<div class="choice" data-columns="{}"><div class="sides">{}</div>'
        '<details{}><summary class="quiet">More roles: system message, context, conversation …'
        "</summary>{}</details></div>"
    )
    columns = json.dumps(dataset.columns)
    return template.format(columns, pickers(list(first), choices), is_open, inside)


def _picker(role: str, choices: list[tuple[str, str]], value: str) -> Markup:
    words = ASK_WORDS.get(role, ROLE_WORDS[role])
    template = Markup(
        '<label class="side {role}"><span>{words}</span><select data-role="{role}">{options}'
        "</select></label>"
    )
    return template.format(role=role, words=words, options=markup.options(choices, value))


def choice_preview(
    dataset: StoredDataset, roles: Mapping[str, str] | None, system_prompt: str
) -> tuple[Markup | str, dict[str, Any]]:
    """The first rows under a choice, or what is missing; and the update of the button."""
    if roles is None and not system_prompt:
        shown: Markup | str = example_preview(dataset)
        return shown or _missing(), _button(dataset, bool(shown))
    try:
        mapping = read_mapping(roles_of(dataset, roles), dataset)
    except UserError as error:
        return markup.line(f"{error.what} {error.fix}", "quiet"), _button(dataset, False)
    return mapping_preview(dataset, mapping, system_prompt or ""), _button(dataset, True)


def _missing() -> Markup:
    return markup.line(
        "Nothing is chosen yet. Choose the column that holds what the person asks and the one that "
        "holds what the model should answer; the first rows appear here.",
        "quiet",
    )


def _button(dataset: StoredDataset, ready: bool) -> dict[str, Any]:
    look = "secondary" if dataset.sure else "primary"
    return gr.update(value=READY if ready else NOT_READY, interactive=ready, variant=look)
