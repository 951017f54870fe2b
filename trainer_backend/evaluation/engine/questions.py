"""Rows as questions: what is asked, what was trained as the answer, and which rows cannot be asked.

No model is called here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedTokenizerBase, ProcessorMixin

from trainer_backend.data.formats import is_trained
from trainer_backend.data.images import IMAGE_MARK
from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import TrainingDataError
from trainer_backend.models.loaded.answer_parts import Answer, calls_of, read_answer, tool_names
from trainer_backend.models.loaded.asking import AskedWith, Processing, Prompt, build_prompt
from trainer_backend.models.loaded.pretrained import tokenizer_of
from trainer_backend.tokens.encode import EncodeOptions, text_plan
from trainer_backend.tokens.stopping import special_words

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
    row: int = 0  # its number in the file

    @property
    def expected(self) -> Answer:
        """The answer of the row, taken apart."""
        plain = read_answer(text_of(self.answer))
        reasoning = str(self.answer.get("reasoning_content") or "").strip() or plain.reasoning
        return Answer(plain.content, reasoning, calls_of(self.answer))

    @property
    def shown(self) -> str:
        """The last message before the answer, as a person reads it."""
        last = self.messages[-1]
        text = text_of(last).replace(IMAGE_MARK, "").strip()
        return f"Tool result: {text}" if last["role"] == "tool" else text


@dataclass(frozen=True, eq=False)
class Ready:
    """A question that can be asked: its prompt, and what was trained as its answer."""

    question: Question
    prompt: Prompt
    taught: Answer  # what the template made of the expected answer, taken apart
    tokens: int  # of that


def question(row: dict[str, Any], asked: AskedWith = PLAINLY, number: int = 0) -> Question | None:
    """The question of a training row: its last trained answer, with what was said before.

    None for a row without one. `asked` holds the run's settings; the row's own tools come to them.
    `number` is the row's in its file.
    """
    messages = row.get("messages") or []
    answers = [at for at, one in enumerate(messages) if _is_answer(one) and is_trained(one)]
    if not answers or answers[-1] == 0:
        return None
    at = answers[-1]
    marks = sum(text_of(one).count(IMAGE_MARK) for one in messages[:at])
    images = row.get("images") or []
    images = images[:marks] if marks else images  # later ones belong to later messages
    kwargs = {**asked.template_kwargs, **(row.get("chat_template_kwargs") or {})}
    own = replace(asked, tools=row.get("tools") or (), template_kwargs=kwargs)
    return Question(messages[:at], messages[at], images, own, number)


def _is_answer(message: dict[str, Any]) -> bool:
    says = bool(text_of(message).strip()) or bool(message.get("tool_calls"))
    return message["role"] == "assistant" and says


def text_of(message: dict[str, Any]) -> str:
    """The text of a message, whose content may be in parts."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content)
    return content if isinstance(content, str) else ""


def ready_questions(
    found: Sequence[Question | None],
    numbers: Sequence[int],
    processing: Processing,
    stored: StoredDataset,
    positions: int | None = None,
) -> tuple[list[Ready], list[str]]:
    """The questions that can be asked, and notes on the rows left out; `numbers` are theirs.

    `processing` is the tokenizer, or the processor of a vision model; without the latter, rows with
    images are left out. `positions` is the longest text that the model reads.
    """
    ready: list[Ready] = []
    out: dict[str, list[int]] = {}
    for one, number in zip(found, numbers, strict=True):
        made = "without an answer to a message" if one is None else _ready(one, processing)
        if isinstance(made, Ready) and positions and len(made.prompt.ids) >= positions:
            made = f"whose prompt is longer than the {positions:,} tokens that the model reads"
        if isinstance(made, Ready):
            ready.append(made)
        else:
            out.setdefault(made, []).append(number)
    notes = [f"Left out: {stored.in_words(rows)}, {why}." for why, rows in out.items()]
    return ready, notes


def _ready(one: Question, processing: Processing) -> Ready | str:
    """The question with its prompt, or why it cannot be asked."""
    tokenizer = tokenizer_of(processing)
    if one.images and not isinstance(processing, ProcessorMixin):
        return "with images, which this model does not read"
    text = _learned(one, tokenizer)
    if text is None:
        return "which the chat template refuses"
    try:
        prompt = build_prompt(one.messages, processing, one.asked, one.images)
    except TrainingDataError as error:
        return f"which cannot be asked ({error.what})"
    tokens = len(tokenizer(text, add_special_tokens=False).input_ids)
    return Ready(one, prompt, _taught(one, text, tokenizer), tokens)


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
