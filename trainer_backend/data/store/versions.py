"""Makes new versions of a dataset: safe fixes, cells edited by hand, rows dropped.

Rows keep the numbers of the upload, and the version before stays as it is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trainer_backend.data.checks import CONTROL_LETTER
from trainer_backend.data.formats.conversations import (
    CONTENT_KEYS,
    role_named,
    speaker_of,
    turns_in,
    turns_of,
    unwrapped,
)
from trainer_backend.data.json_values import BadJSON, check_strings, parse, to_json
from trainer_backend.data.readers import Progress
from trainer_backend.data.store import pages
from trainer_backend.data.store.build import build, counted, next_version
from trainer_backend.data.store.dataset import StoredDataset, open_dataset
from trainer_backend.data.store.pages import NumberedRow
from trainer_backend.data.store.writer import OnFindings
from trainer_backend.errors import RowError, UserError

# roles of columns without answers
_ASKED = ("prompt", "input", "system", "history", "reasoning", "label", "score")
_DONE = {"drop": "left out", "keep_one": "left out", "trim": "trimmed", "clean": "cleaned"}
SWITCHES = tuple(_DONE)  # every safe fix


def apply_fixes(
    home: Path,
    dataset_id: str,
    fixes: dict[str, str],
    *,
    rows: dict[str, Sequence[int]] | None = None,
    on_progress: Progress | None = None,
    on_findings: OnFindings | None = None,
) -> StoredDataset:
    """A new version with some problems fixed: {problem code: one of its switches}.

    `rows` gives the rows of codes that are not stored (token lengths). Raises UserError for a code
    or switch that is not on offer, and when no row would be left.
    """
    dataset = open_dataset(home, dataset_id)
    given = {code: sorted(map(int, numbers)) for code, numbers in (rows or {}).items()}
    for code, switch in fixes.items():
        _check_fix(dataset, code, switch, given)
    if not fixes:
        raise UserError("No fix is chosen.", dataset.name, "Switch on at least one fix.")
    chosen: dict[str, Sequence[int]] = {
        code: given.get(code) or dataset.rows_of_code(code) for code in fixes
    }
    if all(fixes[code] in ("drop", "keep_one") for code in fixes) and not any(chosen.values()):
        raise UserError("There is no row to fix.", dataset.name, "Choose a problem that has rows.")
    change = {"fixes": fixes, "rows": {code: given[code] for code in fixes if code in given}}
    plan = next_version(dataset, "fixes", change, extra={"fixes": dict(fixes)})
    fixed = _fixed_rows(dataset, fixes, chosen, plan.extra)
    return build(home, counted(fixed, dataset.num_rows, on_progress), plan, on_findings)


def _check_fix(dataset: StoredDataset, code: str, switch: str, given: Mapping) -> None:
    offered = [one for one in dataset.problems if one.code == code and one.switches]
    known = {one.code: one.switches for one in dataset.problems if one.code and one.switches}
    if not offered and code not in given:
        listed = ", ".join(f"{name}={ways[0]}" for name, ways in known.items())
        raise UserError(
            f"There is no fix for “{code[:60]}” in this data.",
            dataset.name,
            f"Choose one of: {listed}." if listed else "Nothing needs a fix.",
        )
    ways = offered[0].switches if offered else SWITCHES
    if switch not in ways:
        what = f"“{code}” cannot be fixed by “{str(switch)[:60]}”."
        raise UserError(what, dataset.name, f"Use {' or '.join(ways)}.")


def _fixed_rows(
    dataset: StoredDataset,
    fixes: dict[str, str],
    chosen: Mapping[str, Sequence[int]],
    extra: dict[str, Any],
) -> Iterator[NumberedRow]:
    """The rows after the fixes; sets extra["done"] after the last row."""
    rows_for: dict[str, set[int]] = {}
    for code, switch in fixes.items():
        rows_for.setdefault(_DONE[switch], set()).update(chosen[code])
    dropped = rows_for.get("left out", set())
    changes = [(name, CHANGES[name], rows_for.get(_DONE[name], set())) for name in CHANGES]
    counts = dict.fromkeys(_DONE.values(), 0)
    roles = dataset.mapping.roles if dataset.mapping else {}
    for number, row in pages.iter_rows(dataset.dir / "rows.parquet"):
        if number in dropped:
            counts["left out"] += 1
            continue
        for name, change, wanted in changes:
            if number in wanted:
                fixed = change(row, roles)
                counts[_DONE[name]] += fixed != row
                row = fixed
        yield number, row
    extra["done"] = done_sentence(counts)


def done_sentence(counts: dict[str, int]) -> str:
    """What was done, as in “24 rows left out, 3 trimmed.”"""
    parts = [(count, what) for what, count in counts.items() if count]
    if not parts:
        return "Nothing had to be changed."
    (first, what), rest = parts[0], parts[1:]
    phrases = [f"{first:,} {'row' if first == 1 else 'rows'} {what}"]
    return ", ".join(phrases + [f"{count:,} {what}" for count, what in rest]) + "."


def edit_rows(
    home: Path,
    dataset_id: str,
    *,
    edits: dict[int, dict[str, str]] | None = None,
    drops: Sequence[int] = (),
    on_progress: Progress | None = None,
) -> StoredDataset:
    """A new version with cells changed ({row: {column: text}}) and rows dropped.

    A cell that held JSON (messages, numbers) is parsed as JSON again. Raises UserError for a
    missing row or column, for broken JSON, and when no row would be left.
    """
    dataset = open_dataset(home, dataset_id)
    edits = {_number(row, dataset): dict(cells) for row, cells in (edits or {}).items() if cells}
    dropped = {_number(row, dataset) for row in drops}
    if not edits and not dropped:
        raise UserError("Nothing was changed.", dataset.name, "Change a cell or drop a row first.")
    _check_places(dataset, edits, dropped)
    done = done_sentence({"left out": len(dropped), "edited": len(edits.keys() - dropped)})
    change = {"edits": {str(row): cells for row, cells in edits.items()}, "drops": sorted(dropped)}
    plan = next_version(dataset, "edits", change, extra={"done": done})
    edited = _edited_rows(dataset, edits, dropped)
    return build(home, counted(edited, dataset.num_rows, on_progress), plan)


def _number(row: int | str, dataset: StoredDataset) -> int:
    """A row number that may have been a key of JSON."""
    if not str(row).isdecimal():
        what = f"“{str(row)[:40]}” is not a row."
        raise UserError(what, dataset.name, "Choose a row of the table.")
    return int(row)


def _check_places(dataset: StoredDataset, edits: Mapping[int, dict], dropped: set[int]) -> None:
    for row in sorted(edits.keys() | dropped):
        if dataset.place_of(row) is None:
            raise UserError(f"There is no row {row:,}.", dataset.name, "Choose a row of the table.")
    for row, cells in edits.items():
        for column in cells:
            if column not in dataset.columns:
                what = f"There is no column “{column[:60]}”."
                fix = f"Choose one of {', '.join(dataset.columns[:12])}."
                raise UserError(what, f"{dataset.name}, row {row}", fix)


def _edited_rows(
    dataset: StoredDataset, edits: dict[int, dict[str, str]], dropped: set[int]
) -> Iterator[NumberedRow]:
    for number, row in pages.iter_rows(dataset.dir / "rows.parquet"):
        if number in dropped:
            continue
        for column, text in edits.get(number, {}).items():
            where = f"{dataset.name}, row {number}, column “{column[:60]}”"
            row = row | {column: _as_before(row.get(column), text, where)}
        yield number, row


def _as_before(old: Any, text: str, where: str) -> Any:
    """The new value of a cell: text if the old one was text or empty, else parsed JSON."""
    is_text = old is None or isinstance(old, str)
    try:
        check_strings(text)
        return text if is_text else parse(text)
    except BadJSON as error:
        fix = error.fix if is_text else f"{error.fix} The cell must stay JSON."
        raise UserError(error.what, where, fix) from None


def trimmed_row(row: dict[str, Any], roles: Mapping[str, str]) -> dict[str, Any]:
    """The row with its answers stripped of white space at both ends."""
    answers = {column for role, column in roles.items() if role not in _ASKED}
    return _changed_row(row, roles, answers, str.strip, answers_only=True)


def cleaned_row(row: dict[str, Any], roles: Mapping[str, str]) -> dict[str, Any]:
    """The row without control characters in columns that train; tabs and line breaks stay."""
    clean = partial(CONTROL_LETTER.sub, "")
    return _changed_row(row, roles, set(roles.values()), clean, answers_only=False)


CHANGES = {"trim": trimmed_row, "clean": cleaned_row}
Change = Callable[[str], str]


def _changed_row(
    row: dict[str, Any],
    roles: Mapping[str, str],
    columns: set[str],
    change: Change,
    answers_only: bool,
) -> dict[str, Any]:
    chat = roles.get("messages")
    return {
        name: _changed(cell, change, answers_only, name == chat) if name in columns else cell
        for name, cell in row.items()
    }


def _changed(cell: Any, change: Change, answers_only: bool, is_chat: bool) -> Any:
    """A cell with its text changed, or that of its messages; its spelling stays otherwise."""
    try:
        turns = turns_in(cell) if is_chat else turns_of(cell)
        turns = [unwrapped(turn) for turn in turns]
    except RowError:
        return cell
    if not turns:
        return _changed_content(cell, change, answers_only)
    changed = [_changed_message(turn, change, answers_only) for turn in turns]
    if changed == turns:
        return cell
    return to_json(changed) if isinstance(cell, str) else changed


def _changed_message(turn: Mapping, change: Change, answers_only: bool) -> Mapping:
    """A message with its text changed; its role, calls and reasoning stay."""
    if answers_only and role_named(speaker_of(turn)) != "assistant":
        return turn
    return {
        key: _changed_content(value, change, answers_only) if key in CONTENT_KEYS else value
        for key, value in turn.items()
    }


def _changed_content(value: Any, change: Change, whole: bool) -> Any:
    """Text changed, or that of parts; `whole`: parts are changed as the one text they make."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return _changed_part(value, change, whole)
    if not isinstance(value, list):
        return value
    places = [at for at, part in enumerate(value) if _has_text(part)]
    parts = list(value)
    for at in places:
        before, after = ("x" if whole and at != places[end] else "" for end in (0, -1))
        # an inner end is kept from being stripped by a letter in front of it or behind it
        inner = partial(_between, change, before, after)
        parts[at] = _changed_content(parts[at], inner, whole)
    return parts


def _between(change: Change, before: str, after: str, text: str) -> str:
    changed = change(before + text + after)
    return changed[len(before) : len(changed) - len(after)]


def _has_text(part: Any) -> bool:
    """Whether a part of a message holds text, not reasoning or a call."""
    if isinstance(part, str):
        return True
    return isinstance(part, dict) and isinstance(part.get("text"), str) and not part.get("thought")


def _changed_part(part: dict, change: Change, whole: bool) -> dict:
    return {
        key: _changed_content(value, change, whole) if key in CONTENT_KEYS else value
        for key, value in part.items()
    }
