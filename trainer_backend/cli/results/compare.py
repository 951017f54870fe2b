"""The command compare: two to six runs beside each other, as a table, JSON or CSV.

Its options are read without loading what compares.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from trainer_backend.errors import UserError
from trainer_backend.home import write_atomic


def add_compare(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """The parser of the command."""
    compare = command("compare", "put 2 to 6 runs beside each other: scores, settings, curves")
    compare.add_argument("runs", metavar="RUN", nargs="+", help="run ids or run folders")
    compare.add_argument("--json", action="store_true")
    compare.add_argument(
        "--csv", type=Path, metavar="FILE", help="also write all numbers as CSV; “-” prints them"
    )


def do_compare(home: Path, arguments: argparse.Namespace) -> int:
    """Print the comparison; with --csv write its numbers too."""
    from trainer_backend.cli.results.compare_table import lines_of
    from trainer_backend.comparison.as_csv import as_csv
    from trainer_backend.comparison.compare import compare_runs
    from trainer_backend.runs import unfinished_runs
    from trainer_backend.scheduling import settle_alone

    for run in unfinished_runs(home):
        settle_alone(run)
    found = compare_runs(home, [_id_of(home, one) for one in arguments.runs])
    to_file = arguments.csv is not None and str(arguments.csv) != "-"
    if to_file:
        _write(arguments.csv.expanduser(), as_csv(found))
    if arguments.json:
        print(json.dumps(found.to_dict(), ensure_ascii=False))
    elif arguments.csv is not None and not to_file:
        print(as_csv(found), end="")
    else:
        print("\n".join(lines_of(found, shutil.get_terminal_size((100, 24)).columns)))
    if to_file:
        print(f"The numbers are in {arguments.csv}.", file=sys.stderr)
    return 0


def _id_of(home: Path, run: str) -> str:
    """The id of RUN, which may be a folder of this home. Raises UserError for another home's."""
    folder = Path(run).expanduser()
    if not folder.is_dir():
        return run
    if folder.resolve().parent != (home / "runs").resolve():
        raise UserError("This folder is no run of this home.", run, "Name a run id (see runs).")
    return folder.resolve().name


def _write(path: Path, text: str) -> None:
    try:
        write_atomic(path, text)
    except OSError as error:
        why = error.strerror or str(error)
        raise UserError(
            f"The file cannot be written: {why}.", f"--csv {path}", "Name another file."
        ) from None
