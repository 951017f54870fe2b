"""How answers end: the tokens and texts with which a chat template closes them.

Found by rendering small conversations. What generation does at such an end is not decided here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase as Tokenizer

from trainer_backend.errors import TrainingDataError, UserError
from trainer_backend.recipe import label
from trainer_backend.tokens.chat_template import render
from trainer_backend.tokens.tokenise import IGNORED

_ANSWER, _NEXT, _NAME = "\ue000answer\ue001", "\ue002next\ue003", "look_up_probe"
_ID = {"tool_call_id": "call00001"}
_LAST = 3  # learned tokens of a row among which its end is looked for (a line break may follow it)
_SHOWN = 8  # tokens named in an error
_REFUSALS = (TemplateError, TrainingDataError, TypeError, LookupError, ValueError)


@dataclass(frozen=True)
class Ending:
    """What ends an answer of one tokenizer and its template.

    `tokens` are ids and `words` their texts, the most usual first; `texts` are marks that are no
    single token. `after_answer` and `after_call` are marks of the next role (“<|user|>”) that stand
    after an answer in the middle of a conversation alone: the template ends with the answer itself.
    """

    tokens: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    after_answer: str = ""
    after_call: str = ""


def closing_tokens(tokenizer: Tokenizer) -> list[int]:
    """Ids of the tokens with which the chat template closes answers and calls; often one."""
    return list(ending_of(tokenizer).tokens)


def stop_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids that end an answer: those of the template, and the tokenizer's end token."""
    eos = tokenizer.eos_token_id
    return frozenset(closing_tokens(tokenizer)) | (frozenset() if eos is None else {eos})


def stop_words(tokenizer: Tokenizer) -> list[str]:
    """The same as texts, with the marks that are no single token: what a program can stop at."""
    ending, eos = ending_of(tokenizer), tokenizer.eos_token
    return list(dict.fromkeys([*ending.words, *([eos] if eos else []), *ending.texts]))


def ending_of(tokenizer: Tokenizer) -> Ending:
    """How answers end with this tokenizer; an empty Ending without a chat template."""
    if not getattr(tokenizer, "chat_template", None):
        return Ending()
    template = tokenizer.chat_template
    known = template if isinstance(template, str) else repr(template)
    return _probed(tokenizer, (known, tokenizer.eos_token, len(tokenizer)))


@lru_cache(maxsize=8)
def _probed(tokenizer: Tokenizer, _state: tuple) -> Ending:
    last, middle = _after(tokenizer, [_said(_ANSWER)]), _between(tokenizer, [_said(_ANSWER)])
    call_mark, after_call = _call_end(tokenizer)
    written = _mark(tokenizer, last)
    next_mark = _mark(tokenizer, middle)
    after_answer = next_mark if not (written or last.strip()) else ""
    if written and next_mark and _stands_within(tokenizer, next_mark):
        next_mark = ""  # it also ends a thought, so the answer would be cut off there
    words = list(dict.fromkeys(w for w in (written, next_mark, call_mark, after_call) if w))
    vocabulary = tokenizer.get_vocab()
    ids = [vocabulary[word] for word in words]
    texts = [_before(last, written), *([] if written else [_before(middle, next_mark)])]
    plain = tuple(dict.fromkeys(text for text in texts if text))
    return Ending(tuple(ids), tuple(words), plain, after_answer, after_call)


def _before(text: str, mark: str) -> str:
    """Plain text that closes an answer before its token, or instead of one."""
    return (text.partition(mark)[0] if mark else text).rstrip()


