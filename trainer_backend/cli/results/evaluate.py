"""The command evaluate: base and tuned model on held-out or own rows, and where the result is kept.

Only choosing and printing happens here.
"""

import argparse
import difflib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer_backend.cli.data import bar, clear_bar, download_line, reading_options
from trainer_backend.cli.quiet import quiet_libraries
from trainer_backend.cli.runs import find_run
from trainer_backend.corrections import telling
from trainer_backend.data.formats import parse_columns
from trainer_backend.data.store import StoredDataset, resolve_data
from trainer_backend.downloads import Progress, silent
from trainer_backend.errors import UserError
from trainer_backend.evaluation import shown
from trainer_backend.evaluation.harness.ask import ask_harness, check_installed, task_names
from trainer_backend.evaluation.request import (
    Request,
    checkpoint_of,
    measure_names,
    row_count,
)
from trainer_backend.evaluation.results import (
    LOSSES,
    Asked,
    Evaluation,
    evaluations_of,
    keep,
)
from trainer_backend.home import write_atomic
from trainer_backend.runs import ACTIVE, Run, list_runs
from trainer_backend.runs.files import EVALUATIONS

WORST = 3  # rows that are printed
LONG = 400  # characters of a text that are printed


def do_evaluate(home: Path, arguments: argparse.Namespace) -> int:
    """Evaluate a run, keep the result with it, and print it."""
    run = find_run(home, arguments.run)
    request = Request(
        None,
        row_count(arguments.rows, "--rows"),
        checkpoint_of(arguments.checkpoint, "--checkpoint"),
        measure_names(arguments.metrics, "--metrics"),
    )
    if arguments.data:
        request = replace(request, dataset=_read(home, arguments))
    tasks = task_names(arguments.harness)
    several = len(_steps(run, request, tasks)) > 1
    _check_csv(arguments.csv, several)
    _tell_of_others(home, run)
    found = []
    for one in _evaluated(run, request, tasks, arguments):
        found.append(one)
        if not arguments.json:
            print("\n".join([*_title(one, several), *lines(run, one)]))
    if arguments.csv:
        write_atomic(arguments.csv.expanduser(), shown.answers_csv(found[0]))
    if arguments.json:
        made: Any = [one.to_dict() for one in found] if several else found[0].to_dict()
        print(json.dumps(made, ensure_ascii=False))
    elif several:
        print("\n".join(["", *_by_checkpoint(found)]))
    return 0


def _read(home: Path, arguments: argparse.Namespace) -> StoredDataset:
    """The dataset of --data. Raises UserError while its columns are unclear."""
    stored = resolve_data(
        home,
        arguments.data,
        options=reading_options(arguments),
        columns=parse_columns(arguments.columns),
        chosen=arguments.chosen,
        on_download=download_line(arguments.json),
        on_progress=bar("Reading", arguments.json),
    )
    clear_bar(arguments.json)
    if stored.mapping is None:
        first = stored.problems[0]
        raise UserError(first.what, first.where, first.fix, code=first.code)
    return stored


def _check_csv(path: Path | None, several: bool) -> None:
    if path is None:
        return
    if several:
        raise UserError(
            "One file cannot hold the answers of several checkpoints.",
            f"--csv {path}",
            "Give one --checkpoint, or leave out --csv.",
        )
    if path.expanduser().is_dir() or not path.expanduser().resolve().parent.is_dir():
        raise UserError(
            "This file cannot be written.", f"--csv {path}", "Name a file in a folder that exists."
        )


def _tell_of_others(home: Path, run: Run) -> None:
    """Say which runs train meanwhile: they and the evaluation share this machine."""
    busy = [one.name() for one in list_runs(home) if one.state()["state"] in ACTIVE]
    if busy:
        names = ", ".join(f"“{name}”" for name in busy[:WORST])
        print(f"Note: {names} trains meanwhile; both take longer.", file=sys.stderr)


def _steps(run: Run, request: Request, tasks: Sequence[str]) -> list[int]:
    """The steps to evaluate; tasks of lm-eval need no rows. Raises UserError."""
    if not tasks:
        return request.check(run)
    check_installed()
    return request.steps(run)


def _evaluated(
    run: Run, request: Request, tasks: Sequence[str], arguments: argparse.Namespace
) -> Iterator[Evaluation]:
    """The evaluations, each with the results of lm-eval beside it if tasks are asked for."""
    show = _progress_line(arguments.json)
    for step in _steps(run, request, tasks):
        one = _own(run, replace(request, checkpoint=step), bool(tasks), show)
        if tasks:
            how: dict[str, Any] = {"rows": request.rows, "chat": arguments.harness_chat}
            results = ask_harness(run, step, tasks, **how, progress=show)
            one = replace(one, harness={**one.harness, **results})
            keep(run, one)
        clear_bar(arguments.json)
        yield one


def _own(run: Run, request: Request, beside: bool, show: Progress) -> Evaluation:
    """Our own evaluation of a checkpoint; `beside` lm-eval one that is there already serves."""
    if beside and request.dataset is None and request.metrics is None:
        known = [one for one in evaluations_of(run) if one.checkpoint == request.checkpoint]
        if held_out := next((one for one in known if one.held_out), None):
            return held_out
        try:
            request.check(run)
        except UserError as error:
            return _without_rows(run, request, error)
    quiet_libraries()
    from trainer_backend.evaluation.engine.evaluate import evaluate_run

    return next(request.evaluations(run, telling(evaluate_run), show))


