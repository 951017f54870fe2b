"""Readings: uploads and other long work on data, tracked by id, with the card that shows one.

No upload is parsed in this process; a separate process with limited memory reads it.
"""

import asyncio
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt, show_user_errors
from sft_ui.context import PRIVATE
from sft_ui.theme import static_text
from trainer_backend.data.formats import ColumnMapping
from trainer_backend.data.readers.options import DELIMITERS, ENCODINGS, OFFERED, ReadOptions, ways
from trainer_backend.data.reading import Opened, Reading, start_reading, start_work
from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import UserError

MAX_AT_ONCE, MAX_KEPT = 6, 100
CHOSEN = (*OFFERED, "delimiter")  # the read options a user may choose
AS_FOUND = ("Detect automatically", "")
BINARY = ("parquet", "arrow", "xlsx")  # kinds that define their own text encoding
# The button that an error may offer; choosing it fires the event `offer`.
OFFER_SCRIPT = """
element.addEventListener('click', event => {
  const chosen = event.target.closest('[data-offer]');
  if (chosen) { chosen.disabled = true; trigger('offer', JSON.parse(chosen.dataset.offer)); }
});
"""


@dataclass(frozen=True)
class Asked:
    """The files and options of a reading, kept so that it can be repeated with other options."""

    files: tuple[Path, ...]
    name: str
    options: ReadOptions = field(default_factory=ReadOptions)
    mapping: ColumnMapping | None = None
    system_prompt: str = ""


class Readings:
    """The readings of this app. Ids are unguessable: whoever has one may watch and cancel it."""

    def __init__(self, home: Path):
        self._home = home
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[Asked | None, Reading]] = OrderedDict()

    def read(self, files: Sequence[str | Path], *, name: str | None = None, **how: Any) -> str:
        """Start reading files; returns the id. Raises UserError when too many are being read.

        `how` are further fields of `Asked`.
        """
        paths = tuple(Path(file) for file in files)
        if not paths:
            raise UserError("No file was chosen.", "Your data", "Choose at least one data file.")
        return self._begin(Asked(paths, name or spoken_name(paths), **how))

    def again(self, reading_id: str, offer: Mapping[str, Any]) -> str:
        """Read the same files with other options; returns the new id. Raises UserError."""
        asked = self._asked(reading_id)
        return self._begin(replace(asked, options=replace(asked.options, **taken(offer))))

    def instead(self, reading_id: str) -> list[tuple[int, dict[str, str]]]:
        """(row number, cells) of the first rows under the options that a reading's error offers.

        Raises UserError when that fails too.
        """
        reading = self._reading(reading_id)
        return reading.instead() if reading is not None and reading.done else []

    def opened(self, reading_id: str) -> Opened | None:
        """The kind and sheets of a finished reading's files; None when they no longer exist."""
        asked, reading = self._known.get(str(reading_id), (None, None))
        if asked is None or reading is None or not reading.done:
            return None
        return reading.opened() if all(path.is_file() for path in asked.files) else None

    def work(self, work: str, arguments: dict[str, Any], name: str) -> str:
        """Start other long work on stored data; returns the id. Raises UserError like `read`."""
        return self._keep(None, lambda: start_work(self._home, work, arguments, name))

    def watch(self, reading_id: object, stamp: object = None) -> dict[str, Any]:
        """Progress: {"state": "reading" | "over" | "gone", …}; first rows only when new."""
        reading = self._reading(reading_id)
        if reading is None:
            return {"state": "gone"}
        if reading.done:
            return {"state": "over"}
        problems, rows = reading.findings(), reading.preview()
        news = [len(rows), *((one.code or one.what, one.count) for one in problems)]
        answer: dict[str, Any] = {"state": "reading", "name": reading.name, "stamp": str(news)}
        if answer["stamp"] != stamp:
            answer["problems"] = [{"what": one.what, "count": one.count} for one in problems]
            answer["preview"] = rows
        return {**reading.progress(), **answer}

    def result(self, reading_id: str) -> StoredDataset:
        """The dataset of a finished reading. Raises its UserError."""
        reading = self._reading(reading_id)
        if reading is None:
            raise UserError("This upload is no longer available.", "Data", "Load the data again.")
        return reading.result()

    def cancel(self, reading_id: object) -> None:
        """Cancel a reading; nothing of it is kept."""
        reading = self._reading(reading_id)
        if reading is not None and not reading.done:
            reading.cancel()

    def _reading(self, reading_id: object) -> Reading | None:
        _, reading = self._known.get(str(reading_id), (None, None))
        return reading

    def _asked(self, reading_id: str) -> Asked:
        asked, _ = self._known.get(str(reading_id), (None, None))
        if asked is None or not all(path.is_file() for path in asked.files):
            raise UserError("The upload no longer exists.", "Data", "Upload the file again.")
        return asked

    def _begin(self, asked: Asked) -> str:
        how = dict(vars(asked))
        files = list(how.pop("files"))
        return self._keep(asked, lambda: start_reading(self._home, files, **how))

    def _keep(self, asked: Asked | None, start: Callable[[], Reading]) -> str:
        with self._lock:
            if sum(not reading.done for _, reading in self._known.values()) >= MAX_AT_ONCE:
                what = f"{MAX_AT_ONCE} files are already being read."
                raise UserError(what, "Data", "Wait until one of them is finished, then try again.")
            reading_id = secrets.token_urlsafe(16)
            self._known[reading_id] = (asked, start())
            for old in [key for key, (_, one) in self._known.items() if one.done][:-MAX_KEPT]:
                del self._known[old]
        return reading_id


