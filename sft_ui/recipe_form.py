"""The recipe form: one component per setting, built from the settings table, and read back.

Labels, help texts, limits, choices and sections come from that table, never from here.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import groupby
from typing import Any

import gradio as gr

from sft_ui.alerts import attempt
from trainer_backend.errors import Problem
from trainer_backend.hardware import hardware
from trainer_backend.recipe import (
    SETTINGS,
    Recipe,
    is_relevant,
    is_template_text,
    label,
    parse_settings,
)
from trainer_backend.recipe.settings import Setting

FormField = gr.Textbox | gr.Dropdown | gr.Checkbox | gr.Number
Fields = dict[str, FormField]  # by name of the setting
WIDE = ("system_prompt", "lora_target_modules", "extra_arguments")
LINES = {"system_prompt": 2, "extra_arguments": 3}
DECIDING = ("adapter", "max_steps", "eval_fraction", "lr_scheduler_type", "optim")
CONDITIONAL = tuple(
    name
    for name in SETTINGS
    if not all(
        is_relevant(
            name, Recipe(adapter=a, max_steps=m, eval_fraction=e, lr_scheduler_type=s, optim=o)
        )
        for a in SETTINGS["adapter"].choices
        for m in (-1, 10)
        for e in (0.0, 0.1)
        for s in SETTINGS["lr_scheduler_type"].choices
        for o in SETTINGS["optim"].choices
    )
)


def build_fields(recipe: Recipe) -> Fields:
    """The form's components by field name: every recipe field except the model."""
    found: Fields = {}
    shown = (one for one in SETTINGS.values() if one.section)
    for section, settings in groupby(shown, key=lambda one: one.section):
        here = list(settings)
        looks = ["expert-section"] if all(one.expert for one in here) else None
        fold = gr.Accordion(
            section, open=not found, elem_id=section_id(section), elem_classes=looks
        )
        with fold, gr.Row():
            for one in here:
                found[one.name] = build_field(one, recipe)
    return found


def section_id(section: str) -> str:
    """The elem_id of a section of the form."""
    sections = list(dict.fromkeys(one.section for one in SETTINGS.values() if one.section))
    return f"form-section-{sections.index(section)}"


def build_field(setting: Setting, recipe: Recipe) -> FormField:
    """One component, of the kind that suits the setting's type."""
    name, value = setting.name, getattr(recipe, setting.name)
    common: dict[str, Any] = {
        "label": setting.label,
        "info": setting.help,
        "value": value,
        "visible": is_relevant(name, recipe, _devices()),
        "min_width": 240,
        "elem_id": f"field-{name}",
        "elem_classes": ["expert-setting"] * setting.expert + ["wide-setting"] * (name in WIDE),
    }
    if setting.choices:
        choices = choices_of(setting, value)
        return gr.Dropdown(choices, allow_custom_value=setting.or_template, **common)
    if isinstance(value, bool):
        return gr.Checkbox(**common)
    if setting.limits and not setting.may_be_auto:
        whole = setting.is_whole
        return gr.Number(**common, precision=0 if whole else None, step=1 if whole else 0.01)
    return gr.Textbox(**{**common, "value": str(value)}, lines=LINES.get(name, 1))


def choices_of(setting: Setting, value: object) -> list[tuple[str, str]]:
    """(words, value) of a dropdown, with the text of an own chat template as a choice."""
    choices = [(words, choice) for choice, words in setting.choices.items()]
    if setting.or_template and is_template_text(value):
        choices.append(("Your own template", str(value)))
    return choices


def field_update(name: str, value: object, **more: Any) -> Any:
    """The update that puts a value into a field of the form."""
    setting = SETTINGS[name]
    if setting.or_template:
        more["choices"] = choices_of(setting, value)
    return gr.update(value=value, **more)


def edits(fields: Iterable[FormField]) -> list[Any]:
    """The events of a user's edit. Text boxes use `change`: `input` misses pasted text."""
    return [f.change if isinstance(f, gr.Textbox) else f.input for f in fields]


def form_values(recipe: Recipe) -> dict[str, object]:
    """The values of the form for a recipe; settings that may be “auto” are text."""
    texts = (name for name, one in SETTINGS.items() if one.may_be_auto)
    return {**recipe.to_dict(), **{name: str(getattr(recipe, name)) for name in texts}}


def read_form(values: Mapping[str, Any]) -> tuple[Recipe | None, list[Problem]]:
    """(recipe, []) from the form, or (None, one problem per invalid field)."""
    settings: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in values.items():
        setting, error = attempt(parse_settings, {name: _cleaned(name, value)}, "Model tab")
        if error:
            shown = label(name) if name in SETTINGS else name
            what = error.what.replace(f"“{name}”", f"“{shown}”")
            problems.append(Problem("error", what, error.where, error.fix))
        else:
            settings |= setting or {}
    return (None if problems else Recipe.from_dict(settings)), problems


def _cleaned(name: str, value: object) -> object:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) and name != "system_prompt" else value


def relevance(recipe: Recipe) -> dict[str, bool]:
    """Which of the CONDITIONAL fields apply to this recipe."""
    return {name: is_relevant(name, recipe, _devices()) for name in CONDITIONAL}


@lru_cache(maxsize=1)
def _devices() -> int:
    return hardware().num_devices
