"""What Start asks before it begins: content that the chat template omits, and a button a choice.

The choices are settings of the recipe's form; nothing is started here.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from trainer_backend.data.checks import CHOICE_WORDS, MOST_CHOICES
from trainer_backend.data.store import LengthReport
from trainer_backend.errors import UserError
from trainer_backend.recipe import Recipe


@dataclass(frozen=True)
class Decision:
    """The question, and one button for each choice."""

    box: gr.Column
    said: gr.HTML
    buttons: list[gr.Button]

    def outputs(self) -> list[gr.blocks.Block]:
        """The components `shown_question` fills, in its order."""
        return [self.box, self.said, *self.buttons]


def build_decision() -> Decision:
    """Build the question, hidden until there is one."""
    with gr.Column(visible=False, elem_id="content-decision") as box:
        said = gr.HTML()
        with gr.Row():
            buttons = [
                gr.Button("", visible=False, size="md", min_width=150, elem_id=f"decide-{at}")
                for at in range(1, MOST_CHOICES + 1)
            ]
    return Decision(box, said, buttons)


def undecided(lengths: LengthReport | None, recipe: Recipe | None) -> UserError | None:
    """The question that a run of this recipe would fail with; None if there is nothing to ask.

    `lengths` are the counts of its dataset with its settings, if they are known.
    """
    if lengths is None or recipe is None or recipe.lost_content != "ask":
        return None
    return lengths.question("The Data tab lists the rows.")


def shown_question(question: UserError | None) -> list[Any]:
    """Updates of `Decision.outputs`."""
    choices = choices_of(question)
    buttons = [
        gr.update(visible=at < len(choices), value=words_of(choices[at]))
        if at < len(choices)
        else gr.update(visible=False)
        for at in range(MOST_CHOICES)
    ]
    said: Markup | str = ""
    if question is not None:
        said = markup.card(
            question.what,
            markup.line(question.where, "where"),
            markup.line(question.fix),
            kind="problem warning",
        )
    return [gr.update(visible=question is not None), said, *buttons]


def choices_of(question: UserError | None) -> list[dict[str, str]]:
    """The changes of the form that answer the question, in the order of the buttons."""
    return ((question.offer if question else None) or {}).get("choices", [])


def words_of(choice: dict[str, str]) -> str:
    """A choice as the label of a button."""
    return ", ".join(CHOICE_WORDS[pair] for pair in choice.items())
