"""The Chat tab: base and tuned model side by side, asked as the run was trained."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import gradio as gr
from PIL import Image

from sft_ui import markup
from sft_ui.alerts import show_user_errors
from sft_ui.chat.conversation import (
    MODEL_PREFIX,
    Message,
    Question,
    Talk,
    calls_open,
    marked_stopped,
    new_conversation,
    stream_talk,
    waiting_for,
)
from sft_ui.chat.held_out import HeldOut, held_out_turn
from sft_ui.chat.panes import call_cards, pane, panes
from sft_ui.context import PRIVATE, QUICK, SILENT, Options, Studio
from trainer_backend.errors import UserError
from trainer_backend.models import locate_model
from trainer_backend.models.loaded.answer_parts import tool_names
from trainer_backend.recipe.labels import label
from trainer_backend.recipe.recipe import SETTINGS
from trainer_backend.runs import list_runs, open_run
from trainer_backend.runs.asking import Asking, asking_of, has_switch, read_tools, reads_images
from trainer_backend.runs.checkpoints import Checkpoint

NEWEST = -1


@dataclass(frozen=True)
class ChatTab:
    """What the page needs of the tab."""

    run: gr.Dropdown
    checkpoint: gr.Dropdown
    system: gr.Textbox


def build_chat_tab(studio: Studio) -> ChatTab:
    """Build the tab and its events."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=8, min_width=340):
            controls = _build_conversation()
        with gr.Column(scale=3, min_width=260):
            asks = _build_asks()
    _wire_sending(studio, controls, asks)
    _wire_choices(studio, controls, asks)
    return ChatTab(asks.run, asks.checkpoint, asks.system)


def _wire_choices(studio: Studio, parts: Controls, asks: Asks) -> None:
    asks.run.change(
        show_user_errors(lambda run: run_choices(studio, run)),
        asks.run,
        [
            *(asks.checkpoint, asks.system, asks.tools_box, asks.tools, asks.gives_tools),
            *(asks.thinking, parts.image),
        ],
        **QUICK,
    )


def chat_choices(
    studio: Studio, base_model: str, current: str | None, *, choose: bool = True
) -> dict[str, Any]:
    """Update of the run picker: runs with a checkpoint, newest first, and the form's base model.

    With `choose` it chooses `current`; else only if that is gone another one, so that a late answer
    takes nothing back that was chosen meanwhile.
    """
    runs = [run for run in list_runs(studio.home) if run.checkpoints()]
    choices = [(f"{run.name()} ({run.id[-6:]})", run.id) for run in runs]
    short_name = base_model.rstrip("/").rpartition("/")[2]
    choices.append((f"Base model only: {short_name}", MODEL_PREFIX + base_model))
    ids = [value for _, value in choices]
    if current in ids and not choose:
        return gr.update(choices=choices)
    return gr.update(choices=choices, value=current if current in ids else ids[0])


def run_choices(studio: Studio, run_id: str | None) -> list[Any]:
    """Updates: the checkpoints of a run, and all it is asked with unless the person changes it.

    For a base model alone system prompt and tools stay as they are.
    """
    if not run_id or run_id.startswith(MODEL_PREFIX):
        asking = _of_model(studio, (run_id or "").removeprefix(MODEL_PREFIX))
        none = gr.update(choices=[("–", NEWEST)], value=NEWEST)
        return [none, gr.skip(), gr.skip(), gr.skip(), gr.skip(), *_switches(asking)]
    run = open_run(studio.home, run_id)
    steps = [(_checkpoint_words(one), one.step) for one in reversed(run.checkpoints())]
    choices, asking = [("Newest", NEWEST), *steps], asking_of(run)
    return [
        gr.update(choices=choices, value=NEWEST),
        asking.system,
        gr.update(label=_tools_words(asking), open=False),
        _as_json(asking.tools) if asking.tools else "",
        asking.gives_tools,
        *_switches(asking),
    ]


def _of_model(studio: Studio, name: str) -> Asking:
    """What is known of a base model alone, if it lies on this machine."""
    try:
        folder = locate_model(studio.home, name).folder if name else None
    except UserError:
        folder = None
    if folder is None:
        return Asking()
    return Asking(images=reads_images(folder), thinks=has_switch(folder))


def _switches(asking: Asking) -> list[Any]:
    return [
        gr.update(visible=asking.thinks, value=asking.thinking),
        gr.update(visible=asking.images, value=None),
    ]


def _tools_words(asking: Asking) -> str:
    """The title of the tools: those of the run's rows by name."""
    names = tool_names(asking.tools)
    listed = shorten(", ".join(names), 40, placeholder=" …")
    return f"Tools: {listed}" if names else "Tools"


def _as_json(tools: list[Any]) -> str:
    return json.dumps(tools, ensure_ascii=False, indent=2)


def warm_up(studio: Studio, run: str | None) -> None:
    """Load the model of a run ahead of the first question."""
    if run and not run.startswith(MODEL_PREFIX):
        studio.model_process.prepare(run)


def _checkpoint_words(checkpoint: Checkpoint) -> str:
    loss = checkpoint.eval_loss
    return f"Step {checkpoint.step}" + (f" · eval loss {loss:.3f}" if loss is not None else "")
