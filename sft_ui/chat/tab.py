"""The Chat tab: base and tuned model side by side, asked as the run was trained."""

from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import gradio as gr

from sft_ui.alerts import show_user_errors
from sft_ui.chat.controls import NEWEST, Asks, Controls, build_asks, build_conversation
from sft_ui.chat.conversation import (
    MODEL_PREFIX,
    Talk,
    answer_of,
    as_asked,
    last_answer,
    marked_corrected,
    with_system,
)
from sft_ui.chat.held_out import HeldOut
from sft_ui.chat.panes import panes
from sft_ui.chat.prompts import build_prompts, wire_prompts
from sft_ui.chat.sending import as_json, wire_sending
from sft_ui.context import PRIVATE, QUICK, Studio
from sft_ui.corrections.editor import Editor, opened
from sft_ui.corrections.kept_list import KeptList, build_kept_list
from trainer_backend.corrections import Wrong
from trainer_backend.errors import UserError
from trainer_backend.models import locate_model
from trainer_backend.models.loaded.answer_parts import tool_names
from trainer_backend.recipe.labels import label
from trainer_backend.recipe.recipe import SETTINGS
from trainer_backend.runs import list_runs, open_run
from trainer_backend.runs.asking import Asking, asking_of, has_switch, reads_images
from trainer_backend.runs.checkpoints import Checkpoint


@dataclass(frozen=True)
class ChatTab:
    """What the page needs of the tab."""

    run: gr.Dropdown
    checkpoint: gr.Dropdown
    system: gr.Textbox
    corrections: KeptList


def build_chat_tab(studio: Studio, editor: Editor, talks: gr.BrowserState) -> ChatTab:
    """Build the tab and its events.

    `editor` is where a wrong answer is corrected, `talks` where conversations are kept.
    """
    with gr.Row(equal_height=False):
        with gr.Column(scale=8, min_width=340):
            controls = build_conversation(talks)
            several = build_prompts()
        with gr.Column(scale=3, min_width=260):
            asks = build_asks()
            corrections = build_kept_list()
    wire_sending(studio, controls, asks)
    wire_prompts(studio, several, asks)
    _wire_choices(studio, controls, asks)
    _wire_correcting(studio, controls, asks, editor)
    return ChatTab(asks.run, asks.checkpoint, asks.system, corrections)


def _wire_correcting(studio: Studio, parts: Controls, asks: Asks, editor: Editor) -> None:
    """Open an answer of the tuned model in the editor; mark it once a better one is kept."""

    @show_user_errors
    def last(talk: Talk, row: HeldOut | None, run: str) -> list[Any]:
        at = last_answer(talk["tuned"])
        return _opened(studio, talk, -1 if at is None else at, row, run)

    @show_user_errors
    def chosen(talk: Talk, row: HeldOut | None, run: str, event: gr.EventData) -> list[Any]:
        return _opened(studio, talk, int(event.at), row, run)

    given = [parts.talk, parts.held_out, asks.run]
    parts.correct.click(last, given, editor.outputs(), **PRIVATE)
    for pane in parts.panes:
        pane.correct(chosen, given, editor.outputs(), **PRIVATE)

    def mark(talk: Talk, run: str, kept: dict[str, Any]) -> list[Any]:
        if kept.get("run") != run:
            return [gr.skip()] * (1 + len(parts.panes))
        marked = marked_corrected(talk, str(kept["answer"]))
        return [marked, *panes(marked)]

    editor.kept.change(mark, [parts.talk, asks.run, editor.kept], parts.shown(), **QUICK)


def _opened(studio: Studio, talk: Talk, at: int, row: HeldOut | None, run: str) -> list[Any]:
    """Updates that open an answer in the editor. Raises UserError for what is none."""
    wrong = wrong_answer(talk, at, row, run)
    trained = open_run(studio.home, run).recipe().thinking
    asked = talk["tuned"][at].get("asked") or {}
    words = SETTINGS["thinking"].words
    differs = asked.get("thinking", trained) != trained
    note = (
        f"It was asked with “{label('thinking')}” {words(asked['thinking'])}; training on it uses "
        f"the run's own setting, {words(trained)}."
    )
    return opened(wrong, note if differs else "")


def wrong_answer(talk: Talk, at: int, row: HeldOut | None, run: str | None) -> Wrong:
    """The tuned model's answer `at` with all that it was asked with. Raises UserError."""
    turns = talk["tuned"]
    if not run or run.startswith(MODEL_PREFIX):
        what = "Only the answers of a run can be corrected."
        raise UserError(what, "Correct this answer", "Choose a run first.")
    if not 0 < at < len(turns) or turns[at]["role"] != "assistant":
        what = "There is no answer of the tuned model to correct."
        raise UserError(what, "Correct this answer", "Ask something first.")
    asked, step = turns[at].get("asked") or {}, (turns[at].get("asked") or {}).get("checkpoint")
    from_row = row is not None and at == 1 and turns[0]["content"] == row.question
    if any(turn.get("lost_images") for turn in turns[:at]):
        what = "The picture of this conversation is not kept over a reload."
        raise UserError(what, "Correct this answer", "Ask again with the picture, then correct it.")
    return Wrong(
        run,
        with_system(as_asked(turns[:at]), asked.get("system")),
        answer_of(turns[at]),
        asked.get("tools") or [],
        step if isinstance(step, int) and step >= 0 else None,
        row=row.row if row is not None and from_row else None,
    )


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
        as_json(asking.tools) if asking.tools else "",
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


def warm_up(studio: Studio, run: str | None) -> None:
    """Load the model of a run ahead of the first question."""
    if run and not run.startswith(MODEL_PREFIX):
        studio.model_process.prepare(run)


def _checkpoint_words(checkpoint: Checkpoint) -> str:
    loss = checkpoint.eval_loss
    return f"Step {checkpoint.step}" + (f" · eval loss {loss:.3f}" if loss is not None else "")
