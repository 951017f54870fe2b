"""What a chat template wants to be given, found out by rendering small conversations once.

Templates differ in how a call's arguments are written (an object, or JSON text), whether calls have
ids, what stands in the content beside them, and whether there is a system role. No conversation of
a dataset is rendered or changed here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils.chat_template_utils import _compile_jinja_template

REFUSALS = (TemplateError, TypeError, LookupError, AttributeError, ArithmeticError, ValueError)
NAME, KEY, VALUE, RESULT = "probe_name", "probe_key", "probe_value", "probe_result"
TEXT, ANSWER, SPEAKER, LETTERS, LONG_ID = (
    *("probe_text", "probe_answer", "probe_speaker"),
    *("aB3dE6gH9", "call_probe_id_long"),
)
Words = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Needs:
    """The form of messages and tools that a template renders."""

    parts: bool = False  # content is a list of parts, even where it is text alone
    text_arguments: bool = False  # the arguments of a call are JSON text
    bare_calls: bool = False  # {"name", "arguments"} without "function" around them
    bare_tools: bool = False  # the same for the tools a row offers
    ids: str = ""  # calls have no id; "any": they need one; "nine": one of nine letters
    beside: str = "text"  # empty content beside calls: "text" (""), "null", or "absent"
    names: bool = False  # a tool's answer names the tool
    calls: bool = True  # calls are written at all
    system: bool = True  # a system message at the beginning is written
    later_system: bool = True  # and one in the middle


def needs_of(template: str, tokenizer: Tokenizer) -> Needs:
    """What this template, rendered with the tokenizer's special tokens, wants; found out once."""
    words = special_words(tokenizer)
    return _needs(template, tuple(sorted(words.items())))


def special_words(tokenizer: Tokenizer) -> dict[str, str]:
    """The special tokens as names for a template: {"eos_token": "</s>", …}."""
    found = tokenizer.special_tokens_map.items()
    return {name: token for name, token in found if isinstance(token, str)}


@lru_cache(maxsize=32)
def wants_parts(template: str) -> bool:
    """Whether a template renders content only as a list of parts (those of vision models)."""
    words = (("eos_token", ""),)
    if TEXT in _text(template, words, [{"role": "user", "content": TEXT}]):
        return False
    parts = [{"type": "text", "text": TEXT}]
    return TEXT in _text(template, words, [{"role": "user", "content": parts}])


@lru_cache(maxsize=32)
def _needs(template: str, words: Words) -> Needs:
    start = Needs(parts=wants_parts(template))
    found = _with_system(template, words, start)
    return _with_tools(template, words, _with_calls(template, words, found))


def _text(
    template: str, words: Words, messages: list[dict[str, Any]], tools: list | None = None
) -> str:
    """The rendered messages; empty when the template refuses them."""
    try:
        compiled = _compile_jinja_template(template)
        return compiled.render(messages=messages, tools=tools, **dict(words))
    except REFUSALS:
        return ""


def _content(text: str, needs: Needs) -> str | list[dict[str, str]]:
    return [{"type": "text", "text": text}] if needs.parts else text


def _talk(needs: Needs, *turns: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": _content(text, needs)} for role, text in turns]


def _with_system(template: str, words: Words, needs: Needs) -> Needs:
    """Whether system messages are written, where the same talk without them is rendered."""
    pair, system = (("user", "x"), ("assistant", ANSWER)), ("system", TEXT)

    def lacks(with_it: tuple, without: tuple) -> bool:
        if TEXT in _text(template, words, _talk(needs, *with_it)):
            return False
        return ANSWER in _text(template, words, _talk(needs, *without))

    return replace(
        needs,
        system=not lacks((system, *pair), pair),
        later_system=not lacks((*pair, system, *pair), (*pair, *pair)),
    )


def _with_calls(template: str, words: Words, needs: Needs) -> Needs:
    best, most = needs, 0
    for one in _variants(needs):
        score = _score(template, words, one)
        if score > most:
            best, most = one, score
        if score == _BEST:
            break
    if most < _CALLS:
        return replace(needs, calls=False)
    return _with_ids(template, words, best)


def _variants(needs: Needs) -> Iterator[Needs]:
    """Every form of a call, the usual ones first."""
    forms = product((False, True), ("", "any", "nine"), ("text", "null", "absent"), (False, True))
    for bare, ids, beside, text in forms:
        yield replace(needs, bare_calls=bare, ids=ids, beside=beside, text_arguments=text)


_CALLS, _BEST = 4, 7  # name and argument are written; and the tool's result and the answer too


def _score(template: str, words: Words, needs: Needs) -> int:
    text = _text(template, words, probe(needs))
    if NAME not in text or VALUE not in text:
        return 0
    # a Python dict, or JSON text written as JSON once more, is no form of a call
    spoilt = f"{{'{KEY}" in text or f'\\"{KEY}' in text or "None" in text
    return 4 * (not spoilt) + (KEY in text) + (RESULT in text) + (ANSWER in text)


def probe(needs: Needs, call_id: str = "", speaker: str = NAME) -> list[dict[str, Any]]:
    """A small talk with one call, in the form that `needs` asks for."""
    given: Any = {KEY: VALUE}
    function = {
        "name": NAME,
        "arguments": f'{{"{KEY}": "{VALUE}"}}' if needs.text_arguments else given,
    }
    call = function if needs.bare_calls else {"type": "function", "function": function}
    number = call_id or {"": "", "any": LONG_ID, "nine": LETTERS}[needs.ids]
    asked: dict[str, Any] = {"role": "assistant", "tool_calls": [call | _given("id", number)]}
    if needs.beside != "absent":
        asked["content"] = _content("", needs) if needs.beside == "text" else None
    result = {"role": "tool", "content": _content(RESULT, needs)}
    result |= _given("name", speaker) | _given("tool_call_id", number)
    user, answer = _talk(needs, ("user", "x"), ("assistant", ANSWER))
    return [user, asked, result, answer]


def _given(key: str, value: str) -> dict[str, str]:
    return {key: value} if value else {}


def _with_ids(template: str, words: Words, needs: Needs) -> Needs:
    """Ask for ids and names of tools where the template writes those it is given."""
    speaks = SPEAKER in _text(template, words, probe(needs, speaker=SPEAKER))
    silent = _text(template, words, probe(needs, speaker=""))
    needs = replace(needs, names=speaks or RESULT not in silent)
    if not needs.ids and LETTERS in _text(template, words, probe(needs, LETTERS)):
        longer = _text(template, words, probe(needs, LONG_ID))
        return replace(needs, ids="any" if LONG_ID in longer else "nine")
    return needs


def _with_tools(template: str, words: Words, needs: Needs) -> Needs:
    """Whether tools are wanted without the object around the function."""
    schema = {"type": "object", "properties": {KEY: {"type": "string", "description": VALUE}}}
    function = {"name": NAME, "description": TEXT, "parameters": schema}
    talk = _talk(needs, ("user", "x"), ("assistant", ANSWER))
    if NAME in _text(template, words, talk, [{"type": "function", "function": function}]):
        return needs
    return replace(needs, bare_tools=NAME in _text(template, words, talk, [function]))
