"""The work of a run in numbers: steps, tokens of a batch, evaluations, saves, answers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Counts of one run. Tokens are positions that the model reads, after cutting and packing."""

    rows: int  # training rows that are learned
    steps: int  # optimizer steps
    micro_batches: int  # of one optimizer step, on one device
    step_tokens: float  # mean tokens of one optimizer step, on all devices
    step_trained: float  # of these: learned
    row_tokens: float  # mean tokens of one row (attention grows with it)
    longest_row: int  # tokens
    longest_batch: int  # tokens of the largest micro-batch, on one device
    longest_trained: int  # of these: learned
    eval_runs: int
    eval_tokens: int  # of one evaluation
    eval_trained: int
    saves: int
    answer_rows: int  # of the answer check, each answered by base and tuned model
    answer_tokens: float  # mean tokens of an expected answer
    prompt_tokens: float
