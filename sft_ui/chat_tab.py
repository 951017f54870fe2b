"""The Chat tab: base and tuned model side by side, answered from one copy of the weights.

Generating is done in the model process; which runs can be talked to is read from their folders.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from trainer_backend.data.formats import Example
from trainer_backend.errors import UserError
from trainer_backend.runs import Run, list_runs, open_run

from . import cards
from .alerts import attempt, show_user_errors
from .studio import PRIVATE, QUICK, Studio

MODEL_PREFIX = "model:"
NEWEST = -1
SECONDS_BETWEEN_YIELDS = 0.05
SIDES = ("base", "tuned")


@dataclass(frozen=True)
class ChatTab:
    """What the wiring in layout.py needs."""

    run: gr.Dropdown
    checkpoint: gr.Dropdown
    system: gr.Textbox


def build_chat_tab(studio: Studio) -> ChatTab:
    """Build the tab and its events."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=8, min_width=340):
            with gr.Row(equal_height=False):
                base = _bot("Base model", "chat-base")
                tuned = _bot("Tuned model", "chat-tuned")
            expected = gr.HTML(elem_id="chat-expected")
            message = gr.Textbox(
                label="Your message",
                placeholder="Ask both models the same thing…",
                lines=2,
                max_lines=8,
                elem_id="chat-input",
            )
            with gr.Row():
                send = gr.Button("Send", variant="primary", min_width=100, elem_id="chat-send")
                stop = gr.Button(
                    "Stop", variant="stop", interactive=False, min_width=90, elem_id="chat-stop"
                )
                held_out = gr.Button("Ask a held-out row", min_width=150, elem_id="chat-held-out")
                clear = gr.Button("New conversation", min_width=150, elem_id="chat-clear")
        with gr.Column(scale=3, min_width=260):
            run = gr.Dropdown([], label="Run", info="Its tuned model answers.", elem_id="chat-run")
            checkpoint = gr.Dropdown(
                [("Newest", NEWEST)], value=NEWEST, label="Checkpoint", elem_id="chat-checkpoint"
            )
            system = gr.Textbox(
                label="System prompt",
                info="How the models should behave. Runs trained with one fill it in.",
                lines=2,
                elem_id="chat-system",
            )
            sampling = _build_sampling()
    tab = ChatTab(run, checkpoint, system)
    settings = [run, checkpoint, system, *sampling]
    _wire_sending(studio, (message, send, stop, clear, expected), (base, tuned), settings)
    _wire_choices(studio, tab, held_out, message, expected)
    return tab


def _build_sampling() -> tuple[gr.Slider, gr.Slider, gr.Slider]:
    likeliest, unlikely = "0 always takes the likeliest word.", "Below 1 leaves out unlikely words."
    return (
        gr.Slider(0, 2, value=0, step=0.05, label="Temperature", info=likeliest),
        gr.Slider(0.05, 1, value=1, step=0.05, label="Top-p", info=unlikely),
        gr.Slider(1, 2048, value=256, step=1, label="Longest answer, in tokens"),
    )


def _bot(label: str, elem_id: str) -> gr.Chatbot:
    return gr.Chatbot(
        label=label,
        elem_id=elem_id,
        height=420,
        min_width=280,
        render_markdown=False,
        feedback_options=None,
        buttons=["copy"],
        placeholder=f"{label}: no answer yet",
    )


def _wire_sending(studio: Studio, controls: tuple, bots: tuple, settings: list) -> None:
    message, send, stop, clear, expected = controls

    @show_user_errors
    def answer(text, base_history, tuned_history, *chosen):
        yield from stream_answers(studio, text, (base_history, tuned_history), *chosen)

    outputs = [*bots, message, send, stop]
    inputs = [message, *bots, *settings]
    events = [
        trigger(
            answer,
            inputs,
            outputs,
            show_progress="hidden",
            concurrency_limit=4,
            concurrency_id="chat",
            trigger_mode="once",
            **PRIVATE,
        )
        for trigger in (send.click, message.submit)
    ]
    ready = [gr.update(interactive=True), gr.update(interactive=False)]
    for event in events:
        event.then(lambda: ready, None, [send, stop], **QUICK)
    stop.click(lambda: ready, None, [send, stop], cancels=events, **QUICK)
    clear.click(
        lambda: ([], [], "", "", *ready),
        None,
        [*bots, message, expected, send, stop],
        cancels=events,
        **QUICK,
    )


def stream_answers(studio: Studio, text: str, histories: tuple, *chosen) -> Iterator[tuple]:
    """Both answers as they grow: (base chat, tuned chat, message box, Send, Stop)."""
    run, checkpoint, system, temperature, top_p, length = chosen
    if not (text or "").strip():
        raise UserError("There is no message.", "Chat", "Write something, then press Send.")
    if not run:
        raise UserError(
            "There is nobody to talk to yet.", "Chat", "Train a run first, or choose one."
        )
    chats = dict(zip(SIDES, map(plain_history, histories), strict=True))
    which = "base" if run.startswith(MODEL_PREFIX) else "both"
    for side in SIDES if which == "both" else ("base",):
        chats[side] += [{"role": "user", "content": text}, {"role": "assistant", "content": "…"}]
    busy = ("", gr.update(interactive=False), gr.update(interactive=True))
    yield chats["base"], chats["tuned"], *busy
    options = {"temperature": temperature, "top_p": top_p, "max_new_tokens": int(length)}
    shown_at = 0.0
    for side, so_far in _answers(studio, run, checkpoint, which, chats, system, options):
        chats[side][-1] = {"role": "assistant", "content": so_far}
        if time.monotonic() - shown_at > SECONDS_BETWEEN_YIELDS:
            shown_at = time.monotonic()
            yield chats["base"], chats["tuned"], *busy
    ready = ("", gr.update(interactive=True), gr.update(interactive=False))
    yield chats["base"], chats["tuned"], *ready


