"""Which characters of a rendered conversation the assistant wrote, for any chat template.

Templates with generation markers mark them; for all others the spans are found by rendering parts
of the conversation and verified against the whole text. No token id is made here.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from os.path import commonprefix

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.errors import TrainingDataError
from trainer_backend.recipe import label
from trainer_backend.tokens.chat_template import (
    has_generation_markers,
    names_call,
    render,
    render_marked,
    template_of,
)

Span = tuple[int, int, int]  # index of the message (-1: unknown), start and end in the text
_PROBE = "\ue000answer\ue001"


@dataclass(frozen=True)
class TurnShape:
    """The text a template puts before and after an assistant's answer (each may be empty).

    `opening` is the generation prompt; `stem` its beginning that finished answers share (the rest,
    an open <think> for example, stands only where an answer is requested).
    """

    opening: str
    closing: str
    stem: str = ""


@dataclass(frozen=True)
class Conversation:
    """Cleaned messages with everything that their template needs."""

    messages: list[dict]
    tokenizer: Tokenizer
    tools: list | None
    template_kwargs: dict
    special: dict | None = None  # the tokenizer's special tokens by name, if they are known

    def text(self, count: int | None = None, prompt: bool = False) -> str:
        """Render the first `count` messages (all by default), with a generation prompt or not."""
        return render(
            self.messages[:count],
            self.tokenizer,
            tools=self.tools,
            special=self.special,
            add_generation_prompt=prompt,
            **self.template_kwargs,
        )

    def try_text(self, count: int, prompt: bool = False) -> str | None:
        """Render the first `count` messages; None when the template refuses that part."""
        try:
            return self.text(count, prompt)
        except (TemplateError, TypeError, IndexError, KeyError):
            return None


def learn_turn_shape(
    tokenizer: Tokenizer, tools: list | None = None, template_kwargs: dict | None = None
) -> TurnShape:
    """Find what surrounds an answer in this template by rendering four small conversations."""
    user, answer = {"role": "user", "content": "x"}, {"role": "assistant", "content": _PROBE}
    other = {"role": "assistant", "content": "y"}
    conversation = Conversation(
        [user, answer, user, other], tokenizer, tools, template_kwargs or {}
    )
    bare, prompt, whole, talk = (
        conversation.try_text(1),
        conversation.try_text(1, True),
        conversation.try_text(2),
        conversation.try_text(4),
    )
    opening = prompt[len(bare) :] if bare and prompt and prompt.startswith(bare) else ""
    closing = whole.rpartition(_PROBE)[2] if whole and _PROBE in whole else ""
    written = [
        text[len(bare) : text.index(_PROBE)]
        for text in (whole, talk)
        if bare and text and text.startswith(bare) and _PROBE in text
    ]
    stem = commonprefix([opening, *written]) if written else ""
    return TurnShape(opening, closing.rstrip(), stem)


def assistant_spans(
    conversation: Conversation, shape: TurnShape | None = None
) -> tuple[str, list[Span]]:
    """Return the rendered text and the spans of the assistant's turns, closing token included.

    Raises TrainingDataError when a turn is not found in the text.
    """
    turns = [
        i for i, message in enumerate(conversation.messages) if message.get("role") == "assistant"
    ]
    template = template_of(conversation.tokenizer, conversation.tools)
    if has_generation_markers(template):
        text, marked = render_marked(
            conversation.messages,
            conversation.tokenizer,
            conversation.tools,
            **conversation.template_kwargs,
        )
        indices = turns if len(turns) == len(marked) else [-1] * len(marked)
        return text, [
            (i, start, end) for i, (start, end) in zip(indices, marked, strict=True) if end > start
        ]
    shape = shape or learn_turn_shape(
        conversation.tokenizer, conversation.tools, conversation.template_kwargs
    )
    text = conversation.text()
    return text, _quick_spans(conversation, turns, text, shape) or _careful_spans(
        conversation, turns, text, shape
    )


def turns_to_learn(
    conversation: Conversation,
    text: str,
    spans: list[Span],
    chosen: Collection[int] | None,
    bare: Collection[int],
) -> list[Span]:
    """The spans of the chosen messages (None: of all), as assistant_spans() found them.

    Those of `bare` messages, which are calls alone, are left out where the text has no call: only
    the end of the turn would be learned, which is an empty answer.
    """
    return [
        (i, start, end)
        for i, start, end in spans
        if (chosen is None or i in chosen or i < 0)
        and (i not in bare or names_call(conversation.messages[i], text[start:end]))
    ]


def _quick_spans(
    conversation: Conversation, turns: list[int], text: str, shape: TurnShape
) -> list[Span] | None:
    """Find opening + answer + closing, each exactly once; None when anything is ambiguous."""
    if not (shape.opening and shape.closing):
        return None
    spans: list[Span] = []
    cursor = 0
    for i in turns:
        message = conversation.messages[i]
        content = message.get("content")
        if not isinstance(content, str) or not content or len(message) != 2:
            return None
        found = _find_turn(text, content, shape, cursor)
        if found is None:
            return None
        spans.append((i, *found))
        cursor = found[1]
    return spans if text.count(shape.opening) == len(turns) else None


def _find_turn(text: str, content: str, shape: TurnShape, cursor: int) -> tuple[int, int] | None:
    opened = text.find(shape.opening, cursor)
    if opened < 0:
        return None
    start = opened + len(shape.opening)
    for written in (content, content.strip()):
        end = start + len(written)
        if text.startswith(written, start) and text.startswith(shape.closing, end):
            return start, end + len(shape.closing)
    return None


def _careful_spans(
    conversation: Conversation, turns: list[int], text: str, shape: TurnShape
) -> list[Span]:
    """Find each turn by rendering the conversation up to it; every span must fit the whole text."""
    spans: list[Span] = []
    cursor = 0
    for i in turns:
        start = _turn_start(conversation, i, text, shape, cursor)
        end = _turn_end(conversation, i, text, shape, start)
        fits = _is_in(conversation.messages[i], text[start:end])
        if end <= start or start < cursor or not fits:
            raise TrainingDataError(
                f"The assistant's message {i + 1} is not in the rendered chat template.",
                f"message {i + 1} of {len(conversation.messages)}",
                f"Set “{label('chat_template')}” to the training template, or give prompt and "
                "completion columns.",
            )
        spans.append((i, start, end))
        cursor = end
    return spans


def _is_in(message: dict, text: str) -> bool:
    """Whether the answer's text, or the name of one of its calls, stands in a text."""
    if _written(message) in text:
        return True
    calls = [call for call in message.get("tool_calls") or () if isinstance(call, dict)]
    names = [(call.get("function") or call).get("name") for call in calls]
    return any(isinstance(name, str) and name in text for name in names if name)


