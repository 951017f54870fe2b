"""The datasets of a trainer: each prepared once, whatever container and shape they come in."""

import pytest
from datasets import Dataset, IterableDataset
from vision_models import ANSWER, USER, llava, llava_processor, picture

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.tokens.vision import VisionCollator


def settings(folder, **more) -> SFTConfig:
    return SFTConfig(
        str(folder), max_steps=2, logging_steps=1, report_to="none", bf16=False,
        disable_tqdm=True, save_strategy="no", **more,
    )  # fmt: skip


def test_messages_of_several_shapes_in_one_list(tmp_path, tokenizer):
    processor = llava_processor(tokenizer)
    parts = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Who?"}]}
    rows = [
        {"messages": [parts, ANSWER], "image": picture()},
        {"messages": [USER, ANSWER], "image": picture()},
    ]
    trainer = SFTTrainer(
        llava(processor), settings(tmp_path), train_dataset=rows, processing_class=processor
    )
    texts = trainer.train_dataset["text"][:]
    assert texts[0] == texts[1]
    trainer.train()


def test_calls_of_tools_with_arguments_of_their_own(tmp_path, tiny_model, tokenizer):
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    other = {"type": "function", "function": {"name": "g", "arguments": '{"b": 2}'}}
    rows = [
        {"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [one]}, ANSWER]}
        for one in (call, other)
    ]
    trainer = SFTTrainer(
        tiny_model, settings(tmp_path), train_dataset=rows, processing_class=tokenizer
    )
    assert len(trainer.train_dataset) == 2


def test_text_rows_are_held_out_beside_rows_with_pictures(tmp_path, tokenizer):
    processor = llava_processor(tokenizer)
    seen = [{"messages": [USER, ANSWER], "image": picture()}]
    told = [{"messages": [USER, ANSWER]}]
    parts = {"seen": seen, "told": told}
    trainer = SFTTrainer(
        llava(processor), settings(tmp_path), train_dataset=told, eval_dataset=parts,
        processing_class=processor,
    )  # fmt: skip
    assert isinstance(trainer.data_collator, VisionCollator)
    trainer.train()
    found = trainer.evaluate()
    assert found["eval_seen_loss"] > 0 and found["eval_told_loss"] > 0


def test_pictures_that_come_only_with_evaluate(tmp_path, tokenizer):
    processor = llava_processor(tokenizer)
    seen = [{"messages": [USER, ANSWER], "image": picture()}]
    trainer = SFTTrainer(
        llava(processor), settings(tmp_path), train_dataset=[{"messages": [USER, ANSWER]}],
        processing_class=processor,
    )  # fmt: skip
    alone = trainer.evaluate(seen)["eval_loss"]
    other = SFTTrainer(
        llava(processor), settings(tmp_path), train_dataset=seen, processing_class=processor
    )
    assert alone == pytest.approx(other.evaluate(seen)["eval_loss"], abs=1e-5)


def test_progress_is_told_for_pictures_too(tmp_path, tokenizer):
    processor, said = llava_processor(tokenizer), []
    rows = Dataset.from_list([{"messages": [USER, ANSWER], "image": picture()}] * 3)
    SFTTrainer(
        llava(processor), settings(tmp_path), train_dataset=rows, processing_class=processor,
        preparation_progress=lambda *what: said.append(what),
    )  # fmt: skip
    assert said == [("train", 3, 3)]


@pytest.mark.parametrize(
    ("more", "joined"),
    [({}, True), ({"neftune_noise_alpha": 5.0}, True), ({"padding_free": False}, False)],
)
def test_rows_are_joined_unless_that_is_switched_off(
    tmp_path, tiny_model, tokenizer, pairs, more, joined
):
    trainer = SFTTrainer(
        tiny_model, settings(tmp_path, **more), train_dataset=pairs, processing_class=tokenizer
    )
    assert trainer.data_collator.padding_free is joined


@pytest.mark.parametrize("skip", [False, True], ids=["prepared", "taken as it is"])
@pytest.mark.parametrize("stream", [False, True], ids=["table", "stream"])
def test_tokens_of_another_model_are_named_with_their_row(
    tmp_path, tiny_model, tokenizer, skip, stream
):
    rows = [{"input_ids": ids, "labels": ids} for ids in ([5, 6, 7], [5, 400, 7], [5, 6])]
    data = IterableDataset.from_generator(lambda: iter(rows)) if stream else Dataset.from_list(rows)
    more = {"dataset_kwargs": {"skip_prepare_dataset": True}} if skip else {}
    with pytest.raises(ValueError, match="Token 400 does not exist.*row 2"):
        SFTTrainer(
            tiny_model, settings(tmp_path, **more), train_dataset=data, processing_class=tokenizer
        ).train()


def test_rows_of_one_column_that_cannot_be_messages_are_named(tmp_path, tiny_model, tokenizer):
    rows = [{"messages": [USER, ANSWER]}, {"messages": [{"content": "no role"}]}]
    with pytest.raises(ValueError, match="role.*row 2"):
        SFTTrainer(tiny_model, settings(tmp_path), train_dataset=rows, processing_class=tokenizer)


def test_a_conversation_that_the_template_refuses_is_named(tmp_path, tiny_model, tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'tool' %}{{ raise_exception('no tools') }}"
        "{% endif %}{{ m['content'] }}{% endfor %}"
    )
    result = {"role": "tool", "content": "7"}
    rows = [{"messages": [USER, ANSWER]}, {"messages": [USER, result, ANSWER]}]
    with pytest.raises(ValueError, match="refuses this conversation: no tools.*row 2"):
        SFTTrainer(tiny_model, settings(tmp_path), train_dataset=rows, processing_class=tokenizer)


CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"x": 1}}}
WITHOUT = {"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [CALL]}, ANSWER]}
WHOLE = {"messages": [USER, ANSWER]}


def trainer_of(folder, model, tokenizer, train, held_out=None, **more) -> SFTTrainer:
    return SFTTrainer(
        model, settings(folder, **more), train_dataset=train, eval_dataset=held_out,
        processing_class=tokenizer,
    )  # fmt: skip


def test_content_that_is_lost_is_warned_about_once_with_its_rows(
    tmp_path, tiny_model, tokenizer, caplog
):
    rows = [WHOLE, WITHOUT, WHOLE, WITHOUT]
    trainer = trainer_of(tmp_path, tiny_model, tokenizer, rows)
    assert len(trainer.train_dataset) == 4
    said = [one for one in caplog.messages if "tool calls" in one]
    assert len(said) == 1 and "rows 2 and 4" in said[0] and "train dataset" in said[0]


def test_content_that_is_lost_is_left_out_or_asked_about(tmp_path, tiny_model, tokenizer):
    rows = [WHOLE, WITHOUT, WHOLE]
    left = trainer_of(tmp_path, tiny_model, tokenizer, rows, lost_content="leave_out")
    assert len(left.train_dataset) == 2
    assert left.data_counts["train"].left_out.tolist() == [1]
    with pytest.raises(ValueError, match="does not write the rows' tool calls") as raised:
        trainer_of(tmp_path, tiny_model, tokenizer, [WHOLE], rows, lost_content="ask")
    assert raised.value.code == "content_lost" and raised.value.rows["eval"].tolist() == [1]


def test_refused_rows_of_both_datasets_are_named_together(tmp_path, tiny_model, tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['content'] == 'no' %}{{ raise_exception('Not this') }}"
        "{% endif %}{{ m['content'] + '<|im_end|>' }}{% endfor %}"
    )
    bad = {"messages": [{"role": "user", "content": "no"}, ANSWER]}
    with pytest.raises(ValueError, match="Not this") as raised:
        trainer_of(tmp_path, tiny_model, tokenizer, [WHOLE, bad, bad], [bad, WHOLE])
    assert raised.value.rows == {"train": [1, 2], "eval": [0]}
    kept = trainer_of(
        tmp_path, tiny_model, tokenizer, [WHOLE, bad], [bad, WHOLE], lost_content="leave_out"
    )
    assert len(kept.train_dataset) == len(kept.eval_dataset) == 1
