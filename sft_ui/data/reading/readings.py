"""What is being read now: one entry for each upload or other long work on data, by an id.

No upload is ever parsed in this process: what a file is and what its rows look like is said by
the process that reads it, whose memory is limited.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from trainer_backend.data.formats.mapping import Mapping
from trainer_backend.data.readers.options import OFFERED, ReadOptions
from trainer_backend.data.reading.reading import Opened, Reading, start_reading, start_work
from trainer_backend.data.store.dataset import StoredDataset
from trainer_backend.errors import UserError

MAX_AT_ONCE, MAX_KEPT = 6, 100
CHOSEN = (*OFFERED, "delimiter", "sheet")  # what a person may choose


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
