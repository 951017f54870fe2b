"""The commands check and datasets, and how any command reads data and counts its tokens.

Only printing and choosing happens here: options come parsed, and the dataset store does the work.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from trainer_backend.cli.quiet import quiet_libraries
from trainer_backend.data.checks import SEVERITY_ORDER, read_statistics
from trainer_backend.data.formats import parse_columns, written_columns
from trainer_backend.data.readers.options import ReadOptions
from trainer_backend.data.store import LengthReport, StoredDataset, list_datasets, resolve_data
from trainer_backend.data.store.length_report import remember_report
from trainer_backend.downloads import Progress, silent
from trainer_backend.errors import Problem, UserError
from trainer_backend.models import require_model
from trainer_backend.recipe import Recipe


def read_data(home: Path, arguments: argparse.Namespace) -> StoredDataset:
    """Read and store DATA with the given options, showing progress. Raises UserError."""
    stored = resolve_data(
        home,
        arguments.data,
        options=reading_options(arguments),
        columns=parse_columns(arguments.columns),
        chosen=arguments.chosen,
        config=arguments.config,
        split=arguments.split,
        max_rows=arguments.max_rows,
        on_download=download_line(arguments.json),
        on_progress=bar("Reading", arguments.json),
    )
    clear_bar(arguments.json)
    return stored


def reading_options(arguments: argparse.Namespace) -> ReadOptions:
    """How the command line says that files are read."""
    return ReadOptions(
        encoding=arguments.encoding,
        delimiter={"tab": "\t"}.get(arguments.delimiter, arguments.delimiter),
        skip_damaged=arguments.skip_damaged,
        sheet=arguments.sheet,
        header_row=arguments.header_row,
    )


def bar(what: str, quiet: bool) -> Callable[[int, int], None] | None:
    """A callback (done, total) that prints a percentage; None if quiet or no terminal."""
    if quiet or not sys.stderr.isatty():
        return None
    return lambda done, total: print(
        f"\r\033[K{what}: {done / max(1, total):.0%}", end="", file=sys.stderr, flush=True
    )


def download_line(quiet: bool) -> Progress:
    """Prints a download's bytes, speed and time left; nothing if quiet or no terminal."""
    if quiet or not sys.stderr.isatty():
        return silent

    def show(what: str, done: float, total: float, unit: str, words: str = "") -> None:
        said = f"{what}: {words}" if words else f"{what}…"
        print("\r\033[K" + said, end="", file=sys.stderr, flush=True)

    return show


def clear_bar(quiet: bool) -> None:
    """Remove the percentage from the terminal."""
    if not quiet and sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def do_check(home: Path, arguments: argparse.Namespace) -> int:
    """Read data and print the findings; exit code 2 when no row is learned or a run is refused."""
    stored = read_data(home, arguments)
    problems = list(stored.problems)
    report: dict[str, Any] = {
        "dataset_id": stored.id,
        "name": stored.name,
        "format": stored.format,
        "sentence": stored.sentence,
        "rows": stored.num_rows,
        "examples": stored.num_examples,
        "columns": stored.columns,
        "ignored_columns": stored.ignored_columns,
        "suggested_columns": _suggested(stored),
        "problems": [],
        "notes": stored.notes,
        "hash": stored.hash,
        "source": stored.source,
    }
    if statistics := read_statistics(stored.dir):
        report["statistics"] = asdict(statistics)
    learnable = stored.num_examples
    if arguments.model and stored.num_examples:
        recipe = counting_recipe(home, arguments)
        counted = count_tokens(home, stored, recipe, arguments.json)
        found = counted.problems(recipe.max_length, stored.name, recipe.lost_content)
        problems = by_weight(found, problems)
        report["tokens"] = token_facts(counted, recipe.max_length)
        # a run would be refused, and no choice of a setting about content would let it start
        refused = any(one.severity == "error" and not one.choices for one, _ in found)
        learnable = 0 if refused else report["tokens"]["rows_learned"]
    report["problems"] = [problem.to_dict() for problem in problems]
    if arguments.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        _print_report(report)
    return 0 if learnable else 2


def _suggested(stored: StoredDataset) -> str | None:
    """What --columns may say, when the columns are unclear."""
    if stored.mapping is not None or stored.suggestion is None:
        return None
    return written_columns(stored.suggestion)


def counting_recipe(home: Path, arguments: argparse.Namespace) -> Recipe:
    """The recipe for counting tokens. Raises UserError for a wrong setting or a model that cannot
    be trained."""
    length = {} if arguments.max_length is None else {"max_length": arguments.max_length}
    recipe = Recipe.from_dict({"base_model": arguments.model, **length}, "--max-length")
    recipe = Recipe.from_dict({**recipe.to_dict(), **chosen_settings(arguments)}, "--set")
    require_model(home, recipe.base_model)
    return recipe


