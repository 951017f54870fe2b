"""Rows with images: rendered to text ahead of training, to tensors when their batch is collated.

The model's own processor makes the pixels, one batch at a time: those of a whole dataset would fill
the disk. No model is known here.
"""

import io
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset, Features, IterableDataset, List, Value, concatenate_datasets
from datasets.fingerprint import Hasher
from PIL import Image, UnidentifiedImageError
from transformers import ProcessorMixin

from trainer_backend.data.checks import NO_STOP
from trainer_backend.data.checks.control import SEEN_AS_TOKENS
from trainer_backend.data.formats import SYNONYMS, find_reading, without_nulls
from trainer_backend.data.images import IMAGE_MARK
from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.chat_template import render_prompt
from trainer_backend.tokens.collator import SFTCollator
from trainer_backend.tokens.control.conversations import rows_spelling, texts_of
from trainer_backend.tokens.control.spelling import JOINT, control_tokens
from trainer_backend.tokens.encode import text_plan
from trainer_backend.tokens.inputs import AnyDataset
from trainer_backend.tokens.prepare import (
    Counts,
    Preparation,
    count_rows,
    reading_of,
    refused_at,
    said_of,
)
from trainer_backend.tokens.refusals import RowsRefused
from trainer_backend.tokens.stopping import stop_words
from trainer_backend.tokens.tokenise import IGNORED, Plan

COLUMNS = ("images", "image")
ROW_COLUMNS = (
    *("text", "learned", *COLUMNS, "chat_template_kwargs"),
    *(name for names in SYNONYMS.values() for name in names),
)  # columns that an unprepared row may be read from
WIDTH = 1000  # rows rendered at a time
AnyImage: TypeAlias = Image.Image | str | Path | Mapping[str, Any]  # Mapping: {"bytes", "path"}
_SEEN = Features(
    {
        "text": Value("large_string"),
        "learned": List(List(Value("int32"))),
        "ledger": Value("int64"),
        "refused": Value("string"),
    }
)


def has_images(columns: Sequence[str]) -> bool:
    """Whether one of these columns holds images."""
    return bool(set(COLUMNS) & set(columns))


class ImageSettings(Protocol):
    """The settings of the trainer that matter for images."""

    packing: bool
    padding_free: bool | None
    truncation_mode: str
    max_length: int | None


def refuse_images(processor: ProcessorMixin | None, args: ImageSettings, name: str) -> None:
    """Raise TrainingDataError for a text-only model, ValueError for impossible settings."""
    if processor is None:
        raise TrainingDataError(
            "The dataset is vision-related: it has images. This model is no vision-language model; "
            "it reads only text.",
            f"the {name} dataset's image column",
            "Choose a model that reads images (pass its processor), or drop the image column.",
        )
    for setting in ("packing", "padding_free"):
        if getattr(args, setting):
            raise ValueError(f"{setting}=True is not possible with images. Switch it off.")
    if args.truncation_mode == "keep_end" and args.max_length is not None:
        raise ValueError("truncation_mode='keep_end' would cut off images. Use keep_start.")


def seen_row(
    row: Mapping[str, Any], count: int, processor: ProcessorMixin, plan: Preparation
) -> dict[str, Any]:
    """Render one row with `count` images as {"text", "learned": [[start, end), ...], "ledger"}.

    `learned` are the trained characters, `ledger` flags what became of the content. Raises
    TrainingDataError for a row that cannot be read, or whose text has another number of image
    marks than it has images.
    """
    cells = {key: cell for key, cell in row.items() if key not in COLUMNS and cell is not None}
    reading = plan.reading or find_reading([cells], (), plan.text_field)
    chat = bool(getattr(plan.tokenizer, "chat_template", None))
    example = reading.example(cells, chat, on_image=None)
    placed = _placed(example, count, processor, plan)
    options = replace(plan.options, lost_content="train_without")  # asked for all rows
    planned = text_plan(placed, plan.tokenizer, options)
    own_mark = getattr(processor, "image_token", IMAGE_MARK)
    places = planned.text.count(own_mark)
    if places != count:
        raise TrainingDataError(
            f"A row has {count} images and {places} image marks.",
            "columns “images” and “messages”",
            "Give as many image parts (or marks) as images, or none at all.",
        )
    spans = _learned_spans(planned)
    flags = planned.ledger | _spelled(placed, own_mark, plan)
    return {"text": planned.text, "learned": spans, "ledger": flags}


