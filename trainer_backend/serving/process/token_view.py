"""A row as the model will see it: the exact tokens of training, learned or context only."""

from functools import lru_cache
from itertools import groupby
from pathlib import Path

from trainer_backend.data.store import StoredDataset, open_dataset
from trainer_backend.errors import UserError
from trainer_backend.models.loaded.load import fetch_tokenizer, load_processing
from trainer_backend.models.loaded.pretrained import tokenizer_of
from trainer_backend.recipe import Recipe
from trainer_backend.tokens.counts import CountJob
from trainer_backend.tokens.encode import EncodeOptions, Encoding, encode
from trainer_backend.tokens.prepare import Preparation
from trainer_backend.tokens.training_rows import training_row
from trainer_backend.tokens.vision import VisionCollator
from trainer_backend.worker.preflight import check_images

MAX_TOKENS = 4000


def view_row(home: Path, dataset_id: str, row: int, recipe: Recipe) -> dict:
    """Encode one row exactly as training does. Raises UserError for a row that was dropped.

    Returns {"tokens": [{"text", "id", "learned", "cut"}], "num_tokens", "num_learned",
    "max_length", "cut", "notes"}. A picture is one entry, whatever its number of tokens.
    """
    processing = _processing(home, recipe.base_model)
    stored = open_dataset(home, dataset_id)
    example = stored.example(row)
    if example is None:
        fix = "See the list of problems for the reason."
        raise UserError("This row is not used for training.", f"Row {row}", fix)
    example = training_row(example, recipe.system_prompt, stored)
    check_images("images" in example, processing, recipe.base_model)
    if "images" in example:
        return _view_seen(example, processing, recipe)
    tokenizer = tokenizer_of(processing)
    whole = encode(example, tokenizer, max_length=None, **_options(example, recipe))
    kept = encode(example, tokenizer, max_length=recipe.max_length, **_options(example, recipe))
    return _view(whole, kept, tokenizer, recipe)


def _view_seen(example: dict, processor, recipe: Recipe) -> dict:
    """A row with pictures: the processor's tokens, and one entry for each picture's marks."""
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
            run = [{**run[0], "text": f"[picture: {len(run)} tokens]", "cut": cut}]
            if cut:
                view["notes"].append(
                    "A picture is cut: raise the longest length, or it is refused."
                )
        tokens += run
    return {**view, "tokens": tokens}


def _view(whole: Encoding, kept: Encoding, tokenizer, recipe: Recipe) -> dict:
    shown = whole.input_ids[:MAX_TOKENS]
    texts = token_texts(tokenizer, shown)
    tokens = [
        {
            "text": texts[at],
            "id": token,
            "learned": whole.labels[at] != -100,
            "cut": at >= len(kept.input_ids),
        }
        for at, token in enumerate(shown)
    ]
    return {
        "tokens": tokens,
        "num_tokens": len(whole.input_ids),
        "num_learned": sum(label != -100 for label in kept.labels),
        "max_length": recipe.max_length,
        "cut": len(whole.input_ids) - len(kept.input_ids),
        "notes": _notes(whole, kept, recipe),
    }


def _options(example: dict, recipe: Recipe) -> dict:
    return {"assistant_only_loss": recipe.assistant_only_loss and "messages" in example}


def _notes(whole, kept, recipe: Recipe) -> list[str]:
    notes = []
    over = len(whole.input_ids) - len(kept.input_ids)
    if over:
        notes.append(f"{over} tokens are cut at the longest length of {recipe.max_length}.")
    if not any(label != -100 for label in kept.labels):
        notes.append("Nothing is left to learn in this row; training leaves it out.")
    if len(whole.input_ids) > MAX_TOKENS:
        notes.append(f"Only the first {MAX_TOKENS} tokens are shown.")
    return notes


def token_texts(tokenizer, ids: list[int]) -> list[str]:
    """The text of each token so that all joined give the whole text.

    A character that needs several tokens is shown at its last one.
    """
    texts, start = [], 0
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[start:end], skip_special_tokens=False)
        if text.endswith("\ufffd") and end - start < 8:
            texts.append("")
        else:
            texts.append(text)
            start = end
    return texts


@lru_cache(maxsize=4)
def _processing(home: Path, base_model: str):
    return load_processing(fetch_tokenizer(home, base_model))


def _tokenizer(home: Path, base_model: str):
    return tokenizer_of(_processing(home, base_model))


def count_job(home: Path, stored: StoredDataset, recipe: Recipe) -> CountJob:
    """What counting the tokens of a dataset for a recipe's model takes (token_lengths.py)."""
    return CountJob(
        stored.examples_path,
        _tokenizer(home, recipe.base_model),
        recipe.system_prompt,
        recipe.assistant_only_loss,
    )
