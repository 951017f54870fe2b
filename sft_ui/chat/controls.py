"""The components of the Chat tab: the conversation, and how a run is asked. Wires no event."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from sft_ui.chat.conversation import SIDES, Talk, last_answer, new_conversation
from sft_ui.chat.panes import build_pane
from trainer_backend.recipe.labels import label
from trainer_backend.recipe.recipe import SETTINGS

NEWEST = -1


@dataclass(frozen=True)
class Controls:
    """The components of the conversation.

    `held_out` is the held-out row that was asked last, `seed` changes with every new try, and
    `talks` are the conversations kept in the browser, by run.
    """

    talk: gr.State
    panes: list[gr.HTML]
    expected: gr.HTML
    message: gr.Textbox
    image: gr.Image
    is_result: gr.Checkbox
    send: gr.Button
    stop: gr.Button
    ask: gr.Button
    correct: gr.Button
    clear: gr.Button
    held_out: gr.State
    seed: gr.State
    talks: gr.BrowserState

    def buttons(self) -> list[gr.Button]:
        """Those that change while an answer is written; see `ready` and `BUSY`."""
        return [self.send, self.stop, self.ask, self.correct]

    def shown(self) -> list[gr.blocks.Block]:
        """The conversation: its turns and both sides."""
        return [self.talk, *self.panes]


ON, OFF = gr.update(interactive=True), gr.update(interactive=False)
BUSY = [OFF, ON, OFF, OFF]


def ready(talk: Talk) -> list[Any]:
    """Updates of the buttons while no answer is written."""
    return [ON, OFF, ON, gr.update(interactive=last_answer(talk["tuned"]) is not None)]


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


def build_conversation(talks: gr.BrowserState) -> Controls:
    """Both sides, the message, and the buttons."""
    with gr.Row(equal_height=True):
        sides = [build_pane(side) for side in SIDES]
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
        send = gr.Button("Send", variant="primary", size="md", min_width=100, elem_id="chat-send")
        stop = gr.Button(
            "Stop", variant="stop", interactive=False, size="md", min_width=90, elem_id="chat-stop"
        )
        ask = gr.Button("Ask a held-out row", size="md", min_width=150, elem_id="chat-held-out")
        correct = gr.Button(
            "Correct this answer",
            interactive=False,
            size="md",
            min_width=150,
            elem_id="correct-answer",
        )
        clear = gr.Button("New conversation", size="md", min_width=150, elem_id="chat-clear")
    return Controls(
        gr.State(new_conversation()),
        sides,
        expected,
        message,
        image,
        is_result,
        send,
        stop,
        ask,
        correct,
        clear,
        held_out=gr.State(None),
        seed=gr.State(0),
        talks=talks,
    )


def build_asks() -> Asks:
    """The column beside the conversation."""
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
