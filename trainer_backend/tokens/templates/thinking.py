"""The thinking switch of a chat template: which name it has, and how to set it.

Templates of reasoning models read a variable (Qwen3: enable_thinking) that opens or closes the
thought of an answer. Whether a row holds reasoning is not looked at here.
"""

from functools import lru_cache
from typing import Any

from jinja2 import meta
from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import _compile_jinja_template

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
    names, wanted = template_variables(template), thinking == "on"
    given: dict[str, Any] = {name: wanted for name in SWITCHES if name in names}
    given |= {name: not wanted for name in REVERSED if name in names}
    if not given:
        given = {name: -1 if wanted else 0 for name in BUDGETS if name in names}
    return given


def has_thinking_switch(template: str) -> bool:
    """Whether a chat template has a variable that turns thinking on or off."""
    return bool(thinking_arguments("on", template))


@lru_cache(maxsize=32)
def template_variables(template: str) -> frozenset[str]:
    """Names that a chat template reads and does not set; empty when it cannot be parsed."""
    try:
        environment = _compile_jinja_template(template).environment
        return frozenset(meta.find_undeclared_variables(environment.parse(template)))
    except TemplateError:
        return frozenset()
