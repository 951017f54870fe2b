"""One reader of rows: a dataset given to SFTTrainer reads as a file given to the app does."""

import json

import pytest
from datasets import Dataset, Features, Image, IterableDataset, Value

from trainer_backend.data.formats.example import as_example, find_reading
from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.errors import TrainingDataError
from trainer_backend.tokens.encode import EncodeOptions, encode
from trainer_backend.tokens.inputs import as_dataset
from trainer_backend.tokens.prepare import Preparation, prepare_dataset, reading_of
from trainer_backend.tokens.training_rows import training_dataset, training_row

USER, BOT = {"role": "user", "content": "Who wrote Hamlet?"}, {"role": "assistant", "content": "WS"}
HUMAN, AI = {"from": "human", "value": "Who wrote Hamlet?"}, {"from": "ai", "value": "WS"}
CALL = {"type": "function", "function": {"name": "f", "arguments": '{"x": 1.10, "y": [2]}'}}
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}}
ANSWER_OF_TOOL = {"role": "tool", "name": "f", "content": "3"}


def said(role: str, content, **more) -> dict:
    return {"role": role, "content": content, **more}


ROWS = {
    "messages": {"messages": [USER, BOT]},
    "messages as JSON text": {"messages": json.dumps([USER, BOT])},
    "messages as columns": {"messages": {"role": ["user", "assistant"], "content": ["a", "b"]}},
    "another name for the column": {"dialogue": [USER, BOT]},
    "a name no table knows": {"my_chats": [USER, BOT], "id": 7},
    "capitalised roles": {"messages": [said("User", "a"), said("ASSISTANT ", "b")]},
    "roles of other projects": {"messages": [said("prompter", "a"), said("bard", "b")]},
    "a developer's message": {"messages": [said("developer", "Be kind"), USER, BOT]},
    "parts of text": {"messages": [said("user", [{"type": "text", "text": "a"}]), BOT]},
    "two parts": {"messages": [said("user", [{"type": "text", "text": x} for x in "ab"]), BOT]},
    "from an ai": {"conversations": [HUMAN, AI]},
    "from and value in messages": {"messages": [HUMAN, AI]},
    "role and from side by side": {"conversations": [HUMAN, BOT]},
    "function call": {
        "conversations": [
            HUMAN,
            {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1.10}}'},
            {"from": "observation", "value": "3"},
            {"from": "gpt", "value": "Three"},
        ]
    },
    "tool calls with text arguments": {
        "messages": [USER, said("assistant", None, tool_calls=[CALL]), ANSWER_OF_TOOL, BOT]
    },
    "a bare tool call": {
        "messages": [
            USER,
            said("assistant", "", tool_calls=[{"name": "f", "parameters": {"x": 2}}]),
            said("ipython", "3"),
            BOT,
        ]
    },
    "tools": {"messages": [USER, BOT], "tools": [{"type": "function", "function": FUNCTION}]},
    "bare tools as JSON text": {"messages": [USER, BOT], "functions": json.dumps([FUNCTION])},
    "not to be trained": {"messages": [USER, said("assistant", "x", train=False), USER, BOT]},
    "training false": {"messages": [USER, said("assistant", "x", training=False), USER, BOT]},
    "weights": {
        "messages": [USER, said("assistant", "x", weight=0), USER, said("assistant", "y", weight=1)]
    },
    "weights as text": {"messages": [USER, said("assistant", "x", weight="0"), USER, BOT]},
    "names and reasoning": {
        "messages": [said("user", "a", name="Eve"), said("assistant", "b", reasoning_content="hm")]
    },
    "a system column": {"system": "Be kind", "messages": [USER, BOT]},
    "a system prompt beside a pair": {"system_prompt": "Be kind", "prompt": "a", "response": "b"},
    "prompt and response": {"prompt": " 007\n", "response": "NA "},
    "question and answer": {"question": "hi", "answer": "hello"},
    "capitalised columns": {"Question": "hi", "Answer": "hello"},
    "names in another language": {"Frage": "hallo", "Antwort": "ja", "nr": 1},
    "input and output": {"input": "hi", "output": "hello"},
    "alpaca": {"instruction": "Sum", "input": " 1 2 ", "output": "3"},
    "alpaca without input": {"instruction": "Sum", "input": "", "output": "3"},
    "alpaca with white space for input": {"instruction": "Sum", "input": " \n", "output": "3"},
    "alpaca with only an input": {"instruction": "", "input": "1 2", "output": "3"},
    "alpaca with a context": {"instruction": "Sum", "context": "1 2", "response": "3", "kind": "x"},
    "a question about a text": {"question": "Who?", "context": "WS did.", "answer": "WS"},
    "texts to rest on": {"prompt": "Who?", "documents": ["WS did.", "So."], "completion": "WS"},
    "earlier turns": {
        "instruction": "And?", "input": "", "output": "WS", "history": [["Hi", "Hello"]]
    },
    "reasoning beside the answer": {"prompt": "a", "response": "b", "reasoning": "hm, so b"},
    "messages and an answer": {"messages": [USER], "answer": "WS"},
    "calls as answer": {"query": "Who?", "answers": '[{"name": "f", "arguments": {"x": 1}}]'},
    "message pair": {"prompt": [USER], "completion": [BOT]},
    "messages and a text": {"prompt": [USER], "completion": "WS"},
    "a text and messages": {"prompt": "Who?", "completion": [BOT]},
    "ShareGPT pair": {"prompt": [HUMAN], "completion": [AI]},
    "pair as JSON text": {"question": json.dumps([USER]), "answer": "WS"},
    "messages beside a pair": {"prompt": "a", "response": "b", "messages": [USER, BOT]},
    "plain text": {"text": " as it is \n"},
    "a document": {"document": "as it is", "url": "x"},
}  # fmt: skip
TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}\n{% endif %}{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def messages_of(example: dict) -> list[dict] | None:
    return example.get("messages") or example.get("prompt", []) + example.get("completion", [])


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_library_reads_a_row_as_the_app_does(row, tokenizer, tmp_path):
    tokenizer.chat_template = TEMPLATE
    stored = create_from_rows(tmp_path, [row], name="x")
    app = training_row(next(iter(stored.examples())))
    (given,) = as_dataset([row]).to_list()
    library = as_example(given)
    assert messages_of(library) == messages_of(app)
    assert (library.get("text"), library.get("tools")) == (app.get("text"), app.get("tools"))
    masked = {"assistant_only_loss": "text" not in app, "completion_only_loss": False}
    wanted = encode(app, tokenizer, **masked)
    assert encode(library, tokenizer, **masked) == wanted
    plan = Preparation(tokenizer, EncodeOptions(**masked))
    stream = IterableDataset.from_generator(lambda: iter([row]))
    for data in ([row], stream, training_dataset(stored)):
        (prepared,) = prepare_dataset(data, plan)[0]
        assert (prepared["input_ids"], prepared["labels"]) == (wanted.input_ids, wanted.labels)


def test_the_answer_of_a_pair_is_learned_as_before(tokenizer):
    learned = encode(as_example({"question": "hi", "answer": "hello"}), tokenizer)
    assert tokenizer.decode([i for i in learned.labels if i >= 0]) == "hello<|im_end|>\n"


def test_the_format_is_detected_once_not_for_each_row():
    rows = [{"input": "a", "output": "b", "text": None}, {"input": "", "output": "b", "text": None}]
    reading = find_reading(rows)
    assert reading.example(rows[0])["completion"] == [said("assistant", "b")]
    assert reading.example(rows[1])["prompt"] == [said("user", "")]


def test_a_later_row_in_another_format_is_read_by_its_column_names():
    rows = [{"question": "a", "answer": "b"}]
    reading = find_reading(rows, ["question", "answer", "text", "messages"])
    assert reading.example({"question": None, "messages": [USER, BOT]})["messages"] == [USER, BOT]
    assert reading.example({"question": None, "text": "x"}) == {"text": "x"}
    with pytest.raises(TrainingDataError, match="No training text"):
        reading.example({"question": None, "other": "x"})


@pytest.mark.parametrize(
    ("row", "field", "expected"),
    [
        ({"text": "t", "label": "x"}, "text", {"text": "t"}),
        ({"text": "t", "instruction": "a", "input": "", "output": "b"}, "text", {"text": "t"}),
        ({"body": "t", "prompt": "a", "completion": "b"}, "body", {"text": "t"}),
        ({"prompt": "t"}, "prompt", {"text": "t"}),
        ({"prompt": "a", "completion": "b", "question": "c"}, "text",
         {"prompt": "a", "completion": "b"}),
        ({"prompt": "a", "completion": "b", "response": "c"}, "text",
         {"prompt": "a", "completion": "b"}),
    ],
)  # fmt: skip
def test_promised_columns_hold_where_the_app_would_ask(row, field, expected):
    assert as_example(row, field) == expected


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", "completion": "b", "label": False},
        {"messages": [USER, BOT], "kto_tag": True},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"prompt": "a", "completion": "b", "rejected": "c"},
    ],
)
def test_preference_data_is_refused_and_the_way_is_told(row):
    with pytest.raises(TrainingDataError, match="preference data") as caught:
        find_reading([row])
    assert "filter" in caught.value.fix


