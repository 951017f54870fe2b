"""The cards beside the form: what the settings mean, what differs from the preset, what is wrong.

Each setting that differs or is wrong leads to its field, and back to the preset.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt
from sft_ui.context import Studio
from sft_ui.model.basis import Basis, baseline
from sft_ui.model.cards.estimate_card import estimate_card
from sft_ui.recipe_form import read_form
from sft_ui.sizes import machine_now, sizes_for
from trainer_backend.errors import Problem
from trainer_backend.estimation import Estimate
from trainer_backend.hardware import Hardware
from trainer_backend.recipe import (
    SETTINGS,
    Recipe,
    check_recipe,
    differences,
    effective_batch_size,
    label,
    named_fields,
    total_steps,
)
from trainer_backend.recipe.resolve import resolve

NOT_YET = "Fix what is marked first."


def settings_cards(
    studio: Studio,
    dataset_id: str,
    preset_id: str,
    basis: Basis,
    values: Mapping[str, Any],
    found: Estimate | None = None,
    waits: bool = False,
) -> Markup:
    """All cards: estimate, problems, meaning, differences, machine. `waits`: tokens are counted."""
    recipe, problems = read_form(values)
    machine = machine_now()
    if recipe is None:
        unread = [*map(_problem_card, problems), estimate_card(None, machine, NOT_YET)]
        return _stack([*unread, _machine_card(machine)], problems, [], waits=False)
    problems = check_recipe(recipe, machine)
    summary = markup.card(
        "What these settings mean",
        markup.facts(_facts(studio, dataset_id, recipe, machine, found)),
    )
    before, _ = attempt(baseline, studio.home, preset_id or "", recipe.base_model, basis.settings)
    changed = _changed(recipe, before)
    wrong = [one for one in problems if one.severity == "error"]
    pieces = [
        *map(_note, problems),
        estimate_card(found, machine),
        _differences_card(changed),
        _reasons_card(basis, recipe),
        summary,
        _machine_card(machine),
    ]
    return _stack(pieces, wrong, list(changed), waits)


def _stack(
    pieces: Sequence[Markup | str], wrong: Sequence[Problem], changed: Sequence[str], waits: bool
) -> Markup:
    """The cards, and for the script beside them the fields that are wrong or changed."""
    said: dict[str, str] = {}
    for problem in wrong:
        for name in named_fields(problem.where) or named_fields(problem.what):
            said.setdefault(name, f"{problem.what} {problem.fix}")
    marks = json.dumps({"wrong": said, "changed": list(changed), "waits": waits})
    template = Markup('<div data-marks="{}">{}</div>')
    return template.format(marks, markup.stack(pieces))


def _problem_card(problem: Problem) -> Markup:
    """A finding, with a link to each field that it names."""
    names = named_fields(problem.what) or named_fields(problem.where)
    links = Markup().join(to_field(name, f"Go to {label(name)}") for name in names)
    title = f"{markup.WORDS[problem.severity]}: {problem.what}"
    kind = f"problem {problem.severity}"
    return markup.card(title, markup.line(problem.fix), links, kind=kind)


def to_field(name: str, words: str = "") -> Markup:
    """A button that leads to the field of a setting; the script beside the cards does it."""
    template = Markup(
        '<button type="button" class="to-field" data-field="{}" data-section="{}">{}</button>'
    )
    return template.format(name, SETTINGS[name].section, words or label(name))


def _note(problem: Problem) -> Markup:
    if problem.severity == "error":
        return _problem_card(problem)
    return markup.card("", markup.line(problem.what), kind=f"problem {problem.severity}")


def _facts(
    studio: Studio, dataset_id: str, recipe: Recipe, machine: Hardware, found: Estimate | None
) -> list[tuple[str, object]]:
    resolved, _ = attempt(resolve, recipe, machine)
    final = resolved[0] if resolved else recipe
    train, held_out = sizes_for(studio, dataset_id, recipe)
    batch = effective_batch_size(recipe, machine.num_devices)
    parts = [recipe.per_device_train_batch_size, recipe.gradient_accumulation_steps]
    parts += [machine.num_devices] if machine.num_devices > 1 else []
    counted = found.steps if found else None
    if counted is None and (recipe.max_steps > 0 or (train and not recipe.packing)):
        counted = total_steps(recipe, train, machine.num_devices)
    steps = f"{counted:,}" if counted is not None else "known once data is chosen"
    return [
        ("Effective batch size", f"{' × '.join(map(str, parts))} = {batch}"),
        ("Steps", steps if counted is not None or not train else "known once tokens are counted"),
        ("Training rows", f"{train:,}" if train else None),
        ("Held-out rows", f"{held_out:,}" if train else None),
        (label("adapter"), SETTINGS["adapter"].words(recipe.adapter)),
        (label("learning_rate"), SETTINGS["learning_rate"].words(final.learning_rate)),
        (f"Effective {label('precision').lower()}", final.precision),
        (f"Effective {label('optim').lower()}", SETTINGS["optim"].words(final.optim)),
    ]


def _changed(recipe: Recipe, before: Recipe | None) -> dict[str, tuple[Any, Any]]:
    found = differences(recipe, before) if before else {}
    return {name: both for name, both in found.items() if name != "base_model"}


def _differences_card(changed: Mapping[str, tuple[Any, Any]]) -> Markup:
    """What the user changed, each with a way back to the preset."""
    if not changed:
        return markup.card("", markup.line("All settings match the preset.", "quiet"))
    count = len(changed)
    title = f"{count} setting{'s differ' if count > 1 else ' differs'} from the preset"
    rows = markup.each(
        Markup(
            "<li>{}<span>{}</span>"
            '<button type="button" class="action small" data-back="{}" title="{}">'
            "Back to {}</button></li>"
        ),
        (
            (to_field(name), one.words(now), name, f"Reset {one.label}", one.words(then))
            for name, one, then, now in (
                (name, SETTINGS[name], *both) for name, both in changed.items()
            )
        ),
    )
    reset = Markup('<button type="button" class="action small" data-act="reset">Reset all</button>')
    listed = Markup('<ul class="changed">{}</ul>{}').format(rows, reset if count > 1 else "")
    return markup.card(title, listed)


def _reasons_card(basis: Basis, recipe: Recipe) -> Markup | str:
    """Why the data changed the preset's own values, as far as they still stand in the form."""
    stands = {n for n, value in basis.settings.items() if getattr(recipe, n) == value}
    said = [reason for name, reason in basis.reasons.items() if name in stands and reason]
    if not said:
        return ""
    return markup.card("Chosen for your data", Markup().join(map(markup.line, said)))


def _machine_card(machine: Hardware) -> Markup:
    kind = "Free GPU memory" if machine.kind == "cuda" else "Free memory"
    pairs = [
        ("Device", machine.label()),
        (kind, f"{machine.memory_free:.1f} of {machine.memory_total:.1f} GB"),
        ("GPU", machine.problem or None),
    ]
    return markup.card("This machine", markup.facts(pairs))
