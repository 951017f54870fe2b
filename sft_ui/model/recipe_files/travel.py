"""Settings that travel: the form as a YAML file, a YAML file or a run's settings as the form.

Only recipes and words are made here; what fills the form is wired elsewhere.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt
from sft_ui.context import Studio
from sft_ui.theme import static_text
from trainer_backend.data.store import open_dataset
from trainer_backend.errors import UserError
from trainer_backend.recipe import (
    SETTINGS,
    Recipe,
    differences,
    label,
    parse_settings,
    read_recipe,
    recipe_presets,
    recipe_text,
)
from trainer_backend.runs import open_run

MOST_SHOWN = 12  # settings that a sentence names


@dataclass(frozen=True)
class Travel:
    """The buttons for recipe files, and what is said about the last one."""

    download: gr.HTML
    upload: gr.UploadButton
    said: gr.HTML


@dataclass(frozen=True)
class Taken:
    """Settings taken from elsewhere: recipe, preset and dataset ("": as they are), and words."""

    recipe: Recipe
    said: Markup
    preset: str = ""
    dataset_id: str = ""


def build_travel() -> Travel:
    """Build the buttons."""
    with gr.Row(elem_id="recipe-file"):
        download = gr.HTML(
            "",
            html_template=static_text("model/recipe_files/download.html"),
            js_on_load=static_text("model/recipe_files/download.js"),
            elem_id="recipe-download",
        )
        with gr.Column(min_width=150, elem_id="recipe-upload"):
            upload = gr.UploadButton("Load recipe…", size="md", file_count="single")
    said = gr.HTML(elem_id="recipe-said")
    return Travel(download, upload, said)


def download_value(recipe: Recipe | None, preset_id: str) -> str:
    """The value of the download button: the file's name and text; "" while the form is wrong."""
    if recipe is None:
        return ""
    return json.dumps({"name": file_name(recipe, preset_id), "text": recipe_text(recipe)})


def file_name(recipe: Recipe, preset_id: str) -> str:
    """“balanced-SmolLM2-135M-Instruct.yaml”: letters, digits, dots and dashes only."""
    model = recipe.base_model.rstrip("/").rpartition("/")[2]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{preset_id}-{model}").strip("-.")
    return f"{plain[:100] or 'recipe'}.yaml"


def taken_from_file(path: str) -> Taken:
    """The recipe of an uploaded file. Raises UserError, which names the file as the user does."""
    name = Path(path).name
    recipe = read_recipe(Path(path), name)
    changed = differences(recipe, Recipe())
    said = markup.line(
        f"Settings taken from {name}. {_named({n: v for n, (_, v) in changed.items()})}"
    )
    return Taken(recipe, markup.card("", said, kind="problem good"))


def _named(changes: dict[str, Any]) -> str:
    """Which settings a recipe sets, in words."""
    if not changes:
        return "All of them have their default value."
    shown = dict(list(changes.items())[:MOST_SHOWN])
    more = len(changes) - len(shown)
    rest = f" and {more} more" if more else ""
    named = ", ".join(f"{label(name)} {SETTINGS[name].words(one)}" for name, one in shown.items())
    return f"Set: {named}{rest}."


def taken_from_run(studio: Studio, run_id: str) -> Taken:
    """The settings of a run, its preset, and its dataset if it is still there.

    Raises UserError if there is no such run. Settings that this version does not know, or whose
    value it does not take, are left at their default and named.
    """
    run = open_run(studio.home, run_id)
    spec, settings = run.spec(), run.settings()
    known, unknown = _readable(settings)
    recipe = Recipe.from_dict(known, f"run {run.id}")
    data = spec["dataset"]
    dataset, gone = attempt(open_dataset, studio.home, data["id"])
    presets = {one.id for one in recipe_presets()}
    preset = spec["preset"] if spec["preset"] in presets else ""
    lines = [f"Settings taken from the run “{run.name()}”."]
    if gone:
        lines.append(f"Its dataset “{data['name']}” was deleted; the current data stays.")
    else:
        lines.append(f"Data: {data['name']}.")
    if spec.get("start"):
        lines.append(
            "That run began with the weights of another run; a new one begins with the base model."
        )
    if unknown:
        lines.append(f"Not known here, so left at the default: {', '.join(unknown)}.")
    kind = "problem warning" if gone or unknown else "problem good"
    said = markup.card("", *map(markup.line, lines), kind=kind)
    return Taken(recipe, said, preset, dataset.id if dataset else "")


def _readable(settings: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The settings this version can read, and the names (with values) of the others."""
    known: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in settings.items():
        parsed, error = attempt(parse_settings, {name: value}, "run")
        if error or parsed is None:
            unknown.append(
                f"{SETTINGS[name].label if name in SETTINGS else name} ({str(value)[:40]})"
            )
        else:
            known |= parsed
    return known, unknown


def refused(error: UserError) -> Markup | str:
    """Why a file was not taken."""
    return markup.error_card(error)
