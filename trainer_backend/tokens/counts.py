"""Counts the tokens of a stored dataset for one tokenizer and template, once, on all cores.

How the numbers are summarised or shown is not known here.
"""

import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue
from typing import IO, Any, cast

import numpy as np
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.data.checks import KINDS, NO_STOP, Positions, is_set
from trainer_backend.data.formats import Example
from trainer_backend.data.store import LengthReport, StoredDataset, stored_report
from trainer_backend.data.store.length_report import NOT_LEARNED
from trainer_backend.errors import TrainingDataError, UserError
from trainer_backend.processes import child_environment
from trainer_backend.tokens.encode import TokenArrays, encode_arrays
from trainer_backend.tokens.refusals import SAMPLE, encode_each, mended_kinds
from trainer_backend.tokens.stopping import ends_learned, stop_ids
from trainer_backend.tokens.tokenise import IGNORED

VERSION = 4  # part of every key: raise it when counts change
ROWS_FOR_ONE_MORE = 40_000  # examples per process; starting one takes about two seconds
Progress = Callable[[int, int], None]  # (examples counted, examples in all)


@dataclass(frozen=True)
class CountJob:
    """Everything that counts depend on; pickled for the worker processes."""

    examples: Path  # a dataset's examples.parquet
    tokenizer: Tokenizer
    system_prompt: str = ""
    assistant_only_loss: bool = True
    chat_template_kwargs: dict | None = None
    control_tokens: str = "auto"  # how text that spells one is read
    eos_token: str | None = None  # ends answers where the template writes no end
    thinking: str = "auto"
    positions: Positions | None = None  # of the model
    last_turn_only: bool = False


@dataclass
class Counted:
    """The counts of one row group, as in LengthReport."""

    group: int
    rows: np.ndarray  # int64 [examples]: row numbers
    numbers: np.ndarray  # int32 [4, examples]: total, first, end, trained
    failures: list[tuple[int, str]]  # row number, and why the template refuses it
    content: np.ndarray  # int64 [examples]: what the template made of each kind of content


def token_lengths(
    dataset: StoredDataset,
    tokenizer: Tokenizer,
    *,
    system_prompt: str = "",
    assistant_only_loss: bool = True,
    chat_template_kwargs: dict | None = None,
    control_tokens: str = "auto",
    on_progress: Progress | None = None,
) -> LengthReport:
    """Token counts of every example; the stored report if nothing they depend on has changed.

    Raises UserError when a counting process dies.
    """
    job = CountJob(
        dataset.examples_path,
        tokenizer,
        system_prompt,
        assistant_only_loss,
        chat_template_kwargs,
        control_tokens,
    )
    counting = iter_token_lengths(dataset, job)
    while True:
        try:
            done = next(counting)
        except StopIteration as end:
            return end.value
        if on_progress:
            on_progress(*done)


def iter_token_lengths(
    dataset: StoredDataset, job: CountJob
) -> Generator[tuple[int, int], None, LengthReport]:
    """token_lengths() as a generator: yields (examples counted, in all), returns the report.

    Closing it ends the counting processes.
    """
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
        mended = _mended(dataset, report, job)
        report = replace(report, mended=mended, positions=job.positions)
        report.save(dataset.dir)
    yield len(report.rows), len(report.rows)
    return report


def _mended(dataset: StoredDataset, report: LengthReport, job: CountJob) -> tuple[str, ...]:
    """Lost kinds of content that the training template writes, judged by some of the rows."""
    kinds = [kind for kind in KINDS if is_set(report.content, kind, "lost").any()]
    at = [np.flatnonzero(is_set(report.content, kind, "lost"))[:SAMPLE] for kind in kinds]
    if not kinds:
        return ()
    examples = dataset.examples(np.unique(np.concatenate(at)).tolist())
    rows = [_as_row(job, example) for example in examples]
    return mended_kinds(rows, kinds, job.tokenizer, **_options(job, rows))


