"""Renders the tokenizer's chat template: whole conversations and chat prompts become text.

Messages are given to it in the form that it renders. No token id and no label is made here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, cast

from jinja2 import Template
from jinja2.exceptions import TemplateRuntimeError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

from trainer_backend.data.formats import TRAIN_MARKS, slim_tools, without_nulls
from trainer_backend.data.json_values import parse_json_column
from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.templates.arrange import fold_system, suit_calls, suit_tools
from trainer_backend.tokens.templates.needs import needs_of, wants_parts
from trainer_backend.tokens.templates.thinking import thinking_arguments

PLAIN_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ 'Assistant:' }}"
    "{% generation %}{{ ' ' + (message['content'] | trim) + eos_token }}{% endgeneration %}"
    "{{ '\n' }}"
    "{% else %}{{ 'User: ' + (message['content'] | trim) + '\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
_TALK = ("user", "assistant")
_LOOP_NAMES = {"first", "last", "index", "index0", "length"}  # bools and numbers
_SIMPLE = {"role", "content"}  # messages with these keys alone are rendered without checks


def ensure_chat_template(tokenizer: Tokenizer) -> bool:
    """Set PLAIN_CHAT_TEMPLATE on a tokenizer without a template; True if it was set."""
    if getattr(tokenizer, "chat_template", None):
        return False
    tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
    return True


@dataclass(frozen=True)
class FixedDate:
    """`strftime_now` of templates that write today's date, always for one day (ISO, 2026-11-27)."""

    day: str

    def __call__(self, form: str) -> str:
        return date.fromisoformat(self.day).strftime(form)


def clean_messages(messages: Sequence[Mapping] | str | None) -> list[dict]:
    """Messages as a template may see them: JSON text parsed, nulls and train marks dropped.

    Nulls in the arguments of calls stay, unless a table filled absent keys with them.
    """
    return without_nulls(parse_json_column(messages, "messages") or [], TRAIN_MARKS)


def is_plain(messages: Sequence[Mapping]) -> bool:
    """Whether there are texts of user and assistant alone, which need no change for a template."""
    return all(
        type(one) is dict
        and len(one) == 2
        and type(one.get("content")) is str
        and one.get("role") in _TALK
        for one in messages
    )


def carried(example: Mapping, column: str, kind: Any) -> Any:
    """A row's template argument, parsed from JSON text where it is text; None if it is empty.

    Raises TrainingDataError when it is not of this kind.
    """
    value = parse_json_column(example.get(column), column) or None
    if not isinstance(value, kind | None):
        raise not_carried(column, value)
    return value


def not_carried(column: str, value: object) -> TrainingDataError:
    expected = "a list of objects" if column == "tools" else "an object with the template's names"
    return TrainingDataError(
        f"“{column}” is {value!r:.60}.", f"column “{column}”", f"Write it as {expected}."
    )


def arranged(
    messages: Sequence[Mapping], tools: list | None, tokenizer: Tokenizer
) -> tuple[list[Mapping], int]:
    """Messages with the system text that the template has no role for in the user's message.

    Returns them and how many system messages were moved. Raises TrainingDataError without a
    template.
    """
    if not any(message.get("role") == "system" for message in messages):
        return list(messages), 0
    return fold_system(messages, needs_of(template_of(tokenizer, tools), tokenizer))


def suited(
    messages: list[dict], tools: list | None, tokenizer: Tokenizer
) -> tuple[list[dict], list | None]:
    """Cleaned messages and tools in the form that the template renders, one for one."""
    calls = any(len(one) > 2 or one["role"] == "tool" for one in messages)
    if not (calls or tools):
        return messages, tools
    needs = needs_of(template_of(tokenizer, tools), tokenizer)
    if calls and needs.calls:
        messages = suit_calls(messages, needs)
    return messages, suit_tools(tools, needs)


def unwritten_turns(
    messages: Sequence[Mapping], tools: list | None, tokenizer: Tokenizer
) -> set[int]:
    """Indices of assistant messages that hold calls alone, if the template seems to write no calls.

    Of a turn that is not written only its end would be learned: an empty answer.
    """
    bare = {
        at
        for at, one in enumerate(messages)
        if one.get("tool_calls") and not (one.get("content") or one.get("reasoning_content"))
    }
    writes = not bare or needs_of(template_of(tokenizer, tools), tokenizer).calls
    return set() if writes else bare


def names_call(message: Mapping, text: str) -> bool:
    """Whether a text names a function that the message calls."""
    calls = [call.get("function", call) for call in message.get("tool_calls") or ()]
    return any(call["name"] in text for call in calls)


