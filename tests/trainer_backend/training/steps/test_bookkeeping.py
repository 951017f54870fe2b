"""A step walks over no model and asks the device for nothing; what it computes stays the same."""

import traceback
from collections import Counter
from inspect import isgenerator
from pathlib import Path

import pytest
import torch
from bookkept import trainer
from datasets import Dataset
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Trainer, TrainerCallback

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.tokens.collator import SFTCollator
from trainer_backend.training import capabilities
from trainer_backend.training.batches import TRAINED_AT, LengthGroupedOrder, WithTrainedPositions
from trainer_backend.training.steps.bookkeeping import StepBooks
from trainer_backend.training.steps.merging import join, split

ASKS = ("_local_scalar_dense", "nonzero", "is_nonzero", "item", "equal", "masked_select")
WALKS = ("named_modules", "named_parameters", "named_buffers", "train", "zero_grad")


class Asked(TorchDispatchMode):
    """Counts the operations that wait for a device, by the file that asks."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().split("::")[1].split(".")[0]
        if name in ASKS:
            frames = [Path(one.filename).name for one in traceback.extract_stack()[:-1]]
            ours = [one for one in frames if one not in ("eval_frame.py", "_compile.py")]
            self.seen[name, ours[-1]] += 1
        return func(*args, **(kwargs or {}))


class ThirdStep(TrainerCallback):
    """Keeps what was counted in the third step."""

    def __init__(self, *counters):
        self.counters, self.kept = counters, ()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            self.kept = tuple(dict(one) for one in self.counters)
        for one in self.counters:
            one.clear()


class Unhurried(SFTTrainer):
    """The same steps the Trainer's own way, which asks and walks."""

    def _run_epoch(self, *args, **kwargs):
        return Trainer._run_epoch(self, *args, **kwargs)

    def training_step(self, *args, **kwargs):
        return Trainer.training_step(self, *args, **kwargs)

    def floating_point_ops(self, inputs):
        return Trainer.floating_point_ops(self, inputs)

    def _get_num_items_in_batch(self, batches, device):
        for batch in batches:
            batch.pop(TRAINED_AT)
        return Trainer._get_num_items_in_batch(self, batches, device)


