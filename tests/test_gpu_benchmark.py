"""What the measurement on a GPU counts and prints; its sides are run by hand."""

import pytest
import torch

from benchmarks.gpu import chosen, differences, table
from benchmarks.gpu_profile import by_step
from benchmarks.gpu_sides import counted, useful_operations

ONE_LAYER = {
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "vocab_size": 100,
}
RESULT = {
    "device": "Test card",
    "torch": "2.13.0",
    "ceiling_tflops": 800.0,
    "ms_step": 10.0,
    "tokens_step": 100.0,
    "trained_step": 80.0,
    "mfu": 0.5,
}


def test_only_what_the_task_needs_counts_as_useful():
    body, head = 8 * 4 * (2 * 2 + 2 * 1) + 3 * 8 * 16, 800  # q and o, k and v; the MLP
    assert useful_operations(ONE_LAYER, 10, 5, full=False) == 4 * (body * 10 + head * 5)
    assert useful_operations(ONE_LAYER, 10, 5, full=True) == 6 * (body * 10 + head * 5)


def test_neither_padding_nor_filling_documents_count():
    labels = torch.tensor([[-100, 5, 6, -100, -100], [-100, 7, -100, -100, -100]])
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])
    found = counted({"input_ids": labels, "labels": labels, "attention_mask": mask})
    assert [int(one) for one in found] == [5, 3, 10]
    joined = torch.tensor([[-100, 5, 6, -100, 7, -100, -100, -100]])
    found = counted({"input_ids": joined, "labels": joined, "seq_lengths": [3, 2, 3]})
    assert [int(one) for one in found] == [5, 3, 8]


def test_kernels_are_added_up_by_kind_and_overlap_counts_once():
    events = [
        {"cat": "kernel", "name": "nvjet_tst_128x256", "ts": 0, "dur": 3000},
        {"cat": "kernel", "name": "vectorized_elementwise_kernel", "ts": 2000, "dur": 2000},
        {"cat": "gpu_memcpy", "name": "Memcpy HtoD", "ts": 8000, "dur": 1000},
        {"cat": "cpu_op", "name": "aten::item", "ts": 0, "dur": 1},
        {"cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 1},
        {"cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 0, "dur": 1},
    ]
    found = by_step(events, steps=2)
    assert found["gpu_ms"] == 2.5 and found["kernels"] == 1.5 and found["ops"] == 1
    assert found["kinds"]["matrix products"] == [1.5, 0.5]
    assert found["kinds"]["elementwise"] == [1.0, 0.5]
    assert found["kinds"]["copies, casts"] == [0.5, 0.5]
    assert found["waits"] == {"aten::item": 0.5} and found["calls"] == {"cudaLaunchKernel": 0.5}


def test_sides_are_chosen_by_their_names_or_how_these_begin():
    assert set(chosen(["qlora-packed-ours"])) == {"qlora-packed-ours"}
    assert len(chosen(["full-packed", "lora-mixed-trl-best"])) == 8
    assert len(chosen([])) == 45
    with pytest.raises(SystemExit, match="no side 'nothing'"):
        chosen(["nothing"])


def test_the_table_sets_ours_beside_each_other_and_losses_are_compared():
    ours = {**RESULT, "title": "SFT Studio", "tokens_per_second": 300.0, "memory_gb": 2.0}
    theirs = {**RESULT, "title": "trl, defaults", "tokens_per_second": 100.0, "memory_gb": 4.0}
    ours["losses"], theirs["losses"] = [2.0, 1.0], [2.0, 1.02]
    results = {"lora-mixed-ours": ours, "lora-mixed-trl": theirs}
    shown = table(results)
    assert "### lora, mixed: Test card, torch 2.13.0" in shown
    assert (
        "| trl, defaults | 100 | 10.0 | 100 (80 trained) | 4.00 GB | 50.0% | 3.00x, 0.50x" in shown
    )
    apart, lines = differences(results)
    assert apart == pytest.approx(0.02 / 1.02) and "1.961%" in lines[0]
