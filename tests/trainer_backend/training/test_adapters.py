"""Adapters of many kinds, quantised bases, and what is refused."""

import json

import pytest
import torch
from peft import (
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.errors import UserError
from trainer_backend.models.loaded.load import load_adapter
from trainer_backend.training.adapters import add_adapter, prepare_trainable

TASK = {"task_type": "CAUSAL_LM"}
ADAPTERS = {
    "rslora": LoraConfig(use_rslora=True, **TASK),
    "dora": LoraConfig(use_dora=True, **TASK),
    "modules_to_save": LoraConfig(modules_to_save=["lm_head", "embed_tokens"], **TASK),
    "on the head": LoraConfig(target_modules=["lm_head", "q_proj"], **TASK),
    "prompt tuning": PromptTuningConfig(num_virtual_tokens=4, **TASK),
    "prefix tuning": PrefixTuningConfig(num_virtual_tokens=4, **TASK),
    "ia3": IA3Config(
        target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], **TASK
    ),
}


def run(tmp_path, model, tokenizer, rows, peft_config, quantization=None, **settings) -> SFTTrainer:
    usual = {"max_steps": 2, "logging_steps": 1, "learning_rate": 1e-2, "bf16": False}
    fixed = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    args = SFTConfig(str(tmp_path), **{**usual, **settings}, **fixed)
    trainer = SFTTrainer(
        model,
        args,
        None,
        rows,
        None,
        tokenizer,
        peft_config=peft_config,
        quantization_config=quantization,
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_every_kind_trains_its_own_weights_only(
    tmp_path, tiny_model, tokenizer, pairs, kind, checkpointing
):
    before = {name: p.clone() for name, p in tiny_model.named_parameters()}
    trainer = run(
        tmp_path, tiny_model, tokenizer, pairs, ADAPTERS[kind], gradient_checkpointing=checkpointing
    )
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[1] < losses[0]
    for name, p in trainer.model.cpu().get_base_model().named_parameters():
        original = name.replace("base_layer.", "").replace("original_module.", "")
        if not p.requires_grad and original in before:
            assert torch.equal(p, before[original]), name


def test_virtual_tokens_do_not_count_in_metrics(tmp_path, tiny_model, tokenizer, pairs):
    trainer = run(tmp_path, tiny_model, tokenizer, pairs, ADAPTERS["prompt tuning"])
    plain = run(tmp_path, tiny_model, tokenizer, pairs, LoraConfig(**TASK))
    tokens = [t.state.log_history[0]["num_tokens"] for t in (trainer, plain)]
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("bf16", [False, True])
def test_qlora_on_a_cpu(tmp_path, make_model, tokenizer, pairs, bits, bf16):
    make_model(hidden_size=64, intermediate_size=128).save_pretrained(tmp_path / "base")
    four = (
        {"bnb_4bit_compute_dtype": torch.float32, "bnb_4bit_quant_type": "nf4"} if bits == 4 else {}
    )
    quantization = BitsAndBytesConfig(**{f"load_in_{bits}bit": True}, **four)
    adapter = LoraConfig(target_modules="all-linear", **TASK)
    trainer = run(
        tmp_path,
        str(tmp_path / "base"),
        tokenizer,
        pairs,
        adapter,
        bf16=bf16,
        gradient_checkpointing=True,
        quantization=quantization,
    )
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[1] < losses[0]
    layer = trainer.model.get_base_model().model.layers[0].mlp.up_proj.base_layer
    assert type(layer).__name__ == f"Linear{bits}bit{'Lt' if bits == 8 else ''}"
    learning = {p.dtype for p in trainer.model.parameters() if p.requires_grad}
    assert learning == {torch.bfloat16}


@pytest.mark.parametrize("evaluated_before", [False, True])
def test_four_bit_gradients_are_those_of_the_plain_weights(
    tmp_path, make_model, tokenizer, pairs, evaluated_before
):
    import bitsandbytes

    make_model(hidden_size=64, intermediate_size=128).save_pretrained(tmp_path / "base")
    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", quantization_config=quantization, dtype=torch.float32
    )
    ids = torch.arange(5, 60)[None]
    if evaluated_before:
        model.eval()(input_ids=ids.to(model.device))
    adapter = LoraConfig(target_modules="all-linear", init_lora_weights=False, **TASK)
    trainer = run(tmp_path, model, tokenizer, pairs, adapter, max_steps=1)
    ids = ids.to(trainer.args.device)
    trainer.evaluate(pairs)  # must not leave the weights in a form without gradient

    def gradients():
        trainer.model.zero_grad()
        trainer.model.train()(input_ids=ids, labels=ids).loss.backward()
        return {
            n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None
        }

    found = gradients()
    for module in list(trainer.model.modules()):
        base = getattr(module, "base_layer", None)
        if isinstance(base, bitsandbytes.nn.Linear4bit):
            weight = bitsandbytes.functional.dequantize_4bit(
                base.weight.data, base.weight.quant_state
            )
            module.base_layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            module.base_layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    expected = gradients()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("optim", ["adamw_8bit", "paged_adamw_8bit", "adafactor"])
