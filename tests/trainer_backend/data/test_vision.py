"""Rows with pictures: exact batches of a tiny Llava-like processor, training on them, refusals."""

import pytest
import torch
from PIL import Image

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.data.vision import VisionCollator

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}{{ '<image>' }}{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PLACES = 4  # tokens an image of 16 x 16 takes
USER, ANSWER = {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Paris."}


@pytest.fixture
def processor(tokenizer):
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(**size),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


@pytest.fixture
def model(processor):
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    torch.manual_seed(0)
    small = {"intermediate_size": 32, "num_hidden_layers": 2}
    eyes = CLIPVisionConfig(
        hidden_size=16, num_attention_heads=2, image_size=16, patch_size=8, **small
    )
    words = LlamaConfig(
        vocab_size=420, hidden_size=32, num_attention_heads=4, initializer_range=0.2, **small
    )
    settings = {"image_token_index": processor.image_token_id, "vision_feature_layer": -1}
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=eyes, text_config=words, **settings)
    )


def picture(colour: str = "red") -> Image.Image:
    return Image.new("RGB", (20, 20), colour)


def learned(batch, row: int, tokenizer) -> str:
    labels = batch["labels"][row]
    return tokenizer.decode(labels[labels != -100])


def test_a_prompt_with_a_picture_teaches_its_completion(processor):
    rows = [
        {"prompt": [USER], "completion": [ANSWER], "image": picture()},
        {"prompt": "Who?", "completion": "No.", "images": [picture(), picture("blue")]},
    ]
    batch = VisionCollator(processor)(rows)
    marks = (batch["input_ids"] == processor.image_token_id).sum(dim=1)
    assert marks.tolist() == [PLACES, 2 * PLACES]
    assert batch["pixel_values"].shape == (3, 3, 16, 16)
    assert learned(batch, 0, processor.tokenizer) == "Paris.<|im_end|>\n"
    assert learned(batch, 1, processor.tokenizer) == "No.<|im_end|>\n"
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()


def test_conversations_place_their_pictures_or_get_them_first(processor):
    placed = {"role": "user", "content": [{"type": "text", "text": "Who?"}, {"type": "image"}]}
    rows = [
        {"messages": [USER, ANSWER], "images": [picture()]},
        {"messages": [placed, ANSWER], "images": [picture()]},
    ]
    batch = VisionCollator(processor)(rows)
    texts = processor.tokenizer.batch_decode(batch["input_ids"])
    image = "<image>" * PLACES
    assert texts[0].startswith(f"<|im_start|>user\n{image}Who?<|im_end|>")
    assert texts[1].startswith(f"<|im_start|>user\nWho?{image}<|im_end|>")
    assert batch["labels"].tolist() == batch["input_ids"].tolist()


def test_pictures_by_path(processor, tmp_path):
    picture().save(tmp_path / "a.png")
    row = {"prompt": [USER], "completion": [ANSWER], "image": str(tmp_path / "a.png")}
    assert VisionCollator(processor)([row])["pixel_values"].shape[0] == 1
    with pytest.raises(ValueError, match="cannot be read.*missing.png"):
        VisionCollator(processor)([{**row, "image": str(tmp_path / "missing.png")}])


def settings(folder, **more) -> SFTConfig:
    return SFTConfig(
        str(folder), max_steps=6, logging_steps=1, learning_rate=1e-2, report_to="none", bf16=False,
        disable_tqdm=True, save_strategy="no", per_device_train_batch_size=2, **more,
    )  # fmt: skip


def test_a_vision_language_model_learns(tmp_path, model, processor):
    rows = [
        {"prompt": [USER], "completion": [ANSWER], "image": picture(c)} for c in ("red", "blue")
    ]
    trainer = SFTTrainer(
        model, settings(tmp_path), train_dataset=rows, eval_dataset=rows, processing_class=processor
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < losses[0] / 2
    assert trainer.evaluate()["eval_loss"] < losses[0] / 2


def test_its_loss_is_the_models_own(tmp_path, model, processor):
    rows = [{"messages": [USER, ANSWER], "image": picture()}]
    batch = VisionCollator(processor)(rows)
    with torch.no_grad():
        expected = model.eval()(**batch).loss.item()
    trainer = SFTTrainer(model, settings(tmp_path), train_dataset=rows, processing_class=processor)
    assert trainer.evaluate(rows)["eval_loss"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        ([{"messages": [USER, ANSWER]}], {"packing": True}, "packing=True is not possible"),
        ([{"messages": [USER, ANSWER]}], {"assistant_only_loss": True}, "assistant_only_loss=True"),
        ([{"messages": [USER, ANSWER]}], {"truncation_mode": "keep_end"}, "cut images away"),
    ],
)
def test_settings_that_pictures_do_not_allow(tmp_path, model, processor, rows, more, message):
    rows = [{**row, "image": picture()} for row in rows]
    with pytest.raises(ValueError, match=message):
        SFTTrainer(
            model, settings(tmp_path, **more), train_dataset=rows, processing_class=processor
        )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "Who?", "image": None}, "plain text only"),
        ({"messages": [ANSWER], "image": True}, "1 images and 0 places"),
        (
            {"prompt": [USER], "completion": [ANSWER], "image": True, "max_length": 5},
            "through an image",
        ),
    ],
)
def test_rows_that_cannot_be_seen(processor, row, message):
    limit = row.pop("max_length", None)
    row["image"] = picture()
    with pytest.raises(ValueError, match=message):
        VisionCollator(processor, max_length=limit)([row])


def test_a_text_model_refuses_pictures(tmp_path, tiny_model, tokenizer):
    rows = [{"messages": [USER, ANSWER], "image": "a.png"}]
    with pytest.raises(ValueError, match="reads only text"):
        SFTTrainer(tiny_model, settings(tmp_path), train_dataset=rows, processing_class=tokenizer)


@pytest.mark.parametrize("packing", [False, True])
def test_text_rows_train_a_vision_model_too(tmp_path, model, processor, packing):
    rows = [{"messages": [USER, ANSWER]}, {"messages": [ANSWER, USER, ANSWER]}] * 2
    trainer = SFTTrainer(
        model, settings(tmp_path, packing=packing), train_dataset=rows, processing_class=processor
    )
    with torch.no_grad():
        alone = [
            type(model).forward(model, input_ids=ids, labels=ids).loss * (ids.shape[1] - 1)
            for ids in (torch.tensor([row]) for row in _rows(processor, rows))
        ]
    count = sum(len(row) - 1 for row in _rows(processor, rows))
    found = trainer.evaluate(rows)["eval_loss"]
    assert found == pytest.approx(float(sum(alone)) / count, abs=1e-5)


def _rows(processor, rows: list[dict]) -> list[list[int]]:
    from trainer_backend.data.chat_template import encode

    return [encode(row, processor.tokenizer).input_ids for row in rows]
