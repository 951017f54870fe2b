"""What is being read now: one entry for each upload or other long work on data, by an id.

Reading itself goes on in a process of its own (trainer_backend/data/reading.py); the card is
reading_card.py.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from trainer_backend.data.files import ReadOptions
from trainer_backend.data.formats import Detection, Mapping
from trainer_backend.data.preview import Preview, preview_file
from trainer_backend.data.reading import Reading, start_reading, start_work
from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import UserError

MAX_AT_ONCE, MAX_KEPT = 6, 100
OFFERED = ("encoding", "skip_damaged")  # what a reader may offer to do instead
CHOSEN = (*OFFERED, "delimiter", "sheet")  # what a person may choose
PREVIEW_ROWS = 5


@dataclass(frozen=True)
class Asked:
    """What was asked for, so that it can be asked again in another way."""

    files: tuple[Path, ...]
    name: str
    options: ReadOptions = field(default_factory=ReadOptions)
    mapping: Mapping | None = None
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

    def preview(self, reading_id: str, offer: dict) -> Preview:
        """What reading again would give, from the first rows."""
        asked = self._asked(reading_id)
        options = replace(asked.options, **taken(offer))
        return preview_file(_one_or_more(asked.files), PREVIEW_ROWS, options=options)

    def described(self, reading_id: str) -> Preview | None:
        """The files of a reading as they were read; None when there are none (any more).

        Files that could not be read have no kind and no rows.
        """
        asked, _ = self._known.get(str(reading_id), (None, None))
        if asked is None or not all(path.is_file() for path in asked.files):
            return None
        try:
            return preview_file(_one_or_more(asked.files), 1, options=asked.options)
        except UserError:  # the reading itself says why
            return Preview([], Detection(None, "", False), [])

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


def _one_or_more(paths: Sequence[Path]):
    return paths[0] if len(paths) == 1 else list(paths)