def _spelled(example: dict, own_mark: str, plan: Preparation) -> int:
    """The flag of texts that spell control tokens other than image marks: they will have them."""
    control = control_tokens(plan.tokenizer)
    others = control.names - {own_mark, IMAGE_MARK}
    found = rows_spelling([example], control) and plan.options.control_tokens != "tokens"
    texts = JOINT.join(texts_of(list(example.values()))) if found else ""
    return SEEN_AS_TOKENS if others & set(control.names_in(texts)) else 0


def prompt_text(messages: list[dict], count: int, processor: ProcessorMixin, **asked: Any) -> str:
    """The text a vision model sees before it answers, with a mark for each of `count` images.

    `asked` are the tools and template arguments of render_prompt().
    """
    own_mark = getattr(processor, "image_token", IMAGE_MARK)
    placed = [_in_parts(message, own_mark) for message in without_nulls(messages)]
    _put_first(placed, count)
    return render_prompt(placed, processor.tokenizer, **asked)


def _learned_spans(planned: Plan) -> list[list[int]]:
    spans = [[0, len(planned.text)]] if planned.spans is None else planned.spans
    begin = 0 if planned.prompt is None else _shared(planned.prompt, planned.text)
    return [[max(start, begin), end] for start, end in spans if end > max(start, begin)]


def _shared(prompt: str, text: str) -> int:
    """Length of the common prefix of a text and its prompt, in characters."""
    if text.startswith(prompt):
        return len(prompt)
    return next(i for i, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b)


def _placed(example: dict, count: int, processor: ProcessorMixin, plan: Preparation) -> dict:
    """The example with a mark for every image; plain text must have the model's own marks."""
    own_mark = getattr(processor, "image_token", IMAGE_MARK)
    plain = [example[key] for key in ("text", "prompt") if isinstance(example.get(key), str)]
    if plain and (own_mark in plain[0] or not plan.tokenizer.chat_template):
        return example
    if "text" in example:
        if count:
            raise TrainingDataError(
                f"A row has {count} images, and plain text without image marks.",
                f"column “{plan.text_field}”",
                f"Write {own_mark} where an image belongs, or give messages.",
            )
        return example
    if plain:
        example = {
            **example,
            "prompt": [{"role": "user", "content": example["prompt"]}],
            "completion": [{"role": "assistant", "content": example["completion"]}],
        }
    sides = [key for key in ("prompt", "messages", "completion") if key in example]
    sizes = [len(example[key]) for key in sides]
    messages = [_in_parts(m, own_mark) for key in sides for m in without_nulls(example[key])]
    _put_first(messages, count)
    rest = iter(messages)
    return {
        **example,
        **{key: [next(rest) for _ in range(n)] for key, n in zip(sides, sizes, strict=True)},
    }


def _in_parts(message: dict, own_mark: str) -> dict:
    """A message with its image marks as image parts; one without marks is left as it is."""
    content = message.get("content")
    if isinstance(content, str):
        pieces = re.split(f"{re.escape(IMAGE_MARK)}|{re.escape(own_mark)}", content)
        if len(pieces) == 1:
            return message
        parts = [[{"type": "image"}, {"type": "text", "text": piece}] for piece in pieces]
        flat = [part for pair in parts for part in pair][1:]
        return {**message, "content": [p for p in flat if p["type"] == "image" or p["text"]]}
    if not content:
        return message
    return {**message, "content": [_bare(part) for part in content]}


def _bare(part: Mapping) -> Mapping:
    """An image part without the image itself, which is in the row's image column."""
    return {"type": "image"} if part.get("type") in ("image", "image_url") else part


def _put_first(messages: list[dict], count: int) -> None:
    """Put the images at the start of the first user message unless the messages place them."""
    lists = [m["content"] for m in messages if isinstance(m.get("content"), list)]
    if count == 0 or any(part["type"] == "image" for content in lists for part in content):
        return
    for message in messages:
        if message["role"] == "user":
            content = message["content"]
            parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
            message["content"] = [{"type": "image"}] * count + parts
            return


