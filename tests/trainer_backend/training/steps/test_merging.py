"""Batches of a step computed as one: the same losses, gradients, weights, rows and schedule."""

from types import SimpleNamespace

import pytest
import torch
from datasets import IterableDataset
from peft import LoraConfig
from transformers import TrainerCallback

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.tokens.collator import SFTCollator
from trainer_backend.training.metrics import TokenMeter
from trainer_backend.training.steps.merging import (
    NoRoomError,
    _Before,
    is_joined,
    join,
    pays_on,
    split,
)

ROWS = [{"prompt": "Who " * (1 + n % 4), "response": "Paris. " * (1 + n % 5)} for n in range(11)]
ON_GPU = torch.cuda.is_available()  # its products of other shapes round more differently
LOSS = {"rel": 1e-4 if ON_GPU else 2e-6}
CLOSE = {"atol": 1e-4, "rtol": 1e-3} if ON_GPU else {"atol": 2e-6, "rtol": 2e-5}
USUAL = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 3,
    "max_steps": 4,
    "logging_steps": 1,
    "learning_rate": 0.1,
    "optim": "sgd",  # AdamW divides by the gradient: it would enlarge the rounding of small ones
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "bf16": False,
    "max_length": 64,
}


class Watch(TrainerCallback):
    """Keeps the gradients of each step, and counts what the Trainer counts."""

    def __init__(self):
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.events: list[str] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        named = model.named_parameters()
        self.gradients.append({name: p.grad.clone() for name, p in named if p.grad is not None})

    def on_step_begin(self, *args, **kwargs):
        self.events.append("begin")

    def on_substep_end(self, *args, **kwargs):
        self.events.append("substep")

    def on_step_end(self, *args, **kwargs):
        self.events.append("end")


@pytest.fixture
def trained(tmp_path, make_model, tokenizer):
    """Train the tiny model: trained(merge, rows, **settings) returns the trainer and its watch."""

    def train(merge, rows=ROWS, resume=None, hook=None, most=None, peft=None, **settings):
        args = SFTConfig(str(tmp_path), **{**USUAL, "merge_batches": merge, **settings})
        watch, calls = Watch(), []
        run = SFTTrainer(
            make_model(),
            args,
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=[watch],
            peft_config=peft,
        )
        count = run._compute_part

        def counted(model, inputs, items=None):
            calls.append(inputs["input_ids"].numel())
            if hook:
                hook(inputs)
            return count(model, inputs, items)

        run._compute_part = counted
        run.merging.most = most
        run.train(resume_from_checkpoint=resume)
        return run, watch, calls

    return train


def course(run, name="loss"):
    return [row[name] for row in run.state.log_history if name in row]


def weights(run):
    return {name: p.detach().clone() for name, p in run.model.named_parameters()}


def assert_same(found, wanted, **close):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, **close)


SHAPES = {
    "odd_last_batch": {},
    "one_batch_left": {"gradient_accumulation_steps": 5, "max_steps": -1, "num_train_epochs": 3},
    "more_than_an_epoch": {"gradient_accumulation_steps": 8, "max_steps": 3},
    "packed": {"packing": True, "max_length": 48, "per_device_train_batch_size": 1},
    "single_rows": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
    "smoothed": {"label_smoothing_factor": 0.1},
    "lora": {"peft": LoraConfig(r=4, target_modules="all-linear")},
    "dropped_last": {"dataloader_drop_last": True},
}


@pytest.mark.parametrize("settings", SHAPES.values(), ids=SHAPES)
def test_losses_gradients_and_weights_are_those_of_unmerged_batches(trained, settings):
    plain, seen, many = trained(False, **settings)
    merged, watch, few = trained(True, **settings)
    assert merged.state.global_step == plain.state.global_step == len(few) < len(many)
    assert sum(few) == sum(many)  # tokens
    assert course(merged) == pytest.approx(course(plain), **LOSS)
    for name in ("learning_rate", "epoch", "num_tokens"):
        assert course(merged, name) == course(plain, name)
    assert watch.events == seen.events
    for found, wanted in zip(watch.gradients, seen.gradients, strict=True):
        assert_same(found, wanted, **CLOSE)
    assert_same(weights(merged), weights(plain), **CLOSE)
    assert any("computed at once" in one for one in merged.paths.sentences)
    assert merged.args.gradient_accumulation_steps == plain.args.gradient_accumulation_steps > 1


