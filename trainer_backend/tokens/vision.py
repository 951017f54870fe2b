"""Batches with pictures: rendered rows and their images to tensors, by the model's own processor.

Pictures become pixels when their batch is made: a whole dataset of pixels would fill the disk.
What a row's text is and what of it is learned is vision_rows.py.
"""

import io
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError

from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.collator import SFTCollator
from trainer_backend.tokens.prepare import Preparation
from trainer_backend.tokens.tokenise import IGNORED
from trainer_backend.tokens.vision_rows import seen_row


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
