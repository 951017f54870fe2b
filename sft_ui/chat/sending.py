"""What is sent in the Chat tab: messages, held-out rows, the same again; and what is stopped.

The answers are made elsewhere; here are the events.
"""

import json
from collections.abc import Iterator
from textwrap import shorten
from typing import Any

import gradio as gr
from markupsafe import Markup
from PIL import Image

from sft_ui import markup
from sft_ui.alerts import show_user_errors
from sft_ui.chat.controls import BUSY, Asks, Controls, ready
from sft_ui.chat.conversation import (
    MODEL_PREFIX,
    Message,
    Question,
    Talk,
    before_turn,
    calls_open,
    marked_stopped,
    new_conversation,
    retried,
    stream_talk,
    waiting_for,
)
from sft_ui.chat.held_out import HeldOut, held_out_turn, scores_in_words
from sft_ui.chat.kept_talks import talk_of, with_talk
from sft_ui.chat.panes import call_cards, panes
from sft_ui.context import PRIVATE, QUICK, SILENT, Options, Studio
from trainer_backend.errors import UserError
from trainer_backend.runs import open_run
from trainer_backend.runs.asking import read_tools

SAME = "At temperature 0 the same question gets the same answer. Raise Temperature for another one."


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


def wire_sending(studio: Studio, parts: Controls, asks: Asks) -> None:
    """Send, stop, try again, edit, ask a held-out row, start anew."""
    answer, again, ask = _handlers(studio)
    given = {"talk": parts.talk, "talks": parts.talks, **asks.inputs()}
    sent = {"text": parts.message, "image": parts.image, "is_result": parts.is_result}
    written = [*parts.shown(), parts.message, parts.image, parts.is_result, parts.talks]
    how: Options = {
        "outputs": [*written, *parts.buttons()],
        "show_progress": "hidden",
        "concurrency_limit": 4,
        "trigger_mode": "once",
        **PRIVATE,
    }
    sending: Options = {"inputs_kwargs": {**given, **sent}, **how}
    filled = [parts.message, asks.system, asks.tools, asks.gives_tools, parts.image]
    asked = parts.ask.click(ask, asks.run, [*filled, parts.expected, parts.held_out], **PRIVATE)
    events: list[Any] = [asked.success(answer, **sending)]
    for trigger in (parts.send.click, parts.message.submit):
        # the expected answer belongs to another question
        trigger(lambda: ["", None], None, [parts.expected, parts.held_out], **SILENT)
        events.append(trigger(answer, **sending))
    for pane in parts.panes:
        tried_again = {**how, "outputs": [*how["outputs"], parts.seed]}
        retry = pane.retry(again, inputs_kwargs={**given, "seed": parts.seed}, **tried_again)
        events.append(retry)
    for event in events:
        ended = event.then(ready, parts.talk, parts.buttons(), **QUICK)
        ended.then(scored, [parts.held_out, parts.talk], parts.expected, **QUICK)
    _wire_stopping(parts, asks, events)
    _wire_editing(parts, asks, events)


def _handlers(studio: Studio) -> tuple[Any, Any, Any]:
    """What sends a message, what asks the last one again, and what takes a held-out row."""

    @show_user_errors
    def answer(  # noqa: PLR0913 - one argument a component
        talk: Talk,
        talks: Any,
        text: str,
        image: str | None,
        is_result: bool,
        **chosen: Any,
    ) -> Iterator[list[Any]]:
        message, question = Message(text, image, is_result), question_of(studio, **chosen)
        yield from _grown(studio, talk, talks, message, question)

    @show_user_errors
    def again(talk: Talk, talks: Any, seed: int, **chosen: Any) -> Iterator[list[Any]]:
        before, message = retried(talk)
        if not chosen["temperature"]:
            gr.Info(SAME)
        question = question_of(studio, **chosen, seed=seed + 1)
        for updates in _grown(studio, before, talks, message, question):
            updates[3] = updates[4] = gr.skip()  # what is being typed stays
            yield [*updates, seed + 1]

    @show_user_errors
    def ask(run_id: str | None) -> list[Any]:
        if not run_id or run_id.startswith(MODEL_PREFIX):
            raise UserError("Only a run has held-out rows.", "Chat", "Choose a run first.")
        row = held_out_turn(open_run(studio.home, run_id))
        return [*tried(row), row]

    return answer, again, ask


