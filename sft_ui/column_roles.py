"""The pickers that say which column is the prompt, the answer, and so on.

What the columns seem to mean is decided in trainer_backend/data/formats.py.
"""

from dataclasses import dataclass

import gradio as gr

from trainer_backend.data.formats import Mapping
from trainer_backend.data.store import StoredDataset

NOT_USED = ""
FORMAT_WORDS = {
    "prompt_completion": "Prompt and response in two columns",
    "alpaca": "Instruction, input and output (Alpaca)",
    "messages": "Conversations (messages)",
    "sharegpt": "Conversations (ShareGPT)",
    "text": "Plain text",
}
ROLES_OF = {
    "prompt_completion": ("prompt", "completion", "system"),
    "alpaca": ("prompt", "input", "completion", "system"),
    "messages": ("messages", "system", "tools"),
    "sharegpt": ("messages", "system", "tools"),
    "text": ("text",),
}
ROLE_WORDS = {
    "prompt": ("Prompt", "What the model is asked."),
    "input": ("Input", "Extra material put after the instruction. Optional."),
    "completion": ("Answer", "What the model should write."),
    "system": ("System message", "How the model should behave, row by row. Optional."),
    "messages": ("Conversation", "The column that holds the list of messages."),
    "tools": ("Tools", "What the model may call. Optional."),
    "text": ("Text", "The model learns all of it."),
}


@dataclass(frozen=True)
class ColumnRoles:
    """The pickers' components."""

    box: gr.Accordion
    format: gr.Dropdown
    columns: dict[str, gr.Dropdown]
    apply: gr.Button

    def outputs(self) -> list:
        """What `shown_for` fills, in its order."""
        return [self.box, self.format, *self.columns.values()]


def build_column_roles() -> ColumnRoles:
    """Build the pickers, hidden until there is data."""
    with gr.Accordion("How the columns are used", open=False, visible=False) as box:
        chosen = gr.Dropdown(
            [(words, name) for name, words in FORMAT_WORDS.items()],
            value="prompt_completion",
            label="Kind of data",
            elem_id="column-format",
        )
        with gr.Row():
            columns = {
                role: gr.Dropdown([], label=label, info=info, min_width=200, elem_id=f"role-{role}")
                for role, (label, info) in ROLE_WORDS.items()
            }
        apply = gr.Button("Use these columns", variant="primary", elem_id="apply-columns")
    return ColumnRoles(box, chosen, columns, apply)


def shown_for(dataset: StoredDataset | None) -> list:
    """Updates for the pickers: open and filled in when the columns were not clear."""
    if dataset is None:
        return [gr.update(visible=False)] + [gr.update()] * (1 + len(ROLE_WORDS))
    mapping = dataset.mapping or dataset.suggestion
    roles = mapping.roles if mapping else {}
    format = mapping.format if mapping else "prompt_completion"
    choices = [("not used", NOT_USED), *((name, name) for name in dataset.columns)]
    pickers = [
        gr.update(
            choices=choices, value=roles.get(role, NOT_USED), visible=role in ROLES_OF[format]
        )
        for role in ROLE_WORDS
    ]
    return [gr.update(visible=True, open=not dataset.sure), gr.update(value=format), *pickers]


def visible_for(format: str) -> list:
    """Show the pickers the chosen kind of data has."""
    return [gr.update(visible=role in ROLES_OF.get(format, ())) for role in ROLE_WORDS]


def read_mapping(format: str, chosen: dict[str, str]) -> Mapping:
    """The mapping the pickers describe; columns that are not used are left out."""
    roles = {role: chosen.get(role) for role in ROLES_OF.get(format, ()) if chosen.get(role)}
    return Mapping(format, roles)
