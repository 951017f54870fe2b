"""Resolves a recipe on a machine: decides “auto”, replaces or refuses what the machine cannot do.

Also which settings have an effect and how many optimizer steps they make. No model or data is
loaded here.
"""

import math
from dataclasses import replace
from importlib.util import find_spec

from trainer_backend.errors import Problem, UserError
from trainer_backend.hardware import Hardware
from trainer_backend.recipe.expert import BETAS, OF_ADAPTER, expert_notes, expert_problems
from trainer_backend.recipe.labels import changed_to, label
from trainer_backend.recipe.recipe import Recipe

LEARNING_RATES = {"lora": 2e-4, "qlora": 2e-4, "full": 2e-5}
QUANTIZED = ("int8", "int4")
LOGGERS = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}
NEED_HELD_OUT = (
    *("eval_steps", "answer_check_rows", "eval_metrics", "sample_rows"),
    *("early_stopping_patience", "load_best_at_end"),
)


def resolve(recipe: Recipe, machine: Hardware) -> tuple[Recipe, list[str]]:
    """The recipe without “auto” and unsupported settings, and a sentence for each change.

    Raises UserError for a combination that cannot be trained (full training of a 4-bit model).
    """
    refused = [p for p in check_recipe(recipe, machine) if p.severity == "error"]
    if refused:
        raise UserError(refused[0].what, refused[0].where, refused[0].fix)
    recipe, notes = _precision(recipe, machine)
    recipe, more = _optimizer(recipe, machine)
    if recipe.learning_rate == "auto":
        recipe = replace(recipe, learning_rate=LEARNING_RATES[recipe.adapter])
    notes += more + expert_notes(recipe, machine)
    return recipe, notes


def _precision(recipe: Recipe, machine: Hardware) -> tuple[Recipe, list[str]]:
    asked = recipe.precision
    if recipe.adapter == "qlora" and asked not in QUANTIZED:
        note = f"QLoRA stores the model in 4 bits: int4 instead of {asked}."
        return replace(recipe, precision="int4"), [note] if asked != "auto" else []
    if asked == "auto":
        best = best_precision(machine)
        return replace(recipe, precision=best), [_in_fp16(machine)] if best == "fp16" else []
    if asked == "fp16" and machine.kind != "cuda":
        return replace(recipe, precision="fp32"), [
            f"fp16 needs an NVIDIA GPU; this machine ({machine.label()}) trains in fp32."
        ]
    if asked == "bf16" and machine.kind == "cuda" and not machine.bf16:
        return replace(recipe, precision="fp16"), [_in_fp16(machine)]
    if asked == "bf16" and machine.kind == "cpu" and not machine.bf16:
        return replace(recipe, precision="fp32"), [
            "This CPU has no bf16 instructions; training in fp32, which is faster here."
        ]
    return recipe, []


def _in_fp16(machine: Hardware) -> str:
    return f"{machine.name} has no bf16; training in fp16 with a gradient scaler."


def best_precision(machine: Hardware) -> str:
    """The number format that this machine trains fastest in, judged by its CPU flags or GPU."""
    if machine.kind == "mps":
        return "fp32"
    return "bf16" if machine.bf16 else "fp16" if machine.kind == "cuda" else "fp32"


def _optimizer(recipe: Recipe, machine: Hardware) -> tuple[Recipe, list[str]]:
    if recipe.optim == "paged_adamw_8bit" and machine.kind == "cpu":
        return replace(recipe, optim="adamw_bnb_8bit"), [
            "Paging needs an NVIDIA GPU; using 8-bit AdamW without it."
        ]
    if recipe.optim.endswith("8bit") and machine.kind == "mps":
        return replace(recipe, optim="adamw_torch"), [
            "8-bit AdamW does not run on Apple GPUs; using AdamW."
        ]
    return recipe, []


def num_processes(recipe: Recipe, machine: Hardware) -> int:
    """Training processes of a run on this machine; “auto” is one per GPU."""
    if not isinstance(recipe.num_processes, str):
        return recipe.num_processes
    return machine.num_devices if machine.kind == "cuda" else 1


