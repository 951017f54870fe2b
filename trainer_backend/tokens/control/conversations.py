"""Conversations whose texts spell control tokens, made safe to render.

A spelling is broken before rendering: its first letter is replaced by a private character, so that
the rendered text has the same length and tells the template's tokens from those of the texts.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from jinja2.exceptions import TemplateError
from transformers.utils import get_json_schema

from trainer_backend.data.checks.control import (
    READ,
    RENDERED_AS_TEXT,
    RENDERED_OTHER,
    SPELLED,
)
from trainer_backend.tokens.assistant_mask import Conversation
from trainer_backend.tokens.control.rendered import rendered_for
from trainer_backend.tokens.control.spelling import JOINT, ControlTokens, Span, control_tokens

_PRIVATE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE))  # characters without a meaning
_REFUSALS = (TemplateError, TypeError, IndexError, KeyError)


@dataclass(frozen=True)
class Broken:
    """A conversation with broken spellings, and what puts them together again.

    `read`: control tokens that the template itself looks for in the texts (it splits an answer at
    </think>, for example). They are left to it.
    """

    conversation: Conversation
    letters: Mapping[int, str]  # private character -> the letter it stands for
    read: frozenset[str] = frozenset()

    rendered: int = 0  # flag, if a message carries turns that are rendered already

    @property
    def flags(self) -> int:
        """How the control tokens were read that the texts spell."""
        flags = (SPELLED if self.letters else 0) | (READ if self.read else 0)
        return flags | (self.rendered if self.letters else 0)

    def mend(self, text: str) -> str:
        """A rendered text as the template would have written it; its length stays the same."""
        return text.translate(self.letters)

    def places(self, text: str) -> list[Span]:
        """Where the template wrote control tokens in a rendered text that is not mended yet."""
        return control_tokens(self.conversation.tokenizer).places(text)


def break_spellings(conversation: Conversation, prompt: bool = False) -> Broken | None:
    """The conversation with its spellings of control tokens broken; None if it has none.

    `prompt`: it is rendered with a generation prompt. Raises what the template raises.
    """
    control = control_tokens(conversation.tokenizer)
    conversation = replace(conversation, tools=_as_schemas(conversation.tools))
    words = conversation.template_kwargs
    given = JOINT.join(texts_of([*conversation.messages, conversation.tools, words]))
    names = control.names_in(given)
    if not names:
        return None
    text = conversation.text(prompt=prompt)

    def try_with(chosen: Sequence[str]) -> Broken | None:
        broken = _broken(conversation, chosen, control, given + text)
        return broken if _is_mended(broken, text, prompt) else None

    rendered = _rendered_in(conversation)
    if whole := try_with(names):
        return replace(whole, rendered=rendered)
    safe = [name for name in names if try_with([name])]
    if safe and (broken := try_with(safe)):
        return replace(broken, read=frozenset(names) - frozenset(safe), rendered=rendered)
    return Broken(conversation, {}, frozenset(names))


def _rendered_in(conversation: Conversation) -> int:
    """The flag of messages that carry rendered turns, of this model before those of another."""
    flags = set()
    for message in conversation.messages:
        for text in texts_of(message.get("content")):
            found = rendered_for(text, conversation.tokenizer)
            if found is not None:
                flags.add(RENDERED_AS_TEXT if found.own else RENDERED_OTHER)
    return min(flags, default=0)


def rows_spelling(examples: Sequence[Mapping], control: ControlTokens) -> set[int]:
    """Indices of the rows whose texts spell a control token. Never raises."""
    texts: list[str] = []
    for example in examples:
        _gather(example, texts)
    if not control.names_in(JOINT.join(texts)):
        return set()
    found = set()
    for at, example in enumerate(examples):
        texts = []
        _gather(example, texts)
        if control.names_in(JOINT.join(texts)):
            found.add(at)
    return found


def _gather(example: Mapping, texts: list[str]) -> None:
    """Add every text of a row that may spell a control token; prompt and completion as one."""
    messages = example.get("messages")
    if messages is None:
        prompt, completion = example.get("prompt"), example.get("completion")
        if isinstance(prompt, str) and isinstance(completion, str):
            texts.append(prompt + completion)
        elif completion is not None:
            _gather_messages(prompt, texts)
            _gather_messages(completion, texts)
        elif "text" in example:
            texts.append(str(example["text"]))
    else:
        _gather_messages(messages, texts)
    for column in ("tools", "chat_template_kwargs"):
        if column in example:
            texts.extend(texts_of(_parsed(example[column])))


def _gather_messages(messages: Any, texts: list[str]) -> None:
    given = _parsed(messages)
    for message in given if isinstance(given, Iterable) else ():
        if not isinstance(message, Mapping):
            continue
        for value in message.values():
            if type(value) is str:
                texts.append(value)
            elif value is not None:
                texts.extend(texts_of(value))


def _parsed(value: Any) -> Any:
    """JSON text as what it says: a spelling may be written in escapes. Text that is none: None."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def texts_of(value: Any) -> Iterator[str]:
    """Every text in messages, tools or template arguments, names included.

    The texts of a message's parts are also given as one: a template writes them without a gap.
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from texts_of(key)
            yield from texts_of(part)
    elif isinstance(value, list | tuple):
        if len(value) > 1 and all(isinstance(part, Mapping) for part in value):
            texts = [text for part in value if isinstance(text := part.get("text"), str)]
            yield "".join(texts)
        for part in value:
            yield from texts_of(part)
    elif callable(value):
        yield f"{getattr(value, '__name__', '')} {value.__doc__}"


def _as_schemas(tools: list | None) -> list | None:
    """Tools with functions described as the template sees them."""
    if not any(callable(tool) for tool in tools or ()):
        return tools
    return [get_json_schema(tool) if callable(tool) else tool for tool in tools or ()]


def _broken(
    conversation: Conversation, names: Collection[str], control: ControlTokens, used: str
) -> Broken:
    free = (chr(code) for code in chain(*_PRIVATE) if chr(code) not in used)
    letters = dict(zip(sorted({name[0] for name in names}), free, strict=False))

    def change(text: str) -> str:
        return break_text(text, names, letters, control)

    changed = replace(
        conversation,
        messages=_changed(conversation.messages, change),
        tools=_changed(conversation.tools, change),
        template_kwargs=_changed(conversation.template_kwargs, change),
    )
    return Broken(changed, {ord(private): letter for letter, private in letters.items()})


def break_text(
    text: str, names: Collection[str], letters: Mapping[str, str], control: ControlTokens
) -> str:
    """Replace the first letter of every spelling of `names` by its private character."""
    before = None
    while text != before:  # a broken spelling may uncover another
        before = text
        text = control.pattern.sub(
            lambda found: letters[found[0][0]] + found[0][1:] if found[0] in names else found[0],
            text,
        )
    return text


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_changed(key, change): _changed(part, change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_changed(part, change) for part in _joined_parts(value, change)]
    return value


def _joined_parts(parts: list | tuple, change: Callable[[str], str]) -> list:
    """Parts of a message, with spellings broken that run over from one text to the next."""
    places = [
        at
        for at, part in enumerate(parts)
        if isinstance(part, Mapping) and isinstance(part.get("text"), str)
    ]
    whole = change("".join(parts[at]["text"] for at in places))
    found, start = list(parts), 0
    for at in places:
        end = start + len(parts[at]["text"])
        found[at] = {**parts[at], "text": whole[start:end]}
        start = end
    return found


def _is_mended(broken: Broken, text: str, prompt: bool) -> bool:
    """Whether the template wrote the same as without broken spellings."""
    try:
        return broken.mend(broken.conversation.text(prompt=prompt)) == text
    except _REFUSALS:
        return False
