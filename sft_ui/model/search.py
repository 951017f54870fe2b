"""The box that finds a model: presets, what is on this machine, and the Hub, as one types.

The lists are drawn here; which settings a chosen model changes is decided elsewhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt
from sft_ui.model.card import in_short
from sft_ui.sizes import machine_now
from sft_ui.theme import static_text
from trainer_backend.disk import in_words
from trainer_backend.estimation import estimate
from trainer_backend.hardware import Hardware
from trainer_backend.models import ModelFacts, model_facts
from trainer_backend.models.search import models_here, search_hub, suggested
from trainer_backend.models.wishes import with_wishes
from trainer_backend.recipe import SETTINGS, Recipe, label, model_presets

LEAST_LETTERS = 2  # of words that the Hub is asked for
FIT_WORDS = {"fits": "fits", "tight": "tight", "large": "too large here"}
FIT_NOTE = "Fit is estimated for the chosen settings and rows of the maximum length."


@dataclass(frozen=True)
class ModelSearch:
    """The dropdown that holds the model, and the lists under it.

    `here` fires `find` and `ask` {"words"} as one types, and `choose` {"id"}.
    """

    model: gr.Dropdown
    here: gr.HTML
    hub: gr.HTML


def build_model_search(base_model: str) -> ModelSearch:
    """Build the box."""
    with gr.Column(elem_id="model-search"):
        model = gr.Dropdown(
            [(preset.title, preset.base_model) for preset in model_presets()],
            value=base_model,
            allow_custom_value=True,
            label=label("base_model"),
            info=SETTINGS["base_model"].help,
            elem_id="model-choice",
        )
        with gr.Column(elem_id="model-results"):
            here = gr.HTML(
                elem_id="model-here",
                js_on_load=static_text("model/search.js"),
                apply_default_css=False,
            )
            hub = gr.HTML(elem_id="model-hub", apply_default_css=False)
    return ModelSearch(model, here, hub)


def local_list(home: Path, words: str, recipe: Recipe | None) -> Markup:
    """Models on this machine and presets that match the words."""
    here = models_here(home, words)
    names = [one.base_model for one in here]
    known = [model_facts(home, one.base_model) for one in suggested(words, names)]
    groups = [("On this machine", here), ("Suggested", known)]
    shown = [_group(home, title, found, recipe) for title, found in groups if found]
    if not shown and not words:
        shown = [markup.line("No model is known here.", "quiet")]
    return Markup().join([*shown, markup.line(FIT_NOTE, "quiet fit-note")])


def hub_list(home: Path, words: str, recipe: Recipe | None) -> Markup:
    """Models of the Hub that match the words, or why there are none."""
    words = words.strip()
    if len(words) < LEAST_LETTERS or words.startswith(("/", "~", ".")):
        return Markup()
    found, error = attempt(search_hub, home, words)
    if found is None:
        reason = error.what if error else ""
        text = f"{reason} Only models on this machine and suggested ones are listed."
        return _titled("On the Hub", Markup('<p role="status">{}</p>').format(text))
    rows = _rows(home, "hub", found.models, recipe)
    notes = [] if found.models else ["No model there has these words and can be trained here."]
    if found.left_out:
        some = "1 more is" if found.left_out == 1 else f"{found.left_out:,} more are"
        notes.append(f"{some} left out: GGUF files, adapters or other kinds.")
    lines = Markup().join(markup.line(note, "quiet") for note in notes)
    return _titled("On the Hub", rows + lines)


def _group(home: Path, title: str, found: Iterable[ModelFacts], recipe: Recipe | None) -> Markup:
    return _titled(title, _rows(home, title.split()[0].lower(), found, recipe))


def _titled(title: str, body: Markup) -> Markup:
    template = Markup('<div role="group" aria-label="{0}"><h4 aria-hidden="true">{0}</h4>{1}</div>')
    return template.format(title, body)


def _rows(home: Path, group: str, found: Iterable[ModelFacts], recipe: Recipe | None) -> Markup:
    return Markup().join(
        _row(f"model-{group}-{at}", one, fit_of(home, one, recipe)) for at, one in enumerate(found)
    )


def _row(option_id: str, facts: ModelFacts, fit: str) -> Markup:
    badge = Markup('<span class="fit {}">{}</span>').format(fit, FIT_WORDS[fit]) if fit else ""
    title = titles().get(facts.base_model, "")
    under = [*([facts.base_model] if title else []), *_details(facts)]
    template = Markup(
        '<div role="option" id="{}" data-choose="{}" aria-selected="false">'
        '<span class="found"><b>{}</b><span class="quiet">{}</span></span>{}</div>'
    )
    name = title or facts.base_model
    return template.format(option_id, facts.base_model, name, " · ".join(under), badge)


def _details(facts: ModelFacts) -> list[str]:
    details = [in_short(facts.parameters)] if facts.parameters else []
    if facts.folder is None and facts.download_bytes:
        details.append(in_words(facts.download_bytes))
    details += [facts.licence] if facts.licence else []
    details += ["gated"] if facts.gated else []
    return details + ([f"{facts.downloads:,} downloads"] if facts.downloads else [])


@lru_cache(maxsize=1)
def titles() -> dict[str, str]:
    """Titles of the presets by model id."""
    return {preset.base_model: preset.title for preset in model_presets()}


def fit_of(home: Path, facts: ModelFacts, recipe: Recipe | None) -> str:
    """“fits”, “tight” or “large” for a model with the settings of the form; "" if not known."""
    if recipe is None or not facts.config or facts.is_refused:
        return ""
    asked = with_wishes(recipe, facts)
    return _fit(home, asked, machine_now(), facts.parameters)


@lru_cache(maxsize=2_000)
def _fit(home: Path, recipe: Recipe, machine: Hardware, parameters: int | None) -> str:
    # `parameters` is part of the key: the Hub may have been asked meanwhile
    found, _ = attempt(estimate, recipe, None, machine, home=home)
    if found is None or found.memory_gb is None:
        return ""
    free = found.memory_free_gb
    if found.memory_gb.high <= free:
        return "fits"
    return "tight" if found.memory_gb.low <= free else "large"


def same_model(base_model: str) -> str:
    """A typed id without spaces around it; the title of a preset stands for its id."""
    name = (base_model or "").strip()
    by_title = {title.lower(): one for one, title in titles().items()}
    return by_title.get(name.lower(), name)
