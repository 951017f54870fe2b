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
from queue import Queue

import numpy as np
import pyarrow.parquet as pq

from trainer_backend.data.store.dataset import StoredDataset
from trainer_backend.data.store.length_report import LengthReport, stored_report
from trainer_backend.errors import UserError
from trainer_backend.processes import child_environment
from trainer_backend.tokens.token_counter import Counted, CountJob, count_groups

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
        [sys.executable, "-c", "from trainer_backend.tokens.token_counter import main; main()"],
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
