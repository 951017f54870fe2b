"""The Model tab: model, preset, every setting, and their effect on this machine.

Builds the components; what happens when one changes is wired once the data is known.
"""

from dataclasses import dataclass

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.context import Studio
from sft_ui.model.basis import SAMPLE_PRESET, Basis
from sft_ui.model.card import USE_SCRIPT
from sft_ui.model.choice import Chosen
from sft_ui.model.form_view import build_form_view, wire_form_view
from sft_ui.model.model_events import ModelEvents, card_of
from sft_ui.model.recipe_files.travel import Travel, build_travel
from sft_ui.model.search import build_model_search
from sft_ui.model.template import TemplateView, build_template_view
from sft_ui.recipe_form import Fields, build_fields
from sft_ui.theme import static_text
from trainer_backend.estimation import Estimate
from trainer_backend.estimation.words import duration_range
from trainer_backend.models import model_facts
from trainer_backend.recipe import recipe_from, recipe_presets


@dataclass(frozen=True)
class ModelTab:
    """What the page needs of the tab; `fields` holds every recipe field by name."""

    preset: gr.Radio
    fields: Fields
    basis: gr.State  # what was filled in besides the preset, as plain data
    when: gr.HTML
    estimate: gr.HTML
    template: TemplateView
    travel: Travel
    choice: ModelEvents


def build_model_tab(studio: Studio) -> ModelTab:
    """Build the tab, without its events."""
    recipe = recipe_from(SAMPLE_PRESET)
    basis = gr.State(Basis(base_model=recipe.base_model).to_dict())
    with gr.Row(equal_height=False):
        with gr.Column(scale=8, min_width=340):
            search = build_model_search(recipe.base_model)
            first = model_facts(studio.home, recipe.base_model)
            about = gr.HTML(
                card_of(studio, first, SAMPLE_PRESET, {}, asking=False),
                elem_id="model-about",
                js_on_load=USE_SCRIPT,
            )
            chosen = gr.State(Chosen(recipe.base_model))
            preset = gr.Radio(
                [(one.title, one.id) for one in recipe_presets()],
                value=SAMPLE_PRESET,
                label="Preset",
                info="A starting point for every setting. You can change any of them below.",
                elem_id="preset-choice",
            )
            when = gr.HTML(about_preset(SAMPLE_PRESET), elem_id="preset-about")
            with gr.Column(elem_id="recipe-form"):
                line = build_form_view(SAMPLE_PRESET)
                fields: Fields = {"base_model": search.model, **build_fields(recipe)}
            template = build_template_view()
        wire_form_view(line, preset, fields)
        with gr.Column(scale=4, min_width=300):
            estimate = gr.HTML(
                elem_id="estimate",
                js_on_load=static_text("model/cards/to_field.js", "model/cards/cards.js"),
            )
            travel = build_travel()
    choice = ModelEvents(studio, search, about, preset, fields, chosen)
    return ModelTab(preset, fields, basis, when, estimate, template, travel, choice)


def about_preset(preset_id: str, found: Estimate | None = None) -> Markup | str:
    """When to use a preset, and how long it takes with the model, data and machine at hand."""
    preset = next((one for one in recipe_presets() if one.id == preset_id), None)
    if preset is None:
        return ""
    took = (
        f" Here it takes about {duration_range(found.seconds)}." if found and found.seconds else ""
    )
    return markup.line(f"{preset.when}{took}", "quiet")
