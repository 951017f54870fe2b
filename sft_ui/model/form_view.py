"""The switch above the form between the simple and the expert view, with a search in settings.

What is simple is said with each setting. A setting that is set stays visible, and the browser
remembers the view; no value is ever lost by switching.
"""

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui.alerts import attempt
from sft_ui.context import QUICK
from sft_ui.recipe_form import Fields, section_id
from sft_ui.theme import static_text
from trainer_backend.recipe import SETTINGS, recipe_from

EXPERT = tuple(name for name, one in SETTINGS.items() if one.expert)
MOST_NAMED = 4


def build_form_view(preset_id: str) -> gr.HTML:
    """The switch and the search; returns the line below, which tells of expert settings."""
    facts = Markup("{}<i hidden data-settings='{}'></i>")
    found = [
        {"name": name, "label": one.label, "help": one.help, "section": section_id(one.section)}
        for name, one in SETTINGS.items()
        if one.section
    ]
    value = facts.format(
        Markup(static_text("model/form_view.html")), json.dumps({"settings": found})
    )
    gr.HTML(value, js_on_load=static_text("model/form_view.js"), elem_id="form-view")
    return gr.HTML(set_line(recipe_from(preset_id).to_dict(), preset_id), elem_id="form-set")


def wire_form_view(line: gr.HTML, preset: gr.Radio, fields: Fields) -> None:
    """Keep the line of a `build_form_view` up to date, also when a preset fills the form."""
    given = {name: fields[name] for name in EXPERT}
    gr.on(
        [one.change for one in given.values()],
        lambda preset_id, **values: set_line(values, preset_id),
        inputs_kwargs={"preset_id": preset, **given},
        outputs=line,
        trigger_mode="always_last",
        **QUICK,
    )


def set_line(values: Mapping[str, Any], preset_id: str | None) -> Markup | str:
    """Expert settings that are set, by hand or by the preset, for people and for the script.

    Those set by hand stay in the simple view.
    """
    chosen, _ = attempt(recipe_from, preset_id or "")
    by_preset = chosen.to_dict() if chosen else {}
    away = [name for name in EXPERT if name in values and not _is(name, values[name])]
    by_hand = [name for name in away if not _is(name, values[name], by_preset.get(name))]
    if not away:
        return ""
    sentences = [_by_hand(by_hand), _by_preset(len(away) - len(by_hand))]
    template = Markup(
        "<p class=\"quiet\" data-set='{}'>{} "
        '<button type="button" data-show-all>Show all settings</button></p>'
    )
    return template.format(json.dumps(by_hand), " ".join(filter(None, sentences)))


def _by_hand(names: list[str]) -> str:
    if not names:
        return ""
    more = len(names) - MOST_NAMED
    listed = ", ".join(f"“{SETTINGS[name].label}”" for name in names[:MOST_NAMED])
    some = "1 expert setting is" if len(names) == 1 else f"{len(names)} expert settings are"
    return f"{some} set: {listed}{f' and {more} more' if more > 0 else ''}."


def _by_preset(count: int) -> str:
    some = "1 expert setting" if count == 1 else f"{count} expert settings"
    return f"The preset sets {some}." if count else ""


def _is(name: str, value: object, wanted: object = None) -> bool:
    """Whether a value of the form is `wanted`, or the setting's default; None is an empty field."""
    wanted = SETTINGS[name].default if wanted is None else wanted
    if isinstance(wanted, str):
        return str("" if value is None else value).strip() == wanted.strip()
    return value == wanted
