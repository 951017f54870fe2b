"""Builds a stored dataset: its inputs, the id that follows from them, and the write.

How rows are read, fixed or mixed is not known here.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer_backend.data.formats import ColumnMapping
from trainer_backend.data.json_values import BadJSON, check_strings
from trainer_backend.data.readers import Progress
from trainer_backend.data.readers.files import PROGRESS_ROWS
from trainer_backend.data.store.dataset import StoredDataset, open_dataset
from trainer_backend.data.store.fingerprint import dataset_id
from trainer_backend.data.store.pages import NumberedRow
from trainer_backend.data.store.writer import OnFindings, write_dataset
from trainer_backend.errors import UserError

BIDI_MARKS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@dataclass(frozen=True)
class Plan:
    """Everything a dataset is built from. The id covers all that decides its rows."""

    name: str
    content: str  # sha256 of the upload
    num_bytes: int
    kinds: tuple[str, ...] = ()  # endings of the files; they decide how bytes are read
    options: dict[str, Any] = field(default_factory=dict)
    mapping: ColumnMapping | None = None
    chosen: bool = False  # of preference data train on the chosen answers
    system_prompt: str = ""
    parent: StoredDataset | None = None
    change: dict[str, Any] = field(default_factory=dict)  # what this version does to its parent
    image_folders: tuple[Path, ...] = ()  # of the datasets the rows come from
    extra: dict[str, Any] = field(default_factory=dict)  # for meta.json; may be filled in the pass

    @property
    def id(self) -> str:
        """16 hex digits, the same for the same content under the same choices."""
        chosen = {"chosen": True} if self.chosen else {}
        return dataset_id(
            {
                **chosen,
                "content": self.content,
                "kinds": list(self.kinds),
                "options": self.options,
                "mapping": asdict(self.mapping) if self.mapping else None,
                "system_prompt": self.system_prompt,
                "parent": self.parent.id if self.parent and self.change else None,
                "change": self.change,
            }
        )

    def facts(self) -> dict[str, Any]:
        """The facts of meta.json that are known before the rows."""
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


def build(
    home: Path,
    rows: Iterable[NumberedRow],
    plan: Plan,
    on_findings: OnFindings | None = None,
) -> StoredDataset:
    """Write the dataset, or open it if the same one is stored already.

    Raises UserError when no row can be used or the folder cannot be written.
    """
    if not (home / "datasets" / plan.id / "meta.json").is_file():
        facts, folders = plan.facts(), plan.image_folders
        write_dataset(
            home, rows, facts, plan.extra, plan.mapping, on_findings, folders, plan.chosen
        )
    return open_dataset(home, plan.id)


def counted(
    rows: Iterable[NumberedRow], total: int, on_progress: Progress | None
) -> Iterator[NumberedRow]:
    """The same rows; calls on_progress(rows done, rows in all) as they pass."""
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
    change: dict[str, Any],
    *,
    mapping: ColumnMapping | None = None,
    system_prompt: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Plan:
    """A version of another dataset: the same upload and choices, and one more change."""
    kept: dict[str, Any] = {"source": parent.source, "notes": parent.notes, "sample": parent.sample}
    if parent.held_out:
        kept["held_out"] = parent.held_out
    if parent.parts:
        kept["parts"] = parent.parts
    return Plan(
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
        extra={**kept, "step": step, **(extra or {})},
    )


def checked_prompt(text: str) -> str:
    """A system prompt, stripped. Raises UserError for characters that cannot be trained on."""
    try:
        check_strings(text)
    except BadJSON as error:
        raise UserError(error.what, "the system prompt", error.fix) from None
    return text.strip()


def label(name: str) -> str:
    """A name as one line of at most 120 characters, none invisible or direction-changing."""
    shown = "".join(
        letter
        for letter in name
        if unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp") and letter not in BIDI_MARKS
    )
    return shown.strip()[:120] or "data"
