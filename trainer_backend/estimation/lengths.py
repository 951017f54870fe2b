"""Tokens of each row: counted with the model's tokenizer, or guessed from the stored texts.

Nothing is tokenised here. Which rows train, and in what batches, is not decided here.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from trainer_backend.data.checks import loses
from trainer_backend.data.store import LengthReport, StoredDataset
from trainer_backend.data.store.length_report import known_report, newest_report
from trainer_backend.data.store.pages import LENGTHS
from trainer_backend.recipe import Recipe

BYTES_A_TOKEN = 3.9  # of UTF-8, over languages and tokenizers; code and rare scripts have fewer
TOKENS_A_MESSAGE = 8  # that a chat template writes around one
IMAGE_TOKENS = 400  # of one picture; models differ from 64 to several thousand
SAMPLE = 200  # examples whose texts are read
GUESSED, OTHER_TOKENIZER = 0.3, 0.12  # how far a guess may be off, as a share


@dataclass(frozen=True, eq=False)
class RowLengths:
    """Tokens of each example before cutting, int64 [examples], and how sure they are.

    `first` is the position of the first learned token, `end` the one after the last. `spread` is 0
    for counted tokens, else the share by which they may be off. `key` names the arrays in caches.
    """

    total: np.ndarray
    first: np.ndarray
    end: np.ndarray
    trained: np.ndarray
    usable: np.ndarray  # bool: the chat template accepts the row, and it is not left out
    key: str
    spread: float = 0.0
    notes: tuple[str, ...] = field(default=())


def row_lengths(
    dataset: StoredDataset, recipe: Recipe, counted: LengthReport | None = None
) -> RowLengths:
    """The best that is known of the lengths of a dataset's examples."""
    leave_out = recipe.lost_content == "leave_out"
    if counted is not None and len(counted.rows) == dataset.num_examples:
        return of_report(counted, leave_out)
    report = known_report(dataset.dir, recipe)
    if report is not None and len(report.rows) == dataset.num_examples:
        return of_report(report, leave_out)
    report = newest_report(dataset.dir)
    if report is not None and len(report.rows) == dataset.num_examples:
        note = "Tokens were counted with another model or other settings; they may differ a little."
        return of_report(report, leave_out, OTHER_TOKENIZER, (note,))
    return guessed(dataset.dir, dataset.hash)


def of_report(
    report: LengthReport, leave_out: bool, spread: float = 0.0, notes: tuple[str, ...] = ()
) -> RowLengths:
    """The arrays of a length report; rows the template refuses, or that lose content, are out."""
    usable = report.total > 0
    if leave_out and len(report.content) == len(usable):
        usable &= ~loses(report.content)
    refused = int((report.total == 0).sum())
    if refused and not leave_out:
        notes += (f"The chat template refuses {refused:,} rows; they are not counted here.",)
    key = f"{report.key or id(report)}-{leave_out}-{spread}"
    arrays = (report.total, report.first, report.end, report.trained)
    total, first, end, trained = (np.asarray(one, np.int64) for one in arrays)
    return RowLengths(total, first, end, trained, usable, key, spread, notes)


@lru_cache(maxsize=8)
def guessed(folder: Path, stamp: str) -> RowLengths:
    """Lengths by characters: the tokens of some examples are guessed from their texts, and the
    others have as many for each character of their row."""
    characters = np.load(folder / LENGTHS, mmap_mode="r")
    with pq.ParquetFile(folder / "examples.parquet", memory_map=True) as file:
        numbers = file.read(columns=["row"])["row"].to_numpy()
        sample = _sample(file)
    at = np.searchsorted(characters[0], numbers)
    row_chars, answer_chars = (np.asarray(characters[which])[at] for which in (1, 2))
    tokens, bytes_a_char = _sampled_tokens(sample)
    known = row_chars[: len(tokens)].sum()
    ratio = tokens.sum() / known if known else 1 / BYTES_A_TOKEN
    total = np.maximum(np.rint(row_chars * ratio), 2).astype(np.int64)
    trained = np.rint(answer_chars * bytes_a_char / BYTES_A_TOKEN).astype(np.int64) + 2
    trained = np.minimum(trained, np.maximum(total - 1, 1))
    note = (
        "Tokens are guessed from the characters of the rows: steps and time are exact once they "
        "are counted."
    )
    return RowLengths(
        total,
        first=total - trained,
        end=total,
        trained=trained,
        usable=np.ones(len(total), bool),
        key=f"{folder.name}-{stamp}-guessed",
        spread=GUESSED,
        notes=(note,),
    )


def _sample(file: pq.ParquetFile) -> list[dict]:
    known = [name for name in ("messages", "text", "images") if name in file.schema_arrow.names]
    batches = file.iter_batches(batch_size=SAMPLE, columns=known)
    first = next(batches, None)
    return [] if first is None else first.to_pylist()


def _sampled_tokens(sample: list[dict]) -> tuple[np.ndarray, float]:
    """(tokens of each sampled example, UTF-8 bytes of a character)."""
    counts, characters, size = [], 0, 0
    for one in sample:
        text = one.get("messages") or one.get("text") or ""
        encoded = len(text.encode("utf-8", "surrogatepass"))
        characters, size = characters + len(text), size + encoded
        messages = text.count('"role"') if one.get("messages") else 0
        # JSON around each message: {"role":"user","content":""},
        written = max(encoded - 32 * messages, 1)
        images = (one.get("images") or "").count(".") * IMAGE_TOKENS
        counts.append(written / BYTES_A_TOKEN + TOKENS_A_MESSAGE * messages + images)
    return np.array(counts, np.float64), size / characters if characters else 1.0
