"""Converts a run's settings and rows into the trainer's arguments and datasets."""

from typing import Any

import torch.distributed as dist
from datasets import Dataset

from trainer_backend.errors import UserError
from trainer_backend.evaluation.engine.prepared import reading_arguments
from trainer_backend.recipe import Recipe, label
from trainer_backend.recipe.extra_arguments import parse_extra_arguments
from trainer_backend.recipe.resolve import QUANTIZED
from trainer_backend.runs.files import CHECKPOINTS, ROWS
from trainer_backend.tokens.training_rows import training_dataset
from trainer_backend.training.distributed import first_goes_ahead
from trainer_backend.training.precision import accelerator, fp16_instead
from trainer_backend.training.sft_config import SFTConfig
from trainer_backend.training.steps.merging import pays_on
from trainer_backend.worker.facts import RunFacts

NEVER = 2**31 - 1  # steps: evaluate and save only at the end of the run
SAME_NAMES = (
    *("num_train_epochs", "max_steps", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "optim", "lr_scheduler_type", "weight_decay"),
    *("max_grad_norm", "gradient_checkpointing", "logging_steps", "report_to", "seed"),
    *("learning_rate", "loss_type", "label_smoothing_factor"),
    *("adam_beta1", "adam_beta2", "activation_offloading"),
)


def shards_model(recipe: Recipe) -> bool:
    """Whether each process of this run holds only a shard of the model (FSDP)."""
    return recipe.distributed == "fsdp" and dist.is_initialized()


def training_rows(facts: RunFacts) -> tuple[Dataset, Dataset]:
    """The training and the held-out rows, with the trainer's columns.

    Raises UserError if no row is left to train on.
    """
    if not len(facts.train_at):
        raise UserError(
            "No row is left to train on.",
            facts.dataset.name,
            f"Lower “{label('eval_fraction')}” or add rows.",
        )
    folder = facts.run.dir / ROWS
    rows = first_goes_ahead(
        lambda: training_dataset(facts.dataset, facts.recipe.system_prompt, folder)
    )
    return rows.select(facts.train_at.tolist()), rows.select(facts.held_out_at.tolist())


def training_arguments(facts: RunFacts, has_eval: bool, has_images: bool = False) -> SFTConfig:
    """The recipe as arguments of the trainer, plus those that the app sets.

    The recipe's further arguments come last. Raises UserError for one that the trainer refuses.
    """
    recipe = facts.recipe
    given = {**_given(facts, has_eval, has_images), **_saving(facts)}
    extra = parse_extra_arguments(recipe.extra_arguments)
    try:
        return SFTConfig(**{**given, **extra})
    except (ValueError, TypeError, ImportError) as error:
        if not extra:
            raise
        where = f"{label('extra_arguments')}: {', '.join(extra)}"
        what = "The trainer does not take the further arguments."
        raise UserError(what, where, f"Correct them: {str(error).strip()[:300]}") from error


def _given(facts: RunFacts, has_eval: bool, has_images: bool) -> dict[str, Any]:
    """What the settings of the recipe come to."""
    recipe, is_chat = facts.recipe, facts.dataset.format != "text"
    return {
        **{name: getattr(recipe, name) for name in SAME_NAMES},
        **reading_arguments(recipe, is_chat, facts.started_on, facts.is_older),
        "loraplus_lr_ratio": 0.0 if recipe.adapter == "full" else recipe.loraplus_lr_ratio,
        "neftune_noise_alpha": recipe.neftune_noise_alpha or None,
        "packing": recipe.packing and not has_images,  # rows with images stay rows
        "warmup_steps": _cadence(recipe.warmup_steps),
        "eval_strategy": "steps" if has_eval else "no",
        "eval_steps": _cadence(recipe.eval_steps) or NEVER,
        "per_device_eval_batch_size": recipe.per_device_train_batch_size,
        "bf16": recipe.precision == "bf16",
        "fp16": recipe.precision == "fp16" or _quantised_in_fp16(recipe),
        "fsdp": shards_model(recipe),
        "merge_batches": pays_on(accelerator()) or None,  # on several GPUs too: it is tried
    }


def _quantised_in_fp16(recipe: Recipe) -> bool:
    """Whether 4- or 8-bit weights are multiplied in fp16, whose gradients need scaling."""
    return recipe.precision in QUANTIZED and fp16_instead(accelerator())


def _saving(facts: RunFacts) -> dict[str, Any]:
    """Where and when a run saves and logs."""
    return {
        "output_dir": str(facts.run.dir / CHECKPOINTS),
        "run_name": facts.run.name(),
        "save_strategy": "steps",
        "save_steps": _cadence(facts.recipe.save_steps) or NEVER,
        "save_total_limit": None,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
    }


def _cadence(value: float) -> float | int:
    """Below 1 a fraction of the run; else a whole number of steps, as an int for transformers."""
    return int(value) if value >= 1 else value
