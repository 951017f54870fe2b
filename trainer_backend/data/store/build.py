"""What a dataset is made of, the id that follows from it, and its way to a folder.

The pass over the rows is dataset_writer.py; what uploads, fixes, edits and mixes are made of is
told by uploads.py, versions.py, held_out.py and mixes.py.
"""

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from trainer_backend.data.formats import ColumnMapping
from trainer_backend.data.json_values import BadJSON, check_strings
from trainer_backend.data.readers import Progress
from trainer_backend.data.readers.files import PROGRESS_ROWS
from trainer_backend.data.store.dataset import StoredDataset, open_dataset
from trainer_backend.data.store.fingerprint import dataset_id
from trainer_backend.data.store.writer import Findings, write_dataset
from trainer_backend.errors import UserError

BIDI_MARKS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@dataclass(frozen=True)
class Making:
    """All that a dataset follows from. The id covers everything but `name` and `said`."""

    name: str
    content: str  # sha256 of the upload
    num_bytes: int
    kinds: tuple[str, ...] = ()  # the endings of the files: they say how bytes are read
    options: dict = field(default_factory=dict)
    mapping: ColumnMapping | None = None
    system_prompt: str = ""
    parent: StoredDataset | None = None
    change: dict = field(default_factory=dict)  # what this version does to its parent
    image_folders: tuple[Path, ...] = ()  # of the datasets the rows come from
    said: dict = field(default_factory=dict)  # more facts for meta.json; read after the pass

    @property
    def id(self) -> str:
        """16 hex digits, the same for the same content under the same choices."""
        return dataset_id(
            {
                "content": self.content,
                "kinds": list(self.kinds),
                "options": self.options,
                "mapping": asdict(self.mapping) if self.mapping else None,
                "system_prompt": self.system_prompt,
                "parent": self.parent.id if self.parent and self.change else None,
                "change": self.change,
            }
        )

    def facts(self) -> dict:
        """What meta.json says of it before its rows are known."""
        parent = self.parent
        return {
            "id": self.id,
            "name": label(self.name),
            "content": self.content,
            "num_bytes": self.num_bytes,
            "created_at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "kinds": list(self.kinds),
            "options": self.options,
            "system_prompt": self.system_prompt,
            "parent": parent.id if parent else None,
            "version": parent.version + 1 if parent else 1,
        }


def make(
    home: Path,
    rows: Iterable[tuple[int, dict]],
    making: Making,
    on_findings: Findings | None = None,
) -> StoredDataset:
    """The dataset: stored now, or opened if the same was stored before."""
    if not (home / "datasets" / making.id / "meta.json").is_file():
        facts, folders = making.facts(), making.image_folders
        write_dataset(home, rows, facts, making.said, making.mapping, on_findings, folders)
    return open_dataset(home, making.id)


def counted(
    rows: Iterable[tuple[int, dict]], total: int, on_progress: Progress | None
) -> Iterator[tuple[int, dict]]:
    """The same rows; tells (rows done, rows in all) as they go by."""
    done = 0
    for done, pair in enumerate(rows, start=1):
        if on_progress and done % PROGRESS_ROWS == 0:
            on_progress(min(done, total), total)
        yield pair
    if on_progress:
        on_progress(total, total)


def next_version(
    parent: StoredDataset,
    step: str,
    change: dict,
    *,
    mapping: ColumnMapping | None = None,
    system_prompt: str | None = None,
    said: dict | None = None,
) -> Making:
    """A version made from another: the same upload and choices, and one change more."""
    kept = {"source": parent.source, "notes": parent.notes, "sample": parent.sample}
    if parent.held_out:
        kept["held_out"] = parent.held_out
    if parent.parts:
        kept["parts"] = parent.parts
    return Making(
        name=parent.name,
        content=parent.content,
        num_bytes=parent.num_bytes,
        kinds=tuple(parent.kinds),
        options=parent.options,
        mapping=mapping or parent.mapping,
        system_prompt=parent.system_prompt if system_prompt is None else system_prompt,
        parent=parent,
        image_folders=(parent.dir,),
        change={"step": step, **change} if change or parent.step != "upload" else {},
        said=kept | {"step": step} | (said or {}),
    )


def checked_prompt(text: str) -> str:
    """A system prompt without white space around it; UserError for letters that cannot train."""
    try:
        check_strings(text)
    except BadJSON as error:
        raise UserError(error.what, "the system prompt", error.fix) from None
    return text.strip()


def label(name: str) -> str:
    """A name as a label: one line, no invisible or direction-changing letters, not too long."""
    shown = "".join(
        letter
        for letter in name
        if unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp") and letter not in BIDI_MARKS
    )
    return shown.strip()[:120] or "data"
