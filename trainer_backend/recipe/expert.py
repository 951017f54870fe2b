"""Expert settings on a machine: combinations that cannot train, and settings without an effect.

No model is loaded: what a model itself does not have is found out elsewhere.
"""

from trainer_backend.errors import Problem, UserError
from trainer_backend.hardware import Hardware
from trainer_backend.recipe.adapter_parts import parse_layers
from trainer_backend.recipe.extra_arguments import parse_extra_arguments
from trainer_backend.recipe.labels import LORA_FIELDS, changed_to, label
from trainer_backend.recipe.metrics import parse_metrics
from trainer_backend.recipe.recipe import SETTINGS, Recipe

OF_ADAPTER = (*LORA_FIELDS, "loraplus_lr_ratio")
BETAS = ("adam_beta1", "adam_beta2")
BASICS = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules")  # presets set them


def expert_problems(recipe: Recipe, is_quantized: bool) -> list[Problem]:
    """What cannot be trained, each as an error; `is_quantized`: the base is in 4 or 8 bits."""
    found = _unreadable(recipe)
    if recipe.adapter != "full":
        found += _adapter_problems(recipe, is_quantized)
    if recipe.loss_type == "dft" and recipe.label_smoothing_factor:
        found.append(
            _refusal(
                "DFT already weights each token, and cannot be combined with label smoothing.",
                ("loss_type", "label_smoothing_factor"),
                f"Set {changed_to({'label_smoothing_factor': 0})}, or "
                f"{changed_to({'loss_type': 'nll'})}.",
            )
        )
    return found


def _refusal(what: str, names: tuple[str, ...], fix: str) -> Problem:
    return Problem("error", what, label(*names), fix)


def _unreadable(recipe: Recipe) -> list[Problem]:
    """Settings that are text and cannot be read."""
    found = []
    for read, text in (
        (parse_extra_arguments, recipe.extra_arguments),
        (parse_layers, recipe.layers_to_transform if recipe.adapter != "full" else ""),
        (parse_metrics, recipe.eval_metrics),
    ):
        try:
            read(text)
        except UserError as error:
            found.append(Problem("error", error.what, error.where, error.fix))
    return found


def _adapter_problems(recipe: Recipe, is_quantized: bool) -> list[Problem]:
    found, usual = [], changed_to({"init_lora_weights": "default"})
    pissa = recipe.init_lora_weights == "pissa"
    if pissa and is_quantized:
        what = "PiSSA splits the weights, and those of a quantized model cannot be split."
        fix = f"Set {usual}, or choose LoRA with another precision and an unquantized model."
        names = ("init_lora_weights", "adapter", "precision")
        found.append(_refusal(what, names, fix))
    if pissa and recipe.distributed == "fsdp":
        what = "PiSSA splits whole weights, and FSDP leaves each process only a share of them."
        fix = f"Set {usual}, or {changed_to({'distributed': 'ddp'})}."
        found.append(_refusal(what, ("init_lora_weights", "distributed"), fix))
    if recipe.use_dora and recipe.precision == "int8":
        what = "DoRA does not train on weights in 8 bits."
        fix = f"Set {changed_to({'use_dora': False})}, or {changed_to({'precision': 'int4'})}."
        found.append(_refusal(what, ("use_dora", "precision"), fix))
    if recipe.use_dora and recipe.distributed == "fsdp":
        what = "DoRA measures whole weights, and FSDP leaves each process only a share of them."
        fix = f"Set {changed_to({'use_dora': False})}, or {changed_to({'distributed': 'ddp'})}."
        found.append(_refusal(what, ("use_dora", "distributed"), fix))
    return found


def expert_notes(recipe: Recipe, machine: Hardware) -> list[str]:
    """A sentence for each expert setting that was changed and has no effect here."""
    notes = []
    if recipe.activation_offloading and machine.kind != "cuda":
        notes.append(f"“{label('activation_offloading')}” has no effect without an NVIDIA GPU.")
    if recipe.adapter == "full" and (idle := _changed(recipe, OF_ADAPTER)):
        notes.append(f"Full training has no adapter; without effect: {idle}.")
    if recipe.optim == "adafactor" and (idle := _changed(recipe, BETAS)):
        notes.append(f"Adafactor has no betas; without effect: {idle}.")
    if recipe.last_turn_only and not recipe.assistant_only_loss:
        notes.append(
            f"“{label('last_turn_only')}” is on: prompts are not learned, although "
            f"“{label('assistant_only_loss')}” is off."
        )
    return notes


def _changed(recipe: Recipe, names: tuple[str, ...]) -> str:
    """The labels of settings that differ from their defaults and are no basics of LoRA."""
    changed = [n for n in names if n not in BASICS and getattr(recipe, n) != SETTINGS[n].default]
    return ", ".join(f"“{label(name)}”" for name in changed)


def data_notes(recipe: Recipe, dataset_format: str) -> list[str]:
    """A sentence for each expert setting that has no effect on rows of this format."""
    if recipe.last_turn_only and dataset_format == "text":
        return [f"Plain text has no answers; without effect: “{label('last_turn_only')}”."]
    return []
