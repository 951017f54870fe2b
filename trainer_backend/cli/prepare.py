"""The command prepare: cleans data with safe fixes and writes it as messages or packed tokens.

It chooses files and prints; fixing, splitting and tokenising happen in the libraries it calls.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trainer_backend.cli.data import (
    bar,
    by_weight,
    clear_bar,
    count_tokens,
    counted_rows,
    counting_recipe,
    read_data,
    token_facts,
)
from trainer_backend.data.formats import Example
from trainer_backend.data.store import LengthReport, StoredDataset, apply_fixes, save_rows
from trainer_backend.errors import Problem, UserError
from trainer_backend.recipe import Recipe

FORMATS = ("jsonl", "parquet")


@dataclass(frozen=True)
class Counted:
    """Token lengths of a dataset, and the recipe they were counted with."""

    report: LengthReport
    recipe: Recipe

    def problems(self, name: str) -> list[tuple[Problem, np.ndarray]]:
        """Findings about lengths, each with its row numbers."""
        return self.report.problems(self.recipe.max_length, name, self.recipe.lost_content)


def do_prepare(home: Path, arguments: argparse.Namespace) -> int:
    """Clean data, write it, and print what was done and where the files are."""
    targets = _targets(arguments)
    split = {"eval_fraction": arguments.eval_fraction, "seed": arguments.seed}
    Recipe.from_dict(split, "--eval-fraction, --seed")  # raises when out of range
    stored = read_data(home, arguments)
    if stored.num_examples == 0:
        first = stored.problems[0]
        raise UserError(first.what, first.where, first.fix, code=first.code)
    counted = _counted(home, stored, arguments)
    if arguments.fix:
        stored = _fixed(home, stored, counted, arguments)
        counted = _counted(home, stored, arguments)
    train, held_out = stored.split(arguments.eval_fraction, arguments.seed)
    parts: dict[str, list[int] | None] = {"train": None}
    if "held_out" in targets:
        parts = {"train": train, "held_out": held_out}
    written = _write(home, stored, counted.recipe if counted else None, parts, targets)
    _report(stored, counted, written, arguments.json)
    return 0


def _counted(home: Path, stored: StoredDataset, arguments: argparse.Namespace) -> Counted | None:
    if not arguments.model:
        return None
    recipe = counting_recipe(home, arguments)
    return Counted(count_tokens(home, stored, recipe, arguments.json), recipe)


def _targets(arguments: argparse.Namespace) -> dict[str, Path]:
    """Where each part goes: one file, or a train and a held-out file in a folder."""
    out, ending = arguments.out, arguments.out.suffix.lower().removeprefix(".")
    format = arguments.format or (ending if ending in FORMATS else FORMATS[0])
    if ending and not out.is_dir():
        if ending != format or ending not in FORMATS:
            fix = f"Let --out end with .{arguments.format or ' or .'.join(FORMATS)}."
            raise UserError(f"The name does not end with .{format}.", str(out), fix)
        targets = {"train": out}
    else:
        targets = {part: out / f"{part}.{format}" for part in ("train", "held_out")}
    for path in targets.values():
        if path.exists() and not arguments.overwrite:
            raise UserError(
                "This file already exists.", str(path), "Choose another name or use --overwrite."
            )
    return targets


def _fixed(
    home: Path,
    stored: StoredDataset,
    counted: Counted | None,
    arguments: argparse.Namespace,
) -> StoredDataset:
    """A version with the fixes of --fix; findings about lengths are not stored, so their rows
    are passed along."""
    by_tokens = counted.problems(stored.name) if counted else []
    switches = {problem.code: problem.switches for problem in stored.problems if problem.switches}
    switches |= {problem.code: problem.switches for problem, _ in by_tokens}
    fixes = {}
    for code, switch in (map(str.strip, text.partition("=")[::2]) for text in arguments.fix):
        if code in switches:
            fixes[code] = switch or switches[code][0]
        else:
            has = ", ".join(switches) or "no problem with a fix"
            print(f"Note: nothing to fix for “{code[:60]}”. The data has {has}.", file=sys.stderr)
    if not fixes:
        return stored
    rows: dict[str, Sequence[int]] = {}
    for problem, numbers in by_tokens:
        if problem.code in fixes:
            rows[problem.code] = np.union1d(rows.get(problem.code, ()), numbers).tolist()
    fixed = apply_fixes(
        home, stored.id, fixes, rows=rows, on_progress=bar("Cleaning", arguments.json)
    )
    clear_bar(arguments.json)
    return fixed


def _write(
    home: Path,
    stored: StoredDataset,
    recipe: Recipe | None,
    parts: dict[str, list[int] | None],
    targets: dict[str, Path],
) -> dict[str, tuple[Path, int]]:
    """Write each part that has rows (None: all rows); {part: (file, number of rows)}."""
    written = {}
    for part, indices in parts.items():
        count = stored.num_examples if indices is None else len(indices)
        if not count:
            targets[part].unlink(missing_ok=True)  # left by an earlier call
            continue
        if recipe:
            count = _write_tokens(home, stored, recipe, indices, targets[part])
        else:
            save_rows(partial(_rows, stored, indices), targets[part])
        written[part] = (targets[part], count)
    images = stored.dir / "images"
    if images.is_dir() and not recipe:
        shutil.copytree(images, targets["train"].parent / "images", dirs_exist_ok=True)
    return written


def _rows(stored: StoredDataset, indices: list[int] | None) -> Iterator[dict[str, Any]]:
    return map(_row, stored.examples(indices))


def _row(example: Example) -> dict[str, Any]:
    if example.messages is None:
        return {"text": example.text}
    row: dict[str, Any] = {"messages": example.messages}
    if example.tools:
        row["tools"] = example.tools
    return row | {"images": example.images} if example.images else row


def _write_tokens(
    home: Path, stored: StoredDataset, recipe: Recipe, indices: list[int] | None, path: Path
) -> int:
    """Write packed rows of input_ids, labels and seq_lengths for SFTTrainer; returns how many."""
    from trainer_backend.serving.process.token_view import count_job
    from trainer_backend.tokens.encode import EncodeOptions
    from trainer_backend.tokens.prepare import Preparation, prepare_dataset
    from trainer_backend.tokens.training_rows import training_dataset
    from trainer_backend.worker.content import file_rows, rows_of_the_file

    rows = training_dataset(stored, recipe.system_prompt)
    if "images" in rows.column_names:
        fix = "Leave --model out: rows with images are tokenised during training."
        raise UserError("Rows with images cannot be packed as tokens.", stored.name, fix)
    chat = stored.format != "text"
    plan = Preparation(
        tokenizer=count_job(home, stored, recipe).tokenizer,
        lost_content=recipe.lost_content,
        options=EncodeOptions(
            max_length=None,
            assistant_only_loss=chat and recipe.assistant_only_loss,
            last_turn_only=chat and recipe.last_turn_only,
            truncation_mode=recipe.truncation_mode,
            control_tokens=recipe.control_tokens,
            eos_token=recipe.eos_token or None,
            thinking=recipe.thinking,
        ),
        packing="bfd",
        pack_length=recipe.max_length,
    )
    chosen = rows if indices is None else rows.select(indices)
    places = {stored.name: np.arange(len(rows)) if indices is None else np.array(indices)}
    with rows_of_the_file(stored, places):
        packed, counts = prepare_dataset(chosen, plan, stored.name)
    for why, at in (("content is lost", counts.left_out), ("they are refused", counts.refused)):
        if len(at):
            words = stored.in_words(file_rows(stored, places, {stored.name: at}))
            print(f"Note: left out because {why}: {words}.", file=sys.stderr)
    columns = ("input_ids", "labels", "seq_lengths")
    save_rows(lambda: ({name: row[name] for name in columns} for row in packed), path)
    return len(packed)


def _report(
    stored: StoredDataset,
    counted: Counted | None,
    written: dict[str, tuple[Path, int]],
    as_json: bool,
) -> None:
    files = {part: {"path": str(path), "rows": rows} for part, (path, rows) in written.items()}
    more = counted.problems(stored.name) if counted else []
    report: dict[str, Any] = {
        "dataset_id": stored.id,
        "name": stored.name,
        "hash": stored.hash,
        "examples": stored.num_examples,
        "done": stored.done,
        "files": files,
        "problems": [problem.to_dict() for problem in by_weight(more, stored.problems)],
    }
    if counted:
        report["tokens"] = token_facts(counted.report, counted.recipe.max_length)
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
        return
    if stored.done:
        print(stored.done)
    for problem, _ in more:
        if problem.choices:  # content that the chat template omits
            print(f"Note: {problem.what} ({problem.where}) {problem.fix}", file=sys.stderr)
    for part, (path, rows) in written.items():
        what = counted_rows(rows, "packed row" if counted else "row")
        print(f"{what} {'held out' if part == 'held_out' else 'to train on'}: {path}")
