"""Many prompts at once: read from a text or a file, and their answers written to a file.

No model is asked here. Free of torch.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from trainer_backend.data.formats import named
from trainer_backend.data.json_values import cell_text
from trainer_backend.data.readers import open_rows
from trainer_backend.data.readers.options import DOCUMENT_SUFFIXES
from trainer_backend.data.readers.source import Source
from trainer_backend.data.readers.text_reader import TextFile
from trainer_backend.errors import UserError

MOST_PROMPTS = 1_000
MOST_BYTES = 64 * 1024 * 1024
FORMATS = (".csv", ".jsonl")  # of answers
LOOKED_AT = 50  # rows whose columns are looked at
SIDES = ("tuned", "base")


@dataclass(frozen=True)
class Prompt:
    """A prompt, the number of its line or row, and a system text of its own, if it has one."""

    row: int
    text: str
    system: str = ""

    def messages(self, system: str = "") -> list[dict[str, str]]:
        """What the model is asked: `system` is used where the prompt has none of its own."""
        own = self.system.strip() or system.strip()
        before = [{"role": "system", "content": own}] if own else []
        return [*before, {"role": "user", "content": self.text}]


@dataclass(frozen=True)
class Prompts:
    """Prompts in order, and what is to be said about how they were read."""

    prompts: list[Prompt]
    notes: list[str] = field(default_factory=list)


def prompts_in_lines(text: str) -> Prompts:
    """A prompt a line. Raises UserError without any."""
    lines = enumerate(text.splitlines(), start=1)
    return _checked((Prompt(row, line) for row, line in lines), "the text", silent=True)


def read_prompts(path: Path) -> Prompts:
    """The prompts of a file: a line each of a text, else the rows of a table.

    A table has a column “prompt” (or one of the names known for it), or one column alone; a column
    for system texts is used too. Raises UserError for a file that cannot be read or has no prompts.
    """
    if not path.is_file():
        raise UserError("There is no such file.", str(path), "Check the spelling.")
    if path.stat().st_size > MOST_BYTES:
        what = f"The file is larger than {MOST_BYTES >> 20} MB."
        raise UserError(what, path.name, f"Ask at most {MOST_PROMPTS:,} prompts at a time.")
    if path.suffix.lower() in DOCUMENT_SUFFIXES:
        lines = enumerate(TextFile(Source(path)).lines(), start=1)
        return _checked((Prompt(row, line.rstrip("\r\n")) for row, line in lines), path.name, True)
    rows = open_rows(path)
    numbered = iter(rows)
    first = list(islice(numbered, LOOKED_AT))
    column, system = _columns([row for _, row in first], path.name)
    found = _checked(_of_rows([*first], numbered, column, system), path.name)
    return Prompts(found.prompts, [*rows.notes, *found.notes])


def _of_rows(
    first: list[tuple[int, dict]], rest: Iterator[tuple[int, dict]], column: str, system: str
) -> Iterator[Prompt]:
    for part in (first, rest):
        for number, row in part:
            own = cell_text(row.get(system)) if system else ""
            yield Prompt(number, cell_text(row.get(column)), own)


def _columns(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[str, str]:
    """The columns of prompts and of system texts ("" for none). Raises UserError."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    prompts = named(columns, "prompt") or (columns if len(columns) == 1 else [])
    if not prompts:
        listed = ", ".join(f"“{one[:40]}”" for one in columns[:8])
        fix = f"Name the column of the prompts “prompt”. The file has {listed}."
        raise UserError("The file has no column of prompts.", name, fix)
    best = next((one for one in prompts if one.lower() == "prompt"), prompts[0])
    return best, next(iter(named(columns, "system")), "")


def _checked(prompts: Iterator[Prompt], name: str, silent: bool = False) -> Prompts:
    """At most MOST_PROMPTS that are not empty; `silent`: empty lines are not worth a word."""
    kept: list[Prompt] = []
    empty = more = 0
    for one in prompts:
        if not one.text.strip():
            empty += 1
        elif len(kept) < MOST_PROMPTS:
            kept.append(one)
        else:
            more += 1
    if not kept:
        raise UserError("There are no prompts.", name, "Write one prompt a line.")
    notes = []
    if more:
        notes.append(f"Only the first {MOST_PROMPTS:,} of {MOST_PROMPTS + more:,} are asked.")
    if empty and not silent:
        notes.append(f"{empty:,} empty row{'s are' if empty > 1 else ' is'} left out.")
    return Prompts(kept, notes)


@dataclass(frozen=True)
class Answered:
    """A prompt with its answers by side (“tuned”, “base”), and what is to be said about them."""

    prompt: Prompt
    answers: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def with_part(self, part: Mapping[str, Any]) -> "Answered":
        """With one more answer, as the model process sends it."""
        side = str(part["which"])
        said = str(part.get("error") or "")
        marks = [f"{side} model: {said}"] if said else []
        marks += [f"{side} model: cut at the maximum answer tokens"] if part.get("cut") else []
        answers = {**self.answers, side: str(part.get("text") or "")}
        return Answered(self.prompt, answers, (*self.notes, *marks))

    def as_row(self, sides: Sequence[str]) -> dict[str, Any]:
        """As a row of a file."""
        answers = {side: self.answers.get(side, "") for side in sides}
        return {"row": self.prompt.row, "prompt": self.prompt.text, **answers,
                "note": "; ".join(self.notes)}  # fmt: skip


def answers_as(ending: str, rows: Sequence[Answered], sides: Sequence[str]) -> str:
    """Answers as the text of a .csv or .jsonl file; a note column only if there is a note."""
    found = [one.as_row(sides) for one in rows]
    if not any(one["note"] for one in found):
        found = [{name: cell for name, cell in one.items() if name != "note"} for one in found]
    if ending == ".jsonl":
        return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found)
    out = io.StringIO()
    names = list(found[0]) if found else ["row", "prompt", *sides]
    writer = csv.DictWriter(out, names)
    writer.writeheader()
    writer.writerows(found)
    return out.getvalue()


def check_ending(path: Path) -> str:
    """The format that a file of answers is to have. Raises UserError for another ending."""
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise UserError("Answers are written as CSV or JSONL.", str(path), "Use .csv or .jsonl.")
    return ending
