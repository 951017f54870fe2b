"""Answers in the forms of many model families, taken apart."""

import json

import pytest

from trainer_backend.models.loaded.answer_parts import Answer, read_answer, same_answer

CALL = {"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}
BODY = json.dumps(CALL["arguments"])
WRITTEN = {
    "Hermes": f'<tool_call>\n{json.dumps(CALL)}\n</tool_call>',
    "Hermes, arguments as text": "<tool_call>"
    + json.dumps({"name": "get_weather", "arguments": BODY}) + "</tool_call>",
    "Mistral": f"[TOOL_CALLS] [{json.dumps(CALL)}]",
    "Mistral with an id": f"[TOOL_CALLS]get_weather[CALL_ID]abc[ARGS]{BODY}",
    "Mistral small": f"[TOOL_CALLS]get_weather{BODY}",
    "Llama 3.1": json.dumps({"name": "get_weather", "parameters": CALL["arguments"]}),
    "Llama 3.1 with its tag": "<|python_tag|>"
    + json.dumps({"name": "get_weather", "parameters": CALL["arguments"]}),
    "Python": '[get_weather(city="Paris", days=3)]',
    "LFM2": "<|tool_call_start|>[get_weather(city='Paris', days=3)]<|tool_call_end|>",
    "DeepSeek V3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
    f"```json\n{BODY}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "DeepSeek V3.1": f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{BODY}"
    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "GLM-4": f"get_weather\n{BODY}",
    "GLM-4.5": "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
    "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
    "Qwen3-Coder": "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n"
    "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
    "Kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
    f"<|tool_call_argument_begin|>{BODY}<|tool_call_end|><|tool_calls_section_end|>",
    "Cohere": "<|START_ACTION|>["
    + json.dumps({"tool_call_id": "0", "tool_name": "get_weather",
                  "parameters": CALL["arguments"]}) + "]<|END_ACTION|>",
    "Command R": "Action: ```json\n["
    + json.dumps({"tool_name": "get_weather", "parameters": CALL["arguments"]}) + "\n]\n```",
    "Granite": f"<|tool_call|>[{json.dumps(CALL)}]",
    "InternLM": f"<|action_start|><|plugin|>\n{json.dumps(CALL)}<|action_end|>",
    "gpt-oss": "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
    + BODY + "<|call|>",
    "OpenAI": json.dumps([{"type": "function", "function": CALL}]),
}  # fmt: skip


@pytest.mark.parametrize("family", WRITTEN)
def test_a_call_is_read_as_its_family_writes_it(family):
    answer = read_answer(WRITTEN[family], names=["get_weather"])
    assert answer == Answer("", "", [CALL])
    assert answer.in_words() == 'get_weather({"city": "Paris", "days": 3})'


def test_text_beside_a_call_stays_and_several_calls_are_found():
    two = "Let me look.\n" + WRITTEN["Hermes"] + "\n" + WRITTEN["Hermes"].replace("Paris", "Rome")
    answer = read_answer(two + "<|im_end|>", controls=["<|im_end|>"])
    assert answer.content == "Let me look."
    assert [call["arguments"]["city"] for call in answer.calls] == ["Paris", "Rome"]


@pytest.mark.parametrize(
    "text",
    ['{"name": "Ann", "arguments": ["a"]}', "[1, 2, 3]", "see [f(x=1)]", "{not json", "a\n{}", ""],
)
def test_text_that_looks_like_a_call_of_no_known_tool_is_text(text):
    assert read_answer(text, names=["get_weather"]) == Answer(text)


@pytest.mark.parametrize(
    ("text", "in_thought", "reasoning", "content"),
    [
        ("<think>\nWell.\n</think>\n\nParis.", False, "Well.", "Paris."),
        ("Well.\n</think>\n\nParis.", True, "Well.", "Paris."),
        ("Well, still", True, "Well, still", ""),
        ("<think>Well, still", False, "Well, still", ""),
        ("[THINK]Well.[/THINK]Paris.", False, "Well.", "Paris."),
        ("<|channel|>analysis<|message|>Well.<|end|><|start|>assistant<|channel|>final<|message|>"
         "Paris.<|return|>", False, "Well.", "Paris."),
        ("Paris.", False, "", "Paris."),
    ],
)  # fmt: skip
def test_reasoning_is_taken_out(text, in_thought, reasoning, content):
    assert read_answer(text, in_thought=in_thought) == Answer(content, reasoning)


def test_calls_are_compared_as_calls():
    hermes = read_answer(WRITTEN["Hermes"])
    turned = {"name": "get_weather", "arguments": {"days": 3.0, "city": "Paris"}}
    assert same_answer(Answer("Sure!", "", [turned]), hermes)
    for wrong in ({**CALL, "name": "other"}, {**CALL, "arguments": {"city": "Paris"}}):
        assert not same_answer(Answer("", "", [wrong]), hermes)
    assert not same_answer(Answer(hermes.in_words()), hermes)
    assert not same_answer(Answer("", "", [CALL, CALL]), hermes)


def test_text_is_compared_without_its_reasoning():
    assert same_answer(Answer("Paris.", "Well."), Answer("Paris.", "Hm."))
    assert not same_answer(Answer("Paris", ""), Answer("Paris.", ""))


def test_an_answer_goes_on_as_a_message():
    message = read_answer("<think>Hm.</think>" + WRITTEN["Hermes"]).as_message()
    assert message["reasoning_content"] == "Hm." and message["content"] == ""
    assert message["tool_calls"][0]["function"] == CALL and message["tool_calls"][0]["id"]


def test_a_growing_answer_never_takes_back_what_it_has_shown():
    text, shown = "<think>\nHm, well.\n</think>\n\nI look.\n" + WRITTEN["Hermes"], ""
    for end in range(len(text) + 1):
        answer = read_answer(text[:end], growing=end < len(text))
        words = f"{answer.reasoning}|{answer.in_words()}" if answer.in_words() else answer.reasoning
        assert words.startswith(shown)
        shown = words
    assert shown == 'Hm, well.|I look.\nget_weather({"city": "Paris", "days": 3})'
