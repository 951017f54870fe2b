"""Tokens of a whole dataset with one model's tokenizer and template: counted once, on all cores.

What the numbers say is length_report.py; one row group is counted in token_counter.py.
"""

import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

import numpy as np
import pyarrow.parquet as pq

from trainer_backend.data.formats import Example
from trainer_backend.data.store import LengthReport, StoredDataset, stored_report
from trainer_backend.data.store.length_report import NOT_LEARNED
from trainer_backend.errors import TrainingDataError, UserError
from trainer_backend.processes import child_environment
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


VERSION = 2  # part of every key: counting otherwise makes other files
ROWS_FOR_ONE_MORE = 40_000  # another process takes about two seconds to start
Progress = Callable[[int, int], None]  # (examples counted, examples in all)


def token_lengths(
    dataset: StoredDataset,
    tokenizer,
    *,
    system_prompt: str = "",
    assistant_only_loss: bool = True,
    chat_template_kwargs: dict | None = None,
    on_progress: Progress | None = None,
) -> LengthReport:
    """Count every example, or return what was counted before with all of this the same."""
    job = CountJob(
        dataset.examples_path, tokenizer, system_prompt, assistant_only_loss, chat_template_kwargs
    )
    counting = iter_token_lengths(dataset, job)
    while True:
        try:
            done = next(counting)
        except StopIteration as end:
            return end.value
        if on_progress:
            on_progress(*done)


def iter_token_lengths(dataset: StoredDataset, job: CountJob) -> Iterator[tuple[int, int]]:
    """The same as a generator of progress that returns the report; closing it ends all of it."""
    key = count_key(job)
    report = stored_report(dataset.dir, key)
    if report is None:
        total, done, parts = dataset.num_examples, 0, []
        yield 0, total
        with pq.ParquetFile(job.examples) as file:
            groups = list(range(file.num_row_groups))
        for counted in _count(job, groups, total):
            parts.append(counted)
            done += len(counted.rows)
            yield done, total
        report = _joined(parts, key)
        report.save(dataset.dir)
    yield len(report.rows), len(report.rows)
    return report


def count_key(job: CountJob) -> str:
    """Names everything that the counts of a dataset depend on, as 16 hex digits."""
    tokenizer = job.tokenizer
    backend = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else repr(tokenizer)
    flags = [job.system_prompt, job.assistant_only_loss, job.chat_template_kwargs]
    words = [tokenizer.chat_template, tokenizer.special_tokens_map]
    said = json.dumps([VERSION, backend, words, flags], sort_keys=True, default=str)
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _joined(parts: list[Counted], key: str) -> LengthReport:
    parts = sorted(parts, key=lambda part: part.group)
    numbers = np.concatenate(
        [np.empty((4, 0), np.int32)] + [part.numbers for part in parts], axis=1
    )
    rows = np.concatenate([np.empty(0, np.int64)] + [part.rows for part in parts])
    failures = [failure for part in parts for failure in part.failures]
    spelled = np.concatenate([np.empty(0, np.int64)] + [part.spelled for part in parts])
    return LengthReport(rows, *numbers, failures=failures, spelled=spelled, key=key)


def _count(job: CountJob, groups: list[int], num_examples: int) -> Iterator[Counted]:
    """Count in this process, or in as many as there are cores if that pays."""
    processes = min(os.cpu_count() or 1, num_examples // ROWS_FOR_ONE_MORE, len(groups))
    if processes < 2:
        yield from count_groups(job, groups)
        return
    shares = [groups[at::processes] for at in range(processes)]
    counted: Queue = Queue()
    started = [_start(job, share) for share in shares]
    try:
        for process in started:
            threading.Thread(target=_read, args=(process, counted), daemon=True).start()
        for _ in range(len(groups) + processes):
            one = counted.get()
            if isinstance(one, Counted):
                yield one
            elif one != 0:
                raise UserError(
                    "Counting tokens ended early, most likely because memory ran out.",
                    f"a process that counts tokens (exit code {one})",
                    "End other programs, then try again.",
                    code="system_memory",
                )
    finally:
        for process in started:
            process.kill()
            process.wait()


def _start(job: CountJob, groups: Sequence[int]) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", "from trainer_backend.tokens.counts import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1"),
    )
    try:
        pickle.dump((job, groups), process.stdin)
        process.stdin.close()
    except BrokenPipeError:
        pass  # it died at its start: reading from it tells
    return process


def _read(process: subprocess.Popen, counted: Queue) -> None:
    """Hand on what a process has counted, and at last its exit code."""
    try:
        while True:
            counted.put(pickle.load(process.stdout))
    except (EOFError, OSError, ValueError, pickle.UnpicklingError):
        pass  # its end, or its death while it wrote
    finally:
        process.stdout.close()
        counted.put(process.wait())
