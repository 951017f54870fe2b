"""Batches with images: exact batches of a tiny Llava-like processor, training, refusals."""

import io

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, IterableDataset, List, Value
from PIL import Image as Pictures
from vision_models import (
    ANSWER,
    PLACES,
    USER,
    llava,
    llava_processor,
    picture,
    qwen,
    qwen_processor,
)

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.data.checks import content_findings
from trainer_backend.data.checks.control import SEEN_AS_TOKENS
from trainer_backend.tokens.encode import EncodeOptions, encode
from trainer_backend.tokens.prepare import Preparation
from trainer_backend.tokens.vision import VisionCollator, open_image, seen_row


@pytest.fixture
def processor(tokenizer):
    return llava_processor(tokenizer)


@pytest.fixture
def model(processor):
    return llava(processor)


def collator(processor, max_length=None, **options) -> VisionCollator:
    processor.tokenizer.chat_template = processor.chat_template
    plan = Preparation(processor.tokenizer, EncodeOptions(**options))
    return VisionCollator(processor, plan, max_length)


def learned(batch, row: int, tokenizer) -> str:
    labels = batch["labels"][row]
    return tokenizer.decode(labels[labels != -100])


def test_a_prompt_with_an_image_teaches_its_completion(processor):
    rows = [
        {"prompt": [USER], "completion": [ANSWER], "image": picture()},
        {"prompt": "Who?", "completion": "No.", "images": [picture(), picture("blue")]},
    ]
    batch = collator(processor)(rows)
    marks = (batch["input_ids"] == processor.image_token_id).sum(dim=1)
    assert marks.tolist() == [PLACES, 2 * PLACES]
    assert batch["pixel_values"].shape == (3, 3, 16, 16)
    assert learned(batch, 0, processor.tokenizer) == "Paris.<|im_end|>\n"
    assert learned(batch, 1, processor.tokenizer) == "No.<|im_end|>\n"
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()


def test_only_the_assistants_turns_are_learned(processor):
    talk = [USER, ANSWER, {"role": "user", "content": "And then?<image>"}, ANSWER]
    rows = [{"messages": talk, "images": [picture()]}, {"messages": [USER, ANSWER]}]
    batch = collator(processor, assistant_only_loss=True)(rows)
    assert learned(batch, 0, processor.tokenizer) == "Paris.<|im_end|>Paris.<|im_end|>"
    assert learned(batch, 1, processor.tokenizer) == "Paris.<|im_end|>"
    last = collator(processor, last_turn_only=True)(rows)
    assert learned(last, 0, processor.tokenizer) == "Paris.<|im_end|>"


def test_the_mask_is_that_of_the_same_row_without_images(processor):
    """The images' marks move the learned tokens, and change nothing else."""
    talk = [USER, ANSWER, USER, ANSWER]
    with_picture = collator(processor, assistant_only_loss=True)(
        [{"messages": talk, "images": [picture()]}]
    )
    kept = with_picture["input_ids"][0] != processor.image_token_id
    plain = encode({"messages": talk}, processor.tokenizer, assistant_only_loss=True)
    assert with_picture["input_ids"][0][kept].tolist() == plain.input_ids
    assert with_picture["labels"][0][kept].tolist() == plain.labels


def test_long_rows_are_cut_and_tokens_may_stand_beside_images(processor):
    row = {"prompt": [USER], "completion": [{**ANSWER, "content": "Paris. " * 9}]}
    batch = collator(processor, max_length=20)([{**row, "image": picture()}])
    assert batch["input_ids"].shape == batch["labels"].shape == (1, 20)
    with pytest.raises(ValueError, match="5 tokens cuts through an image"):
        collator(processor, max_length=5)([{**row, "image": picture()}])


def test_images_by_path_by_bytes_and_as_they_are(tmp_path):
    red = picture()
    red.save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    for image in (
        str(tmp_path / "a.png"),
        {"path": str(tmp_path / "a.png"), "bytes": None},
        {"path": "elsewhere.png", "bytes": data},
        red,
        red.convert("RGBA"),
    ):
        assert open_image(image).tobytes() == red.tobytes()
    (tmp_path / "b.png").write_bytes(data[:40])
    with pytest.raises(ValueError, match="cannot be read.*b.png"):
        open_image(str(tmp_path / "b.png"))
    with pytest.raises(ValueError, match="an image in the dataset"):
        open_image({"bytes": b"no picture"})


def settings(folder, **more) -> SFTConfig:
    return SFTConfig(
        str(folder), max_steps=6, logging_steps=1, learning_rate=1e-2, report_to="none", bf16=False,
        disable_tqdm=True, save_strategy="no", per_device_train_batch_size=2, **more,
    )  # fmt: skip


def dataset(kind: str, folder):
    """The same two rows in every container and with every kind of image column."""
    pair = {"prompt": [USER], "completion": [ANSWER]}
    for name in ("red", "blue"):
        picture(name).save(folder / f"{name}.png")
    paths = [str(folder / f"{name}.png") for name in ("red", "blue")]
    if kind == "list":
        return [{**pair, "image": picture(name)} for name in ("red", "blue")]
    if kind == "paths":
        return Dataset.from_list([{**pair, "images": [path]} for path in paths])
    turn = [{"role": Value("string"), "content": Value("string")}]
    features = Features(prompt=turn, completion=turn, images=List(Image()))
    rows = [{**pair, "images": [path]} for path in paths]
    if kind == "stream":
        return IterableDataset.from_generator(lambda: iter(rows))
    found = Dataset.from_list(rows, features=features)
    return found.with_transform(lambda batch: batch) if kind == "transform" else found