def taken(offer: Mapping[str, Any]) -> dict[str, Any]:
    """The read options of an offer. Raises UserError for anything else."""
    found = {key: value for key, value in (offer or {}).items() if key in CHOSEN}
    if not found or set(offer) - set(asdict(ReadOptions())):
        raise UserError("This option is unknown.", "Data", "Load the data again.")
    return found


def spoken_name(paths: Sequence[Path]) -> str:
    """A name for one or more files: “a.csv and 2 more”."""
    more = len(paths) - 1
    return paths[0].name + (f" and {more} more" if more else "")


def build_reading_card(readings: Readings, elem_id: str = "data-reading") -> gr.HTML:
    """The card of a reading; its value is the id. Its `finished` event carries {"reading": id}.

    The browser keeps the id, so that a reload finds the reading again.
    """

    async def watch_reading(asked: dict) -> dict[str, Any]:
        """Answer one poll. Async, so that it does not wait for a free worker thread."""
        asked = asked if isinstance(asked, dict) else {}
        return await asyncio.to_thread(readings.watch, asked.get("reading"), asked.get("stamp"))

    def cancel_reading(asked: dict) -> dict:
        """Cancel one reading."""
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
    """Why data could not be read, with a button and a preview where the error offers a way."""
    offered = ways(error.offer)
    parts = [markup.line(error.where, "where"), markup.line(error.fix)]
    if offered:
        parts.append(offer_button(reading_id, offered[0]))
        rows, problem = attempt(readings.instead, reading_id)
        if problem:
            parts.append(markup.line(problem.what, "quiet"))
        elif rows:
            parts.append(preview_table(rows))
        parts += other_encodings(reading_id, error)
        parts += [offer_button(reading_id, one) for one in offered[1:]]
    return markup.card(error.what, *parts, kind="problem error")


def other_encodings(reading_id: str, error: UserError) -> list[Markup]:
    """A button and a line of the text for each further encoding that an error names."""
    others = (error.offer or {}).get("alternatives") or []
    parts = [markup.line("If that is not readable, it may be:", "quiet")] if others else []
    for one in others:
        parts.append(offer_button(reading_id, {"encoding": one["encoding"]}, "action small"))
        parts.append(markup.line(f"“{one['preview']}”", "quiet"))
    return parts