def prepare_images(
    data: AnyDataset, plan: Preparation, processor: ProcessorMixin, name: str
) -> tuple[AnyDataset, Counts]:
    """Render every row: a dataset with `text`, `learned` and its image column, and Counts.

    Rows without a trained token are dropped; a stream is returned as it is, for the collator to
    render. Raises TrainingDataError naming the row that cannot be used, or when none is left.
    """
    if isinstance(data, IterableDataset) or data.format["type"] == "custom":
        return data, Counts()  # the collator reads each row as it comes
    column = next(c for c in COLUMNS if c in data.column_names)
    counts = _image_counts(data, column, name)
    inputs = [c for c in data.column_names if c not in COLUMNS]
    rows = data.select_columns(inputs)
    plan = replace(plan, reading=reading_of(rows, plan))
    seen = rows.map(
        _see_batch,
        batched=True,
        batch_size=WIDTH,
        with_indices=True,
        remove_columns=inputs,
        fn_kwargs={"plan": plan, "processor": processor, "counts": counts},
        features=_SEEN,
        new_fingerprint=Hasher.hash(
            [data._fingerprint, plan.key(), type(processor).__name__, counts.tolist()]
        ),
        desc=f"Rendering {name} dataset",
    )
    refused = refused_at(seen, plan, name)
    flags = np.asarray(seen["ledger"], np.int64)
    words = tuple(stop_words(plan.tokenizer))
    endless = np.array(
        [
            bool(spans) and not text[spans[-1][0] : spans[-1][1]].rstrip().endswith(words)
            for text, spans in zip(seen["text"], seen["learned"], strict=True)
        ],
        bool,
    )
    counted, kept = count_rows(
        np.array([bool(spans) for spans in seen["learned"]], bool),
        flags | np.where(endless, NO_STOP, 0),
        refused,
        plan,
    )
    if not len(kept):
        raise TrainingDataError(
            f"No row of the {name} dataset has a token to train on.",
            f"{len(seen):,} rows",
            "Check which part of a row is the answer.",
        )
    seen = seen.remove_columns(["ledger", "refused"])
    prepared = concatenate_datasets([data.select_columns([column]), seen], axis=1)
    return prepared.select(kept) if len(kept) < len(prepared) else prepared, counted


def _see_batch(
    batch: Mapping,
    indices: list[int],
    plan: Preparation,
    processor: ProcessorMixin,
    counts: np.ndarray,
) -> dict[str, list]:
    columns, seen = list(batch), []
    for cells, at in zip(zip(*batch.values(), strict=True), indices, strict=True):
        row = dict(zip(columns, cells, strict=True))
        try:
            seen.append(seen_row(row, int(counts[at]), processor, plan) | {"refused": None})
        except TrainingDataError as error:
            nothing = {"text": "", "learned": [], "ledger": 0}
            seen.append(nothing | {"refused": said_of(error)})
    if plan.on_rows is not None:
        plan.on_rows(indices[-1] + 1)
    return {key: [row[key] for row in seen] for key in _SEEN}


def _image_counts(data: Dataset, column: str, name: str) -> np.ndarray:
    """Number of images of each row; none is decoded, but a missing file raises here."""
    cells = data.with_format("arrow")[:][column].combine_chunks()
    if pa.types.is_list(cells.type) or pa.types.is_large_list(cells.type):
        counts = pc.fill_null(pc.list_value_length(cells), 0).to_numpy(zero_copy_only=False)
        images = cells.flatten()
    else:
        counts = cells.is_valid().to_numpy(zero_copy_only=False).astype(int)
        images = cells.drop_null()
    rows = np.repeat(np.arange(len(counts)), counts)
    for row, path in zip(rows, _paths(images), strict=True):
        if path and not Path(path).is_file():
            raise RowsRefused(
                {name: [int(row)]},
                "An image file is missing.",
                f"row {row + 1} of the {name} dataset: {path}",
                "Put the file there, correct its path, or drop the row.",
                str(path),
                can_leave_out=False,
            )
    return counts


def _paths(images: pa.Array) -> list[str | None]:
    """Paths of images that are files; None for those whose bytes are in the dataset."""
    if pa.types.is_string(images.type):
        return images.to_pylist()
    if not pa.types.is_struct(images.type):
        return [None] * len(images)
    held = pc.is_valid(images.field("bytes")).to_pylist()
    return [
        None if h else path for h, path in zip(held, images.field("path").to_pylist(), strict=True)
    ]


