"""The dialog in which a wrong answer is corrected; any tab may open it.

What a correction is, and what is refused, is decided in the library.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from textwrap import shorten
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import show_user_errors
from sft_ui.context import PRIVATE, QUICK, SETS_STATE, Studio
from sft_ui.theme import static_text
from trainer_backend.corrections import ENOUGH, Wrong, keep_correction, read_calls
from trainer_backend.corrections.correction import PLACES, text_of
from trainer_backend.data.images import IMAGE_MARK
from trainer_backend.errors import UserError
from trainer_backend.models.loaded.answer_parts import Answer, read_answer, tool_names
from trainer_backend.runs import open_run

MOST_LETTERS = 2_000_000  # of an event of the page
ABOUT = (
    "Your answer is kept as a row of training data, together with everything the model was asked "
    "with. Enough of them can be trained on."
)


@dataclass(frozen=True)
class Editor:
    """The dialog; `kept` changes with every correction that was kept: {"run", "answer", "at"}."""

    box: gr.Column
    about: gr.HTML
    answer: gr.Textbox
    calls: gr.Code
    reasoning: gr.Textbox
    keep: gr.Button
    cancel: gr.Button
    wrong: gr.State
    kept: gr.State

    def outputs(self) -> list[gr.blocks.Block]:
        """The components that `opened` fills, in its order."""
        return [self.wrong, self.box, self.about, self.answer, self.calls, self.reasoning]


def build_correction(studio: Studio) -> Editor:
    """Build the dialog, closed, and what its buttons do."""
    with gr.Column(visible=False, elem_id="correction", elem_classes="dialog") as box:
        with gr.Column(elem_classes="dialog-body"):
            about = gr.HTML(js_on_load=static_text("corrections/editor.js"))
            answer = gr.Textbox(
                label="The right answer", lines=6, max_lines=16, elem_id="correction-answer"
            )
            calls = gr.Code(
                label="Calls of tools, as JSON",
                language="json",
                lines=3,
                max_lines=10,
                visible=False,
                elem_id="correction-calls",
            )
            reasoning = gr.Textbox(
                label="Reasoning before the answer",
                info="Empty: the model learns to answer without any.",
                lines=2,
                max_lines=8,
                visible=False,
                elem_id="correction-reasoning",
            )
            with gr.Row():
                keep = gr.Button("Keep", variant="primary", elem_id="correction-keep")
                cancel = gr.Button("Cancel", elem_id="correction-cancel")
    parts = (about, answer, calls, reasoning, keep, cancel)
    editor = Editor(box, *parts, gr.State(None), gr.State({}))
    _wire(studio, editor)
    return editor


def _wire(studio: Studio, editor: Editor) -> None:
    @show_user_errors
    def keep(
        wrong: Wrong | None, text: str, calls: str | None, reasoning: str, before: dict[str, Any]
    ) -> list[Any]:
        if wrong is None:
            raise UserError("No answer is being corrected.", "Correct this answer", "Choose one.")
        right = Answer(text or "", reasoning or "", read_calls(calls or ""))
        kept = keep_correction(studio.home, wrong, right)
        gr.Info(_kept_words(len(kept.corrections)))
        made = {"run": wrong.run, "answer": wrong.answer.in_words(), "at": before.get("at", 0) + 1}
        return [gr.update(visible=False), None, made]

    given = [editor.wrong, editor.answer, editor.calls, editor.reasoning, editor.kept]
    done = [editor.box, editor.wrong, editor.kept]
    editor.keep.click(keep, given, done, **SETS_STATE)
    editor.cancel.click(
        lambda: [gr.update(visible=False), None], None, [editor.box, editor.wrong], **QUICK
    )


def _kept_words(count: int) -> str:
    words = f"Kept. {count:,} correction{'s' if count != 1 else ''} for this data."
    more = " You can train on them in Chat, under Corrections."
    return words + (more if count >= ENOUGH else "")


def opened(wrong: Wrong, note: str = "") -> list[Any]:
    """Updates of `Editor.outputs`: the dialog, filled with the model's answer."""
    calls, reasoning = wrong.answer.calls, wrong.answer.reasoning
    shown = json.dumps(calls, ensure_ascii=False, indent=2) if calls else ""
    return [
        wrong,
        gr.update(visible=True),
        _about(wrong, note),
        wrong.answer.content,
        gr.update(value=shown, visible=bool(calls or wrong.tools)),
        gr.update(value=reasoning, visible=bool(reasoning)),
    ]


