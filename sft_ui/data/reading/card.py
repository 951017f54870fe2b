"""The card of data that is being read, and what stands there when reading failed.

Which readings go on is kept in readings.py.
"""

import asyncio
import json

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt
from sft_ui.data.reading.readings import Readings
from sft_ui.theme import static_text
from trainer_backend.data.readers.options import ENCODINGS, OFFERED
from trainer_backend.errors import UserError

# One button an error may offer; choosing it fires the event `offer`.
OFFER_SCRIPT = """
element.addEventListener('click', event => {
  const chosen = event.target.closest('[data-offer]');
  if (chosen) { chosen.disabled = true; trigger('offer', JSON.parse(chosen.dataset.offer)); }
});
"""


def build_reading_card(readings: Readings, elem_id: str = "data-reading") -> gr.HTML:
    """The component; its value is the id of a reading. Its `finished` event names one that ended.

    The visitor's browser keeps the id, so that a reload finds the reading again.
    """

    async def watch_reading(asked: dict) -> dict:
        """Answer one poll; small files only, so that it may be async and never wait in line."""
        asked = asked if isinstance(asked, dict) else {}
        return await asyncio.to_thread(readings.watch, asked.get("reading"), asked.get("stamp"))

    def cancel_reading(asked: dict) -> dict:
        """End one reading."""
        readings.cancel(asked.get("reading") if isinstance(asked, dict) else None)
        return {}

    return gr.HTML(
        "",
        html_template=static_text("reading_card.html"),
        js_on_load=static_text("reading_card.js"),
        server_functions=[watch_reading, cancel_reading],
        elem_id=elem_id,
        apply_default_css=False,
    )


def failure(readings: Readings, reading_id: str, error: UserError) -> Markup:
    """Why the data could not be read and, if there is one, the button that reads it otherwise."""
    offer = error.offer if set(error.offer or ()) & set(OFFERED) else None
    parts = [markup.line(error.where, "where"), markup.line(error.fix)]
    if offer:
        parts.append(offer_button(reading_id, offer))
        rows, problem = attempt(readings.instead, reading_id)
        if problem:
            parts.append(markup.line(problem.what, "quiet"))
        elif rows:
            parts.append(preview_table(rows))
    return markup.card(error.what, *parts, kind="problem error")


def offer_button(reading_id: str, offer: dict) -> Markup:
    """The button of an offer, in the words of what it does."""
    what = json.dumps({"reading": reading_id, "offer": offer})
    template = Markup('<button type="button" class="action" data-offer="{}">{}</button>')
    return template.format(what, offer_words(offer))


def offer_words(offer: dict) -> str:
    """What an offer would do."""
    if offer.get("skip_damaged"):
        return "Leave damaged rows out"
    encoding = str(offer.get("encoding"))
    return f"Read as {ENCODINGS.get(encoding, encoding)}"


def preview_table(first: list[tuple[int, dict[str, str]]]) -> Markup:
    """The first rows as another way of reading would give them."""
    columns = list(dict.fromkeys(name for _, cells in first for name in cells))[:8]
    rows = [(number, [cells.get(name) for name in columns]) for number, cells in first]
    return markup.line("It would give:", "quiet") + markup.plain_table(
        "What it would give", columns, rows
    )
