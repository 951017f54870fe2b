"""A row as the model will see it: the exact tokens of training, trained on or context only."""

import json
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import numpy as np
from transformers import PreTrainedTokenizerBase, ProcessorMixin

from trainer_backend.data.checks import Positions, content_findings, positions_of
from trainer_backend.data.store import StoredDataset, open_dataset
from trainer_backend.errors import UserError
from trainer_backend.models.loaded.load import fetch_tokenizer, load_processing
from trainer_backend.models.loaded.pretrained import tokenizer_of
from trainer_backend.recipe import Recipe, label
from trainer_backend.tokens.counts import CountJob
from trainer_backend.tokens.encode import EncodeOptions, Encoding, encode
from trainer_backend.tokens.prepare import Preparation
from trainer_backend.tokens.stopping import set_end_token
from trainer_backend.tokens.training_rows import training_row
from trainer_backend.tokens.vision import VisionCollator
from trainer_backend.worker.preflight import check_images, check_truncation

MAX_TOKENS = 4000


def view_row(home: Path, dataset_id: str, row: int, recipe: Recipe) -> dict:
    """Encode one row exactly as training does. Raises UserError for a row that was dropped.

    Returns {"tokens": [{"text", "id", "learned", "cut"}], "num_tokens", "num_learned",
    "max_length", "cut", "notes"}. An image is one entry, however many tokens it has.
    """
    processing = processing_of(home, recipe)
    stored = open_dataset(home, dataset_id)
    stored_example = stored.example(row)
    if stored_example is None:
        fix = "See the list of problems for the reason."
        raise UserError("This row is not used for training.", f"Row {row}", fix)
    example = training_row(stored_example, recipe.system_prompt, stored)
    check_images("images" in example, processing, recipe.base_model)
    check_truncation("images" in example, recipe)
    if "images" in example:
        return _view_with_images(example, processing, recipe)
    tokenizer = tokenizer_of(processing)
    whole = encode(example, tokenizer, max_length=None, **_options(example, recipe))
    kept = encode(example, tokenizer, max_length=recipe.max_length, **_options(example, recipe))
    return _view(whole, kept, tokenizer, recipe)


def _view_with_images(example: dict, processor: Any, recipe: Recipe) -> dict:
    """The tokens of the model's processor (its attributes differ by class), one entry an image."""
    plan = Preparation(processor.tokenizer, EncodeOptions(**_options(example, recipe)))
    batch = VisionCollator(processor, plan)([example])
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    whole = Encoding(ids, labels, len(ids))
    kept = Encoding(ids[: recipe.max_length], labels[: recipe.max_length], len(ids))
    view = _view(whole, kept, processor.tokenizer, recipe)
    mark = processor.image_token_id
    tokens = []
    for is_mark, group in groupby(view["tokens"], key=lambda token: token["id"] == mark):
        run = list(group)
        if is_mark:
            cut = any(token["cut"] for token in run)
            run = [{**run[0], "text": f"[image: {len(run)} tokens]", "cut": cut}]
            if cut:
                fix = f"raise “{label('max_length')}”, or training refuses it."
                view["notes"].append(f"An image is cut: {fix}")
        tokens += run
    return {**view, "tokens": tokens}


def _view(
    whole: Encoding, kept: Encoding, tokenizer: PreTrainedTokenizerBase, recipe: Recipe
) -> dict:
    shown = whole.input_ids[:MAX_TOKENS]
    texts = token_texts(tokenizer, shown)
    kept_at = _places_kept(len(whole.input_ids), len(kept.input_ids), recipe)
    tokens = [
        {
            "text": texts[at],
            "id": token,
            # nothing stands before the first token that is kept, so it is never predicted
            "learned": whole.labels[at] != -100 and at != kept_at.start,
            "cut": at not in kept_at,
        }
        for at, token in enumerate(shown)
    ]
    return {
        "tokens": tokens,
        "num_tokens": len(whole.input_ids),
        "num_learned": kept.num_learned,
        "max_length": recipe.max_length,
        "cut": len(whole.input_ids) - len(kept.input_ids),
        "notes": _notes(whole, kept, recipe),
    }


def _places_kept(whole: int, kept: int, recipe: Recipe) -> range:
    """Which places of a row of `whole` tokens are kept."""
    return range(whole - kept, whole) if recipe.truncation_mode == "keep_end" else range(kept)


def _options(example: dict, recipe: Recipe) -> dict:
    masked = recipe.assistant_only_loss and "messages" in example
    return {
        "assistant_only_loss": masked,
        "last_turn_only": recipe.last_turn_only and "messages" in example,
        "truncation_mode": recipe.truncation_mode,
        "eos_token": recipe.eos_token or None,
        "control_tokens": recipe.control_tokens,
        "thinking": recipe.thinking,
        "lost_content": "train_without",  # the view shows what would be trained
    }


def _notes(whole: Encoding, kept: Encoding, recipe: Recipe) -> list[str]:
    notes = [kind.what for kind, _ in content_findings(np.array([whole.ledger], np.int64))]
    notes = [note.replace("these rows", "this row") for note in notes]
    over = len(whole.input_ids) - len(kept.input_ids)
    if over:
        notes.append(f"{over} tokens are cut at the maximum length of {recipe.max_length}.")
    if not kept.num_learned:
        notes.append("No token is left to train on in this row; training leaves it out.")
    if len(whole.input_ids) > MAX_TOKENS:
        notes.append(f"Only the first {MAX_TOKENS} tokens are shown.")
    return notes


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """One text per token, which joined give the whole text.

    A character made of several tokens stands at the last of them; the others are "".
    """
    texts, start = [], 0
    for end in range(1, len(ids) + 1):
        # decode() gives a list for a batch only
        text = cast(str, tokenizer.decode(ids[start:end], skip_special_tokens=False))
        if text.endswith("\ufffd") and end - start < 8:
            texts.append("")
        else:
            texts.append(text)
            start = end
    return texts


def processing_of(home: Path, recipe: Recipe) -> PreTrainedTokenizerBase | ProcessorMixin:
    """The tokenizer or processor with a recipe's chat template and end token.

    Raises UserError when it cannot be fetched or read, or the template cannot be used.
    """
    return _processing(home, recipe.base_model, recipe.chat_template, recipe.eos_token)


@lru_cache(maxsize=4)
def _processing(
    home: Path, base_model: str, chat_template: str, eos_token: str
) -> PreTrainedTokenizerBase | ProcessorMixin:
    processing = load_processing(fetch_tokenizer(home, base_model), chat_template)
    set_end_token(tokenizer_of(processing), eos_token)
    return processing


def count_job(home: Path, stored: StoredDataset, recipe: Recipe) -> CountJob:
    """Everything that counting a dataset's tokens for a recipe needs; fetches its tokenizer."""
    return CountJob(
        stored.examples_path,
        tokenizer_of(processing_of(home, recipe)),
        recipe.system_prompt,
        recipe.assistant_only_loss,
        eos_token=recipe.eos_token or None,
        control_tokens=recipe.control_tokens,
        thinking=recipe.thinking,
        last_turn_only=recipe.last_turn_only,
        positions=_positions(fetch_tokenizer(home, recipe.base_model)),
    )


def _positions(folder: Path) -> Positions | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return positions_of(config) if isinstance(config, dict) else None
