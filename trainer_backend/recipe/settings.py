"""What a setting of a recipe is: what is said of it, and how a value for it is checked.

The settings themselves are declared with the recipe.
"""

import math
from dataclasses import Field, dataclass, field, fields

from trainer_backend.errors import UserError

MAX_TEXT = 20_000
WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Setting:
    """One field of a recipe, for the form, for errors and for checking a value."""

    name: str
    kind: object  # the annotation: str, bool, int, float, or a number | str that may be “auto”
    default: object
    label: str
    help: str
    section: str  # of the form; "" stands outside of it
    limits: tuple[float, float] | None  # of a number, both included
    choices: dict[str, str]  # of a text: value to words, as “Short (explanation)”
    example: str  # of a number, for an error; "" gives the default

    @property
    def may_be_auto(self) -> bool:
        return self.kind in (int | str, float | str)

    @property
    def is_whole(self) -> bool:
        return self.kind in (int, int | str)

    def words(self, value: object) -> str:
        """A value as a sentence says it: “LoRA”, “on”, “0.1”."""
        if isinstance(value, bool):
            return "on" if value else "off"
        return self.choices[value].split(" (")[0] if value in self.choices else str(value)


def setting(default: object, label: str, help: str, **more) -> Field:
    """A field of a recipe with all there is to say of it: section, limits, choices, example."""
    empty = {"section": "", "limits": None, "choices": {}, "example": ""}
    return field(default=default, metadata={"label": label, "help": help, **empty, **more})


def settings_of(recipe: type) -> dict[str, Setting]:
    """The settings that a dataclass declares, by name; a section goes on to the next one named."""
    found, section = {}, ""
    for f in fields(recipe):
        section = f.metadata["section"] or section
        about = {**f.metadata, "section": section}
        found[f.name] = Setting(f.name, f.type, f.default, **about)
    return found


def checked(setting: Setting, value: object, where: str) -> object:
    """The value in the setting's type. Raises UserError when it cannot be meant."""
    if setting.may_be_auto and value == "auto":
        return value
    if setting.kind is bool:
        return _bool(setting, value, where)
    if setting.kind is str:
        return _text(setting, value, where)
    return _number(setting, value, where)


def _bad(setting: Setting, value: object, where: str, fix: str) -> UserError:
    return UserError(f"“{setting.name}” cannot be {str(value)[:60]!r}.", where, fix)


def _bool(setting: Setting, value: object, where: str) -> bool:
    found = value if isinstance(value, bool) else WORDS.get(str(value).strip().lower())
    if found is None:
        raise _bad(setting, value, where, "Use true or false.")
    return found


def _text(setting: Setting, value: object, where: str) -> str:
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
    """Whether it can be written into a file: no lone surrogate, no NUL."""
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _number(setting: Setting, value: object, where: str) -> float:
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
    low, high = setting.limits
    if not low <= number <= high or (setting.name == "max_steps" and number == 0):
        raise _bad(setting, value, where, f"Use a number from {low:g} to {high:g}.")
    return int(number) if setting.is_whole else number