def _without_rows(run: Run, request: Request, error: UserError) -> Evaluation:
    """What holds the results of lm-eval where no rows can be asked."""
    said = f"Only tasks of lm-eval were asked. {error.what}"
    step = int(request.checkpoint or 0)
    return Evaluation(run.id, step, 0, {}, "no clear difference", "", said, held_out=False)


def _progress_line(quiet: bool) -> Progress:
    """Prints how far an evaluation or download is; nothing if quiet or no terminal."""
    if quiet or not sys.stderr.isatty():
        return silent

    def show(what: str, done: float, total: float, unit: str, words: str = "") -> None:
        counted = f"{done:g}/{total:g} {unit}" if total > 1 else "…"
        print(f"\r\033[K{what}: {words or counted}", end="", file=sys.stderr, flush=True)

    return show


def _title(one: Evaluation, several: bool) -> list[str]:
    return ["", f"Checkpoint {one.checkpoint}"] if several else []


def lines(run: Run, one: Evaluation) -> list[str]:
    """An evaluation for people: warnings, the sentence, the table, the worst rows, the file."""
    head = [*(f"Warning: {text}" for text in one.warnings), one.sentence]
    head.append(f"On {shown.rows_in_words(one)}.")
    found = [*head, *(["", *_table(one)] if one.metrics else [])]
    found += [f"Note: {text}" for text in one.notes]
    if one.harness:
        found += ["", *_harness_table(one)]
    worst = [asked for asked in shown.worst_first(one) if not _is_right(asked, one.main)][:WORST]
    if worst:
        found += ["", f"The rows answered worst by {shown.measure_label(one.main)}:"]
        found += [text for asked in worst for text in _row(asked, one.main)]
    return [*found, "", f"Kept in {run.dir / EVALUATIONS / one.id}.json"]


def _table(one: Evaluation) -> list[str]:
    rows = [
        (line.label, f"{line.base} → {line.tuned}", _interval(line, one.rows))
        for line in shown.lines(one)
    ]
    return _columns([("Measure", "base → tuned", "95 % interval of the difference"), *rows])


def _interval(line: shown.Line, rows: int) -> str:
    fewer = f" ({line.rows:,} rows)" if line.rows != rows else ""
    return f"{line.interval}{fewer}"


def _harness_table(one: Evaluation) -> list[str]:
    rows = [
        (f"{task} {name}", f"{base} → {tuned}", f"± {error}")
        for task, name, base, tuned, error in shown.harness_lines(one)
    ]
    return _columns([("lm-eval", "base → tuned", "standard error"), *rows])


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _is_right(asked: Asked, main: str) -> bool:
    score = asked.scores.get(main) or {}
    return main not in LOSSES and score.get("tuned", 0.0) >= 1


def _row(asked: Asked, main: str) -> list[str]:
    """One row: the question, the expected answer, the base's, and how the tuned one differs."""
    score = asked.scores.get(main) or {}
    values = (
        shown.value_in_words(main, score[side]) for side in ("base", "tuned") if side in score
    )
    return [
        f"  row {asked.row}: {_cut(asked.prompt)}",
        f"    {' → '.join(values)}",
        f"    expected  {_cut(asked.expected)}",
        f"    base      {_cut(asked.base)}",
        f"    tuned     {differences(asked.expected, asked.tuned)}",
    ]


def _cut(text: str) -> str:
    """A text on one line; what is left out of a long one is said."""
    line = " ".join(text.split())
    if not line:
        return "(nothing)"
    return line if len(line) <= LONG else f"{line[:LONG]}… ({len(line):,} characters)"


def differences(expected: str, given: str) -> str:
    """A given answer with [-what is missing-] and {+what is too much+}, word by word.

    Too long to compare: the answer alone.
    """
    if max(len(expected), len(given)) > LONG or not given.strip():
        return _cut(given)
    before, after = re.findall(r"\S+", expected), re.findall(r"\S+", given)
    found = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, False).get_opcodes():
        if kind == "equal":
            found += before[a:b]
            continue
        found += [f"[-{' '.join(before[a:b])}-]"] if b > a else []
        found += [f"{{+{' '.join(after[c:d])}+}}"] if d > c else []
    return " ".join(found)


def _by_checkpoint(found: Sequence[Evaluation]) -> list[str]:
    """The checkpoints side by side in the main measure and the loss, and which is best."""
    main = found[0].main
    names = list(dict.fromkeys((main, "loss")))
    rows = [
        (
            str(one.checkpoint),
            *(_tuned(one, name) for name in names),
            one.verdict,
        )
        for one in found
    ]
    heads = ("Checkpoint", *(f"{shown.measure_label(name)}, tuned" for name in names), "verdict")
    return _columns([heads, *rows])


def _tuned(one: Evaluation, name: str) -> str:
    metric = one.metrics.get(name)
    return "–" if metric is None else shown.value_in_words(name, metric.tuned)
