"""A whole dataset to token columns: rows are tokenised in batches, counted, dropped and packed.

How one row is read or tokenised is not decided here, and no tensor is made.
"""

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, IterableDataset, Json, Sequence, Value, concatenate_datasets
from datasets.fingerprint import Hasher
from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.data.formats import Reading, find_reading, first_rows
from trainer_backend.data.formats.example import TOKEN_COLUMNS
from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.encode import EncodeOptions, ExampleError, TokenArrays, encode_arrays
from trainer_backend.tokens.inputs import AnyDataset, Rows, as_dataset, columns_of
from trainer_backend.tokens.packing import pack_rows
from trainer_backend.tokens.stopping import (
    end_in_words,
    endless_rows,
    stop_ids,
    unlearned_end,
)
from trainer_backend.tokens.tokenise import IGNORED

logger = logging.getLogger(__name__)
BATCH = 1000  # rows tokenised at a time
# raised by a function written for batches when it is given a single row
_NOT_A_ROW = (TypeError, IndexError, KeyError, AttributeError, ValueError)
_TOKENS = Features(
    {
        "input_ids": Sequence(Value("int32")),
        "labels": Sequence(Value("int32")),
        "length": Value("int32"),
    }
)


@dataclass(frozen=True)
class Preparation:
    """How a dataset is prepared; `options` are those of encode()."""

    tokenizer: Tokenizer
    options: EncodeOptions
    text_field: str = "text"
    formatting_func: Callable | None = None
    packing: str | None = None  # a packing strategy, or None
    pack_length: int | None = None  # tokens of a packed row
    shuffle_seed: int | None = None
    num_proc: int | None = None
    vocabulary: int | None = None  # rows of the model's embedding
    on_rows: Callable[[int], None] | None = None  # called after each batch with the rows done
    reading: Reading | None = None  # how the columns are read; None: found from the first rows

    def key(self) -> str:
        """Hash of everything that the tokens depend on, for the cache of datasets."""
        tokenizer = self.tokenizer
        backend = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else repr(tokenizer)
        settings = (asdict(self.options), self.text_field, repr(self.reading))
        return Hasher.hash(
            [backend, tokenizer.chat_template, tokenizer.special_tokens_map, settings]
        )


@dataclass(frozen=True)
class Counts:
    """Numbers of rows: given, truncated, dropped because no token of theirs is trained, and
    endless: they teach answers, but no token that ends them."""

    rows: int = 0
    cut: int = 0
    dropped: int = 0
    endless: int = 0


def prepare_dataset(
    data: Rows, plan: Preparation, name: str = "train"
) -> tuple[AnyDataset, Counts]:
    """Tokenise, drop rows without a trained token, shuffle and pack, as `plan` asks.

    The result has the int32 lists `input_ids` and `labels`; packed rows also have `seq_lengths`,
    others keep their remaining columns. A stream is prepared as it is read and returns empty
    Counts. Raises TrainingDataError naming the row that cannot be used, or when none is left;
    ValueError for a dataset with a transform.
    """
    dataset = as_dataset(data, name)
    if isinstance(dataset, Dataset) and dataset.format["type"] == "custom":
        raise ValueError(
            f"The {name} dataset uses Dataset.with_transform(): preparation would freeze it. "
            "Use map(), or pass dataset_kwargs={'skip_prepare_dataset': True} and let it give "
            "trainer-ready rows (input_ids and labels)."
        )
    columns = columns_of(dataset)
    if plan.formatting_func is not None:
        dataset = apply_formatting(dataset, plan.formatting_func, columns, plan.text_field)
    plan = replace(plan, reading=reading_of(dataset, plan))
    if isinstance(dataset, IterableDataset):
        return _prepare_stream(dataset, plan), Counts()
    return _prepare_table(dataset, plan, name)


def reading_of(dataset: AnyDataset, plan: Preparation) -> Reading:
    """Find how the rows of a dataset are read, from its first rows; no image is opened."""
    looked, columns = dataset, dataset.column_names or ()
    if isinstance(dataset, Dataset):
        unseen = {name for name, kind in dataset.features.items() if _holds_files(kind)}
        wanted = [name for name in columns if name not in {*unseen, *TOKEN_COLUMNS}]
        looked = dataset.with_format(None, columns=wanted) if wanted else ()
    first = [row for _, row in first_rows(enumerate(looked))]
    return find_reading(first, columns, plan.text_field)