def offer_button(reading_id: str, offer: Mapping[str, Any], look: str = "action") -> Markup:
    """The button that reads the same files with the offered options."""
    what = json.dumps({"reading": reading_id, "offer": dict(offer)})
    template = Markup('<button type="button" class="{}" data-offer="{}">{}</button>')
    return template.format(look, what, offer_words(offer))


def offer_words(offer: Mapping[str, Any]) -> str:
    """The label of an offer's button."""
    if offer.get("skip_damaged"):
        return "Skip damaged rows"
    if offer.get("header_row"):
        return f"Take the column names from row {offer['header_row']}"
    if offer.get("sheet"):
        return f"Read the sheet “{offer['sheet']}”"
    encoding = str(offer.get("encoding"))
    return f"Read as {ENCODINGS.get(encoding, encoding)}"


def preview_table(first: list[tuple[int, dict[str, str]]]) -> Markup:
    """The first rows as the offered options would read them."""
    columns = list(dict.fromkeys(name for _, cells in first for name in cells))[:8]
    rows = [(number, [cells.get(name) for name in columns]) for number, cells in first]
    return markup.line("Preview:", "quiet") + markup.plain_table("Preview", columns, rows)


@dataclass(frozen=True)
class ReadAgain:
    """The options for reading a file again, and the reading they apply to."""

    box: gr.Accordion
    reading: gr.State
    encoding: gr.Dropdown
    delimiter: gr.Dropdown
    sheet: gr.Dropdown
    skip_damaged: gr.Checkbox
    use: gr.Button

    def outputs(self) -> list[gr.blocks.Block]:
        """The components `shown_again` fills, in its order."""
        return [self.box, self.reading, self.encoding, self.delimiter, self.sheet]


def build_read_again() -> ReadAgain:
    """Build the options; they appear once a file has been read."""
    with gr.Accordion(
        "Read the file differently", open=False, visible=False, elem_id="read-again"
    ) as box:
        encodings = [AS_FOUND, *((words, name) for name, words in ENCODINGS.items())]
        encoding = gr.Dropdown(encodings, value="", label="Encoding", elem_id="read-encoding")
        delimiters = [AS_FOUND, *((words, sign) for sign, words in DELIMITERS.items())]
        delimiter = gr.Dropdown(
            delimiters, value="", label="Column separator", elem_id="read-delimiter"
        )
        sheet = gr.Dropdown([AS_FOUND], value="", label="Sheet", elem_id="read-sheet")
        skip = gr.Checkbox(label="Skip rows that cannot be read", elem_id="read-skip")
        use = gr.Button("Read again", elem_id="use-read-again")
    return ReadAgain(box, gr.State(""), encoding, delimiter, sheet, skip, use)


def shown_again(readings: Readings, reading_id: str) -> list[Any]:
    """Updates of `ReadAgain.outputs`: the options that apply to a finished reading's file."""
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


def wire_read_again(readings: Readings, again: ReadAgain, begun: Sequence[gr.blocks.Block]) -> None:
    """Wire the button; `begun` are the outputs of a reading that starts: card and notice."""

    @show_user_errors
    def read(
        reading_id: str, encoding: str, delimiter: str, sheet: str, skip: bool
    ) -> tuple[str, str]:
        return readings.again(reading_id, chosen(encoding, delimiter, sheet, skip)), ""

    choices = [again.encoding, again.delimiter, again.sheet, again.skip_damaged]
    again.use.click(read, [again.reading, *choices], begun, **PRIVATE)


def chosen(encoding: str, delimiter: str, sheet: str, skip: bool) -> dict[str, Any]:
    """The read options that were chosen. Raises UserError without any."""
    options: dict[str, Any] = {
        "encoding": encoding,
        "delimiter": delimiter,
        "sheet": sheet,
        "skip_damaged": skip,
    }
    options = {name: value for name, value in options.items() if value}
    if not options:
        fix = "Set an encoding, a column separator or a sheet, or skip unreadable rows."
        raise UserError("Choose at least one option.", "Read the file differently", fix)
    return options
