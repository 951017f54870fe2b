"""The recipe: every setting of a run, as plain frozen data, with its limits.

How it is trained is not here.

One name per setting everywhere: Recipe field = YAML key = form key = library argument.
"""

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import yaml

from .errors import UserError
from .home import write_atomic

STARTER_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class Recipe:
    """All settings of a run. Presets fill it, the form edits it, the run folder keeps it."""

    base_model: str = STARTER_MODEL
    adapter: str = "lora"
    precision: str = "auto"
    lora_r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    lora_target_modules: str = "all-linear"
    learning_rate: float | str = "auto"
    num_train_epochs: float = 3.0
    max_steps: int = -1
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    optim: str = "adamw_torch"
    lr_scheduler_type: str = "cosine"
    warmup_steps: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    max_length: int = 1024
    packing: bool = False
    assistant_only_loss: bool = True
    system_prompt: str = ""
    eval_fraction: float = 0.05
    eval_steps: float = 0.1
    save_steps: float = 0.2
    logging_steps: int = 1
    report_to: str = "none"
    seed: int = 42
    answer_check_rows: int = 0

    @classmethod
    def from_dict(cls, values: dict, where: str = "recipe") -> "Recipe":
        """Build a recipe from plain data. Raises UserError on an unknown field or a wrong type."""
        return replace(cls(), **parse_settings(values, where))

    def to_dict(self) -> dict:
        """Plain data, one key a field."""
        return asdict(self)


HELP = {
    "base_model": "The model to start from: a Hub id (owner/name) or a folder on this machine.",
    "adapter": (
        "LoRA trains a small add-on (fast, little memory). QLoRA also shrinks the base model. "
        "Full trains every weight."
    ),
    "precision": (
        "The number format of the base model. Automatic picks what this machine does well."
    ),
    "lora_r": "Size of the add-on. Higher learns more and takes more memory; 8 to 32 is usual.",
    "lora_alpha": "How strongly the add-on counts. Twice the size is a good start.",
    "lora_dropout": (
        "Share of the add-on switched off at random while training; a little helps tiny datasets."
    ),
    "lora_target_modules": (
        "Which layers get the add-on. “all-linear” is best; or layer names with commas."
    ),
    "learning_rate": (
        "How big each correction is. “auto” picks 2e-4 for LoRA and 2e-5 for full training."
    ),
    "num_train_epochs": "How many times the model sees all of your data.",
    "max_steps": "Stop after this many steps, whatever the epochs say. -1 means: go by epochs.",
    "per_device_train_batch_size": "Examples looked at together. Halve it when memory runs out.",
    "gradient_accumulation_steps": (
        "Batches added up before each correction: a larger batch without more memory."
    ),
    "optim": "AdamW is the standard. 8-bit AdamW and Adafactor save memory.",
    "lr_scheduler_type": "How the learning rate falls during the run.",
    "warmup_steps": "A gentle start: below 1 a share of the run, else a number of steps.",
    "weight_decay": "Pulls weights towards zero a little; guards against learning by heart.",
    "max_grad_norm": "Cuts off corrections that are too big. 1.0 is a safe value.",
    "gradient_checkpointing": (
        "Saves memory by computing some things twice (about a quarter slower)."
    ),
    "max_length": "Longest example in tokens (about ¾ of a word each). Longer ones are cut.",
    "packing": (
        "Join short examples into full rows. Faster when examples are much shorter than the "
        "longest."
    ),
    "assistant_only_loss": (
        "On: the model learns to write the answers. Off: it also learns to write the prompts."
    ),
    "system_prompt": "Put in front of every example that has no system message of its own.",
    "eval_fraction": "Share of the rows kept aside to measure progress honestly.",
    "eval_steps": (
        "How often to measure: below 1 a share of the run, else every so many steps; 0 only at "
        "the end."
    ),
    "save_steps": (
        "How often to save a checkpoint: below 1 a share of the run, else every so many steps; 0 "
        "only at the end."
    ),
    "logging_steps": "Steps between two points of the live chart.",
    "report_to": "Also send the curves to TensorBoard or Weights & Biases.",
    "seed": "The same seed gives the same shuffling and the same start.",
    "answer_check_rows": (
        "After training, answer this many held-out rows with the base and the tuned model and "
        "compare."
    ),
}

CHOICES = {
    "adapter": ("lora", "qlora", "full"),
    "precision": ("auto", "fp32", "bf16", "fp16", "int8", "int4"),
    "optim": ("adamw_torch", "adamw_bnb_8bit", "paged_adamw_8bit", "adafactor"),
    "lr_scheduler_type": ("cosine", "linear", "constant", "constant_with_warmup"),
    "report_to": ("none", "tensorboard", "wandb"),
}

