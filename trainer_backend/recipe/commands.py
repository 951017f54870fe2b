"""A run that is about to start, as a command line and as Python: what Start does, to copy.

Both are text; nothing is imported for them that trains.
"""

import json
import math
import shlex
from dataclasses import dataclass
from typing import Any

from trainer_backend.hardware import Hardware
from trainer_backend.recipe.extra_arguments import parse_extra_arguments
from trainer_backend.recipe.labels import named
from trainer_backend.recipe.presets import differences, recipe_from
from trainer_backend.recipe.recipe import SETTINGS, Recipe
from trainer_backend.recipe.resolve import is_relevant, num_processes, resolve

FAST_PISSA = "pissa_niter_16"  # the paper's quick form (arXiv 2404.02948)
PROGRAM = "python -m trainer_backend"
# settings that SFTConfig takes by the same name
SAME_NAMES = (
    *("num_train_epochs", "max_steps", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "learning_rate", "lr_scheduler_type", "warmup_steps"),
    *("optim", "weight_decay", "max_grad_norm", "gradient_checkpointing", "max_length", "packing"),
    *("assistant_only_loss", "chat_template", "thinking", "control_tokens", "lost_content"),
    *("seed", "logging_steps", "report_to"),
)
# the same, written only where they are not the usual ones
RARE = (
    *("truncation_mode", "last_turn_only", "loss_type", "label_smoothing_factor"),
    *("neftune_noise_alpha", "loraplus_lr_ratio", "adam_beta1", "adam_beta2"),
    "activation_offloading",
)
# settings of what happens around the training, or that only a loaded model gives a meaning
LEFT_OUT = (
    *("answer_check_rows", "eval_metrics", "sample_rows", "early_stopping_patience"),
    *("load_best_at_end", "on_out_of_memory"),
    *("layers_to_transform", "modules_to_save"),
)
SCRIPT = """\
# Run it with SFT Studio's folder on PYTHONPATH, or after "pip install ." in that folder.
{comments}{imports}
from trainer_backend import SFTConfig, SFTTrainer
from trainer_backend.data.store import open_dataset
from trainer_backend.home import open_home
from trainer_backend.models.loaded.load import fetch_model, load_base, load_processing
from trainer_backend.tokens.training_rows import training_dataset

home = open_home()  # the folder of --home, SFT_STUDIO_HOME, or ./workspace
base = fetch_model(home, {base_model})
dataset = open_dataset(home, {dataset_id})  # {dataset_name}
train, held_out = dataset.split({eval_fraction}, {seed})
rows = training_dataset(dataset{system_prompt})
{processing}trainer = SFTTrainer(
    model=load_base(base, {precision}),
    args=SFTConfig(
        output_dir="output",
{settings}    ),
    train_dataset=rows.select(train),
    eval_dataset=rows.select(held_out) if held_out else None,
    processing_class=processing,
    peft_config={adapter},
)
trainer.train()
{last}trainer.save_model("output/final")
"""


@dataclass(frozen=True)
class Chosen:
    """What a run is made of: the recipe, the preset it began with, and the dataset."""

    recipe: Recipe
    preset: str
    dataset_id: str
    dataset_name: str
    is_text: bool = False  # plain text: nothing of it is an answer
    has_images: bool = False
    has_held_out: bool = True


def default_name(recipe: Recipe, dataset_name: str) -> str:
    """The name of a run that is given none."""
    return f"{recipe.base_model.rstrip('/').rpartition('/')[2]} on {dataset_name}"


def command_line(chosen: Chosen) -> str:
    """The command that starts the same run: the preset, and each setting that differs from it."""
    changed = differences(chosen.recipe, recipe_from(chosen.preset))
    words = [f"train {shlex.quote(chosen.preset)}", f"--data {shlex.quote(chosen.dataset_id)}"]
    words += [f"--set {shlex.quote(f'{name}={_text(now)}')}" for name, (_, now) in changed.items()]
    words.append(f"--name {shlex.quote(default_name(chosen.recipe, chosen.dataset_name))}")
    return f"{PROGRAM} " + " \\\n  ".join(words)


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def python_script(chosen: Chosen, machine: Hardware) -> str:
    """The same training in Python, as `machine` resolves it. Raises UserError as resolve() does."""
    recipe, _ = resolve(chosen.recipe, machine)
    imports = "from peft import LoraConfig\n" if recipe.adapter != "full" else ""
    return SCRIPT.format(
        comments=_comments(recipe, machine),
        imports=imports,
        base_model=_literal(recipe.base_model),
        dataset_id=_literal(chosen.dataset_id),
        dataset_name=" ".join(chosen.dataset_name.split()),
        eval_fraction=recipe.eval_fraction,
        seed=recipe.seed,
        system_prompt=f", {_literal(recipe.system_prompt)}" if recipe.system_prompt else "",
        processing=f"processing = load_processing(base, {_literal(recipe.chat_template)})\n",
        precision=_literal("fp32" if recipe.adapter == "full" else recipe.precision),
        settings=_settings(chosen, recipe),
        adapter=_adapter(recipe),
        last="trainer.evaluate()\n" if _evaluates(chosen) and not recipe.eval_steps else "",
    )