def _holds_files(kind: Any) -> bool:
    """Whether a feature decodes files when a cell is read: image, audio or video."""
    kind = getattr(kind, "feature", kind)
    return hasattr(kind, "decode_example") and not isinstance(kind, Json)


def _encode_rows(batch: Mapping, indices: list[int], plan: Preparation) -> list[TokenArrays]:
    assert plan.reading is not None
    chat = bool(getattr(plan.tokenizer, "chat_template", None))
    columns = list(batch)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    examples = []
    try:
        for row in rows:
            examples.append(plan.reading.example(row, chat))
        encodings = encode_arrays(examples, plan.tokenizer, **asdict(plan.options))
    except TrainingDataError as error:
        number = error.index if isinstance(error, ExampleError) else len(examples)
        at = indices[number] + 1
        raise TrainingDataError(error.what, f"row {at}, {error.where}", error.fix) from error
    if plan.on_rows is not None:
        plan.on_rows(indices[-1] + 1)
    return encodings


def _encode_table(batch: Mapping, indices: list[int], plan: Preparation) -> pa.Table:
    rows = _encode_rows(batch, indices, plan)
    starts = np.cumsum([0, *(len(row.input_ids) for row in rows)], dtype=np.int32)
    joined = [
        np.concatenate([np.zeros(0, np.int32), *parts])
        for parts in zip(*((row.input_ids, row.labels) for row in rows), strict=True)
    ]
    lists = [pa.ListArray.from_arrays(pa.array(starts), pa.array(values)) for values in joined]
    lengths = pa.array([row.length for row in rows], pa.int32())
    return pa.Table.from_arrays([*lists, lengths], names=list(_TOKENS))


def _encode_lists(batch: Mapping, indices: list[int], plan: Preparation) -> dict[str, list]:
    rows = _encode_rows(batch, indices, plan)
    return {
        "input_ids": [row.input_ids.tolist() for row in rows],
        "labels": [row.labels.tolist() for row in rows],
    }


def _teaches(labels: list[int]) -> bool:
    return any(label != IGNORED for label in labels[1:])


def _prepare_table(dataset: Dataset, plan: Preparation, name: str) -> tuple[Dataset, Counts]:
    workers = plan.num_proc if plan.num_proc and len(dataset) > BATCH else None
    if workers:
        plan = replace(plan, on_rows=None)  # a callback cannot be called from another process
    encoded = dataset.map(
        _encode_table,
        batched=True,
        batch_size=BATCH,
        with_indices=True,
        fn_kwargs={"plan": plan},
        remove_columns=dataset.column_names,
        features=_TOKENS,
        num_proc=workers,
        new_fingerprint=Hasher.hash([dataset._fingerprint, plan.key()]),
        desc=f"Tokenising {name} dataset",
    )
    limit = plan.options.max_length or plan.pack_length
    lengths = encoded.with_format("numpy")["length"][:]
    cut = int((lengths > limit).sum()) if limit and plan.packing in (None, "bfd") else 0
    encoded = encoded.remove_columns("length")
    _check_vocabulary(encoded, plan.vocabulary, name)
    endless = _endless(encoded, lengths, plan)
    kept = np.flatnonzero(_teaching(encoded))
    counts = Counts(len(encoded), cut, len(encoded) - len(kept), endless)
    rest = [c for c in dataset.column_names if c not in encoded.column_names]
    if plan.packing is None and rest:
        encoded = concatenate_datasets([dataset.select_columns(rest), encoded], axis=1)
    if counts.dropped:
        encoded = encoded.select(kept)
    if not len(encoded):
        raise TrainingDataError(
            f"No row of the {name} dataset has a token to train on.",
            f"{counts.rows:,} rows, max_length={limit}",
            "Raise the longest length, or check which part of a row is the answer.",
        )
    _log(counts, plan, name, limit)
    if plan.shuffle_seed is not None:
        encoded = encoded.shuffle(seed=plan.shuffle_seed)
    if plan.packing is not None:
        encoded = _pack(encoded, plan)
    return encoded, counts


def _tokens(dataset: Dataset, column: str) -> tuple[np.ndarray, np.ndarray]:
    """All tokens of a column in one array, and the offsets of its rows in it [rows + 1]."""
    lists = dataset.with_format("arrow")[:][column].combine_chunks()
    starts = np.append(0, np.cumsum(lists.value_lengths()))
    return lists.flatten().to_numpy(zero_copy_only=False), starts


def _teaching(dataset: Dataset) -> np.ndarray:
    """For each row, whether a token after its first is trained."""
    labels, starts = _tokens(dataset, "labels")
    learned = np.append(0, np.cumsum(labels != IGNORED))
    first = np.minimum(starts[:-1] + 1, starts[1:])
    return learned[starts[1:]] > learned[first]


