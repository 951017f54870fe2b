"""Counts the tokens of some row groups of a dataset; also what a counting process does.

Which groups, in how many processes, and what is kept is token_lengths.py. Torch-free.
"""

import json
import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from trainer_backend.data.formats.example import Example
from trainer_backend.data.store.length_report import NOT_LEARNED
from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.encode import Encoding, encode_arrays
from trainer_backend.tokens.tokenise import IGNORED

FEW_FAILURES = 5  # in a batch; with more, every row is tried alone
REFUSALS = (TrainingDataError, TypeError, LookupError, AttributeError, ArithmeticError)


@dataclass(frozen=True)
class CountJob:
    """All that counting depends on; it travels to other processes."""

    examples: Path  # a dataset's examples.parquet
    tokenizer: object
    system_prompt: str = ""
    assistant_only_loss: bool = True
    chat_template_kwargs: dict | None = None


@dataclass
class Counted:
    """The numbers of one row group, as in LengthReport."""

    group: int
    rows: np.ndarray
    numbers: np.ndarray  # int32 (4, examples): total, first, end, trained
    failures: list[tuple[int, str]]
    spelled: np.ndarray  # rows whose text spells a control token of the model


def count_groups(job: CountJob, groups: Sequence[int]) -> Iterator[Counted]:
    """Count row groups one after another."""
    control = control_tokens(job.tokenizer)
    with pq.ParquetFile(job.examples, memory_map=True) as file:
        for group in groups:
            columns = ["row", "messages", "text", "tools"]
            cells = file.read_row_group(group, columns=columns, use_threads=False).to_pydict()
            rows = [_row(job, *row) for row in zip(*map(cells.get, columns), strict=True)]
            numbers, refused = count_rows(rows, job)
            failures = [(cells["row"][at], reason) for at, reason in sorted(refused.items())]
            numbered = np.array(cells["row"], np.int64)
            texts = [
                said or text or ""
                for said, text in zip(cells["messages"], cells["text"], strict=True)
            ]
            spelled = numbered[spelling(texts, control)]
            yield Counted(group, numbered, numbers, failures, spelled)


def control_tokens(tokenizer) -> list[str]:
    """The tokens that steer a model rather than being read, as they are spelled."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    names = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
    return sorted(name for name in names if len(name) > 2)


def spelling(texts: list[str], control: list[str]) -> list[int]:
    """Indices of the texts (JSON or plain) that hold one of these names."""
    joined = "\0".join(texts)
    held = [name for name in control if name[:2] in joined and name in joined]
    if not held:
        return []
    return [at for at, text in enumerate(texts) if any(name in text for name in held)]


def _row(job: CountJob, row: int, messages: str | None, text: str | None, tools) -> dict:
    said = messages and json.loads(messages)
    example = Example(row, said, text, tools and json.loads(tools))
    made = example.as_row(job.system_prompt)
    if job.chat_template_kwargs and "messages" in made:
        made["chat_template_kwargs"] = job.chat_template_kwargs
    return made


def count_rows(rows: list[dict], job: CountJob) -> tuple[np.ndarray, dict[int, str]]:
    """int32 (4, rows), and the reasons of rows that the template refuses."""
    numbers = np.zeros((4, len(rows)), np.int32)
    numbers[1] = NOT_LEARNED
    refused: dict[int, str] = {}
    left = list(range(len(rows)))
    while left:
        batch = left if len(refused) < FEW_FAILURES else left[:1]
        try:
            encodings = _encoded([rows[at] for at in batch], job)
        except REFUSALS as error:
            bad = batch[getattr(error, "index", 0)] if len(batch) > 1 else batch[0]
            if len(batch) > 1 and not hasattr(error, "index"):
                return _one_by_one(rows, job)
            refused[bad] = _reason(error)
            left.remove(bad)
            continue
        for at, encoding in zip(batch, encodings, strict=True):
            numbers[:, at] = _numbers(encoding)
        left = left[len(batch) :]
    return numbers, refused


def _one_by_one(rows: list[dict], job: CountJob) -> tuple[np.ndarray, dict[int, str]]:
    """For errors that do not say which row they are about."""
    parts = [count_rows([row], job) for row in rows]
    refused = {at: reasons[0] for at, (_, reasons) in enumerate(parts) if reasons}
    return np.concatenate([numbers for numbers, _ in parts], axis=1), refused


def _encoded(rows: list[dict], job: CountJob) -> list[Encoding]:
    masked = job.assistant_only_loss and "messages" in rows[0]
    return encode_arrays(rows, job.tokenizer, assistant_only_loss=masked)


def _reason(error: Exception) -> str:
    said = getattr(error, "what", None) or f"{type(error).__name__}: {error}"
    return said.removeprefix("The chat template refuses this conversation: ")[:300]


def _numbers(encoding: Encoding) -> tuple[int, int, int, int]:
    learned = np.flatnonzero(encoding.labels[1:] != IGNORED)
    if not len(learned):
        return encoding.length, NOT_LEARNED, 0, 0
    return encoding.length, int(learned[0]) + 1, int(learned[-1]) + 2, len(learned)


def main() -> None:
    """Read (job, groups) as a pickle from the process that started this one, write what is counted.

    Both ends are ours, over a pipe nobody else has; the pipe's end is the end of this process.
    """
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr  # what a library prints must not come in between
    job, groups = pickle.load(sys.stdin.buffer)
    for counted in count_groups(job, groups):
        pickle.dump(counted, out)
        out.flush()
