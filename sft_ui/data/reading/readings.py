"""What is being read now: one entry for each upload or other long work on data, by an id.

No upload is ever parsed in this process: what a file is and what its rows look like is said by
the process that reads it, whose memory is limited.
"""

import asyncio
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt, show_user_errors
from sft_ui.context import PRIVATE
from sft_ui.theme import static_text
from trainer_backend.data.formats import ColumnMapping
from trainer_backend.data.readers.options import DELIMITERS, ENCODINGS, OFFERED, ReadOptions
from trainer_backend.data.reading import Opened, Reading, start_reading, start_work
from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import UserError

MAX_AT_ONCE, MAX_KEPT = 6, 100
CHOSEN = (*OFFERED, "delimiter", "sheet")  # what a person may choose


@dataclass(frozen=True)
class Asked:
    """What was asked for, so that it can be asked again in another way."""

    files: tuple[Path, ...]
    name: str
    options: ReadOptions = field(default_factory=ReadOptions)
    mapping: ColumnMapping | None = None
    system_prompt: str = ""


class Readings:
    """The readings of this app. An id cannot be guessed: who has it may watch and cancel."""

    def __init__(self, home: Path):
        self._home = home
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[Asked | None, Reading]] = OrderedDict()

    def read(self, files: Sequence[Path], *, name: str | None = None, **how) -> str:
        """Begin to read files; returns the id. Raises UserError when too much goes on."""
        paths = tuple(Path(file) for file in files)
        if not paths:
            raise UserError("There is no file.", "Your data", "Choose at least one data file.")
        return self._begin(Asked(paths, name or spoken_name(paths), **how))

    def again(self, reading_id: str, offer: dict) -> str:
        """Read the same files as an error offered to; returns the new id."""
        asked = self._asked(reading_id)
        return self._begin(replace(asked, options=replace(asked.options, **taken(offer))))

    def instead(self, reading_id: str) -> list[tuple[int, dict[str, str]]]:
        """The first rows as the offer of a reading's error would give them. Raises UserError."""
        _, reading = self._known.get(str(reading_id), (None, None))
        return reading.instead() if reading is not None and reading.done else []

    def opened(self, reading_id: str) -> Opened | None:
        """What the files of a reading that is over were; None when there are none (any more)."""
        asked, reading = self._known.get(str(reading_id), (None, None))
        if asked is None or not reading.done or not all(path.is_file() for path in asked.files):
            return None
        return reading.opened()

    def work(self, work: str, arguments: dict, name: str) -> str:
        """Begin other long work on stored data; returns the id."""
        return self._keep(None, lambda: start_work(self._home, work, arguments, name))

    def watch(self, reading_id: object, stamp: object = None) -> dict:
        """How it goes: {"state": "reading" | "over" | "gone", …}; first rows when they are new."""
        _, reading = self._known.get(str(reading_id), (None, None))
        if reading is None:
            return {"state": "gone"}
        if reading.done:
            return {"state": "over"}
        problems, rows = reading.findings(), reading.preview()
        news = [len(rows), *((one.code or one.what, one.count) for one in problems)]
        answer = {"state": "reading", "name": reading.name, "stamp": str(news)}
        if answer["stamp"] != stamp:
            answer["problems"] = [{"what": one.what, "count": one.count} for one in problems]
            answer["preview"] = rows
        return {**reading.progress(), **answer}

    def result(self, reading_id: str) -> StoredDataset:
        """The dataset of a reading that is over. Raises its UserError."""
        _, reading = self._known.get(str(reading_id), (None, None))
        if reading is None:
            raise UserError("This reading is not known any more.", "Data", "Load the data again.")
        return reading.result()

    def cancel(self, reading_id: object) -> None:
        """End a reading; nothing of it is kept."""
        _, reading = self._known.get(str(reading_id), (None, None))
        if reading is not None and not reading.done:
            reading.cancel()

    def _asked(self, reading_id: str) -> Asked:
        asked, _ = self._known.get(str(reading_id), (None, None))
        if asked is None or not all(path.is_file() for path in asked.files):
            raise UserError("The upload is not here any more.", "Data", "Upload the file again.")
        return asked

    def _begin(self, asked: Asked) -> str:
        how = {"name": asked.name, "mapping": asked.mapping, "options": asked.options}
        return self._keep(
            asked,
            lambda: start_reading(
                self._home, list(asked.files), system_prompt=asked.system_prompt, **how
            ),
        )

    def _keep(self, asked: Asked | None, start) -> str:
        with self._lock:
            if sum(not reading.done for _, reading in self._known.values()) >= MAX_AT_ONCE:
                what = f"{MAX_AT_ONCE} files are being read already."
                raise UserError(what, "Data", "Wait until one of them is done, then try again.")
            reading_id = secrets.token_urlsafe(16)
            self._known[reading_id] = (asked, start())
            for old in [key for key, (_, one) in self._known.items() if one.done][:-MAX_KEPT]:
                del self._known[old]
        return reading_id