def check_recipe(recipe: Recipe, machine: Hardware) -> list[Problem]:
    """What this machine cannot train (errors) and what it will change (warnings)."""
    problems = []
    if recipe.adapter == "full" and recipe.precision in QUANTIZED:
        what = f"Full training cannot change {recipe.precision} weights."
        fix = "Choose LoRA or QLoRA, or another precision."
        problems.append(Problem("error", what, label("precision", "adapter"), fix))
    if recipe.adapter == "full" and is_prequantized(recipe.base_model):
        what = "Full training cannot change a model stored in 4 bits."
        fix = "Choose QLoRA, or the model's full version."
        problems.append(Problem("error", what, label("base_model", "adapter"), fix))
    problems += _sharding_problems(recipe) + expert_problems(recipe, _is_quantized(recipe))
    wanted = num_processes(recipe, machine)
    room, kind = machine.num_devices, "devices"
    if machine.kind == "cpu":
        room, kind = max(2, machine.cores), "processor cores"
    if wanted > room:
        fix = f"Use {room} or fewer, or “auto”."
        what = f"{wanted} training processes need {wanted} {kind}."
        problems.append(Problem("error", what, f"{label('num_processes')}; {machine.label()}", fix))
    package = LOGGERS.get(recipe.report_to)
    if package and find_spec(package) is None:
        fix = f"Run “pip install {package}”, or set {changed_to({'report_to': 'none'})}."
        what = f"{package} is not installed."
        problems.append(Problem("error", what, label("report_to"), fix))
    if not problems:
        notes = _precision(recipe, machine)[1] + _optimizer(recipe, machine)[1]
        notes += expert_notes(recipe, machine)
        if recipe.distributed == "fsdp" and wanted == 1:
            notes.append("One training process holds the whole model: FSDP needs two or more.")
        problems = [Problem("warning", n, "This machine", "No action needed.") for n in notes]
    return problems


def _sharding_problems(recipe: Recipe) -> list[Problem]:
    """What FSDP does not support; both cases would fail at the first step.

    accelerate does not shard 4-bit weights, so nothing would be gained; 8-bit AdamW and Adafactor
    read a tensor's memory or sizes themselves and do not know sharded tensors.
    """
    if recipe.distributed != "fsdp":
        return []
    problems, whole = [], changed_to({"distributed": "ddp"})
    if _is_quantized(recipe):
        what, where = "FSDP cannot shard a model stored in 4 or 8 bits.", ("precision", "adapter")
        fix = (
            f"Set {whole} (each device then holds the small model), or choose LoRA with "
            "another precision and a base model that is not stored in 4 bits."
        )
        problems.append(Problem("error", what, label("distributed", *where), fix))
    if recipe.optim != "adamw_torch":
        what = f"The optimizer {recipe.optim} does not work with a sharded model (FSDP)."
        fix = f"Set {changed_to({'optim': 'adamw_torch'})} (its memory is sharded too), or {whole}."
        problems.append(Problem("error", what, label("distributed", "optim"), fix))
    return problems


def is_prequantized(base_model: str) -> bool:
    """Whether the model id means that the weights are stored in 4 bits."""
    return "bnb-4bit" in base_model.lower()


def _is_quantized(recipe: Recipe) -> bool:
    """Whether the base model is trained in 4 or 8 bits, as far as the recipe says."""
    stored = recipe.adapter == "qlora" or recipe.precision in QUANTIZED
    return stored or is_prequantized(recipe.base_model)


def is_relevant(field: str, recipe: Recipe, num_devices: int = 1) -> bool:
    """Whether a setting has an effect, given the others; the form hides those without."""
    if field in ("num_processes", "distributed"):
        return num_devices > 1
    if field in OF_ADAPTER:
        return recipe.adapter != "full"
    if field in BETAS:
        return recipe.optim != "adafactor"
    if field == "num_train_epochs":
        return recipe.max_steps < 0
    if field in NEED_HELD_OUT:
        return recipe.eval_fraction > 0
    if field == "warmup_steps":
        return recipe.lr_scheduler_type != "constant"
    return True


def effective_batch_size(recipe: Recipe, num_devices: int = 1) -> int:
    """Examples per optimizer step."""
    return recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps * num_devices


def total_steps(recipe: Recipe, num_rows: int, num_devices: int = 1) -> int:
    """Optimizer steps of a run on `num_rows` training rows, without packing (it takes fewer)."""
    if recipe.max_steps > 0:
        return recipe.max_steps
    batches = math.ceil(num_rows / (recipe.per_device_train_batch_size * num_devices))
    per_epoch = max(1, math.ceil(batches / recipe.gradient_accumulation_steps))
    return math.ceil(per_epoch * recipe.num_train_epochs)