def template_of(tokenizer: Tokenizer, tools: list | None = None) -> str:
    """The Jinja source in use (some models have another one for tools).

    Raises TrainingDataError when the tokenizer has no chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise TrainingDataError(
            "This tokenizer has no chat template, so messages cannot be turned into text.",
            f"tokenizer {getattr(tokenizer, 'name_or_path', '') or type(tokenizer).__name__}",
            "Use a chat model, set chat_template_path, or give prompt and completion as text.",
        )
    return tokenizer.get_chat_template(None, tools)


def has_generation_markers(template: str) -> bool:
    """Whether the template has `{% generation %}` blocks around what the assistant writes."""
    return _MARKER.search(template) is not None


def render(
    messages: list[dict],
    tokenizer: Tokenizer,
    *,
    tools: list | None = None,
    special: dict | None = None,
    add_generation_prompt: bool = False,
    **kwargs: Any,
) -> str:
    """Render cleaned messages; `kwargs` are further names for the template.

    `special` are the tokenizer's special tokens by name, for a caller that has looked them up.
    Raises TrainingDataError without a template, jinja2's TemplateError when the template refuses.
    """
    names = {**(special or tokenizer.special_tokens_map), **kwargs}
    names["add_generation_prompt"] = add_generation_prompt
    return _rendered(messages, template_of(tokenizer, tools), tools, False, names)[0]


def render_marked(
    messages: list[dict], tokenizer: Tokenizer, tools: list | None, **kwargs: Any
) -> tuple[str, list[tuple[int, int]]]:
    """Render, and also return the [start, end) characters of generation blocks."""
    names = {**tokenizer.special_tokens_map, **kwargs}
    return _rendered(messages, template_of(tokenizer, tools), tools, True, names)


def _rendered(
    messages: list[dict],
    template: str,
    tools: list | None,
    marked: bool,
    words: dict[str, Any],
) -> tuple[str, list[tuple[int, int]]]:
    if wants_parts(template):
        messages = [_in_parts(message) for message in messages]
    try:
        if not marked and not tools and all(message.keys() <= _SIMPLE for message in messages):
            return _quick_text(template, {**words, "messages": messages, "tools": None}), []
        rendered = render_jinja_template(
            conversations=[messages],
            tools=tools or None,
            chat_template=template,
            return_assistant_tokens_mask=marked,
            **words,
        )
    except (LookupError, AttributeError, ArithmeticError) as error:  # of what the template does
        raise TemplateRuntimeError(f"{type(error).__name__}: {error}") from error
    texts, spans = cast(tuple[list[str], list[list[list[int]]]], rendered)  # annotated as a str
    return texts[0], [(start, end) for start, end in spans[0]] if marked else []


def _quick_text(template: str, names: dict[str, Any]) -> str:
    compiled, known = _compiled(template)
    context = compiled.new_context({**known, **names}, shared=True)  # render() would copy them all
    return compiled.environment.concat(compiled.root_render_func(context))


class QuickEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox of chat templates, in which `loop.first` and `message.role` are found at once.

    Everything else goes the sandbox's own way; neither of the two can reach anything unsafe.
    """

    def getattr(self, obj: Any, attribute: str) -> Any:
        """The value of `obj.attribute` in a template; Undefined without one."""
        if type(obj) is LoopContext and attribute in _LOOP_NAMES:
            return getattr(obj, attribute)
        if type(obj) is dict and attribute in obj and not hasattr(dict, attribute):
            return obj[attribute]
        return super().getattr(obj, attribute)


@lru_cache(maxsize=32)
def _compiled(template: str) -> tuple[Template, dict[str, Any]]:
    """A compiled template, and the global names of every template."""
    usual = _compile_jinja_template(template).environment
    quick = QuickEnvironment(
        trim_blocks=usual.trim_blocks,
        lstrip_blocks=usual.lstrip_blocks,
        extensions=[type(one) for one in usual.extensions.values()],
    )
    quick.filters.update(usual.filters)
    quick.globals.update(usual.globals)
    compiled = quick.from_string(template)
    return compiled, dict(compiled.globals)


def _in_parts(message: dict) -> dict:
    content = message.get("content")
    if not isinstance(content, str):
        return message
    return {**message, "content": [{"type": "text", "text": content}]}


def render_prompt(
    messages: Sequence[Mapping] | str,
    tokenizer: Tokenizer,
    *,
    tools: Sequence | str | None = None,
    **template_kwargs: Any,
) -> str:
    """Render messages with the generation prompt, as the model sees them before it answers."""
    offered = slim_tools(parse_json_column(tools, "tools"))
    given, _ = arranged(parse_json_column(messages, "messages") or [], offered, tokenizer)
    cleaned, offered = suited(clean_messages(given), offered, tokenizer)
    return render(cleaned, tokenizer, tools=offered, add_generation_prompt=True, **template_kwargs)


def template_arguments(
    template: str, thinking: str = "auto", day: str | None = None
) -> dict[str, Any]:
    """What a template is given beside messages: its thinking switch, and `day` (ISO) as today.

    prompt_ids() and render_prompt() take it as keyword arguments, to ask as a run was trained.
    """
    given = thinking_arguments(thinking, template)
    return {**given, "strftime_now": FixedDate(day)} if day and writes_date(template) else given


def writes_date(template: str) -> bool:
    """Whether a template asks for today's date."""
    return "strftime_now" in template
