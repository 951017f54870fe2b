"""The rows of a stored dataset, tokenised as a run's trainer does it, without a trainer.

Rows that cannot be read are left out and named.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import ProcessorMixin

from trainer_backend.data.checks import positions_of
from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import UserError
from trainer_backend.evaluation.engine.losses import HeldOutRows
from trainer_backend.home import read_json
from trainer_backend.models.loaded.asking import Processing
from trainer_backend.models.loaded.pretrained import tokenizer_of
from trainer_backend.recipe import Recipe
from trainer_backend.runs.run import Run
from trainer_backend.runs.spec import FORMAT_VERSION
from trainer_backend.tokens.refusals import RowsRefused
from trainer_backend.tokens.stopping import set_end_token
from trainer_backend.tokens.training_rows import training_dataset
from trainer_backend.training.sft_config import SFTConfig
from trainer_backend.training.trainer_data import TrainerData


@dataclass(frozen=True)
class Prepared:
    """Rows with their tokens (None: none could be read), and what was left out, in words."""

    rows: HeldOutRows | None
    notes: list[str]


def reading_arguments(
    recipe: Recipe, is_chat: bool, started_on: str | None, as_written: bool
) -> dict[str, Any]:
    """The arguments of a trainer that decide how a row becomes tokens and labels."""
    same = ("max_length", "chat_template", "thinking", "lost_content", "control_tokens")
    return {
        **{name: getattr(recipe, name) for name in (*same, "truncation_mode")},
        "assistant_only_loss": recipe.assistant_only_loss and is_chat,
        "last_turn_only": recipe.last_turn_only and is_chat,
        "eos_token": recipe.eos_token or None,
        "template_date": started_on,
        "as_written": as_written,
    }


def prepared_rows(
    run: Run,
    recipe: Recipe,
    stored: StoredDataset,
    at: np.ndarray,
    processing: Processing,
    base: Path,
    scratch: str,
) -> Prepared:
    """The rows at these places, with the tokenizer of the run and the model in the folder `base`.

    Files are written to `scratch`.
    """
    spec = run.spec()
    day = date.fromtimestamp(spec["created_at"]).isoformat()
    as_written = spec["began_format"] < FORMAT_VERSION
    tokenizer = tokenizer_of(processing)
    config: dict[str, Any] = read_json(base / "config.json", {})
    set_end_token(tokenizer, recipe.eos_token)
    given = reading_arguments(recipe, stored.format != "text", day, as_written)
    args = SFTConfig(
        output_dir=scratch, report_to="none", save_strategy="no", disable_tqdm=True, **given
    )
    if args.lost_content == "ask":  # nobody is there to ask, and nothing is trained
        args.lost_content = "train_without"
    data = TrainerData(
        args=args,
        tokenizer=tokenizer,
        processor=processing if isinstance(processing, ProcessorMixin) else None,
        vocabulary=max(int(_text_config(config).get("vocab_size") or 0), len(tokenizer)),
        positions=positions_of(config),
    )
    rows = training_dataset(stored, recipe.system_prompt).select(at.tolist())
    return _read(data, rows, stored, at, recipe)


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _read(
    data: TrainerData, rows: Dataset, stored: StoredDataset, at: np.ndarray, recipe: Recipe
) -> Prepared:
    numbers = stored.row_numbers()[at]
    try:
        prepared = data.prepare(rows, "eval")
    except RowsRefused as error:
        bad = np.asarray(error.rows.get("eval", ()), np.int64)
        words = stored.in_words(numbers[bad])
        note = f"Without a loss: {words}, {error.what}"
        left = np.setdiff1d(np.arange(len(at)), bad)
        if not len(bad) or not len(left):
            return Prepared(None, [note])
        found = _read(data, rows.select(left.tolist()), stored, at[left], recipe)
        return Prepared(found.rows, [note, *found.notes])
    except UserError as error:
        return Prepared(None, [f"Without a loss: {error.what}"])
    counts = data.counts["eval"]
    notes = []
    if counts.dropped:
        notes.append(f"{counts.dropped:,} rows have no answer left to read and have no loss.")
    if counts.cut:
        notes.append(f"{counts.cut:,} rows are cut at {recipe.max_length} tokens for the loss.")
    held = HeldOutRows(prepared, data, recipe.per_device_train_batch_size)
    return Prepared(held, notes)