def test_a_stream_is_merged_batch_for_batch(trained):
    def stream():
        return IterableDataset.from_generator(lambda: iter(ROWS))

    plain, _, many = trained(False, stream())
    merged, _, few = trained(True, stream())
    assert course(merged) == pytest.approx(course(plain), **LOSS)
    assert sum(few) == sum(many) and len(few) == 4 < len(many)


def test_an_unmerged_checkpoint_resumes_merged_in_the_middle_of_an_epoch(trained, tmp_path):
    steps = {"max_steps": 7, "save_strategy": "steps", "save_steps": 3}
    plain, _, _ = trained(False, **steps)
    merged, watch, _ = trained(True, resume=str(tmp_path / "checkpoint-3"), **steps)
    assert len(watch.gradients) == 4 and merged.state.global_step == 7
    assert course(merged) == pytest.approx(course(plain), **LOSS)
    assert_same(weights(merged), weights(plain), **CLOSE)


def no_room_above(tokens):
    def hook(inputs):
        if inputs["input_ids"].numel() > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return hook


@pytest.mark.parametrize("settings", [{}, {"gradient_accumulation_steps": 1}], ids=["many", "one"])
def test_a_step_without_room_is_done_again_in_parts(trained, settings):
    plain, seen, _ = trained(False, **settings)
    whole = max(trained(True, **settings)[2])
    short, watch, calls = trained(True, hook=no_room_above(whole - 1), **settings)
    assert course(short) == pytest.approx(course(plain), **LOSS)
    assert course(short, "num_tokens") == course(plain, "num_tokens")
    for found, wanted in zip(watch.gradients, seen.gradients, strict=True):
        assert_same(found, wanted, **CLOSE)
    said = [one for one in short.paths.sentences if "in parts" in one]
    assert said and "memory of the device ran out at" in said[0] and "same result" in said[0]
    assert short.merging.most < whole


def test_a_step_done_again_draws_the_same_dropout(trained):
    dropped = {"peft": LoraConfig(r=4, lora_dropout=0.3, target_modules="all-linear")}
    whole = max(trained(True, max_steps=1, **dropped)[2])
    short, _, _ = trained(True, max_steps=1, hook=no_room_above(whole - 1), **dropped)
    known, _, calls = trained(True, max_steps=1, most=short.merging.most, **dropped)
    assert len(calls) == 2
    assert_same(weights(short), weights(known), **(CLOSE if ON_GPU else {"atol": 0, "rtol": 0}))


def test_small_steps_are_still_computed_at_once(trained):
    whole = max(trained(True)[2])
    _, _, calls = trained(True, most=whole - 1)
    assert sum(calls) > 4 * (whole // 2) and max(calls) < whole
    assert len(calls) < 8  # not every step is in parts


def test_without_room_for_one_document_it_says_what_was_tried(trained):
    with pytest.raises(NoRoomError, match="Tried in 1, 2, 4 and 6 parts; the longest example"):
        trained(True, hook=no_room_above(3))
    with pytest.raises(torch.OutOfMemoryError):  # accumulated gradients of the batches before
        trained(False, hook=no_room_above(3))


def test_a_batch_that_is_not_all_of_its_step_keeps_the_gradients_before_it(made):
    merging, model = made(), torch.nn.Linear(1, 1)
    odd = {"input_ids": torch.ones(2, 3), "labels": torch.ones(2, 3)}  # cannot be joined
    batches = [odd, row_of(4, 4)]
    assert merging.waiting(batches) is batches
    model.weight.grad = torch.ones(1, 1)

    def compute(model, inputs, items):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError, match="memory.$"):
        merging.run(compute, model, row_of(4, 4))
    assert model.weight.grad is not None and merging.most is None
    merging.waiting([row_of(4, 4)])
    with pytest.raises(NoRoomError):
        merging.run(compute, model, row_of(4, 4))
    assert model.weight.grad is None


def test_another_error_is_raised_as_it_is(trained):
    def hook(inputs):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        trained(True, hook=hook)


@pytest.fixture
def made(tmp_path, make_model, tokenizer):
    def make(kind=SFTTrainer, model=None, collator=None, loss=None, **settings):
        args = SFTConfig(str(tmp_path), **{**USUAL, "merge_batches": True, **settings})
        return kind(
            model or make_model(),
            args,
            train_dataset=ROWS,
            processing_class=tokenizer,
            data_collator=collator,
            compute_loss_func=loss,
        ).merging

    return make


