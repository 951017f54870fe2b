"""Compares what a conversation says with the text its chat template made of it.

Each kind of content (system text, calls, reasoning …) is written, lost, doubled or not learned. A
row's answer is one integer of flags; nothing is rendered here except to confirm a doubled text.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from os.path import commonprefix
from typing import Any

from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.data.checks.content import KINDS, flag
from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.assistant_mask import Conversation, Span

KIND_OF = {
    **{"system": "system", "developer": "system", "assistant": "answer", "model": "answer"},
    **{"tool": "results", "function": "results", "observation": "results", "ipython": "results"},
}  # by role; every other role asks
REASONING = ("reasoning_content", "reasoning", "thinking")
MEDIA = ("image", "image_url", "audio", "input_audio", "video")
_HAS_BY_ROLE = {role: flag(kind) for role, kind in KIND_OF.items()}
_PROMPT, _ANSWER, _REASONING = flag("prompt"), flag("answer"), flag("reasoning")
_THOUGHT = re.compile(r"(?:<think>|\A)(.*?)</think>", re.DOTALL)
_MEDIA_NAME = re.compile(r"ima?ge?|vision|video|audio", re.IGNORECASE)
_MARKS = re.compile(r"\\+[ntru]?|[\W_]+")  # what JSON, XML and Python spell differently
_PROBE = "\ue000ledger\ue001"


@dataclass(frozen=True)
class Rendered:
    """A conversation and its text; `spans` are the learned turns, None where all is learned.

    The messages before the `first` are context, as is the text before the character `begin`.
    """

    conversation: Conversation
    text: str
    spans: Sequence[Span] | None = None
    first: int = 0
    begin: int = 0


def learned_from(prompt: str | None, text: str, context: int) -> tuple[int, int]:
    """`first` and `begin` of Rendered for a rendered prompt of `context` messages."""
    if prompt is None:
        return 0, 0
    shared = prompt if text.startswith(prompt) else commonprefix([prompt, text])
    return context, len(shared)


def refuse_empty_answers(flags: int) -> None:
    """Raise TrainingDataError for calls that are not in the text: answers of nothing are learned.

    For single rows; whole datasets are asked about once, for all their rows.
    """
    if flags & flag("calls", "lost"):
        raise TrainingDataError(
            "The chat template does not write this conversation's tool calls.",
            "this row's messages",
            "Use a chat template that does (chat_template=training), or train without them "
            "(lost_content=train_without).",
            code="content_lost",
        )


def ledger_of(rendered: Rendered) -> int:
    """The flags of a rendered conversation: of each kind has, lost, partly, doubled, not learned.

    Content is lost wholly or in part; outer white space and another spelling of JSON are no loss.
    """
    if not rendered.conversation.tools:
        flags = _plain_flags(rendered)
        if flags is not None:
            return flags
    return _Ledger(rendered).flags()


def _plain_flags(rendered: Rendered) -> int | None:
    """The flags of messages that are texts, each found in order and once; else None."""
    text, first, begin = rendered.text, rendered.first, rendered.begin
    spans = _by_message(rendered.spans) if rendered.spans else {}
    cursor, flags, gaps, contents = 0, 0, [], []
    for at, message in enumerate(rendered.conversation.messages):
        content = message.get("content")
        if len(message) != 2 or not isinstance(content, str):
            return None
        content = content.strip()
        if not content:
            continue
        has = _HAS_BY_ROLE.get(message["role"], _PROMPT)
        found = text.find(content, *spans[at]) if at in spans else text.find(content, cursor)
        if found < cursor or (begin and found < begin and at >= first and has == _ANSWER):
            return None
        flags |= has if "</think>" not in content else has | _REASONING
        gaps.append(text[cursor:found])
        contents.append(content)
        cursor = found + len(content)
    gaps.append(text[cursor:])
    rest = "\0".join(gaps)
    for content in contents:
        if content in rest:
            return None
    return None if -1 in spans else flags


def _by_message(spans: Sequence[Span]) -> dict[int, tuple[int, int]]:
    return {at: (start, end) for at, start, end in spans}


@dataclass
class _Tally:
    """Of the pieces of one kind: how many there are, lost or in part, and their other faults."""

    pieces: int = 0
    lost: int = 0
    partly: int = 0
    doubled: bool = False
    not_learned: bool = False

    def flags(self, kind: str) -> int:
        if not self.pieces:
            return 0
        flags = flag(kind)
        if self.lost == self.pieces:
            return flags | flag(kind, "lost")
        if self.lost or self.partly:
            flags |= flag(kind, "partly")
        flags |= flag(kind, "doubled") if self.doubled else 0
        return flags | (flag(kind, "not_learned") if self.not_learned else 0)


@dataclass
class _Ledger:
    """One row looked at closely: where each text stands, then what is written around it."""

    rendered: Rendered
    tallies: dict[str, _Tally] = field(default_factory=lambda: {kind: _Tally() for kind in KINDS})
    places: dict[int, tuple[int, int]] = field(default_factory=dict)  # of whole contents

    def flags(self) -> int:
        messages = self.rendered.conversation.messages
        self._place_contents(messages)
        for at, message in enumerate(messages):
            self._content(at, message)
            if not message.keys().isdisjoint(REASONING):
                self._reasoning(at, message)
            if "tool_calls" in message:
                self._calls(at, message)
            if isinstance(message.get("content"), list):
                self._media(message)
        outside = self._outside()
        self._tools(outside)
        self._doubled(outside)
        found = 0
        for kind, tally in self.tallies.items():
            found |= tally.flags(kind)
        return found

    # Where things are

    def _place_contents(self, messages: list[dict]) -> None:
        text, cursor, spans = self.rendered.text, 0, _by_message(self.rendered.spans or ())
        for at, message in enumerate(messages):
            for content in _texts(message.get("content")):
                if not content.strip():
                    continue
                within = spans.get(at) if _kind(message) == "answer" else None
                place = _find(text, content, *within) if within else None
                if place is None and _kind(message) == "system":
                    place = _find(text, content, 0)  # some templates move it
                elif place is None:
                    place = _find(text, content, cursor)
                    cursor = place[1] if place else cursor
                else:
                    cursor = max(cursor, place[1])
                if place:
                    before = self.places.get(at, place)
                    self.places[at] = (min(before[0], place[0]), max(before[1], place[1]))

    def _region(self, at: int) -> tuple[int, int]:
        """Where a message's text can stand: between its neighbours that were found.

        System text bounds nothing, because some templates move it.
        """
        messages = self.rendered.conversation.messages
        low, high = 0, len(self.rendered.text)
        for other, (start, end) in self.places.items():
            if "system" in (_kind(messages[other]), _kind(messages[at])):
                continue
            if other < at:
                low = max(low, end)
            elif other > at:
                high = min(high, start)
        return low, max(low, high)

    def _outside(self) -> str:
        """The text without the messages' contents and the learned or called turns."""
        spans = [(start, end) for _, start, end in self.rendered.spans or ()]
        taken = [*self.places.values(), *spans]
        if self.rendered.spans is None:
            messages = self.rendered.conversation.messages
            taken += [self._region(at) for at, one in enumerate(messages) if one.get("tool_calls")]
        cursor, parts = 0, []
        for start, end in sorted(taken):
            parts.append(self.rendered.text[cursor:start])
            cursor = max(cursor, end)
        return "\0".join([*parts, self.rendered.text[cursor:]])

    # What is written

    def _content(self, at: int, message: dict) -> None:
        kind = _kind(message)
        content = message.get("content")
        if isinstance(content, Mapping) or (isinstance(content, list) and not _is_parts(content)):
            self._note(kind, _leaves_written(content, self._text(at)))
            return
        for text in _texts(content):
            is_thought = kind == "answer" and "</think>" in text
            thoughts = _THOUGHT.findall(text) if is_thought else []
            answer = text.rpartition("</think>")[2] if thoughts else text
            if not text.strip():
                continue
            place = self.places.get(at)
            whole = place is not None and (
                isinstance(content, str) or _find(self.rendered.text, text, *place) is not None
            )
            for piece, of in [*((one, "reasoning") for one in thoughts), (answer, kind)]:
                if piece.strip():
                    self._piece(of, piece, at, 1.0 if whole else None)

    def _piece(self, kind: str, piece: str, at: int, share: float | None = None) -> None:
        share = _share_written(piece, self._text(at)) if share is None else share
        self._note(kind, share)
        if share and kind in ("answer", "reasoning"):
            self._check_learned(kind, piece, at)

    def _reasoning(self, at: int, message: dict) -> None:
        texts = _texts(message.get("content"))
        inside = {one.strip() for text in texts for one in _THOUGHT.findall(text)}
        for name in REASONING:
            thought = message.get(name)
            if isinstance(thought, str) and thought.strip():
                self._piece("reasoning", thought, at)
                twice = thought.strip() in inside
                if twice and self._text(at).count(thought.strip()) > 1:
                    self.tallies["reasoning"].doubled = True

    def _calls(self, at: int, message: dict) -> None:
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function", call) if isinstance(call, Mapping) else {}
            name, arguments = function.get("name"), function.get("arguments")
            if not isinstance(name, str) or not name:
                continue
            region = self._text(at)
            share = _leaves_written(_parsed(arguments), region, keys=True)
            self._note("calls", 0.0 if name not in region else max(share, 0.5) if share else 0.5)
            if name in region:
                self._check_learned("calls", name, at)

    def _media(self, message: dict) -> None:
        content = message.get("content")
        parts = content if isinstance(content, list) else ()
        wanted = sum(isinstance(one, Mapping) and one.get("type") in MEDIA for one in parts)
        if wanted:
            marks = _media_marks(self.rendered.conversation.tokenizer)
            there = any(mark in self.rendered.text for mark in marks)
            self._note("media", 1.0 if there else 0.0)

    def _tools(self, outside: str) -> None:
        for tool in self.rendered.conversation.tools or ():
            function = tool.get("function", tool) if isinstance(tool, Mapping) else {}
            name = function.get("name") or getattr(tool, "__name__", "")
            if not isinstance(name, str) or not name:
                continue
            if function and _as_json(function) in outside:  # the usual spelling
                self._note("tools", 1.0)
                continue
            words = [str(one) for one in (function.get("description"),) if one]
            fields = _mapping(_mapping(function.get("parameters")).get("properties"))
            words += list(fields)
            words += [str(_mapping(one).get("description") or "") for one in fields.values()]
            told = [_says(outside, word) for word in words if word.strip()]
            written = name in outside
            self._note("tools", 0.0 if not written else 1.0 if all(told) else 0.5)

    def _note(self, kind: str, share: float) -> None:
        tally = self.tallies[kind]
        tally.pieces += 1
        tally.lost += share == 0
        tally.partly += 0 < share < 1

    def _text(self, at: int) -> str:
        low, high = self._region(at)
        return self.rendered.text[low:high]

    # What is learned, and what is there twice

    def _check_learned(self, kind: str, piece: str, at: int) -> None:
        spans, text = self.rendered.spans, self.rendered.text
        if spans is None:
            low, high = self._region(at)
            own = [text[max(low, self.rendered.begin) : high]] if at >= self.rendered.first else []
        else:
            own = [text[start:end] for i, start, end in spans if i in (at, -1)]
        if own and _share_written(piece, "\0".join(own)) == 0:
            self.tallies[kind].not_learned = True

    def _doubled(self, outside: str) -> None:
        messages = self.rendered.conversation.messages
        for at in self.places:
            content = messages[at].get("content")
            if not isinstance(content, str) or content.strip() not in outside:
                continue
            if self._is_doubled(at):
                self.tallies[_kind(messages[at])].doubled = True

    def _is_doubled(self, at: int) -> bool:
        """Whether the template writes this message twice; another text in its place tells."""
        conversation = self.rendered.conversation
        messages = [*conversation.messages]
        messages[at] = {**messages[at], "content": _PROBE}
        text = replace(conversation, messages=messages).try_text(len(messages))
        return text is not None and text.count(_PROBE) > 1