def test_segments_are_refused_and_the_way_is_told():
    row = {"segments": [{"label": False, "text": "a"}, {"label": True, "text": "b"}]}
    with pytest.raises(TrainingDataError, match="cuts each text into parts") as caught:
        find_reading([row])
    assert "prompt (the parts labelled false)" in caught.value.fix


def test_text_that_is_left_out_is_warned_about():
    row = {"question": "a", "answer": "b", "rationale": "Because a is followed by b."}
    with pytest.warns(UserWarning, match="“rationale” holds text that would be left out"):
        reading = find_reading([row])
    assert reading.mappings[0].roles == {"prompt": "question", "completion": "answer"}


def test_a_continuation_with_a_context_is_a_conversation():
    assert as_example({"prompt": "a", "completion": "b"}) == {"prompt": "a", "completion": "b"}
    example = as_example({"prompt": "a", "context": "c", "completion": "b"})
    assert example["prompt"] == [said("user", "a\n\nc")]
    assert as_example({"question": "a", "answer": "b", "cot": "c"}, chat=False) == {
        "prompt": "a\n", "completion": "c\n\nb"
    }  # fmt: skip


def test_columns_with_files_are_not_opened_to_detect_a_format(tokenizer):
    features = Features({"question": Value("string"), "answer": Value("string"), "scan": Image()})
    rows = {"question": ["hi"], "answer": ["hello"], "scan": ["/not/there.png"]}
    table = Dataset.from_dict(rows, features=features)
    reading = reading_of(table, Preparation(tokenizer, EncodeOptions()))
    assert reading.mappings[0].roles == {"prompt": "question", "completion": "answer"}
