"""The command prepare: data cleaned by safe fixes, written as messages or as packed tokens.

The options are in __main__.py; fixes are data/versions.py, tokens data/prepare.py.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer_backend.cli.data import (
    bar,
    by_weight,
    clear_bar,
    count_tokens,
    counting_recipe,
    read_data,
    token_facts,
)
from trainer_backend.data.formats import Example
from trainer_backend.data.store import LengthReport, StoredDataset, apply_fixes, save_rows
from trainer_backend.errors import UserError
from trainer_backend.recipe import Recipe

FORMATS = ("jsonl", "parquet")


def do_prepare(home: Path, arguments: argparse.Namespace) -> int:
    """Clean data and write it; print what was done and where it is."""
    targets = _targets(arguments)
    split = {"eval_fraction": arguments.eval_fraction, "seed": arguments.seed}
    Recipe.from_dict(split, "--eval-fraction, --seed")  # refuses what cannot be
    stored, counted, recipe = read_data(home, arguments), None, None
    if stored.num_examples == 0:
        first = stored.problems[0]
        raise UserError(first.what, first.where, first.fix)
    if arguments.model:
        recipe = counting_recipe(arguments.model, arguments.max_length)
        counted = count_tokens(home, stored, recipe, arguments.json)
    if arguments.fix:
        stored = _fixed(home, stored, counted, recipe, arguments)
        if counted:
            counted = count_tokens(home, stored, recipe, arguments.json)
    train, held_out = stored.split(arguments.eval_fraction, arguments.seed)
    parts = {"train": train, "held_out": held_out} if "held_out" in targets else {"train": None}
    written = _write(home, stored, recipe, parts, targets)
    _say(stored, counted, recipe, written, arguments.json)
    return 0


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
                "There is such a file already.", str(path), "Choose another name or --overwrite."
            )
    return targets


def _fixed(
    home: Path,
    stored: StoredDataset,
    counted: LengthReport | None,
    recipe: Recipe | None,
    arguments: argparse.Namespace,
) -> StoredDataset:
    """The version with the fixes of --fix; those of token lengths name their rows themselves."""
    by_tokens = counted.problems(recipe.max_length, stored.name) if counted else []
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
            rows[problem.code] = np.union1d(rows.get(problem.code, ()), numbers)
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
    """Write the parts that have rows; {part: (file, rows)}."""
    written = {}
    for part, indices in parts.items():
        count = stored.num_examples if indices is None else len(indices)
        if not count:
            targets[part].unlink(missing_ok=True)  # of an earlier time
            continue
        if recipe:
            count = _write_tokens(home, stored, recipe, indices, targets[part])
        else:
            save_rows(lambda chosen=indices: map(_row, stored.examples(chosen)), targets[part])
        written[part] = (targets[part], count)
    pictures = stored.dir / "images"
    if pictures.is_dir() and not recipe:
        shutil.copytree(pictures, targets["train"].parent / "images", dirs_exist_ok=True)
    return written


def _row(example: Example) -> dict:
    if example.messages is None:
        return {"text": example.text}
    row = {"messages": example.messages}
    if example.tools:
        row["tools"] = example.tools
    return row | {"images": example.images} if example.images else row


def _write_tokens(
    home: Path, stored: StoredDataset, recipe: Recipe, indices: list[int] | None, path: Path
) -> int:
    """Packed rows of input_ids, labels and seq_lengths, as SFTTrainer takes them; their number."""
    from trainer_backend.serving.process.token_view import count_job
    from trainer_backend.tokens.encode import EncodeOptions
    from trainer_backend.tokens.prepare import Preparation, prepare_dataset
    from trainer_backend.tokens.training_rows import training_dataset

    rows = training_dataset(stored, recipe.system_prompt)
    if "images" in rows.column_names:
        fix = "Leave --model out: rows with pictures are turned into tokens when they train."
        raise UserError("Rows with pictures cannot be packed as tokens.", stored.name, fix)
    chat = stored.format != "text"
    plan = Preparation(
        tokenizer=count_job(home, stored, recipe).tokenizer,
        options=EncodeOptions(
            max_length=None, assistant_only_loss=chat and recipe.assistant_only_loss
        ),
        packing="bfd",
        pack_length=recipe.max_length,
    )
    chosen = rows if indices is None else rows.select(indices)
    packed, _ = prepare_dataset(chosen, plan, stored.name)
    columns = ("input_ids", "labels", "seq_lengths")
    save_rows(lambda: ({name: row[name] for name in columns} for row in packed), path)
    return len(packed)


def _say(
    stored: StoredDataset,
    counted: LengthReport | None,
    recipe: Recipe | None,
    written: dict[str, tuple[Path, int]],
    as_json: bool,
) -> None:
    files = {part: {"path": str(path), "rows": rows} for part, (path, rows) in written.items()}
    more = counted.problems(recipe.max_length, stored.name) if counted else []
    report = {
        "dataset_id": stored.id,
        "name": stored.name,
        "hash": stored.hash,
        "examples": stored.num_examples,
        "done": stored.done,
        "files": files,
        "problems": [problem.to_dict() for problem in by_weight(more, stored.problems)],
    }
    if counted:
        report["tokens"] = token_facts(counted, recipe.max_length)
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
        return
    if stored.done:
        print(stored.done)
    for part, (path, rows) in written.items():
        what = "packed rows" if recipe else "rows"
        print(f"{rows:,} {what} {'held out' if part == 'held_out' else 'to train on'}: {path}")