def _comments(recipe: Recipe, machine: Hardware) -> str:
    left_out = [name for name in LEFT_OUT if _is_set(recipe, name)]
    lines = [f"# Only in the app and on the command line: {named(left_out)}."] if left_out else []
    if (processes := num_processes(recipe, machine)) > 1:
        how = f"accelerate launch --multi_gpu --num_processes {processes} script.py"
        lines.append(f"# The app trains with {processes} processes: {how}")
    return "".join(f"{line}\n" for line in lines)


def _is_set(recipe: Recipe, name: str) -> bool:
    return getattr(recipe, name) != SETTINGS[name].default and is_relevant(name, recipe)


def _settings(chosen: Chosen, recipe: Recipe) -> str:
    """The arguments of SFTConfig, one a line, as a worker gives them."""
    values = {name: getattr(recipe, name) for name in SAME_NAMES if is_relevant(name, recipe)}
    values |= {name: getattr(recipe, name) for name in RARE if _is_set(recipe, name)}
    values["assistant_only_loss"] = recipe.assistant_only_loss and not chosen.is_text
    values["packing"] = recipe.packing and not chosen.has_images
    values["warmup_steps"] = _cadence(recipe.warmup_steps)
    values |= {"bf16": recipe.precision == "bf16", "fp16": recipe.precision == "fp16"}
    values |= {"eos_token": recipe.eos_token} if recipe.eos_token else {}
    values |= _cadences(chosen, recipe)
    if recipe.max_steps < 0:
        del values["max_steps"]
    values |= parse_extra_arguments(recipe.extra_arguments)
    return "".join(f"        {name}={_literal(value)},\n" for name, value in values.items())


def _cadences(chosen: Chosen, recipe: Recipe) -> dict[str, Any]:
    """When to evaluate and to save; 0 in a recipe means at the end alone."""
    values: dict[str, Any] = {"save_strategy": "steps" if recipe.save_steps else "no"}
    if recipe.save_steps:
        values["save_steps"] = _cadence(recipe.save_steps)
    if _evaluates(chosen):
        values["per_device_eval_batch_size"] = recipe.per_device_train_batch_size
    if _evaluates(chosen) and recipe.eval_steps:
        values |= {"eval_strategy": "steps", "eval_steps": _cadence(recipe.eval_steps)}
    return values


def _evaluates(chosen: Chosen) -> bool:
    return chosen.has_held_out and chosen.recipe.eval_fraction > 0


def _cadence(value: float) -> float | int:
    """Below 1 a share of the run, else whole steps, which transformers wants as an int."""
    return math.floor(value) if value >= 1 else value


def _adapter(recipe: Recipe) -> str:
    if recipe.adapter == "full":
        return "None"
    targets = recipe.lora_target_modules
    modules = targets if targets == "all-linear" else [t.strip() for t in targets.split(",")]
    values = {
        "r": recipe.lora_r,
        "lora_alpha": recipe.lora_alpha,
        "lora_dropout": recipe.lora_dropout,
        "target_modules": modules,
        "task_type": "CAUSAL_LM",
    }
    values |= {name: True for name in ("use_rslora", "use_dora") if getattr(recipe, name)}
    values |= {"init_lora_weights": FAST_PISSA} if recipe.init_lora_weights == "pissa" else {}
    lines = "".join(f"        {name}={_literal(value)},\n" for name, value in values.items())
    return f"LoraConfig(\n{lines}    )"


def _literal(value: object) -> str:
    """A value as Python source; JSON's escapes in texts are valid Python."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str | list) else repr(value)