def count_key(job: CountJob) -> str:
    """Hash of everything that the counts of a dataset depend on, as 16 hex digits."""
    tokenizer = job.tokenizer
    backend = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else repr(tokenizer)
    flags = [job.system_prompt, job.assistant_only_loss, job.chat_template_kwargs]
    flags += [job.eos_token, job.thinking, job.control_tokens, job.positions]
    flags += ["last turn"] if job.last_turn_only else []  # else the key is that of older counts
    words = [tokenizer.chat_template, tokenizer.special_tokens_map]
    text = json.dumps([VERSION, backend, words, flags], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _joined(parts: list[Counted], key: str) -> LengthReport:
    parts = sorted(parts, key=lambda part: part.group)
    numbers = np.concatenate(
        [np.empty((4, 0), np.int32)] + [part.numbers for part in parts], axis=1
    )
    rows = np.concatenate([np.empty(0, np.int64)] + [part.rows for part in parts])
    failures = [failure for part in parts for failure in part.failures]
    content = np.concatenate([np.empty(0, np.int64)] + [part.content for part in parts])
    total, first, end, trained = numbers
    return LengthReport(rows, total, first, end, trained, failures, key, content)


def _count(job: CountJob, groups: list[int], num_examples: int) -> Iterator[Counted]:
    """Count in this process, or in one per core where there are enough examples."""
    processes = min(os.cpu_count() or 1, num_examples // ROWS_FOR_ONE_MORE, len(groups))
    if processes < 2:
        yield from count_groups(job, groups)
        return
    counted: Queue[Counted | int] = Queue()
    started = [_start(job, groups[at::processes]) for at in range(processes)]
    try:
        for process in started:
            threading.Thread(target=_read, args=(process, counted), daemon=True).start()
        for _ in range(len(groups) + processes):
            one = counted.get()
            if isinstance(one, Counted):
                yield one
            elif one != 0:
                raise UserError(
                    "Counting tokens stopped early, probably because memory ran out.",
                    f"a token counting process (exit code {one})",
                    "Close other programs, then try again.",
                    code="system_memory",
                )
    finally:
        for process in started:
            process.kill()
            process.wait()


def _start(job: CountJob, groups: Sequence[int]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", "from trainer_backend.tokens.counts import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1"),
    )
    given = cast(IO[bytes], process.stdin)  # PIPE was asked for
    try:
        pickle.dump((job, groups), given)
        given.close()
    except BrokenPipeError:
        pass  # it died while starting: its exit code is read below
    return process


def _read(process: subprocess.Popen[bytes], counted: Queue[Counted | int]) -> None:
    """Queue what a process has counted, then its exit code."""
    written = cast(IO[bytes], process.stdout)  # PIPE was asked for
    try:
        while True:
            counted.put(pickle.load(written))
    except (EOFError, OSError, ValueError, pickle.UnpicklingError):
        pass  # the process has ended, or died while writing
    finally:
        written.close()
        counted.put(process.wait())


# One row group, in this process or another


def count_groups(job: CountJob, groups: Sequence[int]) -> Iterator[Counted]:
    """Count the given row groups one after another, in this process."""
    with pq.ParquetFile(job.examples, memory_map=True) as file:
        for group in groups:
            columns = ["row", "messages", "text", "tools"]
            cells = file.read_row_group(group, columns=columns, use_threads=False).to_pydict()
            rows = [_row(job, *row) for row in zip(*(cells[c] for c in columns), strict=True)]
            numbers, content, refused = count_rows(rows, job)
            failures = [(cells["row"][at], reason) for at, reason in sorted(refused.items())]
            numbered = np.array(cells["row"], np.int64)
            yield Counted(group, numbered, numbers, failures, content)


def _row(
    job: CountJob, row: int, messages: str | None, text: str | None, tools: str | None
) -> dict:
    parsed = json.loads(messages) if messages else None
    return _as_row(job, Example(row, parsed, text, json.loads(tools) if tools else None))


def _as_row(job: CountJob, example: Example) -> dict:
    made = example.as_row(job.system_prompt)
    if job.chat_template_kwargs and "messages" in made:
        made["chat_template_kwargs"] = job.chat_template_kwargs
    return made


def count_rows(rows: list[dict], job: CountJob) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Numbers and content as in Counted, and by index why the template refuses a row."""
    numbers = np.zeros((4, len(rows)), np.int32)
    numbers[1] = NOT_LEARNED
    content = np.zeros(len(rows), np.int64)
    stops = stop_ids(job.tokenizer)
    encodings, refused = encode_each(rows, lambda some: _encoded(some, job))
    for at, encoding in enumerate(encodings):
        if encoding is not None:
            numbers[:, at] = _numbers(encoding)
            endless = 0 if ends_learned(encoding.labels, stops) else NO_STOP
            content[at] = encoding.ledger | endless
    return numbers, content, {at: _reason(error) for at, error in refused.items()}


def _encoded(rows: Sequence[Mapping], job: CountJob) -> list[TokenArrays]:
    return encode_arrays(rows, job.tokenizer, **_options(job, rows))


def _options(job: CountJob, rows: Sequence[Mapping]) -> dict[str, Any]:
    return {
        "assistant_only_loss": job.assistant_only_loss and "messages" in rows[0],
        "last_turn_only": job.last_turn_only and "messages" in rows[0],
        "eos_token": job.eos_token,
        "thinking": job.thinking,
        "control_tokens": job.control_tokens,
        "lost_content": "train_without",  # the report tells of it
    }


def _reason(error: TrainingDataError) -> str:
    return error.what.removeprefix("The chat template refuses this conversation: ")[:300]


def _numbers(encoding: TokenArrays) -> tuple[int, int, int, int]:
    learned = np.flatnonzero(encoding.labels[1:] != IGNORED)
    if not len(learned):
        return encoding.length, NOT_LEARNED, 0, 0
    return encoding.length, int(learned[0]) + 1, int(learned[-1]) + 2, len(learned)


def main() -> None:
    """Entry point of a counting process: reads (job, groups) from stdin, writes Counted to stdout.

    Both as pickles: the pipe is private to this process and its parent.
    """
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr  # libraries must not print between the pickles
    job, groups = pickle.load(sys.stdin.buffer)
    for counted in count_groups(job, groups):
        pickle.dump(counted, out)
        out.flush()
