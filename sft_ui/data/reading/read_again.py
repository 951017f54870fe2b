"""Reading the last upload in another way: its encoding, separator or sheet, without damaged rows.

What an error offers by itself is in reading_card.py; how files are read is trainer_backend/data.
"""

from dataclasses import dataclass

import gradio as gr

from sft_ui.alerts import show_user_errors
from sft_ui.context import PRIVATE
from sft_ui.data.reading.readings import Readings
from trainer_backend.data.readers.options import DELIMITERS, ENCODINGS
from trainer_backend.errors import UserError

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
