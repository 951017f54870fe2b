"""Weights that are read again: files may name them otherwise than the model does."""

import copy

import bitsandbytes
import pytest
import torch
from peft import LoraConfig
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BitsAndBytesConfig, MixtralConfig, MixtralForCausalLM
from vision_models import llava, llava_processor

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.models.loaded.pretrained import load_model, load_weights

EIGHT = BitsAndBytesConfig(load_in_8bit=True)


def experts():
    """A Mixtral of two layers with four experts each."""
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
    return MixtralForCausalLM(MixtralConfig(vocab_size=400, **small, **heads))


@pytest.fixture(params=["llama", "experts", "images"])
def model(request, tokenizer, tiny_model):
    if request.param == "images":
        return llava(llava_processor(tokenizer))
    return experts() if request.param == "experts" else tiny_model


def test_a_saved_model_is_read_whole_whatever_its_files_call_its_weights(model, tmp_path):
    before = copy.deepcopy(model.state_dict())
    model.save_pretrained(tmp_path)
    for weight in model.parameters():
        torch.nn.init.zeros_(weight)
    load_weights(model, tmp_path)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_a_file_that_lacks_a_weight_is_refused(tiny_model, tmp_path):
    state = {
        name: one for name, one in tiny_model.state_dict().items() if "layers.1.mlp" not in name
    }
    tiny_model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(RuntimeError, match=r"layers\.1\.mlp"):
        load_weights(tiny_model, tmp_path)


def train(folder, tokenizer, rows, steps: int, resume: bool = False) -> SFTTrainer:
    settings = {
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
    }
    quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "steps", "save_steps": 2}
    args = SFTConfig(str(folder), max_steps=steps, max_length=64, bf16=False, **settings, **quiet)
    run = SFTTrainer(experts(), args, train_dataset=rows, processing_class=tokenizer)
    run.train(resume_from_checkpoint=resume)
    return run


def test_a_mixture_of_experts_goes_on_with_its_own_experts(tokenizer, pairs, tmp_path):
    whole = train(tmp_path / "whole", tokenizer, pairs, 4).model.state_dict()
    train(tmp_path / "parts", tokenizer, pairs, 2)
    resumed = train(tmp_path / "parts", tokenizer, pairs, 4, resume=True)
    found = resumed.model.state_dict()
    assert all(torch.equal(one, found[name]) for name, one in whole.items())
    resumed.state.best_model_checkpoint = str(tmp_path / "parts" / "checkpoint-2")
    resumed._load_best_model()
    best = train(tmp_path / "again", tokenizer, pairs, 2).model.state_dict()
    found = resumed.model.state_dict()
    assert all(torch.equal(one, found[name]) for name, one in best.items())


class Formats(TorchDispatchMode):
    """Collects the dtypes of the results of floating-point products, sums and unpacked weights."""

    WATCHED = ("mm", "addmm", "bmm", "add", "mul", "gemm_4bit", "dequantize_4bit", "embedding")

    def __init__(self):
        super().__init__()
        self.seen = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in self.WATCHED and isinstance(result, torch.Tensor) and result.dim() > 1:
            self.seen.setdefault(name, set()).add(result.dtype)
        return result


@pytest.fixture
def bf16_here(monkeypatch):
    """A CPU that computes in bf16, whatever this one can."""
    monkeypatch.setattr("trainer_backend.training.precision.bf16_possible", lambda device: True)


@pytest.mark.parametrize("how", ["trainer", "kwargs"])
def test_a_quantised_model_is_kept_and_unpacked_in_the_dtype_of_training(
    how, make_model, tokenizer, pairs, tmp_path, bf16_here
):
    make_model(hidden_size=64, intermediate_size=128).save_pretrained(tmp_path / "base")
    quantization = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    inside = {"model_init_kwargs": {"quantization_config": quantization}}
    args = SFTConfig(
        str(tmp_path), bf16=True, report_to="none", **(inside if how == "kwargs" else {})
    )
    run = SFTTrainer(
        str(tmp_path / "base"),
        args,
        train_dataset=pairs,
        processing_class=tokenizer,
        peft_config=LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"),
        quantization_config=quantization if how == "trainer" else None,
    )
    plain = {one.dtype for one in run.model.parameters() if one.dtype != torch.uint8}
    assert plain == {torch.bfloat16}
    layers = [one for one in run.model.modules() if isinstance(one, bitsandbytes.nn.Linear4bit)]
    assert {one.compute_dtype for one in layers} == {torch.bfloat16}
    assert {one.weight.quant_state.dtype for one in layers} == {torch.bfloat16}
    assert quantization.bnb_4bit_compute_dtype == torch.float32  # the caller's own is left alone
    batch = next(iter(run.get_train_dataloader()))
    with Formats() as formats:
        run.training_step(run.model.train(), batch)
    assert formats.seen["dequantize_4bit"] == {torch.bfloat16}
    assert formats.seen["embedding"] == {torch.bfloat16}


@pytest.mark.parametrize(
    ("quantization", "own", "computes_in", "expected"),
    [
        (BitsAndBytesConfig(load_in_8bit=True), {}, torch.float16, torch.float16),
        (BitsAndBytesConfig(load_in_8bit=True), {}, torch.float32, torch.float32),
        (
            BitsAndBytesConfig(load_in_8bit=True),
            {"dtype": "float32"},
            torch.bfloat16,
            torch.float32,
        ),
        (None, {}, torch.bfloat16, torch.float32),
    ],
)
def test_the_dtype_of_a_model_given_by_name(
    quantization, own, computes_in, expected, make_model, tmp_path
):
    make_model(hidden_size=64, intermediate_size=128).save_pretrained(tmp_path / "base")
    model = load_model(str(tmp_path / "base"), own, False, quantization, computes_in)
    assert model.get_input_embeddings().weight.dtype == expected