def _check_vocabulary(dataset: Dataset, vocabulary: int | None, name: str) -> None:
    if vocabulary is None:
        return
    tokens, starts = _tokens(dataset, "input_ids")
    wrong = np.flatnonzero((tokens < 0) | (tokens >= vocabulary))
    if len(wrong):
        row = int(np.searchsorted(starts, wrong[0], side="right"))
        raise TrainingDataError(
            f"Token {tokens[wrong[0]]} does not exist in a model of {vocabulary} tokens.",
            f"{name} dataset, row {row}",
            "Use the tokenizer that belongs to the model, or resize its embedding first.",
        )


def _endless(dataset: Dataset, lengths: np.ndarray, plan: Preparation) -> int:
    """Number of rows that teach answers and no end of them; rows that are cut do not count."""
    limit = plan.options.max_length
    endless = endless_rows(*_tokens(dataset, "labels"), stop_ids(plan.tokenizer))
    return int((endless if limit is None else endless & (lengths <= limit)).sum())


def _pack(dataset: AnyDataset, plan: Preparation) -> AnyDataset:
    arguments = {
        "batched": True,
        "batch_size": BATCH,
        "fn_kwargs": {"max_length": plan.pack_length, "strategy": plan.packing},
    }
    return dataset.map(_pack_columns, remove_columns=["input_ids", "labels"], **arguments)


def _pack_columns(batch: Mapping, max_length: int, strategy: str) -> dict[str, list]:
    return pack_rows(batch["input_ids"], batch["labels"], max_length, strategy)


def _prepare_stream(dataset: IterableDataset, plan: Preparation) -> IterableDataset:
    encoded = dataset.map(
        _encode_lists,
        batched=True,
        batch_size=BATCH,
        with_indices=True,
        fn_kwargs={"plan": plan},
        remove_columns=columns_of(dataset),
    )
    encoded = encoded.filter(lambda row: _teaches(row["labels"]))
    if plan.shuffle_seed is not None:
        encoded = encoded.shuffle(seed=plan.shuffle_seed)
    return _pack(encoded, plan) if plan.packing is not None else encoded


def _log(counts: Counts, plan: Preparation, name: str, limit: int | None) -> None:
    if counts.cut:
        logger.warning(
            "%s of %s %s rows were truncated to %s tokens.", counts.cut, counts.rows, name, limit
        )
    if counts.dropped:
        logger.warning(
            "%s %s rows were dropped: no token of theirs is trained.", counts.dropped, name
        )
    if counts.endless:
        logger.warning(
            "%s End completions with %s, or set eos_token.",
            unlearned_end(counts.endless, counts.rows),
            end_in_words(plan.tokenizer) or "an end token",
        )


def refuse_masks_without_labels(data: AnyDataset, name: str) -> None:
    """Raise ValueError when a dataset that skips preparation has masks but no labels."""
    columns = data.column_names or ()
    if "labels" not in columns and {"completion_mask", "assistant_masks"} & set(columns):
        raise ValueError(
            f"The {name} dataset has masks but no labels, and skip_prepare_dataset=True ignores "
            "masks: every token would be trained. Add a 'labels' column with -100 where masked."
        )


# A formatting function of the user


def apply_formatting(
    dataset: AnyDataset, function: Callable, columns: list[str], text_field: str
) -> AnyDataset:
    """Replace all columns by `text_field`, filled with what `function` returns.

    It takes one row and returns a text, or, as older scripts write it, takes a batch and returns a
    list of texts. A tokenised dataset is returned as it is, with a warning.
    """
    if "input_ids" in columns:
        warnings.warn("formatting_func is ignored: the dataset is tokenised already.", stacklevel=5)
        return dataset
    if _takes_batches(function, next(iter(dataset), None)):
        return dataset.map(
            lambda batch: {text_field: function(batch)}, batched=True, remove_columns=columns
        )
    return dataset.map(lambda row: {text_field: function(row)}, remove_columns=columns)


def _takes_batches(function: Callable, row: dict | None) -> bool:
    if row is None:
        return False
    try:
        if isinstance(function(row), str):
            return False
    except _NOT_A_ROW:
        pass
    try:
        texts = function({name: [cell] for name, cell in row.items()})
    except _NOT_A_ROW:
        return False  # it fails either way: the error for one row is clearer
    return isinstance(texts, list) and len(texts) == 1 and isinstance(texts[0], str)
