"""A bf16 working copy learns as float32 weights under autocast do; bf16 weights alone do not."""

from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.training.steps.masters import MasterWeights, why_not_copied

SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.1}
COPY = {"bf16_working_copy": True}


@pytest.fixture(autouse=True)
def bf16_here(monkeypatch):
    """A CPU that computes in bf16, whatever this one can."""
    monkeypatch.setattr("trainer_backend.training.precision.bf16_possible", lambda device: True)


def model(**more) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, **HEADS, **more))


def rows() -> Dataset:
    """Sequences that count in steps: there is something to learn in a hundred updates."""
    seed = torch.Generator().manual_seed(3)
    pairs = torch.randint(1, 9, (64, 2), generator=seed).tolist()
    ids = [((torch.arange(24) * step + begin) % 60 + 4).tolist() for step, begin in pairs]
    return Dataset.from_list([{"input_ids": row, "labels": row} for row in ids])


def trainer(folder, tokenizer, learner=None, **settings) -> SFTTrainer:
    usual = {"max_steps": 6, "learning_rate": 3e-4, "per_device_train_batch_size": 8, "bf16": True}
    fixed = {"report_to": "none", "disable_tqdm": True, "logging_steps": 1, "use_cpu": True}
    ready = {"dataset_kwargs": {"skip_prepare_dataset": True}, "lr_scheduler_type": "constant"}
    settings = {**usual, "save_strategy": "no", **fixed, **ready, **settings}
    sets = {"train_dataset": rows(), "eval_dataset": settings.pop("eval_dataset", None)}
    learner = model() if learner is None else learner
    return SFTTrainer(
        learner, SFTConfig(str(folder), **settings), **sets, processing_class=tokenizer
    )


def losses(run: SFTTrainer) -> torch.Tensor:
    run.train()
    return torch.tensor([row["loss"] for row in run.state.log_history if "loss" in row])


def test_the_course_is_that_of_float32_weights_and_pure_bf16_is_worse(tmp_path, tokenizer):
    steps = {"max_steps": 100}
    expected = losses(trainer(tmp_path, tokenizer, **steps))
    copied = losses(trainer(tmp_path, tokenizer, **steps, **COPY))
    parts = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    in_parts = losses(trainer(tmp_path, tokenizer, max_steps=25, **COPY, **parts))
    pure = losses(trainer(tmp_path, tokenizer, model().to(torch.bfloat16), **steps))
    assert (copied - expected).abs().max() < 0.01
    assert (in_parts - expected[:25]).abs().max() < 0.01
    assert pure[-10:].mean() - expected[-10:].mean() > 0.2  # what losing a master would do


class Seen(TrainerCallback):
    """The formats of weights while training, and whether the copies are the rounded masters."""

    def __init__(self):
        self.formats, self.equal, self.run = set(), [], None

    def on_step_end(self, args, state, control, **kwargs):
        masters = self.run._masters
        self.formats |= {one.dtype for one in self.run.model.parameters()}
        pairs = zip(self.run.model.parameters(), masters._masters, strict=True)
        self.equal += [torch.equal(one, master.to(torch.bfloat16)) for one, master in pairs]
        assert all(one.grad is None for one in masters._masters)


@pytest.mark.parametrize("tied", [False, True])
def test_copies_follow_the_masters_and_float32_is_left_and_saved(tmp_path, tokenizer, tied):
    seen = Seen()
    run = seen.run = trainer(
        tmp_path,
        tokenizer,
        model(tie_word_embeddings=tied),
        max_steps=3,
        save_strategy="steps",
        save_steps=3,
        **COPY,
    )
    own = dict(run.model.named_parameters())
    run.add_callback(seen)
    run.train()
    assert seen.formats == {torch.bfloat16} and all(seen.equal)
    now = dict(run.model.named_parameters())
    assert all(one is now[name] and one.dtype == torch.float32 for name, one in own.items())
    assert any(not torch.equal(one, one.to(torch.bfloat16).float()) for one in now.values())
    saved = load_file(tmp_path / "checkpoint-3" / "model.safetensors")
    assert all(torch.equal(one, now[name]) for name, one in saved.items())
    assert run.paths.sentences[-1].startswith("The model computes with a bf16 copy")


def test_a_resumed_run_ends_bit_for_bit_like_one_without_a_stop(tmp_path, tokenizer):
    saving = {"save_strategy": "steps", "save_steps": 3}
    whole = trainer(tmp_path / "whole", tokenizer, **saving, **COPY)
    whole.train()
    trainer(tmp_path / "parts", tokenizer, max_steps=3, **saving, **COPY).train()
    again = trainer(tmp_path / "parts", tokenizer, **saving, **COPY)
    again.train(resume_from_checkpoint=True)
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    states = [run.optimizer.state_dict()["state"] for run in (whole, again)]
    for at, state in states[0].items():
        assert all(torch.equal(state[name], states[1][at][name]) for name in state)


