"""What a person writes about a run: a note and tags. They change nothing in the run itself."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer_backend.errors import UserError
from trainer_backend.home import read_json, write_json
from trainer_backend.runs.files import NOTES

MAX_NOTE = 4_000  # characters
MAX_TAGS = 12
MAX_TAG = 30  # characters


@dataclass(frozen=True)
class Notes:
    """The note and the tags of a run; both may be empty."""

    text: str = ""
    tags: tuple[str, ...] = ()


def read_notes(folder: Path) -> Notes:
    """The notes in a run's folder, cut to the limits; a damaged file counts as none."""
    found: Any = read_json(folder / NOTES, {})
    text, tags = found.get("text"), found.get("tags")
    return Notes(
        text[:MAX_NOTE] if isinstance(text, str) else "",
        tuple(one[:MAX_TAG] for one in tags if isinstance(one, str))[:MAX_TAGS]
        if isinstance(tags, list)
        else (),
    )


def write_notes(folder: Path, text: str, tags: str | Iterable[str] = ()) -> Notes:
    """Replace the notes of a run; `tags` may be one text with commas.

    Raises UserError for a note or a tag that is too long, and for too many tags.
    """
    notes = Notes(_note(text), _tags(tags))
    if notes == Notes():
        (folder / NOTES).unlink(missing_ok=True)
    else:
        write_json(folder / NOTES, {"text": notes.text, "tags": list(notes.tags)})
    return notes


def _note(text: str) -> str:
    found = "".join(one for one in str(text) if one in "\n\t" or _is_shown(one)).strip()
    if len(found) > MAX_NOTE:
        raise UserError(
            f"The note has {len(found):,} characters.", "Note", f"Use at most {MAX_NOTE:,}."
        )
    return found


def _tags(given: str | Iterable[str]) -> tuple[str, ...]:
    """The tags in their order; one that differs in case only is the same."""
    parts = given.split(",") if isinstance(given, str) else [str(one) for one in given]
    found: dict[str, str] = {}
    for part in parts:
        tag = " ".join("".join(one if _is_shown(one) else " " for one in part).split())
        if len(tag) > MAX_TAG:
            shown = f"{tag[:MAX_TAG]}…"
            raise UserError(
                f"The tag “{shown}” is too long.", "Tags", f"Use at most {MAX_TAG} characters."
            )
        if tag:
            found.setdefault(tag.casefold(), tag)
    if len(found) > MAX_TAGS:
        raise UserError(f"There are {len(found)} tags.", "Tags", f"Use at most {MAX_TAGS}.")
    return tuple(found.values())


def _is_shown(letter: str) -> bool:
    """Whether a character is no control character and no half of a surrogate pair."""
    return unicodedata.category(letter) not in ("Cc", "Cs")
