"""Messages to text, through the tokenizer's chat template: whole conversations and chat prompts.

No token ids and no masks here: those are chat_template.py and assistant_mask.py.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import (
    _compile_jinja_template,
    render_jinja_template,
)

from trainer_backend.data.formats.conversations import TRAIN_MARKS
from trainer_backend.data.json_values import drop_nones, parse_json_column
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
_SIMPLE = {"role", "content"}  # messages that need none of the checks before rendering


def ensure_chat_template(tokenizer) -> bool:
    """Give a base model's tokenizer the plain template if it has none; True if it was added."""
    if getattr(tokenizer, "chat_template", None):
        return False
    tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
    return True


def clean_messages(messages) -> list[dict]:
    """Parse JSON text, drop nulls and the train marks: what a template may see."""
    parsed = parse_json_column(messages, "messages")
    return [
        {
            key: drop_nones(item)
            for key, item in message.items()
            if key not in TRAIN_MARKS and item is not None
        }
        for message in parsed or []
    ]


def template_of(tokenizer, tools=None) -> str:
    """Return the chat template in force, or say what to do when there is none."""
    if not getattr(tokenizer, "chat_template", None):
        raise TrainingDataError(
            "This tokenizer has no chat template, so messages cannot be turned into text.",
            f"tokenizer {getattr(tokenizer, 'name_or_path', '') or type(tokenizer).__name__}",
            "Use a chat model, set chat_template_path, or give prompt and completion as text.",
        )
    return tokenizer.get_chat_template(None, tools)


def has_generation_markers(template: str) -> bool:
    """Tell whether the template itself marks what the assistant writes."""
    return _MARKER.search(template) is not None


def render(
    messages: Sequence[dict], tokenizer, *, tools=None, add_generation_prompt=False, **kwargs
) -> str:
    """Render cleaned messages once through the chat template."""
    return render_marked(
        messages, tokenizer, tools, False, add_generation_prompt=add_generation_prompt, **kwargs
    )[0]


def render_marked(
    messages, tokenizer, tools, marked: bool, **kwargs
) -> tuple[str, list[tuple[int, int]]]:
    """Render, and return the character spans inside generation markers when `marked`."""
    template, words = template_of(tokenizer, tools), {**tokenizer.special_tokens_map, **kwargs}
    if _wants_parts(template):
        messages = [_in_parts(message) for message in messages]
    if not marked and not tools and all(message.keys() <= _SIMPLE for message in messages):
        compiled, known = _compiled(template)
        names = {**known, **words, "messages": messages, "tools": None}
        context = compiled.new_context(names, shared=True)  # render() would look through all again
        return compiled.environment.concat(compiled.root_render_func(context)), []
    texts, spans = render_jinja_template(
        conversations=[messages],
        tools=tools or None,
        chat_template=template,
        return_assistant_tokens_mask=marked,
        **words,
    )
    return texts[0], [tuple(span) for span in spans[0]] if marked else []


@lru_cache(maxsize=32)
def _compiled(template: str):
    """A template ready to render, and the names that every template knows."""
    compiled = _compile_jinja_template(template)
    return compiled, dict(compiled.globals)


@lru_cache(maxsize=32)
def _wants_parts(template: str) -> bool:
    """Tell whether a template writes out only content given as a list of parts (vision models)."""
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


def render_prompt(messages, tokenizer, *, tools=None, **template_kwargs) -> str:
    """Render messages as the model sees them just before it answers."""
    tools = drop_nones(parse_json_column(tools, "tools"))
    return render(
        clean_messages(messages),
        tokenizer,
        tools=tools,
        add_generation_prompt=True,
        **template_kwargs,
    )
