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


@dataclass(frozen=True)
class Controls:
    """The components of the conversation."""

    talk: gr.State
    panes: list[gr.HTML]
    expected: gr.HTML
    message: gr.Textbox
    image: gr.Image
    is_result: gr.Checkbox
    send: gr.Button
    stop: gr.Button
    held_out: gr.Button
    clear: gr.Button


@dataclass(frozen=True)
class Asks:
    """The components that say how a run is asked."""

    run: gr.Dropdown
    checkpoint: gr.Dropdown
    system: gr.Textbox
    tools_box: gr.Accordion
    tools: gr.Code
    gives_tools: gr.Checkbox
    thinking: gr.Radio
    sampling: dict[str, gr.Slider]

    def inputs(self) -> dict[str, Any]:
        """The components whose values a question needs, by name."""
        names = ("run", "checkpoint", "system", "tools", "gives_tools", "thinking")
        return {**{name: getattr(self, name) for name in names}, **self.sampling}


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
    with gr.Row(equal_height=True):
        message = gr.Textbox(
            label="Your message",
            placeholder="Ask both models. Enter sends, Shift+Enter adds a line.",
            lines=1,  # with more, Enter would not send
            max_lines=8,
            scale=4,
            min_width=240,
            elem_id="chat-input",
        )
        image = gr.Image(
            label="Picture",
            type="filepath",
            sources=["upload", "clipboard"],
            height=140,
            placeholder="Drop a picture here",
            scale=1,
            min_width=160,
            visible=False,
            elem_id="chat-image",
        )
    is_result = gr.Checkbox(
        label="This is the result of the tool that was called",
        visible=False,
        elem_id="chat-is-result",
    )
    with gr.Row():
        send = gr.Button("Send", variant="primary", min_width=100, elem_id="chat-send")
        stop = gr.Button(
            "Stop", variant="stop", interactive=False, min_width=90, elem_id="chat-stop"
        )
        held_out = gr.Button("Try a held-out row", min_width=150, elem_id="chat-held-out")
        clear = gr.Button("New conversation", min_width=150, elem_id="chat-clear")
    talk = gr.State(new_conversation())
    return Controls(talk, sides, expected, message, image, is_result, send, stop, held_out, clear)


def _build_asks() -> Asks:
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
    with gr.Accordion("Tools", open=False, elem_id="chat-tools-box") as tools_box:
        gives_tools = gr.Checkbox(
            label="Give the models these tools",
            info="Filled in from the run's rows.",
            elem_id="chat-give-tools",
        )
        tools = gr.Code(
            label="Tools as JSON", language="json", lines=4, max_lines=14, elem_id="chat-tools"
        )
    thinking = gr.Radio(
        [(words, value) for value, words in (SETTINGS["thinking"].choices or {}).items()],
        value="auto",
        label=label("thinking"),
        info="As the run was trained, unless you change it.",
        visible=False,
        elem_id="chat-thinking",
    )
    sampling = _build_sampling()
    return Asks(run, checkpoint, system, tools_box, tools, gives_tools, thinking, sampling)


def _build_sampling() -> dict[str, gr.Slider]:
    greedy, nucleus = "0 always picks the likeliest token.", "Below 1 skips unlikely tokens."
    return {
        "temperature": gr.Slider(0, 2, value=0, step=0.05, label="Temperature", info=greedy),
        "top_p": gr.Slider(0.05, 1, value=1, step=0.05, label="Top-p", info=nucleus),
        "max_new_tokens": gr.Slider(1, 2048, value=256, step=1, label="Maximum answer tokens"),
    }


def question_of(  # noqa: PLR0913 - one argument a component
    studio: Studio,
    run: str,
    checkpoint: int,
    system: str,
    tools: str | None,
    gives_tools: bool,
    thinking: str,
    **sampling: Any,
) -> Question:
    """What the components ask with. Raises UserError for tools that are not JSON."""
    given = read_tools(tools or "", "Tools") if gives_tools else []
    is_run = bool(run) and not run.startswith(MODEL_PREFIX)
    kept = open_run(studio.home, run).recipe().control_tokens if is_run else "auto"
    asked = {"tools": given, "thinking": thinking or "auto", "control_tokens": kept}
    return Question(run, checkpoint, system, asked, sampling)


