"""Rows with images before pixels: image marks, trained characters, and errors naming the row."""

import pytest
from datasets import Dataset
from vision_models import ANSWER, USER, llava_processor, picture, qwen_processor

from trainer_backend.tokens.encode import EncodeOptions
from trainer_backend.tokens.prepare import Preparation
from trainer_backend.tokens.vision import has_images, prepare_images, seen_row

OPEN, CLOSE = "<|im_start|>assistant\n", "<|im_end|>\n"
QWEN = "<|vision_start|><|image_pad|><|vision_end|>"


@pytest.fixture
def processor(tokenizer):
    return llava_processor(tokenizer)


def plan(processor, **options) -> Preparation:
    processor.tokenizer.chat_template = processor.chat_template
    return Preparation(processor.tokenizer, EncodeOptions(**options))


def asked(*parts) -> dict:
    return {"role": "user", "content": list(parts)}


IMAGE, WHO = {"type": "image"}, {"type": "text", "text": "Who?"}


@pytest.mark.parametrize(
    ("message", "written"),
    [
        (USER, "<image>Who?"),
        ({**USER, "content": "See <image> here"}, "See <image> here"),
        (asked(WHO, IMAGE), "Who?<image>"),
        (asked({"type": "image", "image": "a.png"}, WHO), "<image>Who?"),
        (asked({"type": "image", "text": None}, {**WHO, "image": None}), "<image>Who?"),
        (asked(WHO), "<image>Who?"),
    ],
)
def test_messages_place_their_images_or_get_them_first(processor, message, written):
    row = {"messages": [message, ANSWER], "images": "left to the collator"}
    seen = seen_row(row, 1, processor, plan(processor))
    answer = f"{OPEN}Paris.{CLOSE}"
    assert seen["text"] == f"<|im_start|>user\n{written}{CLOSE}{answer}"
    assert seen["learned"] == [[0, len(seen["text"])]]


def test_marks_become_the_models_own(tokenizer):
    processor = qwen_processor(tokenizer)
    row = {"messages": [{**USER, "content": "<image>Who?<|image_pad|>"}, ANSWER]}
    text = seen_row(row, 2, processor, plan(processor))["text"]
    assert text.startswith(f"<|im_start|>user\n{QWEN}Who?{QWEN}{CLOSE}")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [USER], "completion": [ANSWER]},
        {"prompt": "Who?", "completion": "Paris."},
        {"prompt": "Who?", "response": "Paris."},
        {"instruction": "Who?", "input": "", "output": "Paris."},
    ],
)
def test_the_answer_of_a_pair_is_learned(processor, row):
    seen = seen_row(row, 1, processor, plan(processor))
    assert seen["text"].startswith("<|im_start|>user\n<image>Who?")
    (start, end) = seen["learned"][0]
    assert seen["text"][start:end] == "Paris.<|im_end|>\n"
    whole = seen_row(row, 1, processor, plan(processor, completion_only_loss=False))
    assert whole["learned"] == [[0, len(seen["text"])]]


def test_both_masks_hold_together(processor):
    row = {"prompt": [USER, ANSWER, USER], "completion": [ANSWER, USER, ANSWER]}
    seen = seen_row(row, 1, processor, plan(processor, assistant_only_loss=True))
    assert [seen["text"][a:b] for a, b in seen["learned"]] == ["Paris.<|im_end|>"] * 2


def test_plain_text_that_marks_its_images_is_taken_as_it_is(processor):
    own = plan(processor)
    text = seen_row({"text": "<image> is red."}, 1, processor, own)
    assert text["text"] == "<image> is red.<|im_end|>"
    pair = seen_row({"prompt": "<image> is", "completion": " red."}, 1, processor, own)
    assert pair["text"] == "<image> is red.<|im_end|>"
    assert pair["learned"] == [[len("<image> is"), len(pair["text"])]]


PAIR = {"prompt": [USER], "completion": [ANSWER]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "Who?"}, "plain text without image marks"),
        ({"messages": [ANSWER]}, "1 images and 0 image marks"),
        ({"messages": [asked(IMAGE, IMAGE, WHO)]}, "1 images and 2 image marks"),
        ({"messages": []}, "conversation is empty"),
        ({"answer": 1}, "No training text was found"),
    ],
)
def test_rows_that_cannot_be_seen_are_named(processor, row, message):
    rows = Dataset.from_list([{**row, "image": picture()}])
    with pytest.raises(ValueError, match=f"{message}.*row 1,"):
        prepare_images(rows, plan(processor), processor, "train")


def test_a_row_without_a_reply_is_named(processor):
    rows = Dataset.from_list(
        [{"messages": [USER, ANSWER], "images": []}, {"messages": [USER], "images": []}]
    )
    with pytest.raises(ValueError, match="no assistant message.*row 2"):
        own = plan(processor, assistant_only_loss=True)
        prepare_images(rows, own, processor, "train")


def test_a_missing_file_is_named_with_its_row(processor, tmp_path):
    picture().save(tmp_path / "a.png")
    there, gone = str(tmp_path / "a.png"), str(tmp_path / "gone.png")
    for column, rows in (
        ("image", [there, gone]),
        ("images", [[there], [there, gone]]),
        ("images", [[{"bytes": b"", "path": None}], [{"bytes": None, "path": gone}]]),
    ):
        data = Dataset.from_list([{**PAIR, column: cell} for cell in rows])
        with pytest.raises(ValueError, match="image file is missing.*row 2 of the eval.*gone.png"):
            prepare_images(data, plan(processor), processor, "eval")


def test_rows_without_anything_to_learn_are_dropped_and_counted(processor):
    silent = {**ANSWER, "train": False}
    rows = [{"messages": [USER, silent]}, {"messages": [USER, {**ANSWER, "train": True}]}]
    data = Dataset.from_list([{**row, "image": picture()} for row in rows])
    prepared, counts = prepare_images(data, plan(processor), processor, "train")
    assert (counts.rows, counts.dropped, len(prepared)) == (2, 1, 1)
    assert set(prepared.column_names) == {"image", "text", "learned"}
    with pytest.raises(ValueError, match="No row of the train dataset"):
        prepare_images(data.select([0]), plan(processor), processor, "train")


def test_which_columns_are_images():
    assert has_images(["messages", "images"]) and has_images(["image"])
    assert not has_images(["messages", "imagery"])
