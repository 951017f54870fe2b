"""What is said about a row that can be read: something was left out, or taken in one of two ways.

A row that cannot be read is refused with an error of its own, which is not made here.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """One thing said about a row: a name from CODES, what was seen, and what to do about it.

    Rows with the same fault share one `what`.
    """

    code: str
    what: str
    fix: str
    severity: str = "info"  # or "warning": what the row says is not all learned


Say = Callable[[Note], None]


def keep_quiet(note: Note) -> None:
    """A `Say` for callers who only want the result."""


def unread(keys: list[str], of: str) -> Note:
    """The note for keys that nothing reads; `of` is what has them: “messages”, “tool calls”."""
    names = ", ".join(f"“{key[:40]}”" for key in keys[:6])
    return Note(
        "unread_keys",
        f"Not read in {of}: {names}.",
        "Nothing to do if they are only about the data. A text to learn belongs into “content”.",
    )