def _about(wrong: Wrong, note: str) -> Markup:
    last = text_of(wrong.messages[-1]).replace(IMAGE_MARK, "").strip() if wrong.messages else ""
    asked = shorten(last, 400, placeholder=" …")
    said = [markup.line(ABOUT, "quiet"), *([markup.line(note, "quiet")] if note else [])]
    head = Markup('<h3 id="correction-title">Correct this answer</h3>')
    return (
        head
        + Markup('<blockquote class="asked">{}</blockquote>').format(asked)
        + Markup().join(said)
    )


def open_correction(studio: Studio, editor: Editor, event: Any) -> None:
    """Let an event of a component open the dialog.

    Its data is {"run", "messages", "answer"} and, if known, {"row", "tools", "checkpoint", "place",
    "calls", "reasoning"}: a message is {"role", "content", …}, the answer a text.
    """

    @show_user_errors
    def show(data: gr.EventData) -> list[Any]:
        return opened(wrong_of(studio, vars(data).get("_data") or {}))

    event(show, None, editor.outputs(), **PRIVATE)


def wrong_of(studio: Studio, data: Mapping[str, Any]) -> Wrong:
    """The answer to correct, from the data of an event; pictures come from the row in the home.

    Raises UserError for data that is none.
    """
    run = open_run(studio.home, str(data.get("run") or ""))
    messages, tools = data.get("messages"), data.get("tools") or []
    well = isinstance(messages, list) and isinstance(tools, list)
    if not well or not all(map(_is_message, messages or [])) or len(str(data)) > MOST_LETTERS:
        raise UserError(
            "This answer cannot be corrected.", "Correct this answer", "Ask it in Chat."
        )
    plain = [{key: one[key] for key in one if key != "images"} for one in messages or []]
    given = _answer(data)
    row = data.get("row") if isinstance(data.get("row"), int) else None
    step = data.get("checkpoint") if isinstance(data.get("checkpoint"), int) else None
    place = data.get("place") if data.get("place") in PLACES else "evaluation"
    wrong = Wrong(run.id, plain, given, tools, step, str(place), row)
    return _with_pictures(studio, wrong)


def _is_message(one: Any) -> bool:
    return isinstance(one, dict) and one.get("role") in ("system", "user", "assistant", "tool")


def _answer(data: Mapping[str, Any]) -> Answer:
    """The model's answer. Calls that are written in its text, as in words, are taken apart."""
    text, reasoning = str(data.get("answer") or ""), str(data.get("reasoning") or "")
    if data.get("calls"):
        return Answer(text, reasoning, read_calls(json.dumps(data["calls"])))
    said = text.split("\n")
    calls: list[dict[str, Any]] = []
    names = tool_names(data.get("tools") or [])
    while said and (call := _call(said[-1], names)):
        calls.insert(0, call)
        said.pop()
    content = "\n".join(said)
    return Answer(content, reasoning, calls) if reasoning or calls else read_answer(content)


def _call(line: str, names: list[str]) -> dict[str, Any] | None:
    """A call as call_in_words() writes it, of a tool that was given: look_up({"city": "Paris"})."""
    name, _, rest = line.partition("(")
    try:
        arguments = json.loads(rest.removesuffix(")")) if name in names else None
    except (ValueError, RecursionError):
        return None
    return {"name": name, "arguments": arguments} if isinstance(arguments, dict) else None


def _with_pictures(studio: Studio, wrong: Wrong) -> Wrong:
    """The pictures of the row, at the first message of the person."""
    if wrong.row is None:
        return wrong
    dataset = open_run(studio.home, wrong.run).dataset()
    example = dataset.example(wrong.row)
    names = list(example.images or ()) if example else []
    marks = sum(text_of(one).count(IMAGE_MARK) for one in wrong.messages)
    names = names[:marks] if marks else names
    if not names:
        return wrong
    messages = [dict(one) for one in wrong.messages]
    first = next((one for one in messages if one["role"] == "user"), None)
    if first is not None:
        first["images"] = [str(dataset.dir / str(name)) for name in names]
    return replace(wrong, messages=messages)
