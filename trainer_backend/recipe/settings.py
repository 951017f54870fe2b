"""What a setting of a recipe consists of (label, help, limits, choices) and how values are checked.

It knows no setting by name but one, and neither the recipe nor the form.
"""

import math
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, TypeVar

from trainer_backend.errors import UserError

T = TypeVar("T")
MAX_TEXT = 20_000
MAX_TEMPLATE = 100_000
MAX_WORDS = 60  # letters of a text that a sentence repeats
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
    or_template: bool  # a choice, or the text of a chat template

    @property
    def may_be_auto(self) -> bool:
        return self.kind in (int | str, float | str)

    @property
    def is_whole(self) -> bool:
        return self.kind in (int, int | str)

    def words(self, value: object) -> str:
        """A value in words for a sentence: “LoRA”, “on”, “0.1”, “1,024”, “no limit”."""
        if isinstance(value, bool):
            return "on" if value else "off"
        if isinstance(value, int | float):
            return _figure(value)
        text = str(value)
        if self.or_template and is_template_text(text):
            return "your own"
        if text in self.choices:
            return self.choices[text].split(" (")[0]
        return {"": "empty", "auto": "automatic"}.get(text, _shortened(text))


def _figure(value: float) -> str:
    """A number as people write it: no “3.0”, no “5e-05”; below 0 stands for no limit."""
    if value < 0:
        return "no limit"
    return f"{value:,.10f}".rstrip("0").rstrip(".")


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_WORDS else f"{line[:MAX_WORDS]}…"


def setting(default: T, label: str, help: str, **more: Any) -> T:
    """A dataclass field of a recipe; `more` is its section, limits, choices, example, expert
    and or_template."""
    empty: dict[str, Any] = {"section": "", "limits": None, "choices": {}, "example": ""}
    empty |= {"expert": True, "or_template": False}
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
        near = get_close_matches(unknown[0], settings, 3)
        fix = (
            f"Did you mean {' or '.join(near)}?" if near else f"Use one of: {', '.join(settings)}."
        )
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
    longest = MAX_TEMPLATE if setting.or_template else MAX_TEXT
    if not isinstance(value, str) or len(value) > longest or not _is_text(value):
        raise _bad(setting, value, where, "Use a short text.")
    if setting.or_template and is_template_text(value):
        return value
    if setting.choices and value not in setting.choices:
        raise _bad(setting, value, where, f"Use one of: {', '.join(setting.choices)}.")
    if not setting.default:  # free text, which may be empty
        return value
    if not value.strip():
        raise _bad(setting, value, where, "It must not be empty.")
    return value.strip()


def is_template_text(value: object) -> bool:
    """Whether a value is the text of a Jinja template and not the name of one."""
    return isinstance(value, str) and ("{{" in value or "{%" in value)


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
