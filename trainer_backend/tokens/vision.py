"""Batches with pictures: rendered rows and their images to tensors, by the model's own processor.

Pictures become pixels when their batch is made: a whole dataset of pixels would fill the disk.
What a row's text is and what of it is learned is vision_rows.py.
"""

import io
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset, Features, IterableDataset, List, Value, concatenate_datasets
from datasets.fingerprint import Hasher
from PIL import Image, UnidentifiedImageError

from trainer_backend.data.formats import SYNONYMS, find_reading
from trainer_backend.data.images import IMAGE_MARK
from trainer_backend.data.json_values import drop_nones
from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.chat_template import render_prompt
from trainer_backend.tokens.collator import SFTCollator
from trainer_backend.tokens.encode import text_plan
from trainer_backend.tokens.prepare import Counts, Preparation, reading_of
from trainer_backend.tokens.tokenise import IGNORED, Plan

COLUMNS = ("images", "image")
ROW_COLUMNS = (
    *("text", "learned", *COLUMNS, "chat_template_kwargs"),
    *(name for names in SYNONYMS.values() for name in names),
)  # what a batch may be made from
WIDTH = 1000  # rows rendered at a time
_SEEN = Features({"text": Value("large_string"), "learned": List(List(Value("int32")))})


def has_images(columns: Sequence[str]) -> bool:
    """Tell whether rows with these columns carry pictures."""
    return bool(set(COLUMNS) & set(columns))


def refuse_images(processor, args, name: str) -> None:
    """Stop when the model reads only text, or on settings that cannot hold for pictures."""
    if processor is None:
        raise TrainingDataError(
            "The dataset is vision-related: it has images. This model is no vision-language model, "
            "it reads only text.",
            f"the {name} dataset's image column",
            "Choose a model that reads images (pass its processor), or drop the image column.",
        )
    for setting in ("packing", "padding_free"):
        if getattr(args, setting):
            raise ValueError(f"{setting}=True is not possible with images. Switch it off.")
    if args.truncation_mode == "keep_end" and args.max_length is not None:
        raise ValueError("truncation_mode='keep_end' would cut images away. Use keep_start.")


def seen_row(row: Mapping, count: int, processor, plan: Preparation) -> dict:
    """One row as {"text", "learned"}: the rendered text, and the places in it that are learned.

    `count` is the number of its pictures; `learned` holds [start, end) in characters.
    """
    cells = {key: cell for key, cell in row.items() if key not in COLUMNS and cell is not None}
    reading = plan.reading or find_reading([cells], (), plan.text_field)
    chat = bool(getattr(plan.tokenizer, "chat_template", None))
    example = reading.example(cells, chat, on_image=None)
    placed = _placed(example, count, processor, plan)
    planned = text_plan(placed, plan.tokenizer, plan.options)
    own_mark = getattr(processor, "image_token", IMAGE_MARK)
    places = planned.text.count(own_mark)
    if places != count:
        raise TrainingDataError(
            f"A row has {count} images and {places} places for them.",
            "columns “images” and “messages”",
            "Give as many image parts (or marks) as images, or none at all.",
        )
    return {"text": planned.text, "learned": _learned_spans(planned)}


def prompt_text(messages: list[dict], count: int, processor) -> str:
    """The text a vision model sees before it answers, with a place for each picture."""
    own_mark = getattr(processor, "image_token", IMAGE_MARK)
    placed = [_in_parts(message, own_mark) for message in drop_nones(messages)]
    _put_first(placed, count)
    return render_prompt(placed, processor.tokenizer)


def _learned_spans(planned: Plan) -> list[list[int]]:
    spans = [[0, len(planned.text)]] if planned.spans is None else planned.spans
    begin = 0 if planned.prompt is None else _shared(planned.prompt, planned.text)
    return [[max(start, begin), end] for start, end in spans if end > max(start, begin)]


def _shared(prompt: str, text: str) -> int:
    """How many leading characters the text shares with its prompt alone."""
    if text.startswith(prompt):
        return len(prompt)
    return next(i for i, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b)