def chosen_settings(arguments: argparse.Namespace) -> dict[str, str]:
    """The settings of --set key=value. Raises UserError for a text without “=”."""
    return dict(_setting(text) for text in arguments.settings)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"“{text[:60]}” is not a setting.", "--set", "Write --set max_steps=20.")
    return name.strip(), value


def count_tokens(home: Path, stored: StoredDataset, recipe: Recipe, quiet: bool) -> LengthReport:
    """Lengths in tokens of all examples, with the model's tokenizer and chat template."""
    quiet_libraries()
    from trainer_backend.serving.process.token_view import count_job
    from trainer_backend.tokens.counts import iter_token_lengths

    job = count_job(home, stored, recipe, download_line(quiet))
    clear_bar(quiet)
    counting, show = iter_token_lengths(stored, job), None
    while True:
        try:
            done, total = next(counting)
        except StopIteration as end:
            clear_bar(quiet)
            remember_report(stored.dir, recipe, end.value)
            return end.value.kept(recipe.truncation_mode)
        show = show or bar("Counting tokens", quiet)
        if show:
            show(done, total)


def token_facts(counted: LengthReport, max_length: int) -> dict[str, int]:
    """Numbers of tokens and rows when examples are cut at `max_length` tokens."""
    cut = counted.at(max_length)
    return {
        "tokens": cut.tokens,
        "learned": cut.trained,
        "context": cut.context,
        "cut": cut.cut,
        "lost": cut.lost,
        "failed": cut.failed,
        "rows_learned": int(((counted.trained > 0) & (counted.first < max_length)).sum()),
        "longest": int(counted.total.max(initial=0)),
        "max_length": max_length,
    }


def by_weight(more: list[tuple[Problem, np.ndarray]], problems: list[Problem]) -> list[Problem]:
    """All problems: errors first, then by how many rows they touch."""
    found = [problem for problem, _ in more] + problems
    return sorted(found, key=lambda problem: (SEVERITY_ORDER[problem.severity], -problem.count))


def _print_report(report: dict[str, Any]) -> None:
    print(f"{report['name']}: {counted_rows(report['rows'])}. {report['sentence']}")
    for note in report["notes"]:
        print(f"  {note}")
    for problem in report["problems"]:
        _print_problem(problem)
    if "tokens" in report:
        facts = report["tokens"]
        print(f"  {facts['tokens']:,} tokens, {facts['learned']:,} of them trained on.")
        print(
            f"  {facts['cut']:,} rows are cut at {facts['max_length']} tokens; "
            f"{facts['lost']:,} of them have no token left to train on."
        )
        if not facts["rows_learned"]:
            print("  No row can be trained on as it is.")


def counted_rows(count: int, word: str = "row") -> str:
    """ "1 row", "2,000 rows"."""
    return f"{count:,} {word}{'s' * (count != 1)}"


def _print_problem(problem: dict[str, Any]) -> None:
    rows = ", ".join(str(row) for row in problem["rows"][:8])
    more = problem["count"] - min(8, len(problem["rows"]))
    word = "Row" if len(problem["rows"]) == 1 else "Rows"
    where = f" {word} {rows}{f' and {more:,} more' if more > 0 else ''}." if rows else ""
    print(f"  [{problem['severity']}] {problem['what']}{where}")
    print(f"      {problem['fix']}")
    if problem["switches"]:
        ways = " or ".join(f"--fix {problem['code']}={way}" for way in problem["switches"])
        print(f"      Fix it with: prepare {ways}")
    if problem["choices"]:
        pairs = [pair for one in problem["choices"] for pair in one.items()]
        ways = " or ".join(f"--set {name}={value}" for name, value in pairs)
        print(f"      Decide with: train {ways}")


def do_datasets(home: Path, arguments: argparse.Namespace) -> int:
    """List the stored datasets, newest first."""
    found = [
        {
            "id": one.id,
            "name": one.label,
            "rows": one.num_rows,
            "examples": one.num_examples,
            "format": one.format,
            "step": one.step,
            "parent": one.parent,
            "hash": one.hash,
            "created_at": one.created_at,
        }
        for one in list_datasets(home)
    ]
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        for one in found:
            print(f"{one['id']}  {one['examples']:>11,} rows  {one['step']:<8}  {one['name']}")
    return 0


def read_dataset(home: Path, data: str, arguments: argparse.Namespace) -> StoredDataset:
    """The dataset of --data. Raises UserError while its columns are unclear."""
    stored = resolve_data(
        home,
        data,
        options=reading_options(arguments),
        columns=parse_columns(arguments.columns),
        chosen=arguments.chosen,
        on_progress=bar("Reading", arguments.json),
    )
    clear_bar(arguments.json)
    if stored.mapping is None:
        first = stored.problems[0]
        raise UserError(first.what, first.where, first.fix, code=first.code)
    return stored
