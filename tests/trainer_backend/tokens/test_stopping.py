"""How templates end answers, what of it is learned, and rows that teach no end."""

import numpy as np
import pytest
from closing_templates import (
    ANSWER,
    CALLS,
    CHANNELS,
    PLAIN_MARKS,
    TURN_END,
    USER,
    call,
    next_role,
    with_tokens,
)
from conftest import CHATML

from trainer_backend.errors import UserError
from trainer_backend.tokens.encode import EncodeOptions, encode, prompt_ids
from trainer_backend.tokens.prepare import Preparation, prepare_dataset
from trainer_backend.tokens.stopping import (
    closing_tokens,
    ending_of,
    endless_rows,
    ends_learned,
    set_end_token,
    stop_ids,
    stop_words,
)

CHANNEL_TOKENS = ("<|start|>", "<|channel|>", "<|end|>", "<|return|>", "<|call|>")


def closed_by(tokenizer) -> list[str]:
    return [tokenizer.decode([token]) for token in closing_tokens(tokenizer)]


def learned(tokenizer, *messages, **options) -> str:
    row = encode({"messages": list(messages)}, tokenizer, assistant_only_loss=True, **options)
    return tokenizer.decode([label for label in row.labels if label != -100])


@pytest.mark.parametrize("template", [CHATML, CALLS])
def test_a_base_model_stops_at_the_templates_own_end(tokenizer, template):
    with_tokens(tokenizer, template)
    assert closed_by(tokenizer) == ["<|im_end|>"]
    assert stop_words(tokenizer) == ["<|im_end|>", "<|endoftext|>"]
    assert stop_ids(tokenizer) == {0, 2}


def test_the_end_of_a_turn_is_a_stop_also_where_the_text_ends_with_another(tokenizer):
    assert closed_by(with_tokens(tokenizer, TURN_END, "<|end|>")) == ["<|end|>"]


def test_what_also_ends_a_thought_is_no_stop_and_what_ends_a_call_is_one(tokenizer):
    with_tokens(tokenizer, CHANNELS, *CHANNEL_TOKENS)
    assert closed_by(tokenizer) == ["<|return|>", "<|call|>"]


def test_marks_of_the_next_role_are_stops(tokenizer):
    assert closed_by(next_role(tokenizer)) == ["<|user|>", "<|observation|>"]


def test_without_a_token_the_text_between_turns_is_a_mark(tokenizer):
    with_tokens(tokenizer, PLAIN_MARKS)
    assert closing_tokens(tokenizer) == []
    assert ending_of(tokenizer).texts == ("\n### user:",)


def test_a_tokenizer_without_a_template_has_its_end_token_alone(tokenizer):
    tokenizer.chat_template = None
    assert stop_words(tokenizer) == ["<|im_end|>"]


def test_a_template_given_later_is_probed_again(tokenizer):
    assert closed_by(tokenizer) == ["<|im_end|>"]
    assert closed_by(with_tokens(tokenizer, TURN_END, "<|end|>")) == ["<|end|>"]


# The end is learned


def test_the_next_roles_mark_is_learned_after_each_answer(tokenizer):
    next_role(tokenizer)
    assert learned(tokenizer, USER, ANSWER) == "\nParis.<|user|>"
    twice = learned(tokenizer, USER, ANSWER, USER, ANSWER)
    assert twice == "\nParis.<|user|>" * 2


def test_after_a_call_the_tools_mark_is_learned(tokenizer):
    next_role(tokenizer)
    asks, said = call("f", a=1), {"role": "tool", "content": "3"}
    assert learned(tokenizer, USER, asks) == 'f\n{"a": 1}<|observation|>'
    whole = learned(tokenizer, USER, asks, said, ANSWER)
    assert whole == 'f\n{"a": 1}<|observation|>\nParis.<|user|>'


def test_an_answer_that_is_not_trained_gets_no_end(tokenizer):
    next_role(tokenizer)
    row = [USER, ANSWER, USER, {**ANSWER, "train": False}]
    assert learned(tokenizer, *row) == "\nParis.<|user|>"


def test_the_asked_prompt_stays_the_beginning_of_the_trained_row(tokenizer):
    next_role(tokenizer)
    row = encode({"messages": [USER, ANSWER]}, tokenizer, assistant_only_loss=True)
    asked = prompt_ids([USER], tokenizer)
    assert row.input_ids[: len(asked)] == asked


def test_an_end_token_asked_for_is_learned_where_the_template_writes_none(tokenizer):
    with_tokens(tokenizer, PLAIN_MARKS)
    assert learned(tokenizer, USER, ANSWER) == " Paris."
    assert learned(tokenizer, USER, ANSWER, eos_token="<|im_end|>") == " Paris.<|im_end|>"
    with_tokens(tokenizer, CHATML)
    assert learned(tokenizer, USER, ANSWER, eos_token="<|im_end|>") == "Paris.<|im_end|>"


def test_an_unknown_end_token_is_refused_in_words(tokenizer):
    with pytest.raises(UserError, match="“<nope>” is not a token") as caught:
        set_end_token(tokenizer, "<nope>")
    assert "End token" in caught.value.where and "<|im_end|>" in caught.value.fix
    set_end_token(tokenizer, "<|endoftext|>")
    assert tokenizer.eos_token == "<|endoftext|>"
    set_end_token(tokenizer, "")
    assert tokenizer.eos_token == "<|endoftext|>"


# Rows that teach no end


def test_a_row_is_endless_unless_one_of_its_last_tokens_ends_answers():
    rows = [[-100, 5, 2], [-100, 5, 6], [-100, 2, 9, 9], [-100, -100], [2, 9, 9, 9], [5, -100]]
    starts = np.cumsum([0, *map(len, rows)])
    labels = np.concatenate([np.array(row) for row in rows])
    stops = frozenset({2})
    assert endless_rows(labels, starts, stops).tolist() == [0, 1, 0, 0, 1, 1]
    each = [ends_learned(np.array(row), stops) for row in rows]
    assert each == [True, False, True, True, False, False]


def counted(tokenizer, rows, max_length=None):
    options = EncodeOptions(assistant_only_loss=True, max_length=max_length)
    return prepare_dataset(rows, Preparation(tokenizer, options))[1]


def test_every_row_is_judged_by_the_real_ends(tokenizer, caplog):
    marked = CHATML.replace("message['content']", "(message['content'] if message['content'] != "
                            "'open' else 'open<|im_start|>')")  # fmt: skip
    with_tokens(tokenizer, marked.replace("+ '<|im_end|>'", "+ ('<|im_end|>' if "
                                          "message['content'] != 'open' else '')"))  # fmt: skip
    rows = [{"messages": [USER, ANSWER]}] * 3
    assert counted(tokenizer, rows).endless == 0
    odd = {"messages": [USER, {"role": "assistant", "content": "open"}]}
    assert counted(tokenizer, [*rows, odd]).endless == 1
    assert "1 of 4 rows do not teach a token that ends an answer" in caplog.text


def test_rows_that_are_cut_are_not_endless(tokenizer):
    long = {"messages": [USER, {"role": "assistant", "content": "Paris. " * 50}]}
    counts = counted(tokenizer, [long, {"messages": [USER, ANSWER]}], max_length=30)
    assert counts.cut == 1 and counts.endless == 0
