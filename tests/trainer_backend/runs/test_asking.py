"""What a run is asked with: its system text, the tools of its rows, its thinking switch."""

import json

import pytest

from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.errors import UserError
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.asking import asking_of, has_switch, read_tools, reads_images
from trainer_backend.runs.create import create_run

FIRST = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
OTHER = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
SYSTEM = {"role": "system", "content": "Use the tools."}


def row(number: int, tools=None, system=None) -> dict:
    said = [{"role": "user", "content": f"Say {number}"}, {"role": "assistant", "content": "ok"}]
    found = {"messages": [system, *said] if system else said}
    return {**found, "tools": tools} if tools else found


def asked(home, rows, **settings):
    return asking_of(create_run(home, Recipe(**settings), create_from_rows(home, rows, name="x")))


def test_the_tools_that_most_rows_have_are_given(home):
    rows = [row(n, FIRST if n % 3 else OTHER) for n in range(9)]
    found = asked(home, rows, thinking="off", control_tokens="text")
    assert found.tools == found.given == FIRST and found.with_tools == 9
    assert (found.thinking, found.control_tokens) == ("off", "text")


def test_tools_of_few_rows_are_known_and_not_given(home):
    found = asked(home, [row(n, FIRST if n == 1 else None) for n in range(9)])
    assert found.tools == FIRST and found.given == [] and not found.gives_tools


def test_the_runs_system_prompt_comes_before_that_of_its_rows(home):
    rows = [row(n, system=SYSTEM) for n in range(9)]
    assert asked(home, rows).system == "Use the tools."
    assert asked(home, rows, system_prompt="Be brief.").system == "Be brief."
    mixed = [row(n, system=SYSTEM if n % 3 == 0 else None) for n in range(9)]
    assert asked(home, mixed).system == ""


def test_without_its_data_a_run_is_asked_with_its_settings(run):
    import shutil

    shutil.rmtree(run.dataset().dir)
    assert asking_of(run).tools == [] and asking_of(run).thinking == "auto"


def test_a_folder_says_whether_its_model_sees_and_thinks(tmp_path):
    assert not reads_images(tmp_path) and not has_switch(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    template = "{% set thinking = 1 %}{{ thinking }} enable_thinking {{ enable_thinkings }}"
    (tmp_path / "chat_template.jinja").write_text(template)
    assert reads_images(tmp_path) and not has_switch(tmp_path)
    marked = "{% generation %}{% if thinking %}{% endif %}{% endgeneration %}"
    (tmp_path / "chat_template.jinja").write_text(marked)
    assert has_switch(tmp_path)


def test_a_template_in_the_tokenizers_settings_is_read_too(tmp_path):
    named = [{"name": "default", "template": "{{ enable_thinking }}"}]
    for found, has in ((named, True), ("{{ enable_thinking }}", True), ("{{ x }", False)):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": found}))
        assert has_switch(tmp_path) is has


def test_the_page_knows_the_switches_that_training_sets():
    from trainer_backend.runs.asking import SWITCHES
    from trainer_backend.tokens.templates import thinking

    assert set(SWITCHES) == {*thinking.SWITCHES, *thinking.REVERSED, *thinking.BUDGETS}


def test_tools_are_read_from_json():
    assert read_tools("", "x") == read_tools(" [] ", "x") == []
    assert read_tools(json.dumps(FIRST), "x") == FIRST
    assert read_tools('{"name": "f"}', "x") == [{"name": "f"}]


@pytest.mark.parametrize("text", ["{", "[1]", '"a"', '[{"type": "function"}]', "3"])
def test_other_json_is_refused_with_the_form_to_write(text):
    with pytest.raises(UserError) as caught:
        read_tools(text, "Tools")
    assert caught.value.where == "Tools" and caught.value.fix