def _said(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def _call(number: int, arguments: Any) -> dict[str, Any]:
    function = {"name": _NAME, "arguments": arguments}
    return {"id": f"call0000{number}", "type": "function", "function": function}


def _text(tokenizer: Tokenizer, messages: list[dict]) -> str:
    """The messages after a question, as text; empty when the template refuses them."""
    try:
        return render([{"role": "user", "content": "x"}, *messages], tokenizer)
    except _REFUSALS:
        return ""


def _after(tokenizer: Tokenizer, answer: list[dict]) -> str:
    """What stands after an answer that ends the conversation."""
    return _text(tokenizer, answer).rpartition(_ANSWER)[2]


def _between(tokenizer: Tokenizer, answer: list[dict]) -> str:
    """What stands between an answer and the next question."""
    messages = [*answer, {"role": "user", "content": _NEXT}, _said("y")]
    before, found, _ = _text(tokenizer, messages).partition(_NEXT)
    return before.rpartition(_ANSWER)[2] if found and _ANSWER in before else ""


def _mark(tokenizer: Tokenizer, text: str) -> str:
    """The first token of control in a text that closes an answer, if there is one."""
    known = _controls(tokenizer)
    places = [(text.find(word), -len(word), word) for word in known if word in text]
    return min(places)[2] if places else ""


def _controls(tokenizer: Tokenizer) -> set[str]:
    """Texts of the added and special tokens, white space and empty ones left out."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    return {word for word in {*added, *tokenizer.all_special_tokens} if word.strip()}


def _stands_within(tokenizer: Tokenizer, word: str) -> bool:
    """Whether a token also stands inside one answer: between its thought and its text."""
    thought = dict.fromkeys(("reasoning_content", "reasoning", "thinking"), _NEXT)
    before, found, _ = _text(tokenizer, [_said(_ANSWER, **thought)]).partition(_ANSWER)
    return bool(found) and word in before.rpartition(_NEXT)[2] and _NEXT in before


def _call_end(tokenizer: Tokenizer) -> tuple[str, str]:
    """(the token that ends a turn with calls, the mark of the tool's turn that follows it)."""
    one, result = _with_calls(tokenizer, 1), {"role": "tool", "name": _NAME, "content": _NEXT}
    if one is None:
        return "", ""
    calls, text = one
    ended, two = _last_mark(tokenizer, text), _with_calls(tokenizer, 2)
    if ended:  # a token that closes each of several calls does not end the turn
        return "" if two and two[1].count(ended) != text.count(ended) else ended, ""
    before, found, _ = _text(tokenizer, [calls, {**result, **_ID}]).partition(_NEXT)
    return "", _mark(tokenizer, before.rpartition(_ANSWER)[2]) if found else ""


def _with_calls(tokenizer: Tokenizer, count: int) -> tuple[dict, str] | None:
    """A turn with some calls and the text that ends with it; None if none is written."""
    for arguments in ({"x": _ANSWER}, f'{{"x": "{_ANSWER}"}}'):
        turn = _said("", tool_calls=[_call(number, arguments) for number in range(1, count + 1)])
        text = _text(tokenizer, [turn])
        if _NAME in text:
            return turn, text
    return None


def _last_mark(tokenizer: Tokenizer, text: str) -> str:
    """The token of control with which a text ends; empty if it ends otherwise."""
    ends = [word for word in _controls(tokenizer) if text.rstrip().endswith(word)]
    return max(ends, key=len, default="")


# The recipe's own end token


def set_end_token(tokenizer: Tokenizer, token: str) -> None:
    """Make `token` (a recipe's `eos_token`; nothing if empty) the tokenizer's end token.

    Raises UserError when the tokenizer has no such token.
    """
    if not token:
        return
    if token not in tokenizer.get_vocab():
        known = sorted(_controls(tokenizer), key=lambda word: (len(word) > 30, word))[:_SHOWN]
        raise UserError(
            f"“{token[:60]}” is not a token of this model.",
            label("eos_token"),
            f"Use one of its own tokens ({', '.join(known)}), or leave the field empty.",
            code="eos_token",
        )
    tokenizer.eos_token = token


# Training: the end is learned


def with_learned_end(
    text: str, spans: list[tuple[int, int]], ending: Ending, is_call: bool, end_token: str = ""
) -> tuple[str, list[tuple[int, int]]]:
    """Let the trained spans of a rendered conversation hold what ends an answer.

    Where the template itself closes no answer, each span is extended over the mark of the next role
    that follows it, and the mark that would follow the last answer (`is_call`: one with calls) is
    appended. `end_token`, asked for by the user, is appended where the template does not write it.
    """
    marks = [mark for mark in (ending.after_answer, ending.after_call) if mark]
    spans = [(start, _over(text, end, marks)) for start, end in spans] if marks else spans
    own = (ending.after_call if is_call else ending.after_answer) or (marks[0] if marks else "")
    closed = [*ending.words, *([end_token] if end_token else [])]
    mark = own or ("" if text.rstrip().endswith(tuple(closed) or "\0") else end_token)
    if not mark or not spans or text[spans[-1][1] :].strip():
        return text, spans
    start, end = spans[-1]
    if text[start:end].rstrip().endswith(mark):
        return text, spans
    return text[:end] + mark, [*spans[:-1], (start, end + len(mark))]


def _over(text: str, end: int, marks: Sequence[str]) -> int:
    """The end of a span, moved over a mark that follows it (white space may stand between)."""
    rest = text[end : end + 80]
    at = len(rest) - len(rest.lstrip())
    found = next((mark for mark in marks if rest.startswith(mark, at)), "")
    return end + at + len(found) if found else end


def ends_learned(labels: np.ndarray, stops: frozenset[int]) -> bool:
    """Whether the last learned tokens of a row (`labels` int [tokens]) hold one of `stops`.

    True for a row without a learned token: it teaches nothing, and so nothing wrong.
    """
    learned = labels[labels != IGNORED][-_LAST:]
    return not len(learned) or not stops.isdisjoint(learned.tolist())


def endless_rows(labels: np.ndarray, starts: np.ndarray, stops: frozenset[int]) -> np.ndarray:
    """Bool [rows]: a row learns something, but not to stop.

    `labels` int [tokens] are those of all rows, `starts` int [rows + 1] where each row begins.
    """
    learned = np.flatnonzero(labels != IGNORED)
    ends = np.searchsorted(learned, starts[1:])
    firsts = np.searchsorted(learned, starts[:-1])
    taught = ends > firsts
    stopped = np.zeros(len(taught), bool)
    held = np.isin(labels[learned], sorted(stops))
    for back in range(1, _LAST + 1):
        at = ends - back
        inside = at >= firsts
        stopped[inside] |= held[at[inside]]
    return taught & ~stopped


def end_in_words(tokenizer: Tokenizer) -> str:
    """“<|im_end|>” or “</s>”: the ends that a model could learn, for a message."""
    return " or ".join(f"“{word}”" for word in stop_words(tokenizer)[:3])


def unlearned_end(rows: int, total: int) -> str:
    """The sentence about rows that do not teach the model to stop."""
    which = "no row teaches" if rows == total else f"{rows:,} of {total:,} rows do not teach"
    return f"The model will not learn to stop: {which} a token that ends an answer."