def _grown(
    studio: Studio, talk: Talk, talks: Any, message: Message, question: Question
) -> Iterator[list[Any]]:
    """Updates of the conversation, what is sent, the kept conversations and the buttons."""
    for grown in stream_talk(studio, talk, message, question):
        yield [grown, *panes(grown, is_busy=True), "", None, gr.skip(), gr.skip(), *BUSY]
    called, kept = calls_open(grown), with_talk(talks, question.run, grown)
    result = gr.update(visible=called, value=called)
    yield [grown, *panes(grown), "", None, result, kept, *ready(grown)]


def _wire_stopping(parts: Controls, asks: Asks, events: list[Any]) -> None:
    """Stop; a new conversation, also for another checkpoint; the kept one of another run."""

    def stopped(talk: Talk, talks: Any, run: str) -> list[Any]:
        talk = waiting_for(talk, "Stopped.")
        talk = {side: marked_stopped(turns) for side, turns in talk.items()}
        return [talk, *panes(talk), with_talk(talks, run, talk), *ready(talk)]

    known = [parts.talk, parts.talks, asks.run]
    halted = [*parts.shown(), parts.talks, *parts.buttons()]
    ended = parts.stop.click(ready, parts.talk, parts.buttons(), cancels=events, **QUICK)
    ended.then(stopped, known, halted, **QUICK)  # after the last words have come

    def start_again(talks: Any, run: str) -> list[Any]:
        return [*_begun(new_conversation()), with_talk(talks, run, new_conversation())]

    begun = [
        *(*parts.shown(), parts.expected, parts.held_out, parts.image, parts.is_result),
        *parts.buttons(),
    ]
    for trigger in (parts.clear.click, asks.checkpoint.input):
        again = {"cancels": events, **QUICK}
        trigger(start_again, [parts.talks, asks.run], [*begun, parts.talks], **again)
    asks.run.change(
        lambda talks, run: _begun(talk_of(talks, run or "")),
        [parts.talks, asks.run],
        begun,
        cancels=events,
        **QUICK,
    )


def _begun(talk: Talk) -> list[Any]:
    """Updates for a conversation that is opened."""
    unasked = ["", None, None, gr.update(visible=False, value=False)]
    return [talk, *panes(talk), *unasked, *ready(talk)]


def _wire_editing(parts: Controls, asks: Asks, events: list[Any]) -> None:
    """Go back to an earlier message and put it into the box."""

    @show_user_errors
    def edit(talk: Talk, event: gr.EventData) -> list[Any]:
        cut, message = before_turn(talk, str(event.side), int(event.at))
        image = Image.open(message.image) if message.image else None
        is_result = gr.update(visible=message.is_result, value=message.is_result)
        begun = [cut, *panes(cut), message.text, image, is_result]
        return [*begun, "", None, *ready(cut)]

    edited = [*parts.shown(), parts.message, parts.image, parts.is_result]
    edited += [parts.expected, parts.held_out, *parts.buttons()]
    for pane in parts.panes:
        to_box = pane.edit(edit, parts.talk, edited, cancels=events, **PRIVATE)
        to_box.then(None, None, None, js=TO_MESSAGE, **PRIVATE)


TO_MESSAGE = "() => { document.querySelector('#chat-input textarea')?.focus(); return []; }"


def tried(row: HeldOut) -> list[Any]:
    """Values for message, system prompt, tools, their switch and picture, and the answer's card."""
    picture = Image.open(row.image) if row.image else None
    tools = gr.update(value=as_json(row.tools)) if row.tools else gr.skip()
    return [row.question, row.system, tools, bool(row.tools), picture, expected_card(row)]


def as_json(tools: list[Any]) -> str:
    """Tools as a person edits them."""
    return json.dumps(tools, ensure_ascii=False, indent=2)


def expected_card(row: HeldOut, scores: str = "") -> Markup:
    """The answer of a held-out row, and how near both models came."""
    prompt = shorten(row.question, 160, placeholder=" …")
    shown = markup.line(row.expected.content, "expected") if row.expected.content else ""
    body = [markup.line(f"Prompt: {prompt}", "quiet"), shown, call_cards(row.expected.calls)]
    return markup.card("Expected answer", *body, *([markup.line(scores)] if scores else []))


def scored(row: HeldOut | None, talk: Talk) -> Any:
    """The card of the expected answer with the scores of both; nothing without a held-out row."""
    words = scores_in_words(row.expected, talk) if row else ""
    return expected_card(row, words) if row and words else gr.skip()
