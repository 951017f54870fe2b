"""A whole dataset to token columns: rows are tokenised in batches, counted, dropped and packed.

How one row is read or tokenised is not decided here, and no tensor is made.
"""

import json
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, IterableDataset, Json, Sequence, Value, concatenate_datasets
from datasets.fingerprint import Hasher
from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.data.checks import (
    NO_STOP,
    Positions,
    content_findings,
    loses,
    lost_kinds,
)
from trainer_backend.data.formats import Reading, find_reading, first_rows
from trainer_backend.data.formats.example import TOKEN_COLUMNS
from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.encode import EncodeOptions, TokenArrays, encode_arrays
from trainer_backend.tokens.inputs import AnyDataset, Rows, as_dataset, columns_of
from trainer_backend.tokens.packing import pack_rows
from trainer_backend.tokens.prepared.token_columns import check_vocabulary, endless_at, teaching_at
from trainer_backend.tokens.refusals import (
    ContentLost,
    beyond,
    encode_each,
    refused_rows,
)
from trainer_backend.tokens.stopping import (
    end_in_words,
    stop_ids,
    unlearned_end,
)
from trainer_backend.tokens.tokenise import IGNORED

logger = logging.getLogger(__name__)
BATCH = 1000  # rows tokenised at a time
_said: set[str] = set()  # findings about streams, each said once
_NOTHING = TokenArrays(np.zeros(0, np.int32), np.zeros(0, np.int32), 0)
# raised by a function written for batches when it is given a single row
_NOT_A_ROW = (TypeError, IndexError, KeyError, AttributeError, ValueError)
_TOKENS = Features(
    {
        "input_ids": Sequence(Value("int32")),
        "labels": Sequence(Value("int32")),
        "length": Value("int32"),
        "ledger": Value("int64"),
        "refused": Value("string"),
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
    positions: Positions | None = None  # of the model
    lost_content: str = "train_without"  # or "leave_out" (refused rows too), or "ask" (raises)

    def key(self) -> str:
        """Hash of everything that the tokens depend on, for the cache of datasets."""
        tokenizer = self.tokenizer
        backend = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else repr(tokenizer)
        settings = (asdict(self.options), self.text_field, repr(self.reading))
        return Hasher.hash(
            [backend, tokenizer.chat_template, tokenizer.special_tokens_map, settings]
        )


def _no_rows() -> np.ndarray:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Counts:
    """Numbers of rows: given, truncated, dropped because no token of theirs is trained, and
    endless: they teach answers, but no token that ends them.

    `content` are the flags of every row given, int64 [rows]: what its chat template made of each
    kind of content. `left_out` are the indices of rows that lose one, if they are left out, and
    `refused` those that cannot become text.
    """

    rows: int = 0
    cut: int = 0
    dropped: int = 0
    endless: int = 0
    content: np.ndarray = field(default_factory=_no_rows, compare=False, repr=False)
    left_out: np.ndarray = field(default_factory=_no_rows, compare=False, repr=False)
    refused: np.ndarray = field(default_factory=_no_rows, compare=False, repr=False)

    @property
    def given(self) -> int:
        """The rows without those that a decision leaves out."""
        return self.rows - len(self.left_out) - len(self.refused)


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


def _encode_rows(
    batch: Mapping, indices: list[int], plan: Preparation
) -> tuple[list[TokenArrays | None], dict[int, TrainingDataError]]:
    """The rows in order, None where one cannot be used, and by position why."""
    assert plan.reading is not None
    chat = bool(getattr(plan.tokenizer, "chat_template", None))
    columns, examples, refused = list(batch), {}, {}
    for at, values in enumerate(zip(*batch.values(), strict=True)):
        try:
            examples[at] = plan.reading.example(dict(zip(columns, values, strict=True)), chat)
        except TrainingDataError as error:
            refused[at] = error
    options = asdict(plan.options) | {"lost_content": "train_without"}  # asked for all rows
    found, more = encode_each(
        list(examples.values()), lambda rows: encode_arrays(rows, plan.tokenizer, **options)
    )
    places = list(examples)
    encoded: list[TokenArrays | None] = [None] * len(indices)
    for at, one in zip(places, found, strict=True):
        encoded[at] = one
    if plan.on_rows is not None:
        plan.on_rows(indices[-1] + 1)
    return encoded, refused | {places[at]: error for at, error in more.items()}


def _encode_table(batch: Mapping, indices: list[int], plan: Preparation) -> pa.Table:
    encoded, refused = _encode_rows(batch, indices, plan)
    rows = [_NOTHING if row is None else row for row in encoded]
    starts = np.cumsum([0, *(len(row.input_ids) for row in rows)], dtype=np.int32)
    joined = [
        np.concatenate([np.zeros(0, np.int32), *parts])
        for parts in zip(*((row.input_ids, row.labels) for row in rows), strict=True)
    ]
    lists = [pa.ListArray.from_arrays(pa.array(starts), pa.array(values)) for values in joined]
    numbers = [pa.array([row.length for row in rows], pa.int32())]
    numbers.append(pa.array([row.ledger for row in rows], pa.int64()))
    errors = [refused.get(at) for at in range(len(rows))]
    words = [error and said_of(error) for error in errors]
    return pa.Table.from_arrays([*lists, *numbers, pa.array(words, pa.string())], list(_TOKENS))


def _encode_lists(batch: Mapping, indices: list[int], plan: Preparation) -> dict[str, list]:
    encoded, refused = _encode_rows(batch, indices, plan)
    if refused and plan.lost_content != "leave_out":
        raise refused_rows({indices[at]: error for at, error in refused.items()}, "train")
    rows = [row for row in encoded if row is not None]
    flags = np.array([row.ledger for row in rows], np.int64)
    if loses(flags).any():
        rows = _decide_stream(rows, flags, plan)
    return {
        "input_ids": [row.input_ids.tolist() for row in rows],
        "labels": [row.labels.tolist() for row in rows],
    }


def _decide_stream(
    rows: list[TokenArrays], flags: np.ndarray, plan: Preparation
) -> list[TokenArrays]:
    """The rows of one batch of a stream that are trained, although a kind of content is lost."""
    lost = loses(flags)
    if plan.lost_content == "leave_out":
        return [row for row, without in zip(rows, lost, strict=True) if not without]
    if plan.lost_content == "ask" and (kinds := lost_kinds(flags)):
        raise ContentLost(kinds, {"train": flags})
    for kind, _ in content_findings(flags):
        if kind.what not in _said:
            _said.add(kind.what)
            logger.warning("%s %s", kind.what, kind.fix)
    return rows


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
        new_fingerprint=Hasher.hash([dataset._fingerprint, plan.key(), list(_TOKENS)]),
        desc=f"Tokenising {name} dataset",
    )
    limit = plan.options.max_length or plan.pack_length
    facts = encoded.select_columns(["length", "ledger"]).with_format("numpy")
    lengths, flags = facts["length"][:], facts["ledger"][:]
    refused = refused_at(encoded, plan, name)
    cut = int((lengths > limit).sum()) if limit and plan.packing in (None, "bfd") else 0
    encoded = encoded.remove_columns(["length", "ledger", "refused"])
    check_vocabulary(encoded, plan.vocabulary, name)
    endless = endless_at(encoded, lengths, _kept_to(plan), stop_ids(plan.tokenizer))
    flags = flags | np.where(endless, NO_STOP, 0) | beyond(lengths, limit, plan.positions, name)
    counts, kept = count_rows(teaching_at(encoded), flags, refused, plan)
    counts = replace(counts, cut=cut)
    rest = [c for c in dataset.column_names if c not in encoded.column_names]
    if plan.packing is None and rest:
        encoded = concatenate_datasets([dataset.select_columns(rest), encoded], axis=1)
    if len(kept) < len(encoded):
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


def _kept_to(plan: Preparation) -> int | None:
    """The tokens after which a row loses its end; None if it never does."""
    return None if plan.options.truncation_mode == "keep_end" else plan.options.max_length


def count_rows(
    teaching: np.ndarray, flags: np.ndarray, refused: np.ndarray, plan: Preparation
) -> tuple[Counts, np.ndarray]:
    """The counts of a dataset, without `cut`, and the indices of the rows that are kept.

    `teaching` bool [rows]: rows with a trained token; `flags` int64 [rows]; `refused` are indices.
    """
    usable = np.ones(len(flags), bool)
    usable[refused] = False
    left_out = usable & loses(flags) if plan.lost_content == "leave_out" else usable & False
    counts = Counts(
        rows=len(flags),
        dropped=int((usable & ~left_out & ~teaching).sum()),
        endless=int((flags & NO_STOP != 0).sum()),
        content=flags,
        left_out=np.flatnonzero(left_out),
        refused=refused,
    )
    return counts, np.flatnonzero(usable & ~left_out & teaching)


def said_of(error: TrainingDataError) -> str:
    """What an error says of a row, as refused_at() reads it."""
    return json.dumps([error.what, error.where, error.fix])


def refused_at(encoded: Dataset, plan: Preparation, name: str) -> np.ndarray:
    """Indices of the rows that cannot become text. Raises RowsRefused unless they are left out."""
    words = encoded.with_format("arrow")[:]["refused"]
    if words.null_count == len(words):
        return _no_rows()
    at = np.flatnonzero(words.is_valid().to_numpy())
    if plan.lost_content != "leave_out" or len(at) == len(encoded):
        reasons = zip(at.tolist(), words.take(pa.array(at)).to_pylist(), strict=True)
        raise refused_rows(
            {row: TrainingDataError(*json.loads(said)) for row, said in reasons}, name
        )
    return at


def _pack(dataset: AnyDataset, plan: Preparation) -> AnyDataset:
    how: dict[str, Any] = {"strategy": plan.packing, "max_length": plan.pack_length}
    how["truncation_mode"] = plan.options.truncation_mode
    arguments = {"batched": True, "batch_size": BATCH, "fn_kwargs": how}
    return dataset.map(_pack_columns, remove_columns=["input_ids", "labels"], **arguments)


def _pack_columns(batch: Mapping, **how: Any) -> dict[str, list]:
    return pack_rows(batch["input_ids"], batch["labels"], **how)


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