@pytest.mark.parametrize("first", [{}, COPY])
def test_a_checkpoint_of_either_way_is_continued_by_the_other(tmp_path, tokenizer, first):
    saving = {"save_strategy": "steps", "save_steps": 3}
    trainer(tmp_path, tokenizer, max_steps=3, **saving, **first).train()
    second = trainer(tmp_path, tokenizer, **saving, **({} if first else COPY))
    second.train(resume_from_checkpoint=True)
    expected = losses(trainer(tmp_path / "plain", tokenizer))
    found = [row["loss"] for row in second.state.log_history if "loss" in row]
    assert (torch.tensor(found) - expected).abs().max() < 0.01


def test_held_out_loss_and_best_weights_are_those_of_the_masters(tmp_path, tokenizer):
    evaluated = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps"}
    best = {"load_best_model_at_end": True, "save_steps": 2, "eval_dataset": rows()}
    run = trainer(tmp_path, tokenizer, **best, **evaluated, **COPY)
    run.train()
    shown = [row["eval_loss"] for row in run.state.log_history if "eval_loss" in row]
    assert run.evaluate()["eval_loss"] == min(shown)  # the masters again: to the last digit


def test_clipping_and_guards_see_the_float32_gradients(tmp_path, tokenizer):
    norms = {}
    for kind, more in (("copy", COPY), ("plain", {})):
        run = trainer(tmp_path, tokenizer, max_steps=2, max_grad_norm=0.01, **more)
        run.train()
        norms[kind] = [row["grad_norm"] for row in run.state.log_history if "grad_norm" in row]
    assert norms["copy"] == pytest.approx(norms["plain"], rel=0.02)
    assert min(norms["copy"]) > 0.01


class Trial(TrainerCallback):
    """A forward and backward pass before the first step, as a check of the longest rows does."""

    def __init__(self, run):
        self.run = run

    def on_train_begin(self, args, state, control, **kwargs):
        batch = next(iter(self.run.get_train_dataloader()))
        self.run.compute_loss(self.run.model, batch).backward()
        self.run.model.zero_grad()


def test_a_trial_before_the_first_step_leaves_no_gradient(tmp_path, tokenizer):
    plain, tried = (trainer(tmp_path, tokenizer, max_steps=2, **COPY) for _ in range(2))
    tried.add_callback(Trial(tried))
    assert torch.equal(losses(plain), losses(tried))
    for one, other in zip(plain.model.parameters(), tried.model.parameters(), strict=True):
        assert torch.equal(one, other)


class SkipSteps(TrainerCallback):
    """Removes the gradients of each step from the optimizer's weights, as the NaN guard does."""

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        for group in optimizer.param_groups:
            assert all(one.grad is not None for one in group["params"])
            for one in group["params"]:
                one.grad = None


def test_a_step_without_gradients_changes_nothing(tmp_path, tokenizer):
    run = trainer(tmp_path, tokenizer, max_steps=2, **COPY)
    run.add_callback(SkipSteps())
    run.train()
    for one, before in zip(run.model.parameters(), model().parameters(), strict=True):
        assert torch.equal(one, before)


def test_an_exception_leaves_float32_weights(tmp_path, tokenizer):
    run = trainer(tmp_path, tokenizer, **COPY)
    run.compute_loss = lambda *_, **__: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run.train()
    assert {one.dtype for one in run.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, ""),
        ({"bf16": False}, "does not run in bf16"),
        ({"world_size": 2}, "several processes"),
        ({"fsdp": "full_shard"}, "several processes"),
        ({"optim": "adamw_bnb_8bit"}, "keeps its own"),
        ({"torch_compile": True}, "compiled"),
        ({"auto_find_batch_size": True}, "searched for"),
    ],
)
def test_where_there_is_no_working_copy(settings, why):
    usual = {"fsdp": False, "deepspeed": None, "world_size": 1, "optim": "adamw_torch"}
    usual |= {"bf16": True, "torch_compile": False, "auto_find_batch_size": False}
    args = SimpleNamespace(
        **{**usual, "bf16_full_eval": False, "fp16_full_eval": False, **settings}
    )
    found = why_not_copied(model(), args, None)
    assert why in found and bool(found) is bool(why)
    assert "by the script" in why_not_copied(model(), args, object()) or why


def test_adapters_and_16_bit_weights_have_none(tmp_path, tokenizer):
    adapted = get_peft_model(model(), LoraConfig(r=2, target_modules="all-linear"))
    run = trainer(tmp_path, tokenizer, adapted, **COPY)
    assert "only full training" in run.paths.sentences[-1]
    assert [*run._masters.parameters()] == []
    half = trainer(tmp_path, tokenizer, model().to(torch.bfloat16), **COPY)
    assert "not all of its weights are float32" in half.paths.sentences[-1]
    told = " ".join(trainer(tmp_path, tokenizer).paths.sentences)
    assert "working copy" not in told and "bf16 copy" not in told


def test_gradients_of_several_passes_are_summed_in_float32():
    weight = torch.nn.Linear(1, 1, bias=False)
    masters = MasterWeights(weight)
    with masters.copied():
        for amount in (256.0, 1.0, 1.0):  # 256 + 1 is 256 in bf16
            (weight.weight.sum() * amount).backward()
        (master,) = masters.parameters()
        assert weight.weight.grad is None and master.grad.item() == 258.0
        masters.forget()
        assert master.grad is None
