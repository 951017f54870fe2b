"""The process that reads one upload or changes one dataset: limited memory, low priority.

Runs `request.json` of its folder and writes `progress.json`, `findings.json` and `result.json`.
It ends when the app does.
"""

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainer_backend.data.formats import ColumnMapping
from trainer_backend.data.json_values import cell_text
from trainer_backend.data.readers.files import PROGRESS_ROWS
from trainer_backend.data.readers.options import ReadOptions, ways
from trainer_backend.data.reading.preview import Preview, preview_file
from trainer_backend.data.store import (
    apply_fixes,
    create_dataset,
    create_from_hub,
    edit_rows,
    mix_datasets,
    remap_dataset,
    with_held_out,
)
from trainer_backend.errors import Problem, UserError
from trainer_backend.home import read_json, write_json
from trainer_backend.processes import limit_memory, lower_priority

PREVIEW_ROWS, OFFERED_ROWS = 25, 5
PREVIEW_CELL, PREVIEW_NAME, PREVIEW_COLUMNS = 2_000, 200, 20  # characters, characters, columns
MAX_SHEETS = 200  # offered on the page
EVERY_S = 0.2  # between two writes of the progress
THREADS = 2
OF_FEW_ROWS = ("one_row", "few_rows")  # findings that only the last row can settle


class Report:
    """Writes progress and findings to small files that the app polls."""

    def __init__(self, folder: Path):
        self.folder, self._rows, self._last = folder, 0, 0.0
        self.opened: dict[str, Any] = {}
        self.say(what="Opening")

    def say(self, **facts: int | str) -> None:
        """Replace progress.json."""
        self._last = time.monotonic()
        write_json(self.folder / "progress.json", {"rows": self._rows, **facts})

    def on_progress(self, done: int, total: int) -> None:
        """Called by the reader every PROGRESS_ROWS rows and at the end; writes 5 times a second."""
        self._rows += PROGRESS_ROWS if done < total else 0
        if time.monotonic() - self._last > EVERY_S or done >= total:
            what = "Reading and checking" if done < total else "Comparing rows with each other"
            self.say(bytes=done, total=total, what=what)

    def on_download(self, what: str, done: float, total: float, unit: str, words: str = "") -> None:
        """Called while the data is downloaded; `words` tell bytes, speed and time left."""
        if time.monotonic() - self._last > EVERY_S:
            self.say(bytes=int(done), total=int(total), what=what, how=words)

    def on_findings(self, problems: list[Problem], rows: list[tuple[int, dict]]) -> None:
        """Called by the writer after the first rows, and from time to time."""
        found = [one.to_dict() for one in problems if one.code not in OF_FEW_ROWS]
        write_json(self.folder / "findings.json", {"problems": found, "rows": _shown(rows)})

    def on_opened(self, found: Preview) -> None:
        """Called once the files are open; their kind and sheets become part of result.json."""
        sheets = [name for name in found.sheets if len(name) <= PREVIEW_NAME][:MAX_SHEETS]
        self.opened = {"kind": found.kind, "sheets": sheets}
        self.on_findings([], found.rows)


def _shown(rows: list[tuple[int, dict]]) -> list[tuple[int, dict[str, str]]]:
    """The first rows with few columns and short cells, so that the app reads little."""
    return [
        (number, {name[:PREVIEW_NAME]: cell_text(row[name])[:PREVIEW_CELL] for name in names})
        for number, row in rows[:PREVIEW_ROWS]
        for names in [list(row)[:PREVIEW_COLUMNS]]
    ]


def _create(home: Path, report: Report, arguments: dict) -> str:
    files, options = list(map(Path, arguments["files"])), ReadOptions(**arguments["options"])
    report.on_opened(preview_file(files, PREVIEW_ROWS, options=options))
    mapping = arguments["mapping"]
    return create_dataset(
        home,
        files,
        name=arguments["name"],
        mapping=ColumnMapping(**mapping) if mapping else None,
        options=options,
        chosen=arguments["chosen"],
        system_prompt=arguments["system_prompt"],
        on_progress=report.on_progress,
        on_findings=report.on_findings,
    ).id


