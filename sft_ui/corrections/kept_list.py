"""The corrections kept for a run's data, and the offer to train on them.

How many rows of what are mixed is decided in the library, which also says it.
"""

from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt, show_user_errors
from sft_ui.context import PRIVATE, SETS_STATE, Studio
from sft_ui.corrections.editor import Editor
from trainer_backend.corrections import (
    ENOUGH,
    Correction,
    Kept,
    kept_for,
    outcome_for,
    plan_replay,
    take_back,
    train_on_corrections,
)
from trainer_backend.errors import UserError
from trainer_backend.runs import Run, open_run

TAKE_BACK = """
element.addEventListener('click', event => {
  const chosen = event.target.closest('[data-back]');
  if (chosen) trigger('back', { number: Number(chosen.dataset.back) });
});
"""
HOW = "Correct a wrong answer of the tuned model. From {} on, the model can be trained on them."
SHOWN = 100  # corrections listed


@dataclass(frozen=True)
class KeptList:
    """The list, what training on it would do, and the button that starts it."""

    listed: gr.HTML
    train: gr.Button

    def outputs(self) -> list[gr.blocks.Block]:
        """The components that `shown` fills, in its order."""
        return [self.listed, self.train]


def build_kept_list() -> KeptList:
    """Build the list, empty."""
    listed = gr.HTML(js_on_load=TAKE_BACK, elem_id="corrections")
    train = gr.Button(
        "Train on these too", variant="primary", visible=False, elem_id="train-corrections"
    )
    return KeptList(listed, train)


def shown(studio: Studio, run_id: str | None) -> list[Any]:
    """Updates of `KeptList.outputs` for a run; without one, or without its data, they are empty."""
    run, _ = attempt(open_run, studio.home, run_id or "")
    kept, error = attempt(kept_for, run) if run else (None, None)
    if run is None or kept is None:
        return [markup.error_card(error), gr.update(visible=False)]
    offers = len(kept.corrections) >= ENOUGH
    plan, refused = attempt(plan_replay, run) if offers else (None, None)
    said = plan.sentences() if plan else [f"{refused.what} {refused.fix}"] if refused else []
    card = _card(run, kept, said)
    return [card, gr.update(visible=plan is not None)]


def _card(run: Run, kept: Kept, said: list[str]) -> Markup:
    count = len(kept.corrections)
    outcome, _ = attempt(outcome_for, run)
    became = [outcome.sentence()] if outcome else []
    lines = [*became, *([] if count else [HOW.format(ENOUGH)]), *said]
    if 0 < count < ENOUGH:
        lines.append(f"{ENOUGH - count} more and you can train on them.")
    title = f"Corrections: {count:,}" if count else "Corrections"
    body = [_items(kept.corrections), *(markup.line(one, "quiet") for one in lines)]
    return markup.card(title, *body)


def _items(corrections: list[Correction]) -> Markup:
    if not corrections:
        return Markup()
    item = Markup(
        '<li><span class="asked">{}</span><span class="right">{}</span>'
        '<button type="button" data-back="{}" aria-label="Take back: {}">Take back</button></li>'
    )
    newest = corrections[::-1][:SHOWN]
    rows = (
        (
            shorten(one.question, 90, placeholder=" …") or "(a picture)",
            shorten(one.answer.in_words(), 120, placeholder=" …"),
            one.number,
            shorten(one.question, 60, placeholder=" …"),
        )
        for one in newest
    )
    more = len(corrections) - len(newest)
    rest = markup.line(f"and {more:,} earlier ones", "quiet") if more else Markup()
    return Markup('<ul class="corrections">{}</ul>').format(markup.each(item, rows)) + rest


def wire_corrections(
    studio: Studio, editor: Editor, kept: KeptList, chosen: gr.Dropdown, opens: tuple[Any, Any]
) -> None:
    """Fill the list for the `chosen` run; `opens` are the page's shown run and its tabs."""
    run_id, tabs = opens

    @show_user_errors
    def back(run: str, event: gr.EventData) -> list[Any]:
        take_back(open_run(studio.home, run), int(event.number))
        return shown(studio, run)

    @show_user_errors
    def train(run: str) -> list[Any]:
        new = start_training(studio, run)
        gr.Info("The run is queued and starts by itself.")
        return [new.id, gr.Tabs(selected="train")]

    for event in (chosen.change, editor.kept.change):
        event(lambda run: shown(studio, run), chosen, kept.outputs(), **SETS_STATE)
    kept.listed.back(back, chosen, kept.outputs(), **PRIVATE)
    kept.train.click(train, chosen, [run_id, tabs], **SETS_STATE)


def start_training(studio: Studio, run_id: str) -> Run:
    """A new run on the corrections of a run. Raises UserError for what cannot be trained on."""
    run = open_run(studio.home, run_id)
    stored = kept_for(run).dataset
    if stored is None:
        raise UserError("No correction is kept.", run.name(), "Correct a wrong answer first.")
    new = train_on_corrections(run, key=f"corrections {run.id} {stored.id}")
    studio.scheduler.wake()
    return new
