"""SFTTrainer on a CUDA device: a few steps of each method, with the loss falling."""

import pytest
import torch
from peft import LoraConfig
from transformers import BitsAndBytesConfig

from trainer_backend import SFTConfig, SFTTrainer

pytestmark = pytest.mark.gpu

TASK = {"task_type": "CAUSAL_LM", "target_modules": "all-linear"}


def train(tmp_path, model, tokenizer, rows, device, adapter=True, **settings) -> SFTTrainer:
    usual = {"max_steps": 4, "logging_steps": 1, "learning_rate": 1e-2, "max_length": 64}
    fixed = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    given = {"quantization_config": settings.pop("quantization_config", None)}
    args = SFTConfig(
        str(tmp_path / "out"), use_cpu=device == "cpu", **{**usual, **settings}, **fixed
    )
    trainer = SFTTrainer(
        model,
        args,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=LoraConfig(**TASK) if adapter else None,
        **given,
    )
    trainer.train()
    return trainer


def losses(trainer: SFTTrainer) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"packing": True},
        {"gradient_checkpointing": True},
        {"padding_free": False},
        {"activation_offloading": True},
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("adapter", [True, False], ids=["lora", "full"])
def test_the_loss_falls(tmp_path, tiny_model, tokenizer, pairs, device, adapter, settings):
    trainer = train(tmp_path, tiny_model, tokenizer, pairs, device, adapter, **settings)
    found = losses(trainer)
    assert found[-1] < found[0]
    assert trainer.args.device.type == device
    assert {p.device.type for p in trainer.model.parameters()} == {device}
    if device == "cuda":
        assert trainer.args.bf16 is torch.cuda.is_bf16_supported(including_emulation=False)


@pytest.mark.parametrize("adapter", [True, False], ids=["lora", "full"])
def test_in_float32_it_is_the_course_of_a_cpu(
    tmp_path, make_model, tokenizer, pairs, device, adapter
):
    settings = {"bf16": False, "train_sampling_strategy": "sequential"}
    here, there = (
        losses(train(tmp_path, make_model(), tokenizer, pairs, one, adapter, **settings))
        for one in (device, "cpu")
    )
    assert here == pytest.approx(there, rel=2e-3)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_base_in_few_bits(tmp_path, make_model, tokenizer, pairs, device, bits):
    make_model(hidden_size=64, intermediate_size=128).save_pretrained(tmp_path / "base")
    four = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16}
    quantization = BitsAndBytesConfig(**{f"load_in_{bits}bit": True}, **(four if bits == 4 else {}))
    trainer = train(
        tmp_path,
        str(tmp_path / "base"),
        tokenizer,
        pairs,
        device,
        quantization_config=quantization,
        gradient_checkpointing=True,
    )
    assert losses(trainer)[-1] < losses(trainer)[0]


def test_fp16_is_trained_with_a_gradient_scaler(tmp_path, tiny_model, tokenizer, pairs, device):
    trainer = train(tmp_path, tiny_model, tokenizer, pairs, device, fp16=True, max_steps=6)
    found = losses(trainer)
    assert found[-1] < found[0] and all(one == one for one in found)
    if device == "cuda":
        assert trainer.accelerator.scaler is not None and trainer.args.fp16


def test_evaluation_prediction_and_answers(tmp_path, tiny_model, tokenizer, pairs, device):
    trainer = train(tmp_path, tiny_model, tokenizer, pairs, device)
    assert trainer.evaluate(pairs)["eval_loss"] > 0
    assert len(trainer.predict(pairs).predictions) == len(pairs)
    ids = torch.tensor([[5, 6, 7]], device=device)
    assert trainer.model.generate(input_ids=ids, max_new_tokens=3).shape[1] > 3
