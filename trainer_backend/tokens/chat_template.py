"""Renders the tokenizer's chat template: whole conversations and chat prompts become text.

No token id and no label is made here.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from jinja2 import Template
from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

from trainer_backend.data.formats import TRAIN_MARKS, slim_tools, without_nulls
from trainer_backend.data.json_values import parse_json_column
from trainer_backend.errors import TrainingDataError

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
_SIMPLE = {"role", "content"}  # messages with these keys alone are rendered without checks


def ensure_chat_template(tokenizer: Tokenizer) -> bool:
    """Set PLAIN_CHAT_TEMPLATE on a tokenizer without a template; True if it was set."""
    if getattr(tokenizer, "chat_template", None):
        return False
    tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
    return True


def clean_messages(messages: Sequence[Mapping] | str | None) -> list[dict]:
    """Messages as a template may see them: JSON text parsed, nulls and train marks dropped.

    Nulls in the arguments of calls stay, unless a table filled absent keys with them.
    """
    return without_nulls(parse_json_column(messages, "messages") or [], TRAIN_MARKS)


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
    add_generation_prompt: bool = False,
    **kwargs: Any,
) -> str:
    """Render cleaned messages; `kwargs` are further names for the template.

    Raises TrainingDataError without a template, jinja2's TemplateError when the template refuses.
    """
    return render_marked(
        messages, tokenizer, tools, False, add_generation_prompt=add_generation_prompt, **kwargs
    )[0]


def render_marked(
    messages: list[dict], tokenizer: Tokenizer, tools: list | None, marked: bool, **kwargs: Any
) -> tuple[str, list[tuple[int, int]]]:
    """Render, and when `marked` also return the [start, end) characters of generation blocks."""
    template, words = template_of(tokenizer, tools), {**tokenizer.special_tokens_map, **kwargs}
    if _wants_parts(template):
        messages = [_in_parts(message) for message in messages]
    if not marked and not tools and all(message.keys() <= _SIMPLE for message in messages):
        compiled, known = _compiled(template)
        names = {**known, **words, "messages": messages, "tools": None}
        context = compiled.new_context(names, shared=True)  # render() would copy all the names
        return compiled.environment.concat(compiled.root_render_func(context)), []
    rendered = render_jinja_template(
        conversations=[messages],
        tools=tools or None,
        chat_template=template,
        return_assistant_tokens_mask=marked,
        **words,
    )
    texts, spans = cast(tuple[list[str], list[list[list[int]]]], rendered)  # annotated as a str
    return texts[0], [(start, end) for start, end in spans[0]] if marked else []


@lru_cache(maxsize=32)
def _compiled(template: str) -> tuple[Template, dict[str, Any]]:
    """A compiled template, and the global names of every template."""
    compiled = _compile_jinja_template(template)
    return compiled, dict(compiled.globals)


@lru_cache(maxsize=32)
def _wants_parts(template: str) -> bool:
    """Whether a template renders content only as a list of parts (those of vision models)."""
    sign = "\ue000"
    for content, parts in ((sign, False), ([{"type": "text", "text": sign}], True)):
        try:
            compiled = _compile_jinja_template(template)
            text = compiled.render(messages=[{"role": "user", "content": content}], eos_token="")
        except (TemplateError, TypeError):
            continue
        if sign in text:
            return parts
    return False


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
    return render(
        clean_messages(messages),
        tokenizer,
        tools=slim_tools(parse_json_column(tools, "tools")),
        add_generation_prompt=True,
        **template_kwargs,
    )