def _placed(example: dict, count: int, processor, plan: Preparation) -> dict:
    """The example with a place for every picture; plain text must have the model's own marks."""
    own_mark = getattr(processor, "image_token", IMAGE_MARK)
    plain = [example[key] for key in ("text", "prompt") if isinstance(example.get(key), str)]
    if plain and (own_mark in plain[0] or not plan.tokenizer.chat_template):
        return example
    if "text" in example:
        if count:
            raise TrainingDataError(
                f"A row has {count} images, and plain text with no place for them.",
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
    messages = [_in_parts(m, own_mark) for key in sides for m in drop_nones(example[key])]
    _put_first(messages, count)
    rest = iter(messages)
    return {
        **example,
        **{key: [next(rest) for _ in range(n)] for key, n in zip(sides, sizes, strict=True)},
    }


def _in_parts(message: dict, own_mark: str) -> dict:
    """A message with its marks as image parts; one without keeps its content as it is."""
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
    """An image part without the picture in it: the row's image column holds it."""
    return {"type": "image"} if part.get("type") in ("image", "image_url") else part


def _put_first(messages: list[dict], count: int) -> None:
    """Put pictures at the start of the first question unless the messages place them."""
    parts = [m["content"] for m in messages if isinstance(m.get("content"), list)]
    if count == 0 or any(part["type"] == "image" for content in parts for part in content):
        return
    for message in messages:
        if message["role"] == "user":
            content = message["content"]
            said = content if isinstance(content, list) else [{"type": "text", "text": content}]
            message["content"] = [{"type": "image"}] * count + said
            return


def prepare_images(data, plan: Preparation, processor, name: str):
    """Return (dataset with text, learned and its image column, Counts); pixels come later."""
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
    kept = [i for i, spans in enumerate(seen["learned"]) if spans]
    if not kept:
        raise TrainingDataError(
            f"No row of the {name} dataset has a token to learn.",
            f"{len(seen):,} rows",
            "Check which part of a row is the answer.",
        )
    prepared = concatenate_datasets([data.select_columns([column]), seen], axis=1)
    counted = Counts(len(seen), 0, len(seen) - len(kept))
    return prepared.select(kept) if counted.dropped else prepared, counted


def _see_batch(batch: Mapping, indices: list[int], plan: Preparation, processor, counts) -> dict:
    columns, seen = list(batch), []
    for cells, at in zip(zip(*batch.values(), strict=True), indices, strict=True):
        row = dict(zip(columns, cells, strict=True))
        try:
            seen.append(seen_row(row, int(counts[at]), processor, plan))
        except TrainingDataError as error:
            raise TrainingDataError(
                error.what, f"row {at + 1}, {error.where}", error.fix
            ) from error
    if plan.on_rows is not None:
        plan.on_rows(indices[-1] + 1)
    return {key: [row[key] for row in seen] for key in _SEEN}


def _image_counts(data: Dataset, column: str, name: str) -> np.ndarray:
    """How many pictures each row has; none is decoded, but a missing file is found here."""
    cells = data.with_format("arrow")[:][column].combine_chunks()
    if pa.types.is_list(cells.type) or pa.types.is_large_list(cells.type):
        counts = pc.fill_null(pc.list_value_length(cells), 0).to_numpy(zero_copy_only=False)
        pictures = cells.flatten()
    else:
        counts = cells.is_valid().to_numpy(zero_copy_only=False).astype(int)
        pictures = cells.drop_null()
    rows = np.repeat(np.arange(len(counts)), counts)
    for row, path in zip(rows, _paths(pictures), strict=True):
        if path and not Path(path).is_file():
            raise TrainingDataError(
                "An image file is missing.",
                f"row {row + 1} of the {name} dataset: {path}",
                "Put the file there, correct its path, or drop the row.",
            )
    return counts


def _paths(pictures: pa.Array) -> list[str | None]:
    """Where pictures lie that are files; None for those whose bytes are in the dataset."""
    if pa.types.is_string(pictures.type):
        return pictures.to_pylist()
    if not pa.types.is_struct(pictures.type):
        return [None] * len(pictures)
    held = pc.is_valid(pictures.field("bytes")).to_pylist()
    return [
        None if h else path
        for h, path in zip(held, pictures.field("path").to_pylist(), strict=True)
    ]


@dataclass
class VisionCollator:
    """Collate rendered rows with their images; `plan` reads rows that come unprepared."""

    processor: object
    plan: Preparation
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    text_rows: SFTCollator | None = None  # for datasets of tokens beside those with images

    def __call__(self, rows: Sequence[Mapping]) -> dict:
        """Process and pad; labels are masked by the characters their tokens come from."""
        if self.text_rows is not None and "input_ids" in rows[0]:
            return self.text_rows(rows)
        images = [_images(row) for row in rows]
        seen = [
            row if "learned" in row else seen_row(row, len(pictures), self.processor, self.plan)
            for row, pictures in zip(rows, images, strict=True)
        ]
        batch = self._process([row["text"] for row in seen], images)
        places, moves = batch.pop("offset_mapping"), batch.pop("text_replacement_offsets")
        labels = batch["input_ids"].clone()
        for at, row in enumerate(seen):
            labels[at, ~_learned(row["learned"], places[at], moves[at])] = IGNORED
        labels[batch["attention_mask"] == 0] = IGNORED
        return self._cut({**batch, "labels": labels})

    def _process(self, texts: list[str], images: list[list]) -> dict:
        given = {"images": images} if any(images) else {}
        settings = {"padding": True, "padding_side": "right", "return_tensors": "pt"}
        if self.pad_to_multiple_of:
            settings["pad_to_multiple_of"] = self.pad_to_multiple_of
        asked = {"return_offsets_mapping": True, "return_text_replacement_offsets": True}
        return dict(
            self.processor(text=texts, add_special_tokens=False, **given, **settings, **asked)
        )

    def _cut(self, batch: dict) -> dict:
        width, limit = batch["input_ids"].shape[1], self.max_length
        if limit is None or width <= limit:
            return batch
        marker = getattr(self.processor, "image_token_id", None)
        if marker is not None and (batch["input_ids"][:, limit:] == marker).any():
            raise TrainingDataError(
                f"The longest length of {limit} tokens cuts through an image.",
                f"max_length={limit}, and a batch of {width} tokens",
                "Raise max_length, set it to None, or use smaller images.",
            )
        shape = batch["input_ids"].shape
        return {k: v[:, :limit] if v.shape[:2] == shape else v for k, v in batch.items()}


def _learned(spans, places: torch.Tensor, moves: Sequence[Mapping]) -> torch.Tensor:
    """Tell for each token whether it holds a learned character.

    The processor put many marks where the text has one for each picture; `moves` says how far
    the text after each of them moved.
    """
    ends = [move["span"][1] for move in moves]
    gained = [0, *(move["new_span"][1] - move["span"][1] for move in moves)]
    kept = torch.zeros(len(places), dtype=torch.bool)
    for span in spans:
        start, end = (place + gained[bisect_right(ends, place)] for place in span)
        kept |= (places[:, 0] < end) & (places[:, 1] > start)
    return kept


def _images(row: Mapping) -> list:
    found = row.get("images") if row.get("images") is not None else row.get("image")
    found = [] if found is None else found if isinstance(found, list | tuple) else [found]
    return [open_image(image) for image in found]


def open_image(image):
    """A picture as RGB from a path, from stored bytes, or as it is. Raises TrainingDataError."""
    if isinstance(image, Mapping):
        data = image.get("bytes")
        image = image.get("path") if data is None else io.BytesIO(data)
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if not isinstance(image, str | Path | io.BytesIO):
        return image
    try:
        return Image.open(image).convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise TrainingDataError(
            f"An image cannot be read: {error}.",
            f"image {image}" if isinstance(image, str | Path) else "an image in the dataset",
            "Check its path, or drop the row.",
        ) from error