@pytest.mark.parametrize(("padding_free", "gpu"), [(None, False), (None, True), (False, False)])
def test_a_step_asks_the_device_for_nothing_and_walks_over_no_model(
    tmp_path, tiny_model, tokenizer, monkeypatch, padding_free, gpu
):
    monkeypatch.setattr(capabilities, "waits_without_mask", lambda device: gpu)
    asked, walked = Asked(), Counter()
    for name in WALKS:
        original = getattr(torch.nn.Module, name)

        def counted(self, *args, original=original, name=name, **kwargs):
            found = original(self, *args, **kwargs)
            if not isgenerator(found):
                walked[name] += 1
                return found
            return (walked.update([name]) or one for one in found)

        monkeypatch.setattr(torch.nn.Module, name, counted)
    third = ThirdStep(asked.seen, walked)
    settings = {"padding_free": padding_free, "logging_steps": 100}
    run = trainer(tmp_path, tiny_model, tokenizer, callbacks=[third], **settings)
    with asked:
        run.train()
    # transformers itself asks whether a row is packed, or which kind of mask padding needs; on a
    # GPU joined rows come with a mask, so that it does not
    asks = {("_local_scalar_dense", "masking_utils.py"): 1 if padding_free is None else 2}
    assert third.kept[0] == ({} if gpu else asks)
    assert sum(third.kept[1].values()) < 10  # a first parameter may be asked for its device


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gpu": True},
        {"lora": False},
        {"gradient_accumulation_steps": 2, "max_steps": 2},
        {"padding_free": False},
        {"max_grad_norm": 0.0},
        {"max_grad_norm": 0.01},
        {"packing": True, "max_length": 64},
    ],
)
def test_losses_norms_and_weights_are_those_of_the_trainer(
    tmp_path, make_model, tokenizer, monkeypatch, settings
):
    settings = dict(settings)
    gpu = settings.pop("gpu", False)
    monkeypatch.setattr(capabilities, "waits_without_mask", lambda device: gpu)
    quick, own = (
        trainer(tmp_path, make_model(), tokenizer, kind, **settings)
        for kind in (SFTTrainer, Unhurried)
    )
    for one in (quick, own):
        one.train()
    timed = {"train_runtime", "train_samples_per_second", "train_steps_per_second"}
    logs = [
        [{k: v for k, v in row.items() if k not in timed} for row in one.state.log_history]
        for one in (quick, own)
    ]
    assert logs[0] == logs[1] and len(logs[0]) > 1
    assert quick.state.total_flos == own.state.total_flos > 0
    pairs = zip(quick.model.parameters(), own.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert all(one.grad is None for one in quick.model.parameters())


class SpoiltLoss(SFTTrainer):
    """The second loss is not a number."""

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        return loss * float("nan") if self.state.global_step == 1 else loss


@pytest.mark.parametrize("filters", [True, False])
def test_a_loss_that_is_not_finite_is_left_out_of_the_log_if_asked(
    tmp_path, tiny_model, tokenizer, filters
):
    rates = {"learning_rate": 0.0, "logging_steps": 4}
    one = trainer(
        *(tmp_path, tiny_model, tokenizer, SpoiltLoss), **rates, logging_nan_inf_filter=filters
    )
    one.train()
    logged = one.state.log_history[0]["loss"]
    assert (logged > 0) is filters
    assert one.args.logging_nan_inf_filter is filters


def test_saved_arguments_are_those_that_were_given(tmp_path, tiny_model, tokenizer):
    one = trainer(tmp_path, tiny_model, tokenizer, save_strategy="steps", save_steps=2)
    one.train()
    saved = torch.load(tmp_path / "checkpoint-2" / "training_args.bin", weights_only=False)
    assert saved.logging_nan_inf_filter is True


def test_a_part_that_was_set_to_evaluate_trains_again(tmp_path, tiny_model, tokenizer):
    class Evaluates(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            model.base_model.model.model.layers[1].eval()

        def on_substep_end(self, args, state, control, model=None, **kwargs):
            seen.append(all(one.training for one in model.modules()))

    seen = []
    trainer(
        *(tmp_path, tiny_model, tokenizer), callbacks=[Evaluates()], gradient_accumulation_steps=2
    ).train()
    assert seen == [True] * 4


@pytest.mark.parametrize(
    "settings", [{"torch_empty_cache_steps": 2}, {"optim": "lomo"}, {"optim": "adalomo"}]
)
def test_what_the_short_ways_leave_out_goes_the_trainers_way(
    tmp_path, tiny_model, tokenizer, settings
):
    one = trainer(tmp_path, tiny_model, tokenizer, **settings)
    assert not StepBooks(one).quick
    with StepBooks(one).epoch(one.model) as held:
        assert held is one.model


def test_batches_are_moved_without_waiting_where_they_are_pinned(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer_backend.training.sft_config.accelerator", lambda: "cuda")
    monkeypatch.setattr(
        "trainer_backend.training.sft_config.resolve_precision", lambda *_: (False, False)
    )
    folder = str(tmp_path)
    assert SFTConfig(folder).accelerator_config.non_blocking
    given = {"dataloader_pin_memory": False}, {"accelerator_config": {"even_batches": True}}
    assert not any(SFTConfig(folder, **one).accelerator_config.non_blocking for one in given)


def test_a_stream_counts_its_tokens_as_a_table_does(tmp_path, make_model, tokenizer):
    table = trainer(tmp_path, make_model(), tokenizer)
    stream = trainer(tmp_path, make_model(), tokenizer)
    rows = table.train_dataset
    assert isinstance(rows, Dataset)
    stream.train_dataset = rows.to_iterable_dataset()
    batches = [
        next(one._get_dataloader(one.train_dataset, "Training", 4).__iter__())
        for one in (table, stream)
    ]
    assert TRAINED_AT in batches[0] and TRAINED_AT not in batches[1]


def test_merged_batches_keep_the_places_of_their_trained_tokens():
    collate = WithTrainedPositions(SFTCollator(0, padding_free=True))
    batches = [
        collate([{"input_ids": [5] * n, "labels": [-100] + [5] * (n - 1)} for n in lengths])
        for lengths in ((4, 3), (2, 5))
    ]
    row = join(batches)
    assert row is not None
    found = (row["labels"][:, 1:].reshape(-1) != -100).nonzero()[:, 0]
    assert row[TRAINED_AT].equal(found) and len(found) == 10
    parts = split(row, 2)
    assert len(parts) == 2 and not any(TRAINED_AT in one for one in parts)


def test_padded_rows_stay_grouped_by_length(tmp_path, tiny_model, tokenizer, monkeypatch):
    monkeypatch.setattr("trainer_backend.training.capabilities._switch_attention", lambda *_: False)
    run = trainer(tmp_path, tiny_model, tokenizer)
    assert isinstance(run.get_train_dataloader().batch_sampler.sampler, LengthGroupedOrder)
