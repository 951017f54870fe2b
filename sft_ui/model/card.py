"""The card of the chosen model: what it is, where it is, what it changes, what is wrong with it."""

from collections.abc import Sequence

from markupsafe import Markup

from sft_ui import markup
from trainer_backend.disk import in_words
from trainer_backend.models import ModelFacts
from trainer_backend.models.facts import preset_of
from trainer_backend.recipe import STARTER_MODEL

MAX_OTHERS = 3  # buttons that take another model
PLACES = {"starter": "on this machine", "cache": "on this machine", "folder": "on this machine"}
NO_TEMPLATE = (
    "This model has no chat template, so a plain one is added: User: or Assistant: stands before "
    "each message. The model learns this form from your rows, and exports keep it."
)
BASE = (
    "It is a base model: it continues texts and was not trained to answer. It needs more rows "
    "than an instruct model to learn that."
)
# a button of the card that takes a model fires the event `use` with its id
USE_SCRIPT = """
element.addEventListener('click', (event) => {
  const chosen = event.target.closest('[data-use]');
  if (chosen) trigger('use', { id: chosen.dataset.use });
});
"""


def model_card(
    facts: ModelFacts, wishes: Sequence[str], others: Sequence[str], *, asking: bool = False
) -> Markup:
    """The card of a model.

    `wishes` are sentences about settings it has changed; `others` are models on this machine, on
    offer where something is wrong; `asking` says that the Hub is being asked.
    """
    if facts.problem and facts.problem.code in ("model_id", "model_outside"):
        return _problem(facts, others)
    preset = preset_of(facts.base_model)
    lines = [preset.notes] if preset else []
    lines += wishes
    if facts.chat_template is False:
        lines.append(NO_TEMPLATE)
    if facts.instruct is False and not facts.is_refused:
        lines.append(BASE)
    pieces = [markup.line(text, "quiet") for text in lines] + [markup.chips(_chips(facts))]
    if asking:
        pieces.append(Markup('<p class="quiet asking" role="status">Asking the Hub…</p>'))
    elif facts.asked and facts.problem and facts.problem.code == "hub_down":
        pieces.append(markup.line(f"As the Hub described it on {facts.asked}.", "quiet"))
    if facts.problem:
        pieces.append(_problem(facts, others))
    return Markup().join(pieces)


def _chips(facts: ModelFacts) -> list[str]:
    chips = [f"{in_short(facts.parameters)} parameters"] if facts.parameters else []
    chips += [facts.licence] if facts.licence else []
    chips += [_place(facts)]
    chips += ["gated: needs a Hub account"] if facts.gated else []
    chips += [f"stored in {facts.bits} bits"] if facts.bits else []
    chips += ["reads images"] if facts.images else []
    if facts.instruct is not None:
        chips.append("instruct model" if facts.instruct else "base model")
    if facts.chat_template is not None:
        chips.append("has a chat template" if facts.chat_template else "no chat template")
    chips += [f"{facts.architecture} architecture"] if facts.architecture else []
    return chips + ([f"{facts.downloads:,} downloads a month"] if facts.downloads else [])


def _place(facts: ModelFacts) -> str:
    if facts.folder is not None:
        return "on this machine"
    if facts.download_bytes:
        return f"{in_words(facts.download_bytes)} to download"
    return "download size not known"


def in_short(count: int) -> str:
    """A number of parameters as people say it: “135M”, “7.6B”."""
    if count >= 999_500_000:
        return f"{count / 1e9:.1f}".removesuffix(".0") + "B"
    return f"{count / 1e6:,.0f}M" if count >= 1_000_000 else f"{count:,}"


def _problem(facts: ModelFacts, others: Sequence[str]) -> Markup:
    """What is wrong, and buttons that take a model which is here."""
    problem = facts.problem
    if problem is None:
        return Markup()
    names = [STARTER_MODEL, *(one for one in others if one != STARTER_MODEL)]
    button = Markup('<button type="button" class="action small" data-use="{}">{}</button>')
    buttons = Markup().join(
        button.format(name, "Use the starter model" if name == STARTER_MODEL else f"Use {name}")
        for name in names[:MAX_OTHERS]
        if name != facts.base_model
    )
    body = (markup.line(problem.where, "where"), markup.line(problem.fix))
    row = Markup('<div class="row-buttons">{}</div>').format(buttons)
    kind = f"problem {problem.severity}"
    card = markup.card(problem.what, *body, row, kind=kind)
    return Markup('<div role="alert">{}</div>').format(card)
