"""The form of a recipe: one component a field, its label, and reading it back.

Fields, limits and help sentences are the recipe's; where the form stands is in model_tab.py.
"""

from dataclasses import fields
from functools import lru_cache

import gradio as gr

from trainer_backend.errors import Problem
from trainer_backend.hardware import hardware
from trainer_backend.recipe import (
    CHOICES,
    HELP,
    LIMITS,
    MAY_BE_AUTO,
    Recipe,
    is_relevant,
    parse_settings,
)

from .alerts import attempt

LABELS = {
    "base_model": "Model",
    "adapter": "Method",
    "precision": "Precision",
    "lora_r": "Size of the add-on (rank)",
    "lora_alpha": "Strength of the add-on (alpha)",
    "lora_dropout": "Dropout in the add-on",
    "lora_target_modules": "Layers that get the add-on",
    "learning_rate": "Learning rate",
    "num_train_epochs": "Passes over the data (epochs)",
    "max_steps": "Stop after steps",
    "per_device_train_batch_size": "Batch size",
    "gradient_accumulation_steps": "Batches per correction",
    "optim": "Optimizer",
    "lr_scheduler_type": "Course of the learning rate",
    "warmup_steps": "Gentle start (warm-up)",
    "weight_decay": "Weight decay",
    "max_grad_norm": "Largest correction (gradient clipping)",
    "gradient_checkpointing": "Save memory by computing twice",
    "max_length": "Longest example, in tokens",
    "packing": "Join short examples (packing)",
    "assistant_only_loss": "Learn from the answers only",
    "system_prompt": "System prompt",
    "eval_fraction": "Held-out share",
    "eval_steps": "Measure every",
    "save_steps": "Save every",
    "logging_steps": "Steps between chart points",
    "report_to": "Also report to",
    "seed": "Seed",
    "answer_check_rows": "Answers to check afterwards",
    "early_stopping_patience": "Stop early after measurements without progress",
    "load_best_at_end": "End with the best checkpoint",
    "on_out_of_memory": "When memory runs out",
    "num_processes": "Training processes",
    "distributed": "How devices share the work",
}

SECTIONS = (
    (
        "The settings that matter most",
        (
            *("adapter", "learning_rate", "num_train_epochs", "max_steps"),
            *("per_device_train_batch_size", "gradient_accumulation_steps", "max_length"),
        ),
    ),
    (
        "Memory and add-on",
        (
            *("precision", "gradient_checkpointing", "lora_r", "lora_alpha", "lora_dropout"),
            "lora_target_modules",
        ),
    ),
    (
        "What the model reads and learns",
        ("assistant_only_loss", "packing", "system_prompt"),
    ),
    (
        "How it learns",
        ("optim", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm", "seed"),
    ),
    (
        "Measuring, saving, reporting",
        (
            *("eval_fraction", "eval_steps", "answer_check_rows", "save_steps", "logging_steps"),
            *("report_to", "early_stopping_patience", "load_best_at_end"),
        ),
    ),
    (
        "This machine",
        ("on_out_of_memory", "num_processes", "distributed"),
    ),
)

CHOICE_WORDS = {
    "lora": "LoRA (small add-on)",
    "qlora": "QLoRA (add-on, shrunken model)",
    "full": "Full (every weight)",
    "auto": "Automatic",
    "fp32": "fp32 (exact, most memory)",
    "bf16": "bf16",
    "fp16": "fp16",
    "int8": "int8 (8 bits)",
    "int4": "int4 (4 bits)",
    "adamw_torch": "AdamW",
    "adamw_bnb_8bit": "8-bit AdamW",
    "paged_adamw_8bit": "8-bit AdamW, paged",
    "adafactor": "Adafactor",
    "cosine": "Falls in a curve (cosine)",
    "linear": "Falls in a line (linear)",
    "constant": "Stays the same",
    "constant_with_warmup": "Gentle start, then the same",
    "none": "Nothing",
    "tensorboard": "TensorBoard",
    "wandb": "Weights & Biases",
    "trackio": "trackio",
    "stop": "Stop and say so",
    "halve_batch": "Go on with half the batch",
    "ddp": "A whole model each (DDP)",
    "fsdp": "A share of the model each (FSDP)",
}
WIDE = ("system_prompt", "lora_target_modules")
CONDITIONAL = tuple(
    field.name
    for field in fields(Recipe)
    if not all(
        is_relevant(
            field.name, Recipe(adapter=a, max_steps=m, eval_fraction=e, lr_scheduler_type=s)
        )
        for a in CHOICES["adapter"]
        for m in (-1, 10)
        for e in (0.0, 0.1)
        for s in CHOICES["lr_scheduler_type"]
    )
)


def build_fields(recipe: Recipe) -> dict[str, gr.components.Component]:
    """The form's components by field name: all of the recipe but the model."""
    found = {}
    for number, (title, names) in enumerate(SECTIONS):
        with gr.Accordion(title, open=number == 0), gr.Row():
            for name in names:
                found[name] = build_field(name, recipe)
    return found


def build_field(name: str, recipe: Recipe) -> gr.components.Component:
    """One component; its kind follows from the field's type."""
    value = getattr(recipe, name)
    common = {
        "label": LABELS[name],
        "info": HELP[name],
        "value": value,
        "visible": is_relevant(name, recipe, _devices()),
        "min_width": 520 if name in WIDE else 240,
        "elem_id": f"field-{name}",
    }
    if name in CHOICES:
        return gr.Dropdown([(CHOICE_WORDS[c], c) for c in CHOICES[name]], **common)
    if isinstance(value, bool):
        return gr.Checkbox(**common)
    if name in LIMITS and name not in MAY_BE_AUTO:
        is_whole = isinstance(getattr(Recipe(), name), int)
        return gr.Number(**common, precision=0 if is_whole else None, step=1 if is_whole else 0.01)
    return gr.Textbox(**{**common, "value": str(value)}, lines=2 if name == "system_prompt" else 1)


def edits(fields: dict[str, gr.components.Component]) -> list:
    """The events that say a user changed the form. A text box has no `input` for pasted text."""
    return [f.change if isinstance(f, gr.Textbox) else f.input for f in fields.values()]


def form_values(recipe: Recipe) -> dict[str, object]:
    """The recipe as the form shows it."""
    return {**recipe.to_dict(), **{name: str(getattr(recipe, name)) for name in MAY_BE_AUTO}}


def read_form(values: dict) -> tuple[Recipe | None, list[Problem]]:
    """The recipe the form describes, or None and every field that cannot be right."""
    settings, problems = {}, []
    for name, value in values.items():
        setting, error = attempt(parse_settings, {name: _cleaned(name, value)}, "Model tab")
        if error:
            what = error.what.replace(f"“{name}”", f"“{LABELS.get(name, name)}”")
            problems.append(Problem("error", what, error.where, error.fix))
        else:
            settings |= setting
    return (None if problems else Recipe.from_dict(settings)), problems


def _cleaned(name: str, value: object) -> object:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) and name != "system_prompt" else value


def relevance(recipe: Recipe) -> dict[str, bool]:
    """For the fields that come and go: whether each matters now."""
    return {name: is_relevant(name, recipe, _devices()) for name in CONDITIONAL}


@lru_cache(maxsize=1)
def _devices() -> int:
    return hardware().num_devices