@dataclass
class VisionCollator:
    """Collate rendered rows with their images; `plan` renders rows that come unprepared."""

    processor: ProcessorMixin
    plan: Preparation
    max_length: int | None = None  # in tokens
    pad_to_multiple_of: int | None = None
    text_rows: SFTCollator | None = None  # for tokenised datasets beside those with images

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return `input_ids`, `attention_mask` and `labels` [rows, tokens], and pixels.

        Labels are masked by the characters their tokens come from. Raises TrainingDataError for an
        unreadable image, or when `max_length` cuts through one.
        """
        if self.text_rows is not None and "input_ids" in rows[0]:
            return self.text_rows(rows)
        images = [_images(row) for row in rows]
        seen = [
            row if "learned" in row else seen_row(row, len(own), self.processor, self.plan)
            for row, own in zip(rows, images, strict=True)
        ]
        batch = self._process([row["text"] for row in seen], images)
        places, moves = batch.pop("offset_mapping"), batch.pop("text_replacement_offsets")
        labels = batch["input_ids"].clone()
        for at, row in enumerate(seen):
            labels[at, ~_learned(row["learned"], places[at], moves[at])] = IGNORED
        labels[batch["attention_mask"] == 0] = IGNORED
        return self._cut({**batch, "labels": labels})

    def _process(self, texts: list[str], images: list[list]) -> dict[str, Any]:
        given = {"images": images} if any(images) else {}
        settings: dict[str, Any] = {
            "padding": True,
            "padding_side": "right",
            "return_tensors": "pt",
        }
        if self.pad_to_multiple_of:
            settings["pad_to_multiple_of"] = self.pad_to_multiple_of
        asked = {"return_offsets_mapping": True, "return_text_replacement_offsets": True}
        return dict(
            self.processor(text=texts, add_special_tokens=False, **given, **settings, **asked)
        )

    def _cut(self, batch: dict[str, Any]) -> dict[str, Any]:
        width, limit = batch["input_ids"].shape[1], self.max_length
        if limit is None or width <= limit:
            return batch
        marker = getattr(self.processor, "image_token_id", None)
        if marker is not None and (batch["input_ids"][:, limit:] == marker).any():
            raise TrainingDataError(
                f"The limit of {limit} tokens cuts through an image.",
                f"max_length={limit}, and a batch of {width} tokens",
                "Raise max_length, set it to None, or use smaller images.",
            )
        shape = batch["input_ids"].shape
        return {k: v[:, :limit] if v.shape[:2] == shape else v for k, v in batch.items()}


def _learned(
    spans: Sequence[Sequence[int]], places: torch.Tensor, moves: Sequence[Mapping]
) -> torch.Tensor:
    """Whether each token holds a trained character, bool [tokens].

    The processor replaces each image mark by many; `places` [tokens, 2] are characters of that
    longer text, and `moves` lists the replacements, from which the offsets of `spans` follow.
    """
    ends = [move["span"][1] for move in moves]
    gained = [0, *(move["new_span"][1] - move["span"][1] for move in moves)]
    kept = torch.zeros(len(places), dtype=torch.bool)
    for span in spans:
        start, end = (place + gained[bisect_right(ends, place)] for place in span)
        kept |= (places[:, 0] < end) & (places[:, 1] > start)
    return kept


def _images(row: Mapping[str, Any]) -> list[Any]:
    found = row.get("images") if row.get("images") is not None else row.get("image")
    found = [] if found is None else found if isinstance(found, list | tuple) else [found]
    return [open_image(image) for image in found]


def open_image(image: AnyImage | Any) -> Image.Image | Any:
    """An image in RGB, from a path, {"bytes", "path"} or a PIL image; anything else is returned.

    Raises TrainingDataError when the image cannot be read.
    """
    source = image
    if isinstance(image, Mapping):
        data = image.get("bytes")
        source = image.get("path") if data is None else io.BytesIO(data)
    if isinstance(source, Image.Image):
        return source.convert("RGB")
    if not isinstance(source, str | Path | io.BytesIO):
        return source
    try:
        return Image.open(source).convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise TrainingDataError(
            f"An image cannot be read: {error}.",
            f"image {source}" if isinstance(source, str | Path) else "an image in the dataset",
            "Check its path, or drop the row.",
        ) from error