# Reading messages


def _kind(message: dict) -> str:
    return KIND_OF.get(str(message.get("role")), "prompt")


def _texts(content: Any) -> list[str]:
    """The texts of a message: its content, or those of its parts."""
    if isinstance(content, str):
        return [content]
    if isinstance(content, list) and _is_parts(content):
        return [one["text"] for one in content if isinstance(one.get("text"), str)]
    return []


def _is_parts(content: list) -> bool:
    return all(isinstance(one, Mapping) and "type" in one for one in content)


def _mapping(value: Any) -> Mapping:
    return value if isinstance(value, Mapping) else {}


def _parsed(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


@lru_cache(maxsize=4)
def _media_marks(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Spellings that stand for a picture or sound in a rendered text."""
    added = [one.content for one in tokenizer.added_tokens_decoder.values()]
    named = [name for name in added if _MEDIA_NAME.search(name)]
    return (*named, "<image>", "<video>", "<audio>")


# Finding texts


def _find(text: str, piece: str, start: int, end: int | None = None) -> tuple[int, int] | None:
    """Where a text stands, without its outer white space or spelled as JSON; None if nowhere."""
    for spelled in _spellings(piece.strip()):
        at = text.find(spelled, start, len(text) if end is None else end)
        if at >= 0:
            return at, at + len(spelled)
    return None


def _spellings(piece: str) -> Iterator[str]:
    """The text as it is, then inside JSON, then inside JSON text inside JSON."""
    yield piece
    for ascii_only in (False, True):
        once = json.dumps(piece, ensure_ascii=ascii_only)[1:-1]
        if once != piece:
            yield once
            yield json.dumps(once, ensure_ascii=False)[1:-1]


def _says(text: str, piece: str) -> bool:
    """Whether a text holds a piece, whatever marks and escapes its format needs."""
    return any(one in text for one in _spellings(piece.strip())) or _squeezed(piece) in _squeezed(
        text
    )


@lru_cache(maxsize=64)
def _squeezed(text: str) -> str:
    return _MARKS.sub("", text)


def _share_written(piece: str, text: str) -> float:
    """1 for a whole text, 0 for none of it, between them for one that is changed or cut."""
    if _find(text, piece, 0):
        return 1.0
    lines = [line for line in piece.splitlines() if line.strip()]
    if any(_find(text, line, 0) for line in lines) or _squeezed(piece) in _squeezed(text):
        return 0.5
    return 0.0


def _leaves_written(value: Any, text: str, keys: bool = False) -> float:
    """The share of a JSON value's names, texts and numbers that a text holds; 1 for none."""
    if _as_json(value) in text:  # the usual spelling: no need to look for each part
        return 1.0
    leaves = list(_leaves(value, keys))
    if not leaves:
        return 1.0
    return sum(_says(text, leaf) for leaf in leaves) / len(leaves)


def _as_json(value: Any) -> str:
    """A value as templates write it with tojson; numbers that JSON lacks as text."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _leaves(value: Any, keys: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if keys and str(key).strip():
                yield str(key)
            yield from _leaves(item, keys)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, keys)
    elif isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, float) and value.is_integer():
        yield str(int(value))
    elif value is not None and not isinstance(value, bool):
        yield json.dumps(value, default=str)
