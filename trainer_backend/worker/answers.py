"""Answer check: base and tuned model answer held-out rows, asked as they were trained.

Calls are compared as calls, other answers as text; white space around them and reasoning do not
count. Nothing is trained here.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from trainer_backend.data.formats import is_trained
from trainer_backend.data.images import IMAGE_MARK
from trainer_backend.errors import TrainingDataError
from trainer_backend.models.loaded.answer_parts import (
    Answer,
    calls_of,
    read_answer,
    same_answer,
    tool_names,
)
from trainer_backend.models.loaded.asking import AskedWith, Processing, build_prompt
from trainer_backend.models.loaded.generate import answer_batch, answer_seen
from trainer_backend.models.loaded.pretrained import AnyModel, tokenizer_of
from trainer_backend.tokens.encode import EncodeOptions, text_plan
from trainer_backend.tokens.stopping import special_words

BATCH = 20
SHOWN = 40
MAX_ANSWER_TOKENS = 512
PLAINLY = AskedWith()
LAST_ANSWER = EncodeOptions(
    assistant_only_loss=True, last_turn_only=True, lost_content="train_without"
)


@dataclass(frozen=True, eq=False)
class Question:
    """The messages before a row's last answer, that answer, and all they are asked with."""

    messages: list[dict[str, Any]]
    answer: dict[str, Any]
    images: list[Any] = field(default_factory=list)
    asked: AskedWith = PLAINLY

    @property
    def expected(self) -> Answer:
        """The answer of the row, taken apart."""
        plain = read_answer(_text(self.answer))
        reasoning = str(self.answer.get("reasoning_content") or "").strip() or plain.reasoning
        return Answer(plain.content, reasoning, calls_of(self.answer))


def question(row: dict[str, Any], asked: AskedWith = PLAINLY) -> Question | None:
    """The question of a training row: its last trained answer, with what was said before.

    None for a row without one. `asked` holds the run's settings; the row's own tools come to them.
    """
    messages = row.get("messages") or []
    answers = [at for at, one in enumerate(messages) if _is_answer(one) and is_trained(one)]
    if not answers or answers[-1] == 0:
        return None
    at = answers[-1]
    marks = sum(_text(one).count(IMAGE_MARK) for one in messages[:at])
    images = row.get("images") or []
    images = images[:marks] if marks else images  # later ones belong to later messages
    kwargs = {**asked.template_kwargs, **(row.get("chat_template_kwargs") or {})}
    own = replace(asked, tools=row.get("tools") or (), template_kwargs=kwargs)
    return Question(messages[:at], messages[at], images, own)


def _is_answer(message: dict[str, Any]) -> bool:
    says = bool(_text(message).strip()) or bool(message.get("tool_calls"))
    return message["role"] == "assistant" and says


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content)
    return content if isinstance(content, str) else ""


def check_answers(
    rows: list[dict[str, Any]],
    processing: Processing,
    tuned: AnyModel,
    base: Callable[[], AbstractContextManager[AnyModel]],
    progress: Callable[[str, float, float, str], None],
    settings: AskedWith = PLAINLY,
) -> dict[str, Any] | None:
    """Answer each row's last turn with both models, greedily. None if no row has a question.

    `processing` is the tokenizer, or the processor of a vision model; without the latter, rows with
    images are left out. `base()` gives the base model as a context: for an adapter, the tuned model
    with the adapter disabled. `settings` are those that the run asks with.
    Returns {"rows", "base", "tuned" (fractions from 0 to 1), "examples": [...]}.
    """
    sees, tokenizer = isinstance(processing, ProcessorMixin), tokenizer_of(processing)
    found = [one for row in rows if (one := question(row, settings))]
    learned = {
        one: text
        for one in found
        if (sees or not one.images) and (text := _learned(one, tokenizer)) is not None
    }
    if not learned:
        return None
    asked = list(learned)
    lengths = [
        len(tokenizer(text, add_special_tokens=False).input_ids) for text in learned.values()
    ]
    limit = min(MAX_ANSWER_TOKENS, max(lengths) + 16)
    what = "Checking answers"
    written: dict[str, list[Answer]] = {}
    for which, context in (("tuned", nullcontext(tuned)), ("base", base())):
        with context as model:
            model.eval()
            written[which] = []
            for batch in _batches(asked):
                done = len(written[which]) + (len(asked) if which == "base" else 0)
                progress(what, done, 2 * len(asked), "answers")
                written[which] += _answers(model, processing, batch, limit)
    taught = [_taught(one, text, tokenizer) for one, text in learned.items()]
    return _score(asked, taught, written)


def _learned(one: Question, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What was trained as the answer, as text; None for a row that the template refuses."""
    arguments = one.asked.arguments(tokenizer)
    del arguments["control_tokens"]  # the text of a call is compared, not its tokens
    row = {
        "messages": [*one.messages, one.answer],
        "tools": arguments.pop("tools"),
        "chat_template_kwargs": arguments,
    }
    try:
        plan = text_plan(row, tokenizer, LAST_ANSWER)
    except TrainingDataError:
        return None
    return "".join(plan.text[start:end] for start, end in plan.spans or ())


def _taught(one: Question, text: str, tokenizer: PreTrainedTokenizerBase) -> Answer:
    """What was trained as the answer, taken apart as the models' answers are."""
    names = [*tool_names(one.asked.tools), *(call["name"] for call in calls_of(one.answer))]
    return read_answer(text, names, special_words(tokenizer))


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
    model: AnyModel, processing: Processing, batch: list[Question], limit: int
) -> list[Answer]:
    prompts = [build_prompt(one.messages, processing, one.asked, one.images) for one in batch]
    tokenizer, first = tokenizer_of(processing), prompts[0]
    if first.images:
        assert isinstance(processing, ProcessorMixin)  # rows with images need a vision model
        texts = [answer_seen(model, processing, first.text, first.images, limit)]
    else:
        texts = answer_batch(model, tokenizer, [prompt.ids for prompt in prompts], limit)
    return [prompt.read(text) for prompt, text in zip(prompts, texts, strict=True)]


def _score(
    asked: list[Question], learned: list[Answer], written: dict[str, list[Answer]]
) -> dict[str, Any]:
    examples = []
    for index, (one, taught) in enumerate(zip(asked, learned, strict=True)):
        given = {which: answers[index] for which, answers in written.items()}
        examples.append(_example(one, taught, given))
    correct = {
        which: sum(row[f"{which}_right"] for row in examples) / len(examples)
        for which in ("base", "tuned")
    }
    return {"rows": len(examples), **correct, "examples": examples[:SHOWN]}


def _example(one: Question, taught: Answer, given: dict[str, Answer]) -> dict[str, Any]:
    """One question with its answers as a person reads them; calls look like calls."""
    expected, last = one.expected, one.messages[-1]
    shown = _text(last).replace(IMAGE_MARK, "").strip()
    row: dict[str, Any] = {"prompt": f"Tool result: {shown}" if last["role"] == "tool" else shown}
    if one.images:
        row["images"] = len(one.images)
    for name, answer in {"expected": expected, **given}.items():
        row[name] = answer.in_words()
        if answer.reasoning:
            row[f"{name}_reasoning"] = answer.reasoning
    for name, answer in given.items():
        row[f"{name}_right"] = _is_right(answer, expected, taught)
    return row


def _is_right(given: Answer, expected: Answer, taught: Answer) -> bool:
    """Whether an answer is the expected one, or what the template made of that in training."""
    if expected.calls and not taught.calls:  # calls in a form that is not known
        return given.in_words() == taught.in_words()
    return same_answer(given, expected) or same_answer(given, taught)