def taken(offer: dict) -> dict:
    """The part of an offer that changes how files are read. Raises UserError for anything else."""
    found = {key: value for key, value in (offer or {}).items() if key in CHOSEN}
    if not found or set(offer) - set(asdict(ReadOptions())):
        raise UserError("This offer is not known.", "Data", "Load the data again.")
    return found


def spoken_name(paths: Sequence[Path]) -> str:
    """A name for one file or several."""
    more = len(paths) - 1
    return paths[0].name + (f" and {more} more" if more else "")


AS_FOUND = ("As found", "")
BINARY = ("parquet", "arrow", "xlsx")  # kinds that say themselves how their text is encoded


@dataclass(frozen=True)
class ReadAgain:
    """The choices, and the reading they are about."""

    box: gr.Accordion
    reading: gr.State
    encoding: gr.Dropdown
    delimiter: gr.Dropdown
    sheet: gr.Dropdown
    skip_damaged: gr.Checkbox
    use: gr.Button

    def outputs(self) -> list:
        """The components `shown_again` fills, in its order."""
        return [self.box, self.reading, self.encoding, self.delimiter, self.sheet]


def build_read_again() -> ReadAgain:
    """Build the choices; they appear once a file was read."""
    with gr.Accordion(
        "Read the file differently", open=False, visible=False, elem_id="read-again"
    ) as box:
        encodings = [AS_FOUND, *((words, name) for name, words in ENCODINGS.items())]
        encoding = gr.Dropdown(encodings, value="", label="Encoding", elem_id="read-encoding")
        delimiters = [AS_FOUND, *((words, sign) for sign, words in DELIMITERS.items())]
        delimiter = gr.Dropdown(
            delimiters, value="", label="Columns are separated by", elem_id="read-delimiter"
        )
        sheet = gr.Dropdown([AS_FOUND], value="", label="Sheet", elem_id="read-sheet")
        skip = gr.Checkbox(label="Leave out rows that cannot be read", elem_id="read-skip")
        use = gr.Button("Read it again", elem_id="use-read-again")
    return ReadAgain(box, gr.State(""), encoding, delimiter, sheet, skip, use)


def shown_again(readings: Readings, reading_id: str) -> list:
    """What `ReadAgain.outputs` show for a reading that is over: only what its kind of file has."""
    found = readings.opened(reading_id)
    if found is None:
        return [gr.update(visible=False), "", gr.skip(), gr.skip(), gr.skip()]
    sheets = [AS_FOUND, *((name, name) for name in found.sheets)]
    return [
        gr.update(visible=True),
        reading_id,
        gr.update(visible=found.kind not in BINARY, value=""),
        gr.update(visible=found.kind in ("csv", ""), value=""),
        gr.update(visible=len(found.sheets) > 1, choices=sheets, value=""),
    ]


def wire_read_again(readings: Readings, again: ReadAgain, begun: list) -> None:
    """`begun` are the components of a reading that begins: the card and the notice."""

    @show_user_errors
    def read(reading_id: str, encoding: str, delimiter: str, sheet: str, skip: bool):
        return readings.again(reading_id, chosen(encoding, delimiter, sheet, skip)), ""

    choices = [again.encoding, again.delimiter, again.sheet, again.skip_damaged]
    again.use.click(read, [again.reading, *choices], begun, **PRIVATE)


def chosen(encoding: str, delimiter: str, sheet: str, skip: bool) -> dict:
    """The read options that were chosen. Raises UserError when there is none."""
    options = {"encoding": encoding, "delimiter": delimiter, "sheet": sheet, "skip_damaged": skip}
    options = {name: value for name, value in options.items() if value}
    if not options:
        fix = "Choose an encoding, a separator, a sheet or the box below them."
        raise UserError("Nothing is to be read differently.", "Read the file differently", fix)
    return options


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
        html_template=static_text("data/reading/reading_card.html"),
        js_on_load=static_text("data/reading/reading_card.js"),
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
