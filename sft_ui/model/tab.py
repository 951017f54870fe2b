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
from sft_ui.model.form_view import build_form_view, wire_form_view
from sft_ui.recipe_form import (
    CONDITIONAL,
    DECIDING,
    Fields,
    build_fields,
    form_values,
    read_form,
    relevance,
)
from sft_ui.sizes import machine_now, sizes_for
from trainer_backend.errors import Problem
from trainer_backend.hardware import Hardware
from trainer_backend.recipe import (
    SETTINGS,
    ModelPreset,
    Recipe,
    check_recipe,
    differences,
    effective_batch_size,
    label,
    model_presets,
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


def build_model_tab(studio: Studio) -> ModelTab:
    """Build the tab and its own events."""
    recipe = recipe_from(FIRST_PRESET)
    with gr.Row(equal_height=False):
        with gr.Column(scale=8, min_width=340):
            model = gr.Dropdown(
                [(preset.title, preset.base_model) for preset in model_presets()],
                value=recipe.base_model,
                allow_custom_value=True,
                label=label("base_model"),
                info=SETTINGS["base_model"].help,
                elem_id="model-choice",
            )
            about = gr.HTML(about_model(recipe.base_model), elem_id="model-about")
            preset = gr.Radio(
                [(one.title, one.id) for one in recipe_presets()],
                value=FIRST_PRESET,
                label="Preset",
                info="A starting point for every setting. You can change any of them below.",
                elem_id="preset-choice",
            )
            when = gr.HTML(about_preset(FIRST_PRESET), elem_id="preset-about")
            with gr.Column(elem_id="recipe-form"):
                line = build_form_view(FIRST_PRESET)
                fields: Fields = {"base_model": model, **build_fields(recipe)}
        wire_form_view(line, preset, fields)
        with gr.Column(scale=4, min_width=300):
            estimate = gr.HTML(elem_id="estimate")
    return ModelTab(preset, fields, estimate, _wire(preset, fields, about, when))


def _wire(preset: gr.Radio, fields: Fields, about: gr.HTML, when: gr.HTML) -> list[Dependency]:
    names = list(fields)

    @show_user_errors
    def fill(preset_id: str, base_model: str) -> list[Any]:
        recipe = preset_recipe(preset_id, base_model)
        shown = relevance(recipe)
        values = form_values(recipe)
        updates = [
            gr.update(value=values[name], visible=shown.get(name, True))
            for name in names
            if name != "base_model"
        ]
        return [about_preset(preset_id), about_model(base_model), *updates]

    model = fields["base_model"]
    outputs = [when, about, *(fields[name] for name in names if name != "base_model")]
    filled = preset.input(fill, [preset, model], outputs, **QUICK)
    model.input(about_model, model, about, **QUICK)

    def show_relevant(**values: Any) -> list[Any]:
        recipe, _ = read_form(values)
        shown = relevance(recipe) if recipe else {}
        return [gr.update(visible=shown[name]) if shown else gr.skip() for name in CONDITIONAL]

    gr.on(
        [fields[name].input for name in DECIDING],
        show_relevant,
        inputs_kwargs=dict(fields),
        outputs=[fields[name] for name in CONDITIONAL],
        trigger_mode="always_last",
        **QUICK,
    )
    return [filled]


def preset_recipe(preset_id: str, base_model: str) -> Recipe:
    """A preset's recipe for a model, with the settings that the model's own preset overrides."""
    wishes = next((one.recipe for one in model_presets() if one.base_model == base_model), {})
    return recipe_from(preset_id, base_model=base_model or Recipe().base_model, **wishes)


def about_model(base_model: str | None) -> Markup:
    """Notes and facts about the chosen model."""
    preset = next((one for one in model_presets() if one.base_model == base_model), None)
    if preset is None:
        text = "Your own model: safetensors weights, no custom code."
        return markup.line(text, "quiet")
    return markup.line(preset.notes, "quiet") + markup.chips(_model_facts(preset))


def _model_facts(preset: ModelPreset) -> list[str]:
    facts = [f"{preset.parameters} parameters", preset.licence]
    facts += ["needs a Hub account"] if preset.gated else []
    return facts + ([] if preset.chat else ["base model: not trained to chat"])


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
    changed = _differences_card(preset_id, recipe)
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


def _differences_card(preset_id: str, recipe: Recipe) -> Markup:
    preset, _ = attempt(preset_recipe, preset_id or "", recipe.base_model)
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