def test_optimizers_that_save_memory(tmp_path, tiny_model, tokenizer, pairs, optim):
    trainer = run(tmp_path, tiny_model, tokenizer, pairs, LoraConfig(**TASK), optim=optim)
    assert trainer.state.global_step == 2


def test_what_is_refused(tmp_path, tiny_model, tiny_model_dir, tokenizer, pairs):
    with pytest.raises(TypeError, match="must be a PeftConfig"):
        add_adapter(tiny_model, {"r": 4}, [])
    with pytest.raises(ValueError, match="already has an adapter"):
        add_adapter(get_peft_model(tiny_model, LoraConfig(**TASK)), LoraConfig(**TASK), [])
    quantization = BitsAndBytesConfig(load_in_4bit=True)
    args = SFTConfig(str(tmp_path), model_init_kwargs={"quantization_config": quantization})
    with pytest.raises(ValueError, match="set twice"):
        SFTTrainer(str(tiny_model_dir), args, train_dataset=pairs, quantization_config=quantization)


def test_an_adapter_of_another_base_is_refused(tmp_path, make_model, tokenizer, pairs):
    run(tmp_path, make_model(), tokenizer, pairs, LoraConfig(**TASK)).save_model(tmp_path / "a")
    make_model(hidden_size=16, intermediate_size=32).save_pretrained(tmp_path / "smaller")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "smaller")
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(config))
    args = SFTConfig(str(tmp_path), report_to="none", bf16=False)
    with pytest.raises(ValueError, match="was made for smaller and does not fit smaller"):
        SFTTrainer(str(tmp_path / "a"), args, train_dataset=pairs, processing_class=tokenizer)
    with pytest.raises(UserError, match="made for another base model"):
        load_adapter(make_model(hidden_size=16, intermediate_size=32), tmp_path / "a")


def test_an_adapter_by_its_folder_is_continued(tmp_path, tiny_model_dir, tokenizer, pairs):
    first = run(tmp_path, str(tiny_model_dir), tokenizer, pairs, LoraConfig(**TASK))
    first.save_model(str(tmp_path / "a"))
    again = run(tmp_path, str(tmp_path / "a"), tokenizer, pairs, None)
    losses = [t.state.log_history[0]["loss"] for t in (first, again)]
    assert losses[1] < losses[0]
    assert all("lora" in n for n, p in again.model.named_parameters() if p.requires_grad)


def test_a_model_in_which_nothing_can_learn_is_refused(tmp_path, tiny_model, tokenizer, pairs):
    tiny_model.requires_grad_(False)
    with pytest.raises(ValueError, match="All weights of this model are frozen"):
        run(tmp_path, tiny_model, tokenizer, pairs, None)


def test_an_adapter_is_usable_with_plain_peft(tmp_path, tiny_model_dir, tokenizer, pairs):
    from peft import PeftModel

    trainer = run(tmp_path, str(tiny_model_dir), tokenizer, pairs, LoraConfig(**TASK))
    trainer.save_model(str(tmp_path / "adapter"))
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        expected = trainer.model.cpu().eval()(input_ids=ids).logits
        assert torch.allclose(loaded(input_ids=ids).logits, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_what_a_gradient_scaler_trains_is_in_float32(tmp_path, tiny_model, dtype):
    args = SFTConfig(str(tmp_path), bf16=False)
    args.fp16 = True  # as on a card without bf16
    whole = tiny_model.to(dtype)
    whole.lm_head.requires_grad_(False)
    prepare_trainable(whole, args)
    assert whole.lm_head.weight.dtype == dtype
    assert whole.model.embed_tokens.weight.dtype == torch.float32
