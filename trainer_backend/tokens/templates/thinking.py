"""The thinking switch of a chat template: which name it has, and how to set it.

Templates of reasoning models read a variable (Qwen3: enable_thinking) that opens or closes the
thought of an answer. Whether a row holds reasoning is not looked at here.
"""

from functools import lru_cache
from typing import Any

from jinja2 import meta
from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import _compile_jinja_template

from trainer_backend.tokens.templates.needs import REFUSALS

# true asks for a thought; the names of the model families' own documentation
SWITCHES = ("enable_thinking", "thinking", "enable_reasoning", "reasoning", "think")
REVERSED = ("skip_thinking", "skip_think", "disable_thinking")  # true asks for none
BUDGETS = ("thinking_budget",)  # tokens of a thought: -1 is no limit, 0 is no thought


def thinking_arguments(thinking: str, template: str) -> dict[str, Any]:
    """The template's arguments for a recipe's `thinking`: auto, on or off.

    Empty for auto, and for a template without a switch (has_thinking_switch() tells them apart).

        thinking_arguments("off", qwen3)  # {"enable_thinking": False}
    """
    if thinking == "auto":
        return {}
    names, wanted = _switches(template), thinking == "on"
    given: dict[str, Any] = {name: wanted for name in SWITCHES if name in names}
    given |= {name: not wanted for name in REVERSED if name in names}
    if not given:
        given = {name: -1 if wanted else 0 for name in BUDGETS if name in names}
    return given


def has_thinking_switch(template: str) -> bool:
    """Whether a chat template has a variable that turns thinking on or off."""
    return bool(thinking_arguments("on", template))


@lru_cache(maxsize=32)
def _switches(template: str) -> frozenset[str]:
    """The names of switches that a template reads, and that change what it writes."""
    values = {
        **{name: (True, False) for name in (*SWITCHES, *REVERSED)},
        **{name: (-1, 0) for name in BUDGETS},
    }
    read = template_variables(template)
    return frozenset(
        name for name, pair in values.items() if name in read and _matters(template, name, pair)
    )


def _matters(template: str, name: str, values: tuple[Any, Any]) -> bool:
    """Whether two values of a name give different texts; True when the template refuses to tell."""
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    first, second = (
        [_rendered(template, messages, {name: value}) for messages in (talk[:1], talk)]
        for value in values
    )
    return first != second or not any(first)


def _rendered(template: str, messages: list[dict[str, str]], names: dict[str, Any]) -> str:
    asked = {"add_generation_prompt": len(messages) == 1, "tools": None, **names}
    try:
        compiled = _compile_jinja_template(template)
        return compiled.render(messages=messages, bos_token="", eos_token="", **asked)
    except REFUSALS:
        return ""


@lru_cache(maxsize=32)
def template_variables(template: str) -> frozenset[str]:
    """Names that a chat template reads and does not set; empty when it cannot be parsed."""
    try:
        environment = _compile_jinja_template(template).environment
        return frozenset(meta.find_undeclared_variables(environment.parse(template)))
    except TemplateError:
        return frozenset()