def _hub_dataset(home: Path, report: Report, arguments: dict) -> str:
    return create_from_hub(
        home,
        **arguments,
        on_download=report.on_download,
        on_progress=report.on_progress,
        on_findings=report.on_findings,
    ).id


def _remap(home: Path, report: Report, arguments: dict) -> str:
    mapping = ColumnMapping(**arguments.pop("mapping"))
    return remap_dataset(home, mapping=mapping, **arguments).id


WORK: dict[str, Callable[[Path, Report, dict], str]] = {
    "create_dataset": _create,
    "hub_dataset": _hub_dataset,
    "remap_dataset": _remap,
    "apply_fixes": lambda home, report, arguments: (
        apply_fixes(home, on_findings=report.on_findings, **arguments).id
    ),
    "edit_rows": lambda home, report, arguments: edit_rows(home, **arguments).id,
    "mix_datasets": lambda home, report, arguments: mix_datasets(home, **arguments).id,
    "with_held_out": lambda home, report, arguments: with_held_out(home, **arguments).id,
}  # by the name of the store's function; the JSON arguments are those of the function


def run(folder: Path) -> dict:
    """Run request.json of a folder and return the content of result.json.

    {"dataset_id"} or {"error"}; "opened": {"kind", "sheets"}, {} if the files could not be opened;
    "instead": {"rows"} or {"error"}, when the error offers another way to read the files.
    """
    request: Any = read_json(folder / "request.json")
    limit_memory(request["memory_limit"])
    report, work = Report(folder), WORK[request["work"]]
    home, arguments = Path(request["home"]), request["arguments"]
    outcome = _attempt(request, lambda: {"dataset_id": work(home, report, arguments)})
    offered = ways((outcome.get("error") or {}).get("offer"))
    if offered and request["work"] == "create_dataset":
        best = offered[0]
        outcome["instead"] = _attempt(request, lambda: {"rows": _rows_instead(arguments, best)})
    return outcome | {"opened": report.opened}


def _rows_instead(arguments: dict, offer: dict) -> list[tuple[int, dict[str, str]]]:
    """The first rows as read with the offered options."""
    options = ReadOptions(**(arguments["options"] | offer))
    files = list(map(Path, arguments["files"]))
    return _shown(preview_file(files, OFFERED_ROWS, options=options).rows)


def _attempt(request: dict, action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of the action, or {"error"}."""
    try:
        return action()
    except UserError as error:
        return {"error": error.to_dict()}
    except MemoryError:
        return {"error": _too_large(request).to_dict()}
    except Exception as error:  # noqa: BLE001 - the edge of this process: its log keeps the trace
        traceback.print_exc()
        return {"error": _unexpected(request, error).to_dict()}


def _too_large(request: dict) -> UserError:
    return UserError(
        f"Reading needs more than {request['memory_limit'] / 1024**3:.0f} GB of memory.",
        request["name"],
        "Save the rows as JSON Lines (.jsonl) or CSV: they are read row by row.",
        code="system_memory",
    )


def _unexpected(request: dict, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [""])[0][:200]
    return UserError(
        "The data could not be read.",
        f"{request['name']}: {type(error).__name__}: {reason}" if reason else request["name"],
        "Save it as JSON Lines (.jsonl) or CSV, and load it again.",
        code="failed",
    )


def _end_with_the_app() -> None:
    """End with the app: its end closes standard input, even if it was killed."""
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """Run the request in the folder given as the argument, and write result.json there."""
    folder = Path(sys.argv[1])
    lower_priority(10)  # the page, training and chat go first
    pa.set_cpu_count(THREADS)  # threads reserve address space, which is limited here
    pa.set_io_thread_count(THREADS)
    threading.Thread(target=_end_with_the_app, daemon=True).start()
    write_json(folder / "result.json", run(folder))


if __name__ == "__main__":
    main()