class OwnLoss(SFTTrainer):
    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs)


def test_batches_that_are_no_sum_over_joined_rows_stay_as_they_are(made):
    assert made().joins and made().retries
    assert made(merge_batches=None).joins is ON_GPU
    assert pays_on("cuda") and not pays_on("cpu")
    for other in (
        {"padding_free": False},
        {"collator": SFTCollator(0)},
        {"loss": lambda outputs, labels, num_items_in_batch: outputs.logits.sum()},
        {"kind": OwnLoss},
    ):
        found = made(**other)
        assert not (found.able or found.joins or found.retries), other


def row_of(*lengths):
    ids = torch.arange(sum(lengths))[None]
    return {"input_ids": ids, "labels": ids + 100, "seq_lengths": list(lengths)}


def test_rows_are_joined_and_split_by_documents():
    joined = join([row_of(2, 3), row_of(1)])
    assert joined["seq_lengths"] == [2, 3, 1]
    assert joined["input_ids"].tolist() == [[0, 1, 2, 3, 4, 0]]
    assert joined["labels"].tolist() == [[100, 101, 102, 103, 104, 100]]
    placed = [{**row_of(2, 3), "trained_at": torch.tensor([0, 2])}, {**row_of(4)}]
    placed[1]["trained_at"] = torch.tensor([1, 2])
    assert join(placed)["trained_at"].tolist() == [0, 2, 5 + 1, 5 + 2]
    assert all("trained_at" not in part for part in split(join(placed), 2))
    parts = split(joined, 2)
    assert [part["seq_lengths"] for part in parts] == [[2], [3, 1]]
    assert [part["labels"].tolist() for part in parts] == [[[100, 101]], [[102, 103, 104, 100]]]
    assert [part["seq_lengths"] for part in split(joined, 99)] == [[2], [3], [1]]
    assert split(joined, 1)[0]["seq_lengths"] == [2, 3, 1]
    padded = {"input_ids": torch.ones(2, 3), "attention_mask": torch.ones(2, 3)}
    assert not is_joined(padded) and join([padded, padded]) is None
    pictures = {**row_of(2), "pixel_values": torch.ones(3, 4)}
    assert join([pictures, pictures]) is None


@pytest.mark.parametrize("lengths", [(9, 1, 1), (1, 1, 9), (0, 4, 0, 4, 0), (5,)])
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_no_part_is_empty_and_none_loses_a_document(lengths, parts):
    found = split(row_of(*lengths), parts)
    assert [n for part in found for n in part["seq_lengths"]] == list(lengths)
    assert all(part["input_ids"].numel() for part in found) and len(found) <= parts
    together = torch.cat([part["input_ids"] for part in found], dim=1)
    assert torch.equal(together, row_of(*lengths)["input_ids"])


def test_a_failed_step_leaves_nothing_on_a_gpu(monkeypatch):
    """No GPU here: what torch would be told is written down."""
    told, model = [], torch.nn.Linear(2, 2)
    fakes = {"get_rng_state": lambda device: torch.ones(1), "empty_cache": lambda: None}
    for name in (*fakes, "set_rng_state", "reset_peak_memory_stats"):
        answer = fakes.get(name, lambda *args: None)

        def tell(*args, name=name, answer=answer):
            told.append(name)
            return answer(*args)

        monkeypatch.setattr(torch.cuda, name, tell)
    meter, args = TokenMeter(), SimpleNamespace(device=torch.device("cuda", 0))
    masters = SimpleNamespace(forget=lambda: told.append("forget"))
    graphs = SimpleNamespace(give_up=lambda why: told.append(why))
    before = _Before(
        SimpleNamespace(_meters={"train": meter}, _masters=masters, args=args, graphs=graphs)
    )
    drawn = torch.rand(3)
    meter.num_tokens, model.weight.grad = 7, torch.ones(2, 2)
    before.restore(model)
    ran_out = "the memory of the device ran out"  # graphs hold memory too
    usual = ["get_rng_state", "forget", ran_out, "set_rng_state", "empty_cache"]
    assert told == [*usual, "reset_peak_memory_stats"]
    assert torch.equal(torch.rand(3), drawn)
    assert meter.num_tokens == 0 and model.weight.grad is None