def _turn_start(
    conversation: Conversation, i: int, text: str, shape: TurnShape, cursor: int
) -> int:
    before = conversation.try_text(i, prompt=True) if i else None
    if before and text.startswith(before):
        return len(before)
    cursor = _after_others(conversation.messages[:i], text, cursor)
    opened = text.find(shape.stem, cursor) if shape.stem else -1
    if opened >= 0:
        whole = text.startswith(shape.opening, opened)
        return opened + len(shape.opening if whole else shape.stem)
    written = _written(conversation.messages[i])
    return text.find(written, cursor) if written else len(text)


def _after_others(messages: list[dict], text: str, cursor: int) -> int:
    """Skip the messages since the last answer: the next answer may repeat their text."""
    turns = [at for at, one in enumerate(messages) if one.get("role") == "assistant"]
    for message in messages[turns[-1] + 1 if turns else 0 :]:
        written = _written(message)
        at = text.find(written, cursor)
        cursor = at + len(written) if at >= 0 else cursor
    return cursor


def _turn_end(conversation: Conversation, i: int, text: str, shape: TurnShape, start: int) -> int:
    if i == len(conversation.messages) - 1:
        return len(text.rstrip())
    upto = conversation.try_text(i + 1)
    if upto and len(upto) > start and text.startswith(upto):
        return len(upto.rstrip())
    written = _written(conversation.messages[i])
    after = max(text.find(written, start), start) + len(written)
    special = _special_at(conversation.tokenizer, text, after)
    if special:  # some templates end the last turn with another token than earlier turns
        return after + len(special)
    closed = text.find(shape.closing, after) if shape.closing else -1
    return closed + len(shape.closing) if closed >= 0 else after


def _special_at(tokenizer: Tokenizer, text: str, place: int) -> str:
    """The longest special token at a position of a text; empty if there is none."""
    known = _special_tokens(tokenizer, len(tokenizer))
    return max((t for t in known if text.startswith(t, place)), key=len, default="")


@lru_cache(maxsize=4)
def _special_tokens(tokenizer: Tokenizer, _size: int) -> tuple[str, ...]:
    added = tokenizer.added_tokens_decoder.values()
    return tuple({*tokenizer.all_special_tokens, *(t.content for t in added if t.special)} - {""})


def _written(message: dict) -> str:
    """The part of an answer that every template renders: many drop thinking and outer spaces."""
    content = message.get("content")
    return content.rpartition("</think>")[2].strip() if isinstance(content, str) else ""