def _wire_sending(studio: Studio, parts: Controls, asks: Asks) -> None:
    on, off = gr.update(interactive=True), gr.update(interactive=False)
    ready, busy = [on, off, on], [off, on, off]  # Send, Stop, and the held-out row
    buttons = [parts.send, parts.stop, parts.held_out]

    @show_user_errors
    def answer(
        talk: dict, text: str, image: str | None, is_result: bool, **chosen: Any
    ) -> Iterator[list[Any]]:
        message, question = Message(text, image, is_result), question_of(studio, **chosen)
        for grown in stream_talk(studio, talk, message, question):
            yield [grown, *panes(grown), "", None, gr.skip(), *busy]
        called = calls_open(grown)
        yield [grown, *panes(grown), "", None, gr.update(visible=called, value=called), *ready]

    @show_user_errors
    def ask(run_id: str | None) -> list[Any]:
        if not run_id or run_id.startswith(MODEL_PREFIX):
            raise UserError("Only a run has held-out rows.", "Chat", "Choose a run first.")
        return tried(held_out_turn(open_run(studio.home, run_id)))

    filled = [parts.message, asks.system, asks.tools, asks.gives_tools, parts.image]
    asked = parts.held_out.click(ask, asks.run, [*filled, parts.expected], **PRIVATE)
    sent = {"talk": parts.talk, "text": parts.message, "image": parts.image}
    how: Options = {
        "inputs_kwargs": {**sent, "is_result": parts.is_result, **asks.inputs()},
        "outputs": [
            *(parts.talk, *parts.panes, parts.message, parts.image, parts.is_result),
            *buttons,
        ],
        "show_progress": "hidden",
        "concurrency_limit": 4,
        "trigger_mode": "once",
        **PRIVATE,
    }
    events: list[Any] = [asked.success(answer, **how)]
    for trigger in (parts.send.click, parts.message.submit):
        trigger(lambda: "", None, parts.expected, **SILENT)  # it belongs to another question
        events.append(trigger(answer, **how))
    for event in events:
        event.then(lambda: ready, None, buttons, **QUICK)

    def stopped(talk: Talk) -> list[Any]:
        talk = waiting_for(talk, "Stopped.")
        talk = {side: marked_stopped(turns) for side, turns in talk.items()}
        return [talk, *panes(talk), *ready]

    halted = [parts.talk, *parts.panes, *buttons]
    ended = parts.stop.click(lambda: ready, None, buttons, cancels=events, **QUICK)
    ended.then(stopped, parts.talk, halted, **QUICK)  # after the last words have come

    def start_again() -> list[Any]:
        talk = new_conversation()
        return [talk, *panes(talk), "", None, gr.update(visible=False, value=False), *ready]

    cleared = [parts.talk, *parts.panes, parts.expected, parts.image, parts.is_result, *buttons]
    for trigger in (parts.clear.click, asks.run.input, asks.checkpoint.input):
        trigger(start_again, None, cleared, cancels=events, **QUICK)


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


def tried(row: HeldOut) -> list[Any]:
    """Values for message, system prompt, tools, their switch and picture, and the answer's card."""
    prompt = shorten(row.question, 160, placeholder=" …")
    shown = markup.line(row.expected.content, "expected") if row.expected.content else ""
    body = [markup.line(f"Prompt: {prompt}", "quiet"), shown, call_cards(row.expected.calls)]
    picture = Image.open(row.image) if row.image else None
    tools = gr.update(value=_as_json(row.tools)) if row.tools else gr.skip()
    card = markup.card("Expected answer", *body)
    return [row.question, row.system, tools, bool(row.tools), picture, card]


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