def _answers(studio, run, checkpoint, which, chats, system, options) -> Iterator[tuple[str, str]]:
    """Parts of both answers. Histories that are the same are asked together, others one by one."""
    step = checkpoint if isinstance(checkpoint, int) and checkpoint >= 0 else None
    asked = {side: with_system(chats[side][:-1], system) for side in SIDES if chats[side]}
    together = which == "both" and asked["base"] == asked["tuned"]
    turns = [("both", asked["tuned"])] if together else [(s, asked[s]) for s in SIDES if s in asked]
    if which == "base":
        turns = [("base", asked["base"])]
    name = run.removeprefix(MODEL_PREFIX)
    for who, messages in turns:
        stream = studio.model_process.chat(name, messages, checkpoint=step, which=who, **options)
        try:
            for part in stream:
                yield part["which"], part["text"]
        finally:
            stream.close()


def with_system(messages: list[dict], system: str) -> list[dict]:
    """The conversation with the system prompt in front, when there is one."""
    text = (system or "").strip()
    return [{"role": "system", "content": system}, *messages] if text else messages


def plain_history(history: list | None) -> list[dict]:
    """A chat as plain messages: Gradio hands over each content as a list of blocks."""
    return [
        {"role": turn["role"], "content": plain_text(turn["content"])} for turn in history or []
    ]


def plain_text(content: object) -> str:
    """The text of a message's content."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else [content]
    return "".join(b if isinstance(b, str) else str(b.get("text", "")) for b in blocks)


def _wire_choices(studio, tab: ChatTab, held_out, message, expected) -> None:
    tab.run.change(
        show_user_errors(lambda run: run_choices(studio, run)),
        tab.run,
        [tab.checkpoint, tab.system],
        **QUICK,
    )

    @show_user_errors
    def ask(run_id: str):
        prompt, system, answer = held_out_turn(studio, run_id)
        card = cards.card("Expected answer", f'<div class="cell">{cards.cell(answer)}</div>')
        return prompt, system if system else gr.skip(), card

    held_out.click(ask, tab.run, [message, tab.system, expected], **PRIVATE)


def chat_choices(studio: Studio, base_model: str, current: str | None) -> dict:
    """The runs that have a model, newest first, and the plain base model of the form."""
    runs = [run for run in list_runs(studio.home) if run.checkpoints()]
    choices = [(f"{run.name()} ({run.id[-6:]})", run.id) for run in runs]
    short_name = base_model.rstrip("/").rpartition("/")[2]
    choices.append((f"Base model only: {short_name}", MODEL_PREFIX + base_model))
    ids = [value for _, value in choices]
    return gr.update(choices=choices, value=current if current in ids else ids[0])


def run_choices(studio: Studio, run_id: str | None) -> list:
    """The checkpoints of a run and the system prompt it was trained with."""
    if not run_id or run_id.startswith(MODEL_PREFIX):
        return [gr.update(choices=[("–", NEWEST)], value=NEWEST), gr.skip()]
    run = open_run(studio.home, run_id)
    steps = [(_checkpoint_words(one), one.step) for one in reversed(run.checkpoints())]
    choices = [("Newest", NEWEST), *steps]
    return [gr.update(choices=choices, value=NEWEST), run.recipe().system_prompt]


def _checkpoint_words(checkpoint) -> str:
    loss = checkpoint.eval_loss
    return f"Step {checkpoint.step}" + (f" · eval loss {loss:.3f}" if loss is not None else "")


def held_out_turn(studio: Studio, run_id: str | None) -> tuple[str, str, str]:
    """(prompt, system prompt, expected answer) of a random row the run did not learn from."""
    if not run_id or run_id.startswith(MODEL_PREFIX):
        raise UserError("Only a run has held-out rows.", "Chat", "Choose a run first.")
    run = open_run(studio.home, run_id)
    turns = _held_out_turns(run)
    if not turns:
        raise UserError(
            "This run has no held-out row to ask.",
            run.name(),
            "Hold out some rows in the Model tab.",
        )
    return random.choice(turns)


def _held_out_turns(run: Run) -> list[tuple[str, str, str]]:
    _, held_out = run.split()
    chosen = sorted(random.sample(held_out, min(20, len(held_out))))
    examples, error = attempt(lambda: list(run.dataset().examples(chosen)))
    return [] if error else [turn for one in examples if (turn := first_turn(one))]


def first_turn(example: Example) -> tuple[str, str, str] | None:
    """An example's first question with its system message and its answer, if it has them."""
    messages = example.messages or []
    system = messages[0]["content"] if messages and messages[0]["role"] == "system" else ""
    rest = messages[1:] if system else messages
    roles = [message["role"] for message in rest[:2]]
    texts = [message.get("content") for message in rest[:2]]
    if roles != ["user", "assistant"] or not all(isinstance(text, str) for text in texts):
        return None
    return texts[0], system or "", texts[1]
