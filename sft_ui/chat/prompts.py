"""Several prompts at once: pasted or from a file, answered into a table that can be taken along."""

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import show_user_errors
from sft_ui.chat.controls import Asks
from sft_ui.chat.conversation import MODEL_PREFIX, Question
from sft_ui.chat.panes import LABELS
from sft_ui.chat.sending import question_of
from sft_ui.context import PRIVATE, QUICK, Options, Studio
from trainer_backend.errors import UserError
from trainer_backend.serving.prompts import (
    FORMATS,
    MOST_PROMPTS,
    Answered,
    Prompts,
    answers_as,
    prompts_in_lines,
    read_prompts,
)

FILES = [".txt", ".csv", ".tsv", ".jsonl", ".json", ".xlsx", ".parquet"]
SECONDS_BETWEEN = 0.7  # updates of the table
HINT = (
    "Each prompt is asked on its own, with the system prompt, tools and settings beside. "
    f"Up to {MOST_PROMPTS:,} at a time."
)


@dataclass(frozen=True)
class Sheet:
    """The answers so far, by prompt, and which models were asked."""

    rows: list[Answered] = field(default_factory=list)
    sides: tuple[str, ...] = ("tuned",)


@dataclass(frozen=True)
class Several:
    """The components: what is asked, the table, and where it goes."""

    text: gr.Textbox
    file: gr.File
    with_base: gr.Checkbox
    start: gr.Button
    stop: gr.Button
    said: gr.HTML
    table: gr.Dataframe
    downloads: list[gr.DownloadButton]
    sheet: gr.State

    def outputs(self) -> list[gr.blocks.Block]:
        """What changes while prompts are answered."""
        return [self.sheet, self.said, self.table, self.start, self.stop, *self.downloads]


def build_prompts() -> Several:
    """Build it, folded."""
    with gr.Accordion("Several prompts at once", open=False, elem_id="chat-several"):
        gr.HTML(markup.line(HINT, "quiet"))
        with gr.Row(equal_height=True):
            text = gr.Textbox(
                label="Prompts, one a line",
                lines=5,
                max_lines=12,
                scale=3,
                min_width=240,
                elem_id="chat-prompts",
            )
            file = gr.File(
                label="Or a file: text, CSV or JSONL with a column “prompt”",
                file_types=FILES,
                type="filepath",
                height=150,
                scale=2,
                min_width=200,
                elem_id="chat-prompts-file",
            )
        with_base = gr.Checkbox(label="Ask the base model too", elem_id="chat-prompts-base")
        with gr.Row():
            start = gr.Button("Answer all", variant="primary", size="md", elem_id="chat-answer-all")
            stop = gr.Button(
                "Stop", variant="stop", size="md", interactive=False, elem_id="chat-stop-all"
            )
            downloads = [
                gr.DownloadButton(
                    f"Download {ending[1:].upper()}",
                    size="md",
                    interactive=False,
                    elem_id=f"chat-answers-{ending[1:]}",
                )
                for ending in FORMATS
            ]
        said = gr.HTML(elem_id="chat-several-said")
        table = gr.Dataframe(
            headers=["Row", "Prompt", LABELS["tuned"]],
            interactive=False,
            wrap=True,
            visible=False,
            max_height=460,
            elem_id="chat-answers",
        )
    inside = (text, file, with_base, start, stop, said, table, downloads)
    return Several(*inside, gr.State(Sheet()))


def wire_prompts(studio: Studio, parts: Several, asks: Asks) -> None:
    """Start, stop and the downloads."""

    @show_user_errors
    def start(text: str, file: str | None, with_base: bool, **chosen: Any) -> Iterator[list[Any]]:
        question = question_of(studio, **chosen)
        found = read_prompts(Path(file)) if file else prompts_in_lines(text or "")
        sides = sides_of(question, with_base)
        for sheet, waits in answered(studio, found, question, sides):
            yield [sheet, _said(sheet, found, waits), _table(sheet), *BUSY]
        yield _ended(sheet, found)

    given = {"text": parts.text, "file": parts.file, "with_base": parts.with_base}
    how: Options = {"trigger_mode": "once", "concurrency_limit": 4, "show_progress": "hidden"}
    begun = parts.start.click(
        start,
        inputs_kwargs={**given, **asks.inputs()},
        outputs=parts.outputs(),
        **{**how, **PRIVATE},
    )
    stopped = parts.stop.click(
        lambda: ON_OFF, None, [parts.start, parts.stop], cancels=begun, **QUICK
    )
    stopped.then(lambda sheet: _ended(sheet, None), parts.sheet, parts.outputs(), **QUICK)
    begun.then(lambda: ON_OFF, None, [parts.start, parts.stop], **QUICK)