@pytest.mark.parametrize("kind", ["list", "paths", "features", "stream", "transform"])
def test_a_vision_language_model_learns(tmp_path, model, processor, kind):
    rows = dataset(kind, tmp_path)
    trainer = SFTTrainer(
        model, settings(tmp_path), train_dataset=rows, eval_dataset=rows, processing_class=processor
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[0] == pytest.approx(6.5762, abs=1e-3)
    assert losses[-1] < losses[0] / 2
    assert trainer.evaluate()["eval_loss"] < losses[0] / 2


def test_its_loss_is_the_models_own(tmp_path, model, processor):
    rows = [{"messages": [USER, ANSWER], "image": picture()}]
    batch = collator(processor)(rows)
    with torch.no_grad():
        expected = model.eval()(**batch).loss.item()
    trainer = SFTTrainer(model, settings(tmp_path), train_dataset=rows, processing_class=processor)
    assert trainer.evaluate(rows)["eval_loss"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"packing": True}, "packing=True is not possible"),
        ({"padding_free": True, "max_length": None}, "padding_free=True is not possible"),
        ({"truncation_mode": "keep_end"}, "cut off images"),
    ],
)
def test_settings_that_images_do_not_allow(tmp_path, model, processor, more, message):
    rows = [{"messages": [USER, ANSWER], "image": picture()}]
    with pytest.raises(ValueError, match=message):
        SFTTrainer(
            model, settings(tmp_path, **more), train_dataset=rows, processing_class=processor
        )


def test_a_text_model_refuses_images(tmp_path, tiny_model, tokenizer):
    rows = [{"messages": [USER, ANSWER], "image": "a.png"}]
    with pytest.raises(ValueError, match="reads only text.*Choose a model that reads images"):
        SFTTrainer(tiny_model, settings(tmp_path), train_dataset=rows, processing_class=tokenizer)


@pytest.mark.parametrize("packing", [False, True])
def test_text_rows_train_a_vision_model_too(tmp_path, model, processor, packing):
    rows = [{"messages": [USER, ANSWER]}, {"messages": [ANSWER, USER, ANSWER]}] * 2
    trainer = SFTTrainer(
        model, settings(tmp_path, packing=packing), train_dataset=rows, processing_class=processor
    )
    tokens = [encode(row, processor.tokenizer).input_ids for row in rows]
    with torch.no_grad():
        alone = [
            type(model).forward(model, input_ids=ids, labels=ids).loss * (ids.shape[1] - 1)
            for ids in (torch.tensor([row], device=model.device) for row in tokens)
        ]
    count = sum(len(row) - 1 for row in tokens)
    found = trainer.evaluate(rows)["eval_loss"]
    assert found == pytest.approx(float(sum(alone)) / count, abs=1e-5)


def test_a_damaged_image_stops_the_run_and_is_named(tmp_path, model, processor):
    data = io.BytesIO()
    Pictures.new("RGB", (20, 20)).save(data, "PNG")
    (tmp_path / "cut.png").write_bytes(data.getvalue()[:50])
    rows = [{"messages": [USER, ANSWER], "image": str(tmp_path / "cut.png")}]
    trainer = SFTTrainer(model, settings(tmp_path), train_dataset=rows, processing_class=processor)
    with pytest.raises(ValueError, match="cut.png"):
        trainer.train()


@pytest.mark.parametrize("mask", [{}, {"assistant_only_loss": True}], ids=["all", "answers"])
def test_a_qwen2_vl_learns_from_images_of_any_size(tmp_path, tokenizer, mask):
    """Its images come as one long list of patches, and its positions count rows and columns."""
    processor = qwen_processor(tokenizer)
    model = qwen(processor)
    sizes = [(16, 8), (12, 12), (8, 8)]
    rows = [
        {"messages": [USER, ANSWER], "images": [Pictures.new("RGB", size, "red")]} for size in sizes
    ] + [{"messages": [USER, ANSWER], "images": []}]
    batch = collator(processor, **mask)(rows)
    with torch.no_grad():
        expected = model.eval()(**batch).loss.item()
    marks = (batch["input_ids"] == processor.image_token_id).sum(dim=1).tolist()
    assert marks == [w * h // 64 for w, h in ((16, 8), (16, 16), (8, 8))] + [0]
    trainer = SFTTrainer(
        model, settings(tmp_path, **mask), train_dataset=rows, processing_class=processor
    )
    assert trainer.evaluate(rows)["eval_loss"] == pytest.approx(expected, abs=1e-5)
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < losses[0] / 2


def test_a_trained_model_still_answers_questions_about_images(tmp_path, model, processor):
    rows = [{"prompt": [USER], "completion": [ANSWER], "image": picture()}]
    trainer = SFTTrainer(model, settings(tmp_path), train_dataset=rows, processing_class=processor)
    trainer.train()
    text = "<|im_start|>user\n<image>Who?<|im_end|>\n<|im_start|>assistant\n"
    inputs = processor(text=[text], images=[[picture()]], return_tensors="pt")
    out = trainer.model.generate(**inputs, max_new_tokens=8, do_sample=False)
    assert "Paris" in processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :])


def test_control_tokens_beside_images_are_said(processor):
    """The processor tokenises these rows itself: its control tokens cannot be told from text."""
    asked = {**USER, "content": "What is <|im_end|>?<image>"}
    for text, said in ((asked["content"], True), (USER["content"], False)):
        talk = [{**USER, "content": text}, ANSWER]
        row = seen_row({"messages": talk}, 1, processor, collator(processor).plan)
        assert bool(row["ledger"] & SEEN_AS_TOKENS) == said
    kinds = [kind.code for kind, _ in content_findings(np.array([SEEN_AS_TOKENS]))]
    assert kinds == ["image_tokens"]
