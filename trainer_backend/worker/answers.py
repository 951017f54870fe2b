"""Answer check: base and tuned model answer held-out rows, scored by exact match.

White space around an answer does not count. Nothing is trained here.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from trainer_backend.models.loaded.generate import answer_batch, answer_seen
from trainer_backend.models.loaded.pretrained import AnyModel
from trainer_backend.tokens.encode import prompt_ids
from trainer_backend.tokens.vision import open_image, prompt_text

BATCH = 20
SHOWN = 40
MAX_ANSWER_TOKENS = 512


@dataclass(frozen=True)
class Question:
    """The messages before a row's last answer, the images of the row, and that answer."""

    messages: list[dict[str, Any]]
    images: list[Any]
    expected: str


def question(row: dict[str, Any]) -> Question | None:
    """The question of a training row; None unless it ends with an assistant's text."""
    messages = row.get("messages") or []
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        return None
    answer = messages[-1].get("content")
    if not isinstance(answer, str):
        return None
    return Question(messages[:-1], row.get("images") or [], answer.strip())


def check_answers(
    rows: list[dict[str, Any]],
    processing: PreTrainedTokenizerBase | ProcessorMixin,
    tuned: AnyModel,
    base: Callable[[], AbstractContextManager[AnyModel]],
    progress: Callable[[str, float, float, str], None],
) -> dict[str, Any] | None:
    """Answer each row's last turn with both models, greedily. None if no row has a question.

    `processing` is the tokenizer, or the processor of a vision model; without the latter, rows with
    images are left out. `base()` gives the base model as a context: for an adapter, the tuned model
    with the adapter disabled.
    Returns {"rows", "base", "tuned" (fractions from 0 to 1), "examples": [...]}.
    """
    sees = isinstance(processing, ProcessorMixin)
    found = [one for row in rows if (one := question(row))]
    asked = [one for one in found if sees or not one.images]
    if not asked:
        return None
    tokenizer = processing.tokenizer if isinstance(processing, ProcessorMixin) else processing
    answers = [tokenizer(one.expected, add_special_tokens=False).input_ids for one in asked]
    limit = min(MAX_ANSWER_TOKENS, max(map(len, answers)) + 16)
    what = "Checking answers on held-out rows"
    written: dict[str, list[str]] = {}
    for which, context in (("tuned", nullcontext(tuned)), ("base", base())):
        with context as model:
            model.eval()
            written[which] = []
            for batch in _batches(asked):
                done = len(written[which]) + (len(asked) if which == "base" else 0)
                progress(what, done, 2 * len(asked), "answers")
                written[which] += _answers(model, processing, tokenizer, batch, limit)
    return _score(asked, written)


def _batches(asked: list[Question]) -> Iterator[list[Question]]:
    """Questions in order: those with images alone, the others up to BATCH at once."""
    batch: list[Question] = []
    for one in asked:
        if batch and (one.images or len(batch) == BATCH):
            yield batch
            batch = []
        if one.images:
            yield [one]
        else:
            batch.append(one)
    if batch:
        yield batch


def _answers(
    model: AnyModel,
    processing: PreTrainedTokenizerBase | ProcessorMixin,
    tokenizer: PreTrainedTokenizerBase,
    batch: list[Question],
    limit: int,
) -> list[str]:
    first = batch[0]
    if not first.images:
        prompts = [prompt_ids(one.messages, tokenizer) for one in batch]
        return answer_batch(model, tokenizer, prompts, limit)
    assert isinstance(processing, ProcessorMixin)  # rows with images need a vision model
    prompt = prompt_text(first.messages, len(first.images), processing)
    images = [open_image(image) for image in first.images]
    return [answer_seen(model, processing, prompt, images, limit)]


def _score(asked: list[Question], written: dict[str, list[str]]) -> dict[str, Any]:
    examples = []
    for index, one in enumerate(asked):
        row = {"prompt": one.messages[-1]["content"], "expected": one.expected}
        row |= {which: texts[index].strip() for which, texts in written.items()}
        examples.append(row)
    correct = {
        which: sum(row[which] == row["expected"] for row in examples) / len(examples)
        for which in ("base", "tuned")
    }
    return {"rows": len(examples), **correct, "examples": examples[:SHOWN]}
