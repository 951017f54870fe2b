"""The recipe: every setting of a run, as plain frozen data, with its limits.

What each setting means is in recipe_fields.py, how it is trained in train.py.

One name per setting everywhere: Recipe field = YAML key = form key = library argument.
"""

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import yaml

from .errors import UserError
from .home import write_atomic
from .recipe_fields import CHOICES, LIMITS
from .recipe_fields import HELP as HELP

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
    early_stopping_patience: int = 0
    load_best_at_end: bool = False
    on_out_of_memory: str = "stop"
    num_processes: int | str = "auto"
    distributed: str = "ddp"

    @classmethod
    def from_dict(cls, values: dict, where: str = "recipe") -> "Recipe":
        """Build a recipe from plain data. Raises UserError on an unknown field or a wrong type."""
        return replace(cls(), **parse_settings(values, where))

    def to_dict(self) -> dict:
        """Plain data, one key a field."""
        return asdict(self)


TYPES = {f.name: f.type for f in fields(Recipe)}
MAY_BE_AUTO = ("learning_rate", "num_processes")
LORA_FIELDS = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules")
NEED_HELD_OUT = ("eval_steps", "answer_check_rows", "early_stopping_patience", "load_best_at_end")
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
    if name in MAY_BE_AUTO and value == "auto":
        return value
    if kind is bool:
        return _parse_bool(name, value, where)
    if kind is str:
        return _parse_text(name, value, where)
    number = _parse_number(name, value, where)
    if kind in (int, int | str):
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
    if not isinstance(value, str) or len(value) > MAX_TEXT or not _is_text(value):
        raise _bad(name, value, where, "Use a short text.")
    if name in CHOICES and value not in CHOICES[name]:
        raise _bad(name, value, where, "Use one of: " + ", ".join(CHOICES[name]) + ".")
    if name in ("base_model", "lora_target_modules") and not value.strip():
        raise _bad(name, value, where, "It must not be empty.")
    return value if name == "system_prompt" else value.strip()


def _is_text(value: str) -> bool:
    """Whether it can be written into a file: no half of a letter, no zero byte."""
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _parse_number(name: str, value: object, where: str) -> float:
    extra = " or “auto”" if name in MAY_BE_AUTO else ""
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
    examples = {"learning_rate": "0.0002", "num_processes": "2"}
    return examples.get(name) or f"{getattr(Recipe(), name):g}"


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


def is_relevant(field: str, recipe: Recipe, num_devices: int = 1) -> bool:
    """Whether a setting has any effect, given the others (the form hides those that do not)."""
    if field in ("num_processes", "distributed"):
        return num_devices > 1
    if field in LORA_FIELDS:
        return recipe.adapter != "full"
    if field == "num_train_epochs":
        return recipe.max_steps < 0
    if field in NEED_HELD_OUT:
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
