"""Which values of which settings are tried: reading them, checking them, their product.

Nothing is created here.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer_backend.errors import UserError
from trainer_backend.recipe import SETTINGS, Recipe, is_relevant, label, named

MOST_RUNS = 24
OTHER_ROWS = ("seed", "eval_fraction")  # these runs hold out different rows
# these make a loss count other tokens, or count them differently
OTHER_LOSS = (
    *("base_model", "chat_template", "system_prompt", "max_length", "truncation_mode", "thinking"),
    *("assistant_only_loss", "last_turn_only", "eos_token", "control_tokens", "lost_content"),
)

Tries = dict[str, list[Any]]


@dataclass(frozen=True)
class Combination:
    """One run of a sweep: the values that are tried in it, and its whole recipe."""

    values: dict[str, Any]
    recipe: Recipe

    def words(self) -> str:
        """“Learning rate 0.0002, LoRA rank 8”."""
        return ", ".join(f"{label(name)} {words_of(name, v)}" for name, v in self.values.items())


def words_of(name: str, value: Any) -> str:
    """A value of a setting as a person reads it."""
    return SETTINGS[name].words(value)


def parse_tries(texts: Sequence[str]) -> dict[str, list[str]]:
    """The texts of --try: {field: values}. Raises UserError.

    Values stand between commas; if one holds a comma itself, between “|”.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        name = name.strip()
        if not equals:
            raise UserError(
                f"“{text[:60]}” names no values.", "--try", "Write --try learning_rate=1e-4,2e-4."
            )
        if name in found:
            raise UserError(
                f"“{name}” is tried twice.", "--try", "Write all its values behind one --try."
            )
        found[name] = [one.strip() for one in rest.split("|" if "|" in rest else ",")]
    return found


def check_tries(recipe: Recipe, tries: Mapping[str, Sequence[Any]], where: str = "--try") -> Tries:
    """The values converted to their settings' types.

    Raises UserError for no setting or an unknown one, a value that is not allowed, a single value,
    the same value twice, or a setting that has no effect in this recipe.
    """
    if not tries:
        raise UserError(
            "No setting was chosen to try values of.", where, "Choose a setting and two values."
        )
    found = {name: _checked(recipe, name, list(values), where) for name, values in tries.items()}
    for name in found:
        product = itertools.product(*found.values())
        recipes = (_with(recipe, dict(zip(found, values, strict=True))) for values in product)
        if not any(is_relevant(name, one) for one in recipes):
            raise UserError(
                f"{named([name])} has no effect with these settings.", where, "Try another one."
            )
    return found


def combinations(recipe: Recipe, tries: Tries) -> tuple[list[Combination], int]:
    """The recipe with each combination of the values, and how many were left out as the same run.

    Where a setting has no effect (the rank of an adapter, in a run that trains every weight) its
    values make one run. Raises UserError for more than 24 runs.
    """
    found: dict[str, Combination] = {}
    total = 0
    for values in itertools.product(*tries.values()):
        chosen = dict(zip(tries, values, strict=True))
        changed = _with(recipe, chosen)
        kept = {name: value for name, value in chosen.items() if is_relevant(name, changed)}
        found.setdefault(repr(kept), Combination(kept, _with(recipe, kept)))
        total += 1
    if len(found) > MOST_RUNS:
        sizes = " × ".join(str(len(values)) for values in tries.values())
        raise UserError(
            f"{sizes} values are {len(found)} runs; a sweep has at most {MOST_RUNS}.",
            ", ".join(tries),
            "Try fewer values, or fewer settings at once.",
        )
    return list(found.values()), total - len(found)


def not_comparable(names: Sequence[str]) -> list[str]:
    """Those of the tried settings that make evaluation losses mean different things."""
    return [name for name in names if name in (*OTHER_LOSS, *OTHER_ROWS)]


def _checked(recipe: Recipe, name: str, values: list[Any], where: str) -> list[Any]:
    found = [getattr(_with(recipe, {name: value}, where), name) for value in values]
    if len(found) < 2:
        raise UserError(
            f"{named([name])} has one value only.", where, "Give two values or more to compare."
        )
    if len(set(found)) < len(found):
        twice = next(value for value in found if found.count(value) > 1)
        raise UserError(
            f"{named([name])} has the value {words_of(name, twice)} twice.",
            where,
            "Leave one of them out.",
        )
    return found


def _with(recipe: Recipe, values: Mapping[str, Any], where: str = "--try") -> Recipe:
    return Recipe.from_dict({**recipe.to_dict(), **values}, where)
