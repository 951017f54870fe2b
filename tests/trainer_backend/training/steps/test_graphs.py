"""Steps replayed from static tensors: the losses, gradients and random numbers of usual steps.

No GPU here: the recorder does the recorded work anew, from the same tensors.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bookkept import ROWS, trainer
from peft import LoraConfig

from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.training.kernels.attention import FixedLayout, document_layout
from trainer_backend.training.kernels.attention import per_document_attention as attend
from trainer_backend.training.kernels.attention import per_document_mask as mask_of
from trainer_backend.training.loss import LossSpec, fused_linear_loss, use_kernel
from trainer_backend.training.steps import graphs
from trainer_backend.training.steps.filling import Row
from trainer_backend.training.steps.graphs import StepGraphs
from trainer_backend.training.steps.static_rows import StaticGradients, StaticRow, shape_of

LONGER = {"max_steps": 12, "fill_rows": True, "cuda_graphs": True, "learning_rate": 1e-3}


@dataclass
class Again:
    """Work that is done anew at each replay."""

    work: Any
    outputs: Any

    def replay(self) -> None:
        for held, made in zip(_flat(self.outputs), _flat(self.work()), strict=True):
            held.copy_(made)


def _flat(outputs) -> list[torch.Tensor]:
    return [outputs[0], *outputs[1]]


class Rerun:
    """Records by remembering the work. `seconds` are those of usual and replayed steps in turn."""

    def __init__(self, seconds=(2.0, 1.0), fault=None, spoil=0.0):
        self.seconds, self.fault, self.spoil = seconds, fault, spoil
        self.recorded = self.timings = self.replays = 0

    def record(self, work):
        self.recorded += 1
        if self.fault is not None:
            raise self.fault
        found = Again(work, work())
        replay = found.replay

        def counted():
            self.replays += 1
            replay()
            if self.spoil:
                found.outputs[0].mul_(1 + self.spoil)

        return SimpleNamespace(replay=counted, outputs=found.outputs)

    def timed(self, work):
        self.timings += 1
        return work(), self.seconds[(self.timings - 1) % 2]


def made(folder, model, tokenizer, recorder, **settings):
    run = trainer(folder, model, tokenizer, **{**LONGER, **settings})
    run.graphs = StepGraphs(run, recorder)
    return run


def course(run) -> list[dict[str, float]]:
    kept = ("loss", "grad_norm", "num_tokens", "entropy", "mean_token_accuracy")
    return [{k: row[k] for k in kept if k in row} for row in run.state.log_history[:-1]]


def said(run) -> list[str]:
    return [one for one in run.paths.sentences if "CUDA graphs" in one]


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("batches", [1, 2])
def test_replayed_steps_are_the_usual_ones(tmp_path, make_model, tokenizer, lora, batches):
    parts = {"gradient_accumulation_steps": batches, "merge_batches": False, "lora": lora}
    plain = made(tmp_path, make_model(), tokenizer, Rerun(), cuda_graphs=False, **parts)
    found = made(tmp_path, make_model(), tokenizer, recorder := Rerun(), **parts)
    for run in (plain, found):
        run.train()
    assert recorder.recorded >= 1 and recorder.replays > recorder.recorded
    for ours, theirs in zip(course(found), course(plain), strict=True):
        assert ours == pytest.approx(theirs, rel=2e-5)
    for ours, theirs in zip(found.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-4)
    assert said(plain) == [] and len(said(found)) == 1
    assert "met 3 times" in said(found)[0] and "1000.0 ms instead of 2000.0 ms" in said(found)[0]


def test_the_same_dropout_is_drawn_and_a_trial_leaves_no_trace(tmp_path, make_model, tokenizer):
    def run(recorder=None, **settings):
        args = {**LONGER, "per_device_train_batch_size": 4, "seed": 1, "bf16": False, **settings}
        quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
        found = SFTTrainer(
            make_model(),
            SFTConfig(str(tmp_path), logging_steps=1, **args, **quiet),
            train_dataset=ROWS,
            processing_class=tokenizer,
            peft_config=LoraConfig(r=2, lora_dropout=0.3, target_modules="all-linear"),
        )
        found.graphs = StepGraphs(found, recorder)
        found.train()
        return found

    plain = run(cuda_graphs=False)
    slow = run(recorder := Rerun(seconds=(1.0, 2.0)))  # tried, never used
    quick = run(Rerun())
    assert recorder.recorded and course(slow) == course(plain)
    for ours, theirs in zip(course(quick), course(plain), strict=True):
        assert ours == pytest.approx(theirs, rel=2e-5)


@pytest.mark.parametrize(
    ("recorder", "why"),
    [
        (Rerun(fault=RuntimeError("operation not permitted when stream is capturing\nat")), "capt"),
        (Rerun(fault=torch.OutOfMemoryError("CUDA out of memory.")), "memory of the device ran"),
        (Rerun(spoil=0.01), "a replayed step differs from the usual one"),
    ],
    ids=["fault", "memory", "other result"],
)
def test_any_doubt_leaves_the_usual_step_and_is_said_once(
    tmp_path, make_model, tokenizer, recorder, why
):
    plain = made(tmp_path, make_model(), tokenizer, Rerun(), cuda_graphs=False)
    found = made(tmp_path, make_model(), tokenizer, recorder)
    for run in (plain, found):
        run.train()
    assert course(found) == course(plain) and recorder.recorded == 1
    assert len(said(found)) == 1 and why in said(found)[0] and "as usual" in said(found)[0]


def test_graphs_that_gain_nothing_are_given_up(tmp_path, make_model, tokenizer, monkeypatch):
    monkeypatch.setattr(graphs, "IN_VAIN", 1)
    run = made(tmp_path, make_model(), tokenizer, recorder := Rerun(seconds=(1.0, 0.96)))
    run.train()
    assert (recorder.recorded, recorder.replays) == (1, 1)
    assert "a replay takes 960.0 ms, the usual step 1000.0 ms" in said(run)[0]


def test_the_graph_not_used_for_longest_is_dropped(tmp_path, make_model, tokenizer, monkeypatch):
    monkeypatch.setattr(graphs, "KEPT", 1)
    run = made(tmp_path, make_model(), tokenizer, recorder := Rerun(), max_steps=30)
    kept = []
    settle = run.graphs._settle
    monkeypatch.setattr(
        run.graphs,
        "_settle",
        lambda *a, **k: (settle(*a, **k), kept.append(len(run.graphs._graphs))),
    )
    run.train()
    assert recorder.recorded > 1 and set(kept) == {1}
    assert not run.graphs._graphs and not run.graphs.active  # nothing is held afterwards


REFUSED = {
    "no CUDA device": ({}, False),
    "not filled": ({"fill_rows": False}, True),
    "gradient checkpointing": ({"gradient_checkpointing": True}, True),
    "in tiles": ({"long_rows": "tiles"}, True),
    "main memory": ({"activation_offloading": True}, True),
    "plain sum": ({"padding_free": False, "fill_rows": True}, True),
    "handed its gradients": ({"bf16_working_copy": True, "bf16": True, "lora": False}, True),
}


@pytest.mark.parametrize(("settings", "elsewhere"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_recorded_is_said(
    tmp_path, make_model, tokenizer, request, settings, elsewhere
):
    recorder = Rerun() if elsewhere else None
    run = made(tmp_path, make_model(), tokenizer, recorder, **{**settings, "max_steps": 1})
    run.train()
    assert len(said(run)) == 1 and request.node.callspec.id in said(run)[0]


# Static tensors


def test_rows_of_one_shape_fill_the_same_tensors():
    shape = shape_of([5, 3, 8], trained=3)
    assert shape == (16, 4, 8, 4)  # an eighth of 16 tokens is 2: 3 are counted as 4
    assert shape_of([16], None) == (16, 1, 16, 15) and shape_of([9, 7], 0) == (16, 2, 16, 2)
    row = StaticRow(shape, torch.device("cpu"))
    held = [row.ids.data_ptr(), row.places.data_ptr(), row.borders.data_ptr()]
    for lengths, trained in (([5, 3, 8], [2, 9, 14]), ([4, 4, 2, 6], [7])):
        ids = torch.randint(9, (1, 16))
        labels = torch.full((1, 16), -100)
        labels[0, [at + 1 for at in trained]] = 3
        row.load(Row({"input_ids": ids, "position_ids": ids + 1}, labels, lengths), torch.tensor(9))
        assert row.ids.equal(ids) and row.positions.equal(ids + 1) and row.labels.equal(labels)
        assert row.places.tolist()[: len(trained)] == trained and row.items == 9
        assert len(set(row.places.tolist())) == 4  # distinct: gradients are added place by place
        assert row.layout.lengths == tuple(lengths) and row.borders[-1] == 16
    assert held == [row.ids.data_ptr(), row.places.data_ptr(), row.borders.data_ptr()]


def test_gradients_stay_in_their_buffers_and_older_ones_are_kept():
    weights = [torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))]
    static = StaticGradients(weights)
    static.attach()
    held = [one.grad for one in weights]
    for one in weights:
        one.grad += 1
    static.attach()  # a later part of the same step adds to it
    assert [one.grad.tolist() for one in weights] == [[1, 1], [1, 1, 1]]
    weights[0].grad, weights[1].grad = None, torch.full((3,), 7.0)  # of a part without a graph
    static.attach()
    assert [one.grad.tolist() for one in weights] == [[0, 0], [7, 7, 7]]
    assert all(one.grad is buffer for one, buffer in zip(weights, held, strict=True))


def by_torch(logits, targets, terms, *, writes, **_):
    """Stands for a kernel: the plain loss."""
    chances = torch.softmax(logits.float(), -1)
    own = chances.gather(1, targets[:, None])[:, 0]
    hits = (own >= chances.amax(-1)).float()
    terms.copy_(torch.stack((-own.log(), hits, -(chances * chances.log()).sum(-1))))
    if writes:
        logits.copy_(chances - torch.nn.functional.one_hot(targets, logits.shape[1]))


@pytest.mark.parametrize(
    ("kernel", "spec"),
    [
        (by_torch, LossSpec()),
        (None, LossSpec()),
        (None, LossSpec("dft")),
        (None, LossSpec(label_smoothing=0.1)),
    ],
)
def test_ignored_targets_count_for_nothing(kernel, spec):
    torch.manual_seed(0)
    hidden, weight = torch.randn(6, 4), torch.randn(11, 4)
    targets = torch.tensor([3, -100, 10, 0, -100, 7])
    kept = targets != -100

    def run(states, goals, **more):
        leaves = [states.clone().requires_grad_(), weight.clone().requires_grad_()]
        sums = fused_linear_loss(*leaves, None, goals, spec, **more)
        return [*sums, *torch.autograd.grad(sums.loss, leaves)]

    use_kernel(torch.device("cpu"), kernel)
    try:
        *ours, slope, by_weight = run(hidden, targets, ignores=True)
        *plain, expected, wanted = run(hidden[kept], targets[kept])
    finally:
        use_kernel(torch.device("cpu"), None)
    torch.testing.assert_close(ours, plain)
    assert ours[3] == 4 and not slope[~kept].any()
    torch.testing.assert_close(slope[kept], expected)
    torch.testing.assert_close(by_weight, wanted)


def test_a_fixed_layout_is_read_anew_and_never_from_a_copy():
    q, k, v = torch.randn(3, 1, 2, 8, 4)
    borders = torch.tensor([0, 3, 8, 8, 8], dtype=torch.int32)
    fixed = FixedLayout(borders, tokens=8, longest=8)
    for ends, lengths in (([0, 3, 8, 8, 8], [3, 5]), ([0, 1, 2, 7, 8], [1, 1, 5, 1])):
        borders.copy_(torch.tensor(ends))
        for window in (None, 2):
            found = []
            for layout in (fixed, lengths):
                with document_layout(layout):
                    mask = mask_of(1, 8, local_size=window)
                    found.append(attend(torch.nn.Identity(), q, k, v, mask)[0])
            assert torch.equal(*found)
    with document_layout(fixed):
        copied = mask_of(1, 8).clone()
    with pytest.raises(ValueError, match="copies the mask"):
        attend(torch.nn.Identity(), q, k, v, copied)
