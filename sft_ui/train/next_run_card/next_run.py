"""The run that Start would begin: whether it can, whether it fits, its card, and its commands.

Reads data, form and estimate; the run's folder is made elsewhere.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import attempt
from sft_ui.context import Studio
from sft_ui.recipe_form import read_form
from sft_ui.sizes import machine_now, sizes_for
from sft_ui.theme import static_text
from sft_ui.train.decision import undecided
from trainer_backend.data.store import LengthReport, StoredDataset, open_dataset
from trainer_backend.estimation import Estimate
from trainer_backend.estimation.words import (
    duration_range,
    gigabyte_range,
    gigabytes,
    memory_words,
    verdict,
)
from trainer_backend.models import model_facts
from trainer_backend.recipe import SETTINGS, Recipe, changed_to, label, named_fields, recipe_presets
from trainer_backend.recipe.commands import Chosen, command_line, python_script
from trainer_backend.recipe.resolve import resolve
from trainer_backend.runs import LIVE, Run, create_run, list_runs

TOO_LARGE = "Too large for this machine"
LATEST_RUNS = 20  # among which a run that is under way is looked for


@dataclass(frozen=True)
class NextRun:
    """The card of the next run, its commands, and the question when it does not fit."""

    box: gr.Column
    said: gr.HTML
    use_fix: gr.Button
    anyway: gr.Button
    card: gr.HTML
    commands: gr.HTML

    def outputs(self) -> list[gr.blocks.Block]:
        """The components `shown_next` fills, in its order."""
        return [self.box, self.said, self.use_fix, self.card, self.commands]


@dataclass(frozen=True)
class Asked:
    """What would be started: data, preset and form, with what is known of it."""

    dataset_id: str
    preset: str
    values: Mapping[str, Any]
    lengths: LengthReport | None = None
    found: Estimate | None = None


def build_fit_question() -> tuple[gr.Column, gr.HTML, gr.Button, gr.Button]:
    """What Start asks when the run does not fit: the box, its words, and two buttons."""
    with gr.Column(visible=False, elem_id="fit-question") as box:
        said = gr.HTML()
        with gr.Row():
            use_fix = gr.Button(
                "Use the settings that fit", size="md", min_width=180, elem_id="use-fix-train"
            )
            anyway = gr.Button("Start anyway", size="md", min_width=120, elem_id="start-anyway")
    return box, said, use_fix, anyway


def build_commands() -> gr.HTML:
    """The fold with the command line and the Python of the next run."""
    return gr.HTML(
        "",
        html_template=static_text("train/next_run_card/commands.html"),
        js_on_load=static_text("train/next_run_card/commands.js"),
        elem_id="command-preview",
    )


def build_next_card() -> gr.HTML:
    """The card of the next run."""
    script = static_text("model/cards/to_field.js", "train/next_run_card/next_run.js")
    return gr.HTML(elem_id="next-run", js_on_load=script)


def missing(studio: Studio, dataset_id: str, values: Mapping[str, Any]) -> str:
    """What must be done before a run can start; "" when nothing."""
    if not dataset_id:
        return "Choose data first"
    dataset, _ = attempt(open_dataset, studio.home, dataset_id)
    if dataset is None:
        return "Choose data first"
    if dataset.mapping is None:
        return "Choose the column roles first"
    if not dataset.num_examples:
        return "The data has no usable rows"
    if wrong := _wrong(studio, values):
        return f"Fix {label(wrong[0])} first"
    if model_facts(studio.home, str(values["base_model"])).is_refused:
        return "Choose another model first"
    return ""


def _wrong(studio: Studio, values: Mapping[str, Any]) -> list[str]:
    """The settings that the form cannot be read with, or that this machine cannot train."""
    recipe, problems = read_form(values)
    if recipe is not None:
        _, error = attempt(resolve, recipe, machine_now())
        return named_fields(error.where) if error else []
    return named_fields(problems[0].what)


def is_too_large(asked: Asked, waits: bool) -> bool:
    """Whether the run cannot fit; one that waits for another may fit once that has ended."""
    found = asked.found
    if found is None or found.fits is not False:
        return False
    needed = found.memory_gb.likely if found.memory_gb else 0.0
    return not (waits and needed <= machine_now().memory_total)


def start_state(studio: Studio, asked: Asked) -> list[Any]:
    """Updates: the Start button, then those of `NextRun.outputs`."""
    reason = missing(studio, asked.dataset_id, asked.values)
    recipe, _ = read_form(asked.values)
    if not reason and undecided(asked.lengths, recipe):
        reason = "Decide about the omitted content first"
    waits = any(run.state()["state"] in LIVE for run in list_runs(studio.home)[:LATEST_RUNS])
    too_large = not reason and is_too_large(asked, waits)
    words = "Add to queue" if waits else "Start training"
    button = gr.update(
        value=reason or (TOO_LARGE if too_large else words), interactive=not (reason or too_large)
    )
    return [
        button,
        *_question(asked.found if too_large else None),
        *_shown(studio, asked, reason, waits),
    ]


def _question(found: Estimate | None) -> list[Any]:
    """Updates of the box, its words and the button that applies the fix."""
    if found is None:
        return [gr.update(visible=False), "", gr.skip()]
    needed = gigabyte_range(found.memory_gb) if found.memory_gb else "more memory"
    free = gigabytes(found.memory_free_gb)
    lines = [markup.line(f"It needs {needed} of memory, and {free} are free.")]
    if found.fix:
        lines.append(markup.line(f"It fits with {changed_to(found.fix)}."))
    else:
        lines.append(markup.line("No setting makes it fit. Choose a smaller base model."))
    said = markup.card(TOO_LARGE, *lines, kind="problem error")
    has_fix = bool(found.fix)
    fix = gr.update(visible=has_fix, variant="primary" if has_fix else "secondary")
    return [gr.update(visible=True), said, fix]


def _shown(studio: Studio, asked: Asked, reason: str, waits: bool) -> list[Any]:
    """Updates of the card and of the commands; beside a run under way the settings are folded."""
    recipe, _ = read_form(asked.values)
    dataset, _ = attempt(open_dataset, studio.home, asked.dataset_id or "-")
    if recipe is None or dataset is None:
        return [markup.card("Next run", _reason(studio, asked, reason)), ""]
    train, held_out = sizes_for(studio, dataset.id, recipe)
    resolved, _ = attempt(resolve, recipe, machine_now())
    pairs = [
        (label("base_model"), recipe.base_model),
        ("Data", dataset.label),
        ("Rows", f"{train:,} + {held_out:,} held out"),
        ("Preset", {one.id: one.title for one in recipe_presets()}.get(asked.preset, "–")),
        *recipe_facts(resolved[0] if resolved else recipe),
        *_needs(resolved[0] if resolved else None, asked.found),
    ]
    facts = markup.facts(pairs)
    inside = markup.more(f"{recipe.base_model} on {dataset.label}", facts) if waits else facts
    card = markup.card("Next run", _reason(studio, asked, reason), inside)
    return [card, commands_value(asked.preset, recipe, dataset, bool(held_out))]


def _reason(studio: Studio, asked: Asked, reason: str) -> Markup | str:
    """Why it cannot start, and the way to the field that is wrong."""
    wrong = _wrong(studio, asked.values) if reason.startswith("Fix ") else []
    links = markup.each(
        Markup(
            '<button type="button" class="to-field" data-field="{}" data-section="{}">'
            "Go to {}</button>"
        ),
        ((name, SETTINGS[name].section, label(name)) for name in wrong),
    )
    return markup.line(f"{reason}.", "quiet") + links if reason else ""


def _needs(resolved: Recipe | None, found: Estimate | None) -> list[tuple[str, object]]:
    """Precision and hardware, then download, time and memory as far as they are estimated."""
    machine = machine_now()
    pairs: list[tuple[str, object]] = [
        (label("precision"), resolved.precision if resolved else None),
        ("Hardware", machine.label()),
    ]
    if found is None:
        return pairs
    if found.download_gb:
        pairs.append(("Will download", gigabytes(found.download_gb)))
    pairs += [
        ("Time", duration_range(found.seconds) if found.seconds else None),
        ("Memory", memory_words(found).replace(" of memory", "") or None),
        ("Verdict", verdict(found)),
    ]
    return pairs


def recipe_facts(recipe: Recipe) -> list[tuple[str, object]]:
    """The main settings of a recipe as pairs of label and text."""
    epochs = "1 epoch" if recipe.num_train_epochs == 1 else f"{recipe.num_train_epochs:g} epochs"
    steps = "1 step" if recipe.max_steps == 1 else f"{recipe.max_steps:,} steps"
    batch = f"{recipe.per_device_train_batch_size:,} × {recipe.gradient_accumulation_steps:,}"
    size = f", rank {recipe.lora_r}" if recipe.adapter != "full" else ""
    return [
        (label("adapter"), SETTINGS["adapter"].words(recipe.adapter) + size),
        ("Length", steps if recipe.max_steps > 0 else epochs),
        ("Batch", batch),
        (label("learning_rate"), SETTINGS["learning_rate"].words(recipe.learning_rate)),
    ]


def commands_value(preset: str, recipe: Recipe, dataset: StoredDataset, has_held_out: bool) -> str:
    """The value of the commands: JSON with the command line and the Python; "" without a preset."""
    if preset not in {one.id for one in recipe_presets()}:
        return ""
    chosen = Chosen(
        recipe,
        preset,
        dataset.id,
        dataset.name,
        is_text=dataset.format == "text",
        has_held_out=has_held_out,
    )
    script, error = attempt(python_script, chosen, machine_now())
    python = script or (f"# {error.what} {error.fix}" if error else "")
    return json.dumps({"command": command_line(chosen), "python": python})


def start_run(studio: Studio, asked: Asked, key: str) -> Run:
    """Create a run and wake the scheduler; the same key returns the same run.

    Raises UserError when the form or the dataset is invalid, or when `lengths`, the counts with
    these settings, show that content is lost about which nothing is decided.
    """
    recipe, _ = read_form(asked.values)
    recipe = recipe or Recipe.from_dict(dict(asked.values), "Model tab")  # raises the first problem
    if question := undecided(asked.lengths, recipe):
        raise question
    dataset = open_dataset(studio.home, asked.dataset_id)
    run = create_run(studio.home, recipe, dataset, preset=asked.preset, key=key or None)
    studio.scheduler.wake()
    return run


def new_key() -> str:
    """A new idempotency key: a double click starts one run."""
    return uuid.uuid4().hex
