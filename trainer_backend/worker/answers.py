"""Does it answer right? Base and tuned model on held-out rows, compared with the expected answer.

Exact match after trimming white space. Losses are the trainer's business.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from transformers import ProcessorMixin

from trainer_backend.models.loaded.generate import answer_batch, answer_seen
from trainer_backend.tokens.encode import prompt_ids
from trainer_backend.tokens.vision import open_image, prompt_text

BATCH = 20
SHOWN = 40
MAX_ANSWER_TOKENS = 512


def last_turn(row: dict) -> tuple[list[dict], str] | None:
    """The messages before a training row's last answer, and that answer; None without one."""
    messages = row.get("messages") or []
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        return None
    answer = messages[-1].get("content")
    return (messages[:-1], answer) if isinstance(answer, str) else None


def check_answers(
    rows: list[dict],
    processing,
    tuned,
    base: Callable[[], AbstractContextManager],
    progress: Callable[[str, float, float, str], None],
) -> dict | None:
    """Answer each row's last turn with both models, greedily. None when no row can be asked.

    `processing` is the tokenizer, or the processor of a vision model. Rows with pictures are asked
    with them, one at a time. `base()` gives the base model as a context: for an adapter the same
    model, switched off.
    Returns {"rows", "base", "tuned" (shares from 0 to 1), "examples": [...]}.
    """
    sees = isinstance(processing, ProcessorMixin)
    tokenizer = processing.tokenizer if sees else processing
    asked = [row for row in rows if last_turn(row) and (sees or not row.get("images"))]
    if not asked:
        return None
    turns = [last_turn(row) for row in asked]
    expected = [answer.strip() for _, answer in turns]
    lengths = [len(tokenizer(answer, add_special_tokens=False).input_ids) for answer in expected]
    limit = min(MAX_ANSWER_TOKENS, max(lengths) + 16)
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
    return _score(turns, expected, written)


def _batches(rows: list[dict]):
    """Rows in order: those with pictures alone, the others many at once."""
    batch: list[dict] = []
    for row in rows:
        alone = bool(row.get("images"))
        if batch and (alone or len(batch) == BATCH):
            yield batch
            batch = []
        if alone:
            yield [row]
        else:
            batch.append(row)
    if batch:
        yield batch


def _answers(model, processing, tokenizer, rows: list[dict], limit: int) -> list[str]:
    images = rows[0].get("images")
    if not images:
        prompts = [prompt_ids(last_turn(row)[0], tokenizer) for row in rows]
        return answer_batch(model, tokenizer, prompts, limit)
    prompt = prompt_text(last_turn(rows[0])[0], len(images), processing)
    pictures = [open_image(image) for image in images]
    return [answer_seen(model, processing, prompt, pictures, limit)]


def _score(turns: list, expected: list[str], written: dict[str, list[str]]) -> dict:
    examples = []
    for index, (messages, _) in enumerate(turns):
        row = {"prompt": messages[-1]["content"], "expected": expected[index]}
        row |= {which: texts[index].strip() for which, texts in written.items()}
        examples.append(row)
    share = {
        which: sum(row[which] == row["expected"] for row in examples) / len(examples)
        for which in ("base", "tuned")
    }
    return {"rows": len(examples), **share, "examples": examples[:SHOWN]}
