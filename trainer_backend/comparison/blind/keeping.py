"""Where blind tests are kept: one file each in the run's folder, changed by one writer at a time.

Two pages, a judge and a terminal may write at once: each change reads the file anew under a lock.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trainer_backend.comparison.blind.blind_test import KIND, BlindTest
from trainer_backend.errors import UserError
from trainer_backend.home import check_id, read_json, write_json
from trainer_backend.runs.files import VOTES
from trainer_backend.runs.run import Run

LOCK_S = 20.0
DAMAGED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OSError)


def keep(run: Run, test: BlindTest) -> None:
    """Write a new test into the run's folder."""
    folder = run.dir / VOTES
    folder.mkdir(exist_ok=True)
    write_json(folder / f"{test.id}.json", test.to_dict())


def open_test(run: Run, test_id: str) -> BlindTest:
    """A test of a run. Raises UserError if there is none, or if its file is damaged."""
    path = _path(run, test_id)
    try:
        values: Any = read_json(path)
        if values is None:
            raise UserError(
                "There is no such blind test.", run.name(), "Choose one from the list of the run."
            )
        return BlindTest.from_dict(values)
    except DAMAGED as error:
        raise UserError(
            "This blind test cannot be read.", f"{path.name}: {error}", "Start another one."
        ) from error


def tests_of(run: Run) -> list[BlindTest]:
    """The blind tests of a run, newest first; damaged files are left out."""
    found = []
    for path in (run.dir / VOTES).glob(f"{KIND}-*.json"):
        try:
            found.append(open_test(run, path.stem))
        except UserError:
            continue
    return sorted(found, key=lambda one: one.created_at, reverse=True)


def change(run: Run, test_id: str, edit: Callable[[BlindTest], BlindTest]) -> BlindTest:
    """Apply `edit` to the test as it is on the disk now, and write the result.

    Raises UserError if there is no such test, or if another program keeps the file for long.
    """
    path = _path(run, test_id)
    if not path.is_file():
        open_test(run, test_id)  # raises
    try:
        with FileLock(path.with_suffix(".lock"), timeout=LOCK_S):
            before = open_test(run, test_id)
            after = edit(before)
            if after != before:
                write_json(path, after.to_dict())
            return after
    except Timeout as error:
        raise UserError(
            "Another program is writing this blind test.", run.name(), "Try again."
        ) from error


def _path(run: Run, test_id: str) -> Path:
    return run.dir / VOTES / f"{check_id(test_id, 'blind test')}.json"
