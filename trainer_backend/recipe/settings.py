"""What a setting of a recipe consists of (label, help, limits, choices) and how values are checked.

It knows no setting by name but one, and neither the recipe nor the form.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from trainer_backend.errors import UserError

T = TypeVar("T")
MAX_TEXT = 20_000
WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Setting:
    """One field of a recipe, for the form, for errors and for checking a value."""

    name: str
    kind: Any  # the annotation: str, bool, int, float, or a number | str that may be “auto”
    default: Any
    label: str
    help: str
    section: str  # of the form; "" stands outside of it
    limits: tuple[float, float] | None  # of a number, both included
    choices: dict[str, str]  # of a text: {value: “Short (explanation)”}
    example: str  # a number for the error text; "" stands for the default
    expert: bool  # shown in the expert view of the form only

    @property
    def may_be_auto(self) -> bool:
        return self.kind in (int | str, float | str)

    @property
    def is_whole(self) -> bool:
        return self.kind in (int, int | str)

    def words(self, value: object) -> str:
        """A value in words for a sentence: “LoRA”, “on”, “0.1”."""
        if isinstance(value, bool):
            return "on" if value else "off"
        text = str(value)
        return self.choices[text].split(" (")[0] if text in self.choices else text


def setting(default: T, label: str, help: str, **more: Any) -> T:
    """A dataclass field of a recipe; `more` is its section, limits, choices, example and expert."""
    empty: dict[str, Any] = {"section": "", "limits": None, "choices": {}, "example": ""}
    empty["expert"] = True
    return field(default=default, metadata={"label": label, "help": help, **empty, **more})


def settings_of(recipe: type[Any]) -> dict[str, Setting]:
    """The settings that a dataclass declares, by name; a section lasts until the next one."""
    found, section = {}, ""
    for f in fields(recipe):
        section = f.metadata["section"] or section
        about = {**f.metadata, "section": section}
        found[f.name] = Setting(f.name, f.type, f.default, **about)
    return found


def checked(setting: Setting, value: Any, where: str) -> bool | str | float:
    """The value converted to the setting's type. Raises UserError when it is not allowed."""
    if setting.may_be_auto and value == "auto":
        return "auto"
    if setting.kind is bool:
        return _bool(setting, value, where)
    if setting.kind is str:
        return _text(setting, value, where)
    return _number(setting, value, where)


def checked_settings(
    settings: dict[str, Setting], values: dict[str, Any], where: str
) -> dict[str, Any]:
    """The values of some settings, each converted to its type.

    Raises UserError for an unknown name or a value that is not allowed.
    """
    if not isinstance(values, dict):
        raise UserError(
            "The recipe is not a list of settings.", where, "Write one “setting: value” a line."
        )
    unknown = [str(key) for key in values if key not in settings]
    if unknown:
        fix = f"Use one of: {', '.join(settings)}."
        raise UserError(f"Unknown setting “{unknown[0][:60]}”.", where, fix)
    return {name: checked(settings[name], value, where) for name, value in values.items()}


def _bad(setting: Setting, value: Any, where: str, fix: str) -> UserError:
    return UserError(f"“{setting.name}” cannot be {str(value)[:60]!r}.", where, fix)


def _bool(setting: Setting, value: Any, where: str) -> bool:
    found = value if isinstance(value, bool) else WORDS.get(str(value).strip().lower())
    if found is None:
        raise _bad(setting, value, where, "Use true or false.")
    return found


def _text(setting: Setting, value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not _is_text(value):
        raise _bad(setting, value, where, "Use a short text.")
    if setting.choices and value not in setting.choices:
        raise _bad(setting, value, where, f"Use one of: {', '.join(setting.choices)}.")
    if not setting.default:  # free text, which may be empty
        return value
    if not value.strip():
        raise _bad(setting, value, where, "It must not be empty.")
    return value.strip()


def _is_text(value: str) -> bool:
    """Whether it can be written to a file: no lone surrogate, no NUL."""
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _number(setting: Setting, value: Any, where: str) -> float:
    extra = " or “auto”" if setting.may_be_auto else ""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        example = setting.example or f"{setting.default:g}"
        fix = f"Use a number{extra}, for example {example}."
        raise _bad(setting, value, where, fix)
    if setting.is_whole and number != int(number):
        raise _bad(setting, value, where, "Use a whole number.")
    assert setting.limits is not None, f"{setting.name} is a number without limits"
    low, high = setting.limits
    if not low <= number <= high or (setting.name == "max_steps" and number == 0):
        raise _bad(setting, value, where, f"Use a number from {low:g} to {high:g}.")
    return int(number) if setting.is_whole else number
