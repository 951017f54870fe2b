"""Rows with pictures: conversations and images to a padded batch, by the model's own processor.

Pictures become pixels when their batch is made: a whole dataset of pixels would fill the disk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError

from trainer_backend.data.chat_template import IGNORED
from trainer_backend.data.examples import as_example
from trainer_backend.data.render import TrainingDataError, drop_nones

COLUMNS = ("image", "images")
ROW_COLUMNS = (
    *COLUMNS,
    *("messages", "conversations", "prompt", "completion", "response", "text"),
    *("instruction", "input", "output"),
)


@dataclass
class VisionCollator:
    """Collate rows with images; only completions are learned where there are prompts."""

    processor: object
    max_length: int | None = None
    completion_only_loss: bool | None = None
    pad_to_multiple_of: int | None = None

    def __call__(self, rows: Sequence[Mapping]) -> dict:
        """Render, process and pad; labels are masked by position."""
        self.processor.tokenizer.padding_side = "right"
        images = [_images(row) for row in rows]
        talks = [_talk(row, pictures) for row, pictures in zip(rows, images, strict=True)]
        texts = [self._render([*prompt, *rest]) for prompt, rest in talks]
        batch = dict(self._process(texts, images))
        labels = batch["input_ids"].clone()
        labels[batch["attention_mask"] == 0] = IGNORED
        if self.completion_only_loss is not False:
            for row, ((prompt, _), pictures) in enumerate(zip(talks, images, strict=True)):
                labels[row, : self._context(prompt, pictures, batch["input_ids"][row])] = IGNORED
        return self._cut({**batch, "labels": labels})

    def _render(self, messages: list[dict], **kwargs) -> str:
        return self.processor.apply_chat_template(messages, tokenize=False, **kwargs)

    def _process(self, texts: list[str], images: list[list]):
        given = {"images": images} if any(images) else {}
        settings = {"padding": True, "return_tensors": "pt", "add_special_tokens": False}
        if self.pad_to_multiple_of:
            settings["pad_to_multiple_of"] = self.pad_to_multiple_of
        return self.processor(text=texts, **given, **settings)

    def _context(self, prompt: list[dict], pictures: list, ids: torch.Tensor) -> int:
        """How many leading tokens belong to the prompt."""
        if not prompt:
            return 0
        text = self._render(prompt, add_generation_prompt=True)
        alone = self._process([text], [pictures])["input_ids"][0]
        length = min(len(alone), len(ids))
        apart = (alone[:length] != ids[:length]).nonzero()
        return int(apart[0]) if len(apart) else length

    def _cut(self, batch: dict) -> dict:
        width, limit = batch["input_ids"].shape[1], self.max_length
        if limit is None or width <= limit:
            return batch
        marker = getattr(self.processor, "image_token_id", None)
        if marker is not None and (batch["input_ids"][:, limit:] == marker).any():
            raise ValueError(
                f"max_length={limit} cuts through an image. Raise max_length, or set it to None."
            )
        shape = batch["input_ids"].shape
        return {k: v[:, :limit] if v.shape[:2] == shape else v for k, v in batch.items()}


def has_images(columns: Sequence[str]) -> bool:
    """Tell whether rows with these columns carry pictures."""
    return bool(set(COLUMNS) & set(columns))


def refuse_images(processor, args, name: str) -> None:
    """Stop when the model reads only text, or on settings that cannot hold for pictures."""
    if processor is None:
        raise ValueError(
            f"The {name} dataset has images, but this model reads only text. Use a vision-language "
            "model with its processor, or drop the image column."
        )
    for name in ("packing", "padding_free", "assistant_only_loss"):
        if getattr(args, name):
            raise ValueError(f"{name}=True is not possible with images. Switch it off.")
    if args.truncation_mode == "keep_end" and args.max_length is not None:
        raise ValueError("truncation_mode='keep_end' would cut images away. Use keep_start.")


def _images(row: Mapping) -> list:
    found = row.get("images") if row.get("images") is not None else row.get("image")
    found = [] if found is None else found if isinstance(found, list | tuple) else [found]
    return [_open(image) for image in found]


def _open(image):
    if isinstance(image, Mapping):
        image = image.get("path")
    if not isinstance(image, str | Path):
        return image
    try:
        return Image.open(image).convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise TrainingDataError(
            f"An image cannot be read: {error}.",
            f"image {image}",
            "Check its path, or drop the row.",
        ) from error


def _talk(row: Mapping, pictures: list) -> tuple[list[dict], list[dict]]:
    """Prompt messages (may be none) and the rest, with a place for every picture."""
    example = as_example({k: v for k, v in row.items() if k not in COLUMNS and v is not None})
    if "text" in example:
        raise TrainingDataError(
            "A row with images has plain text only.",
            "column “text”",
            "Give messages, or prompt and answer.",
        )
    prompt, rest = example.get("prompt", []), example.get("messages", example.get("completion"))
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
        rest = [{"role": "assistant", "content": rest}]
    messages = [_as_parts(message) for message in drop_nones([*prompt, *rest])]
    _place(messages, len(pictures))
    return messages[: len(prompt)], messages[len(prompt) :]


def _as_parts(message: dict) -> dict:
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or [])
    return {**message, "content": parts}


def _place(messages: list[dict], count: int) -> None:
    """Put pictures at the start of the first question unless the messages place them."""
    placed = sum(part["type"] == "image" for m in messages for part in m["content"])
    if placed == count:
        return
    first = next((m for m in messages if m["role"] == "user"), None)
    if placed or first is None:
        raise TrainingDataError(
            f"A row has {count} images and {placed} places for them.",
            "columns “images” and “messages”",
            "Give as many image parts as images, or none at all.",
        )
    first["content"] = [{"type": "image"}] * count + first["content"]
