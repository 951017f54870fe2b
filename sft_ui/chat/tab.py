"""The Chat tab: base and tuned model side by side, with their sampling settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import gradio as gr

from sft_ui import markup
from sft_ui.alerts import show_user_errors
from sft_ui.chat.conversation import (
    MODEL_PREFIX,
    held_out_turn,
    new_conversation,
    pane,
    panes,
    stream_talk,
)
from sft_ui.context import PRIVATE, QUICK, Studio
from trainer_backend.errors import UserError
from trainer_backend.runs import list_runs, open_run
from trainer_backend.runs.checkpoints import Checkpoint

NEWEST = -1


@dataclass(frozen=True)
class ChatTab:
    """What the page needs of the tab."""

    run: gr.Dropdown
    checkpoint: gr.Dropdown
    system: gr.Textbox


@dataclass(frozen=True)
class Controls:
    """The components of the conversation."""

    talk: gr.State
    panes: list[gr.HTML]
    expected: gr.HTML
    message: gr.Textbox
    send: gr.Button
    stop: gr.Button
    held_out: gr.Button
    clear: gr.Button


def build_chat_tab(studio: Studio) -> ChatTab:
    """Build the tab and its events."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=8, min_width=340):
            controls = _build_conversation()
        with gr.Column(scale=3, min_width=260):
            run = gr.Dropdown([], label="Run", info="Its tuned model answers.", elem_id="chat-run")
            checkpoint = gr.Dropdown(
                [("Newest", NEWEST)], value=NEWEST, label="Checkpoint", elem_id="chat-checkpoint"
            )
            system = gr.Textbox(
                label="System prompt",
                info="How the models should behave. Filled in from the run.",
                lines=2,
                elem_id="chat-system",
            )
            sampling = _build_sampling()
    tab = ChatTab(run, checkpoint, system)
    _wire_sending(
        studio, controls, {"run": run, "checkpoint": checkpoint, "system": system}, sampling
    )
    _wire_choices(studio, tab, controls)
    return tab


def _build_conversation() -> Controls:
    with gr.Row(equal_height=True):
        sides = [
            gr.HTML(
                pane(side, []),
                elem_id=f"chat-{side}",
                max_height=480,
                min_width=280,
                autoscroll=True,
            )
            for side in ("base", "tuned")
        ]
    expected = gr.HTML(elem_id="chat-expected")
    message = gr.Textbox(
        label="Your message",
        placeholder="Ask both models the same question…",
        lines=2,
        max_lines=8,
        elem_id="chat-input",
    )
    with gr.Row():
        send = gr.Button("Send", variant="primary", min_width=100, elem_id="chat-send")
        stop = gr.Button(
            "Stop", variant="stop", interactive=False, min_width=90, elem_id="chat-stop"
        )
        held_out = gr.Button("Try a held-out row", min_width=150, elem_id="chat-held-out")
        clear = gr.Button("New conversation", min_width=150, elem_id="chat-clear")
    talk = gr.State(new_conversation())
    return Controls(talk, sides, expected, message, send, stop, held_out, clear)


def _build_sampling() -> dict[str, gr.Slider]:
    greedy, nucleus = "0 always picks the likeliest token.", "Below 1 skips unlikely tokens."
    return {
        "temperature": gr.Slider(0, 2, value=0, step=0.05, label="Temperature", info=greedy),
        "top_p": gr.Slider(0.05, 1, value=1, step=0.05, label="Top-p", info=nucleus),
        "max_new_tokens": gr.Slider(1, 2048, value=256, step=1, label="Maximum answer tokens"),
    }


def _wire_sending(
    studio: Studio, parts: Controls, asked: dict[str, Any], sampling: dict[str, gr.Slider]
) -> None:
    ready = [gr.update(interactive=True), gr.update(interactive=False)]
    busy = [gr.update(interactive=False), gr.update(interactive=True)]

    @show_user_errors
    def answer(talk: dict, text: str, **chosen: Any) -> Iterator[list[Any]]:
        for grown in stream_talk(studio, talk, text, **chosen):
            yield [grown, *panes(grown), "", *busy]
        yield [grown, *panes(grown), "", *ready]

    events: list[Any] = [
        trigger(
            answer,
            inputs_kwargs={"talk": parts.talk, "text": parts.message, **asked, **sampling},
            outputs=[parts.talk, *parts.panes, parts.message, parts.send, parts.stop],
            show_progress="hidden",
            concurrency_limit=4,
            trigger_mode="once",
            **PRIVATE,
        )
        for trigger in (parts.send.click, parts.message.submit)
    ]
    buttons = [parts.send, parts.stop]
    for event in events:
        event.then(lambda: ready, None, buttons, **QUICK)
    parts.stop.click(lambda: ready, None, buttons, cancels=events, **QUICK)

    def start_again() -> list[Any]:
        talk = new_conversation()
        return [talk, *panes(talk), "", *ready]

    cleared = [parts.talk, *parts.panes, parts.expected, *buttons]
    for trigger in (parts.clear.click, asked["run"].input, asked["checkpoint"].input):
        trigger(start_again, None, cleared, cancels=events, **QUICK)


def _wire_choices(studio: Studio, tab: ChatTab, parts: Controls) -> None:
    tab.run.change(
        show_user_errors(lambda run: run_choices(studio, run)),
        tab.run,
        [tab.checkpoint, tab.system],
        **QUICK,
    )

    @show_user_errors
    def ask(run_id: str | None) -> tuple[Any, Any, Any]:
        if not run_id or run_id.startswith(MODEL_PREFIX):
            raise UserError("Only a run has held-out rows.", "Chat", "Choose a run first.")
        question, system, answer = held_out_turn(open_run(studio.home, run_id))
        asked = markup.line(f"Prompt: {shorten(question, 160, placeholder=' …')}", "quiet")
        card = markup.card("Expected answer", asked + markup.line(answer, "expected"))
        return question, system or gr.skip(), card

    parts.held_out.click(ask, tab.run, [parts.message, tab.system, parts.expected], **PRIVATE)


def chat_choices(studio: Studio, base_model: str, current: str | None) -> dict[str, Any]:
    """Update of the run picker: runs with a checkpoint, newest first, and the form's base model."""
    runs = [run for run in list_runs(studio.home) if run.checkpoints()]
    choices = [(f"{run.name()} ({run.id[-6:]})", run.id) for run in runs]
    short_name = base_model.rstrip("/").rpartition("/")[2]
    choices.append((f"Base model only: {short_name}", MODEL_PREFIX + base_model))
    ids = [value for _, value in choices]
    return gr.update(choices=choices, value=current if current in ids else ids[0])


def run_choices(studio: Studio, run_id: str | None) -> list[Any]:
    """Updates: the checkpoints of a run, and the system prompt it was trained with."""
    if not run_id or run_id.startswith(MODEL_PREFIX):
        return [gr.update(choices=[("–", NEWEST)], value=NEWEST), gr.skip()]
    run = open_run(studio.home, run_id)
    steps = [(_checkpoint_words(one), one.step) for one in reversed(run.checkpoints())]
    choices = [("Newest", NEWEST), *steps]
    return [gr.update(choices=choices, value=NEWEST), run.recipe().system_prompt]


def warm_up(studio: Studio, run: str | None) -> None:
    """Load the model of a run ahead of the first question."""
    if run and not run.startswith(MODEL_PREFIX):
        studio.model_process.prepare(run)


def _checkpoint_words(checkpoint: Checkpoint) -> str:
    loss = checkpoint.eval_loss
    return f"Step {checkpoint.step}" + (f" · eval loss {loss:.3f}" if loss is not None else "")
