"""The Model tab: model, preset, every setting, and their effect on this machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt, show_user_errors
from sft_ui.context import QUICK, Studio
from sft_ui.model.card import USE_SCRIPT
from sft_ui.model.choice import Chosen, preset_recipe
from sft_ui.model.model_events import ModelEvents, card_of, restore_model, wire_model
from sft_ui.model.search import build_model_search
from sft_ui.recipe_form import CONDITIONAL, Fields, build_fields, form_values, read_form, relevance
from sft_ui.sizes import machine_now, sizes_for
from trainer_backend.errors import Problem
from trainer_backend.hardware import Hardware
from trainer_backend.models import model_facts
from trainer_backend.recipe import (
    SETTINGS,
    Recipe,
    check_recipe,
    differences,
    effective_batch_size,
    label,
    recipe_from,
    recipe_presets,
    total_steps,
)
from trainer_backend.recipe.resolve import resolve

FIRST_PRESET = "quick_try"


@dataclass(frozen=True)
class ModelTab:
    """What the page needs of the tab; `fields` holds every recipe field by name."""

    preset: gr.Radio
    fields: Fields
    estimate: gr.HTML
    filled: list[Dependency]  # events that put other values into the form
    choice: ModelEvents


def build_model_tab(studio: Studio) -> ModelTab:
    """Build the tab and its own events."""
    recipe = recipe_from(FIRST_PRESET)
    with gr.Row(equal_height=False):
        with gr.Column(scale=8, min_width=340):
            search = build_model_search(recipe.base_model)
            first = model_facts(studio.home, recipe.base_model)
            about = gr.HTML(
                card_of(studio, first, FIRST_PRESET, {}, asking=False),
                elem_id="model-about",
                js_on_load=USE_SCRIPT,
            )
            chosen = gr.State(Chosen(recipe.base_model))
            preset = gr.Radio(
                [(one.title, one.id) for one in recipe_presets()],
                value=FIRST_PRESET,
                label="Preset",
                info="A starting point for every setting. You can change any of them below.",
                elem_id="preset-choice",
            )
            when = gr.HTML(about_preset(FIRST_PRESET), elem_id="preset-about")
            with gr.Column(elem_id="recipe-form"):
                fields: Fields = {"base_model": search.model, **build_fields(recipe)}
        with gr.Column(scale=4, min_width=300):
            estimate = gr.HTML(elem_id="estimate")
    choice = ModelEvents(studio, search, about, preset, fields, chosen)
    filled = [*_wire(choice, when), *wire_model(choice)]
    return ModelTab(preset, fields, estimate, filled, choice)


def _wire(choice: ModelEvents, when: gr.HTML) -> list[Dependency]:
    studio, preset, fields = choice.studio, choice.preset, choice.fields
    names = list(fields)

    @show_user_errors
    def fill(preset_id: str, base_model: str) -> list[Any]:
        recipe = preset_recipe(preset_id, base_model, studio.home)
        shown = relevance(recipe)
        values = form_values(recipe)
        updates = [
            gr.update(value=values[name], visible=shown.get(name, True))
            for name in names
            if name != "base_model"
        ]
        restored = restore_model(choice, preset_id, values, ask_hub=True)
        return [about_preset(preset_id), *restored, *updates]

    model = fields["base_model"]
    outputs = [
        when,
        choice.about,
        choice.chosen,
        *(fields[name] for name in names if name != "base_model"),
    ]
    filled = preset.input(fill, [preset, model], outputs, **QUICK)

    def show_relevant(**values: Any) -> list[Any]:
        recipe, _ = read_form(values)
        shown = relevance(recipe) if recipe else {}
        return [gr.update(visible=shown[name]) if shown else gr.skip() for name in CONDITIONAL]

    deciding = ("adapter", "max_steps", "eval_fraction", "lr_scheduler_type")
    gr.on(
        [fields[name].input for name in deciding],
        show_relevant,
        inputs_kwargs=dict(fields),
        outputs=[fields[name] for name in CONDITIONAL],
        trigger_mode="always_last",
        **QUICK,
    )
    return [filled]


def about_preset(preset_id: str) -> Markup | str:
    """When to use a preset."""
    preset = next((one for one in recipe_presets() if one.id == preset_id), None)
    return markup.line(preset.when, "quiet") if preset else ""


def estimate(studio: Studio, dataset_id: str, preset_id: str, values: Mapping[str, Any]) -> Markup:
    """Cards: batch size, steps, differences from the preset, problems, free memory."""
    recipe, problems = read_form(values)
    machine = machine_now()
    if recipe is None:
        return markup.stack([*map(markup.problem_card, problems), _machine_card(machine)])
    problems = check_recipe(recipe, machine)
    summary = markup.card(
        "What these settings mean", markup.facts(_facts(studio, dataset_id, recipe, machine))
    )
    changed = _differences_card(studio, preset_id, recipe)
    return markup.stack([summary, changed, *map(_note, problems), _machine_card(machine)])


def _note(problem: Problem) -> Markup:
    if problem.severity == "error":
        return markup.problem_card(problem)
    return markup.card("", markup.line(problem.what), kind=f"problem {problem.severity}")


def _facts(
    studio: Studio, dataset_id: str, recipe: Recipe, machine: Hardware
) -> list[tuple[str, object]]:
    resolved, _ = attempt(resolve, recipe, machine)
    final = resolved[0] if resolved else recipe
    train, held_out = sizes_for(studio, dataset_id, recipe)
    batch = effective_batch_size(recipe, machine.num_devices)
    parts = [recipe.per_device_train_batch_size, recipe.gradient_accumulation_steps]
    parts += [machine.num_devices] if machine.num_devices > 1 else []
    steps = "known once data is chosen"
    if train or recipe.max_steps > 0:
        steps = f"{total_steps(recipe, train, machine.num_devices):,}"
    return [
        ("Effective batch size", f"{' × '.join(map(str, parts))} = {batch}"),
        ("Steps", steps),
        ("Training rows", f"{train:,}" if train else None),
        ("Held-out rows", f"{held_out:,}" if train else None),
        (label("adapter"), SETTINGS["adapter"].words(recipe.adapter)),
        (label("learning_rate"), str(final.learning_rate)),
        (f"Effective {label('precision').lower()}", final.precision),
        (f"Effective {label('optim').lower()}", SETTINGS["optim"].words(final.optim)),
    ]


def _differences_card(studio: Studio, preset_id: str, recipe: Recipe) -> Markup:
    preset, _ = attempt(preset_recipe, preset_id or "", recipe.base_model, studio.home)
    changed = differences(recipe, preset) if preset else {}
    changed.pop("base_model", None)
    if not changed:
        return markup.card("", markup.line("All settings match the preset.", "quiet"))
    count = len(changed)
    title = f"{count} setting{'s differ' if count > 1 else ' differs'} from the preset"
    pairs = [
        (one.label, f"{one.words(now)} (preset: {one.words(then)})")
        for one, (then, now) in ((SETTINGS[name], both) for name, both in changed.items())
    ]
    return markup.card(title, markup.facts(pairs))


def _machine_card(machine: Hardware) -> Markup:
    kind = "Free GPU memory" if machine.kind == "cuda" else "Free memory"
    pairs = [
        ("Device", machine.label()),
        (kind, f"{machine.memory_free:.1f} of {machine.memory_total:.1f} GB"),
    ]
    return markup.card("This machine", markup.facts(pairs))
