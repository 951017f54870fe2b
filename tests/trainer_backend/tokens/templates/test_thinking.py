"""The thinking switch of chat templates, found by the names that they read."""

import pytest

from trainer_backend.tokens.templates.thinking import (
    has_thinking_switch,
    template_variables,
    thinking_arguments,
)

QWEN3 = (
    "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}{{ '<a>' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think></think>' }}"
    "{% endif %}{% endif %}"
)
SETS_ITS_OWN = "{% set enable_thinking = true %}{{ messages[0].content ~ enable_thinking }}"


@pytest.mark.parametrize(
    ("template", "on", "off"),
    [
        (QWEN3, {"enable_thinking": True}, {"enable_thinking": False}),
        ("{% if thinking %}{{ '<think>' }}{% endif %}", {"thinking": True}, {"thinking": False}),
        ("{{ skip_think | default(false) }}", {"skip_think": False}, {"skip_think": True}),
        ("{{ thinking_budget }}", {"thinking_budget": -1}, {"thinking_budget": 0}),
        ("{{ messages[0].content }}", {}, {}),
    ],
    ids=["qwen3", "deepseek", "reversed", "budget", "none"],
)
def test_the_switch_is_found_and_set(template, on, off):
    assert thinking_arguments("on", template) == on
    assert thinking_arguments("off", template) == off
    assert thinking_arguments("auto", template) == {}
    assert has_thinking_switch(template) == bool(on)


def test_a_name_that_the_template_sets_itself_is_no_switch():
    assert "enable_thinking" not in template_variables(SETS_ITS_OWN)
    assert not has_thinking_switch(SETS_ITS_OWN)


def test_a_name_without_an_effect_is_no_switch():
    template = "{% if messages[0].x %}{{ reasoning }}{% endif %}{{ messages[0].content }}"
    assert "reasoning" in template_variables(template) and not has_thinking_switch(template)


def test_a_template_that_cannot_be_parsed_has_no_switch():
    assert thinking_arguments("on", "{% if %}") == {}