LIMITS = {
    "lora_r": (1, 1024),
    "lora_alpha": (1, 4096),
    "lora_dropout": (0.0, 0.9),
    "learning_rate": (1e-8, 0.1),
    "num_train_epochs": (0.01, 1000),
    "max_steps": (-1, 10_000_000),
    "per_device_train_batch_size": (1, 1024),
    "gradient_accumulation_steps": (1, 1024),
    "warmup_steps": (0, 100_000),
    "weight_decay": (0.0, 1.0),
    "max_grad_norm": (0.0, 1000.0),
    "max_length": (8, 1_048_576),
    "eval_fraction": (0.0, 0.5),
    "eval_steps": (0, 10_000_000),
    "save_steps": (0, 10_000_000),
    "logging_steps": (1, 10_000),
    "seed": (0, 2**31 - 1),
    "answer_check_rows": (0, 1000),
}

TYPES = {f.name: f.type for f in fields(Recipe)}
LORA_FIELDS = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules")
MAX_TEXT = 20_000


def parse_settings(values: dict, where: str = "recipe") -> dict:
    """Check and convert some settings (a preset, a request, --set). Raises UserError."""
    if not isinstance(values, dict):
        raise UserError(
            "The recipe is not a list of settings.", where, "Write one “setting: value” a line."
        )
    unknown = [str(key) for key in values if key not in TYPES]
    if unknown:
        raise UserError(
            f"Unknown setting “{unknown[0][:60]}”.",
            where,
            "Use one of: " + ", ".join(TYPES) + ".",
        )
    return {name: _parse(name, value, where) for name, value in values.items()}


def _parse(name: str, value: object, where: str) -> object:
    kind = TYPES[name]
    if name == "learning_rate" and value == "auto":
        return value
    if kind is bool:
        return _parse_bool(name, value, where)
    if kind is str:
        return _parse_text(name, value, where)
    number = _parse_number(name, value, where)
    if kind is int:
        if number != int(number):
            raise _bad(name, value, where, "Use a whole number.")
        number = int(number)
    low, high = LIMITS[name]
    if not low <= number <= high or (name == "max_steps" and number == 0):
        raise _bad(name, value, where, f"Use a number from {low:g} to {high:g}.")
    return number


def _bad(name: str, value: object, where: str, fix: str) -> UserError:
    return UserError(f"“{name}” cannot be {str(value)[:60]!r}.", where, fix)


def _parse_bool(name: str, value: object, where: str) -> bool:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if str(value).strip().lower() in words:
        return words[str(value).strip().lower()]
    raise _bad(name, value, where, "Use true or false.")


def _parse_text(name: str, value: object, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or "\0" in value:
        raise _bad(name, value, where, "Use a short text.")
    if name in CHOICES and value not in CHOICES[name]:
        raise _bad(name, value, where, "Use one of: " + ", ".join(CHOICES[name]) + ".")
    if name in ("base_model", "lora_target_modules") and not value.strip():
        raise _bad(name, value, where, "It must not be empty.")
    return value if name == "system_prompt" else value.strip()


def _parse_number(name: str, value: object, where: str) -> float:
    extra = " or “auto”" if name == "learning_rate" else ""
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
    except (TypeError, ValueError):
        raise _bad(
            name, value, where, f"Use a number{extra}, for example {_example(name)}."
        ) from None
    if not math.isfinite(number):
        raise _bad(name, value, where, f"Use a number{extra}.")
    return number


def _example(name: str) -> str:
    return "0.0002" if name == "learning_rate" else f"{getattr(Recipe(), name):g}"


def load_recipe(path: Path) -> Recipe:
    """Read a recipe file (YAML, one setting a line). Raises UserError."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "The recipe file cannot be read.", str(path), f"Check the file: {error}."
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(
            "The recipe file is not valid YAML.",
            f"{path}{line}",
            "Write one “setting: value” a line.",
        ) from error
    return Recipe.from_dict(values, str(path))


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML, atomically."""
    write_atomic(path, yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True))


def is_relevant(field: str, recipe: Recipe) -> bool:
    """Whether a setting has any effect, given the others (the form hides those that do not)."""
    if field in LORA_FIELDS:
        return recipe.adapter != "full"
    if field == "num_train_epochs":
        return recipe.max_steps < 0
    if field in ("eval_steps", "answer_check_rows"):
        return recipe.eval_fraction > 0
    if field == "warmup_steps":
        return recipe.lr_scheduler_type != "constant"
    return True


def effective_batch_size(recipe: Recipe, num_devices: int = 1) -> int:
    """Examples per correction."""
    return recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps * num_devices


def total_steps(recipe: Recipe, num_rows: int, num_devices: int = 1) -> int:
    """Corrections the run makes on so many training rows (packing makes it fewer)."""
    if recipe.max_steps > 0:
        return recipe.max_steps
    batches = math.ceil(num_rows / (recipe.per_device_train_batch_size * num_devices))
    per_epoch = max(1, math.ceil(batches / recipe.gradient_accumulation_steps))
    return math.ceil(per_epoch * recipe.num_train_epochs)


def differences(recipe: Recipe, preset: Recipe) -> dict[str, tuple]:
    """Settings that differ: {field: (value in the preset, value now)}."""
    now, then = recipe.to_dict(), preset.to_dict()
    return {name: (then[name], now[name]) for name in now if now[name] != then[name]}
