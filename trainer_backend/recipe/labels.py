"""Settings in sentences: their labels, what they are changed to, and those of an adapter."""

from typing import Any

from trainer_backend.recipe.recipe import SETTINGS

# what an adapter consists of: as it began, also in a run that starts from it
LORA_FIELDS = (
    *("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "layers_to_transform"),
    *("modules_to_save", "init_lora_weights", "use_rslora", "use_dora"),
)


def label(*names: str) -> str:
    """The labels of settings in the form: “Base model”, “Precision and Method”."""
    *others, last = (SETTINGS[name].label for name in names)
    return f"{', '.join(others)} and {last}" if others else last


def named_fields(text: str) -> list[str]:
    """The settings whose labels stand in a text, longest labels first where one holds another."""
    found = []
    for name in sorted(SETTINGS, key=lambda name: -len(SETTINGS[name].label)):
        if SETTINGS[name].label in text:
            found.append(name)
            text = text.replace(SETTINGS[name].label, "")
    return [name for name in SETTINGS if name in found]


def named(names: list[str]) -> str:
    """Labels with field names: “Seed” (seed), “Packing” (packing)."""
    return ", ".join(f"“{label(name)}” ({name})" for name in names)


def changed_to(changes: dict[str, Any]) -> str:
    """Labels with new values: “Batch size” to 4 and “Method” to LoRA."""
    return " and ".join(f"“{label(n)}” to {SETTINGS[n].words(v)}" for n, v in changes.items())