ON, OFF = gr.update(interactive=True), gr.update(interactive=False)
ON_OFF = [ON, OFF]
BUSY = [OFF, ON, *[OFF] * len(FORMATS)]


def sides_of(question: Question, with_base: bool) -> tuple[str, ...]:
    """Which models are asked. Raises UserError without a model."""
    if not question.run:
        raise UserError("No model is selected.", "Chat", "Choose a run, or train one first.")
    if question.run.startswith(MODEL_PREFIX):
        return ("base",)
    return ("tuned", "base") if with_base else ("tuned",)


def answered(
    studio: Studio, found: Prompts, question: Question, sides: tuple[str, ...]
) -> Iterator[tuple[Sheet, str]]:
    """The answers so far, and what is waited for; closing the iterator stops the model."""
    rows = [Answered(one) for one in found.prompts]
    done: dict[int, Answered] = {}
    step = question.checkpoint
    yield Sheet([], sides), "Loading the model…"
    shown_at = 0.0
    stream = studio.model_process.answers(
        question.run.removeprefix(MODEL_PREFIX),
        [one.messages(question.system) for one in found.prompts],
        list(sides),
        checkpoint=step if isinstance(step, int) and step >= 0 else None,
        given=question.asked,
        **question.sampling,
    )
    try:
        for part in stream:
            if "fetching" in part:
                what = part["fetching"]
                words = ": ".join(filter(None, (what["what"], what["words"])))
                yield Sheet(list(done.values()), sides), f"{words}…"
                continue
            at = part["at"]
            done[at] = done.get(at, rows[at]).with_part(part)
            if time.monotonic() - shown_at > SECONDS_BETWEEN:
                shown_at = time.monotonic()
                yield Sheet(list(done.values()), sides), ""
    finally:
        stream.close()
    yield Sheet(list(done.values()), sides), ""


def _said(sheet: Sheet, found: Prompts | None, waits: str = "") -> Markup:
    """How far it is, and what was read how."""
    count = sum(len(one.answers) == len(sheet.sides) for one in sheet.rows)
    of = f" of {len(found.prompts):,}" if found else ""
    lines = [waits or f"{count:,}{of} answered.", *(found.notes if found else ())]
    template = Markup('<div role="status">{}</div>')
    return template.format(markup.each(Markup('<p class="quiet">{}</p>'), ((x,) for x in lines)))


def _table(sheet: Sheet) -> dict[str, Any]:
    rows = [one.as_row(sheet.sides) for one in sheet.rows]
    notes = any(row["note"] for row in rows)
    heads = ["Row", "Prompt", *(LABELS[side] for side in sheet.sides), *(["Note"] if notes else [])]
    cells = [list(row.values())[: len(heads)] for row in rows]
    value = {"headers": heads, "data": cells, "metadata": None}
    share = 72 // (len(heads) - 2)
    widths = ["8%", "20%", *[f"{share}%"] * (len(heads) - 2)]
    return gr.update(value=value, visible=bool(rows), column_widths=widths)


def _ended(sheet: Sheet, found: Prompts | None) -> list[Any]:
    """Updates after the last answer, or after a stop: what is there can be downloaded."""
    said, table = _said(sheet, found), _table(sheet)
    files = [_file(sheet, ending) if sheet.rows else None for ending in FORMATS]
    buttons = [gr.update(value=file, interactive=file is not None) for file in files]
    return [sheet, said, table, *ON_OFF, *buttons]


def _file(sheet: Sheet, ending: str) -> str:
    folder = os.environ.get("GRADIO_TEMP_DIR") or None
    if folder:
        os.makedirs(folder, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=folder)) / f"answers{ending}"
    path.write_text(answers_as(ending, sheet.rows, sheet.sides), encoding="utf-8", newline="")
    return str(path)
