"""The fold “Try several values”: settings and values, what they would take, and their queueing.

Which settings a run has otherwise comes from the form, which belongs to another tab.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.context import Studio
from sft_ui.sizes import machine_now
from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import UserError
from trainer_backend.recipe import SETTINGS, Recipe, label
from trainer_backend.sweeps import MOST_RUNS, Plan, Sweep, create_sweep, parse_tries, plan_sweep

LINES = 3
NONE = ""
FIRST = "learning_rate"
ABOUT = (
    f"Queues a run for each combination of the values, {MOST_RUNS} at most; all other settings are "
    "those of the form. The best one is marked in the Runs tab."
)
WHERE = "Try several values"
QUEUE = "Queue these runs"
# settings that change what a run learns; the command line tries every other one too
OFFERED = (
    *("learning_rate", "lora_r", "lora_alpha", "num_train_epochs", "max_steps", "adapter"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "lora_dropout"),
    *("lora_target_modules", "init_lora_weights", "use_rslora", "use_dora", "loraplus_lr_ratio"),
    *("lr_scheduler_type", "warmup_steps", "weight_decay", "optim", "loss_type"),
    *("label_smoothing_factor", "neftune_noise_alpha", "assistant_only_loss", "packing"),
    *("max_length", "base_model", "chat_template", "seed"),
)


@dataclass(frozen=True)
class SweepFold:
    """The controls: each line is a setting and its values."""

    box: gr.Accordion
    names: list[gr.Dropdown]
    values: list[gr.Textbox]
    halving: gr.Checkbox
    said: gr.HTML
    queue: gr.Button

    def given(self) -> list[gr.blocks.Block]:
        """The inputs, in the order that `read_lines` takes them."""
        return [*self.names, *self.values, self.halving]


def build_sweep() -> SweepFold:
    """Build the fold, closed."""
    choices = [
        ("–", NONE),
        *((label(name), name) for name in OFFERED),
    ]
    names, values = [], []
    with gr.Accordion(WHERE, open=False, elem_id="sweep") as box:
        gr.HTML(markup.line(ABOUT, "quiet"))
        for at in range(1, LINES + 1):
            with gr.Row():
                names.append(
                    gr.Dropdown(
                        choices,
                        value=FIRST if at == 1 else NONE,
                        label=f"Setting {at}",
                        min_width=170,
                        elem_id=f"sweep-field-{at}",
                    )
                )
                values.append(
                    gr.Textbox(
                        label=values_label(FIRST if at == 1 else NONE),
                        placeholder="0.0001, 0.0002" if at == 1 else "",
                        max_lines=1,
                        min_width=170,
                        elem_id=f"sweep-values-{at}",
                    )
                )
        halving = gr.Checkbox(
            label="Stop early what is clearly behind",
            info="At a quarter and at half of its steps, a run whose evaluation loss is not in the "
            "better half of those that came as far is stopped (successive halving).",
            elem_id="sweep-halving",
        )
        said = gr.HTML(elem_id="sweep-said")
        with gr.Row():
            queue = gr.Button(
                QUEUE, interactive=False, size="md", scale=0, min_width=200, elem_id="queue-sweep"
            )
    return SweepFold(box, names, values, halving, said, queue)


def values_label(name: str) -> str:
    """The label of the values of a setting: what they may be."""
    if name not in SETTINGS:
        return "Values"
    setting = SETTINGS[name]
    if setting.choices:
        return f"Values, of {', '.join(setting.choices)}"
    if setting.kind is bool:
        return "Values, of true, false"
    if setting.limits:
        low, high = setting.limits
        return f"Values from {low:g} to {high:,.10g}, with commas"
    return "Values, with commas; with | if they hold commas"


def read_lines(given: Sequence[Any]) -> tuple[dict[str, list[str]], bool]:
    """({setting: values}, whether to stop early) of the values of `SweepFold.given`.

    Lines without values are left out. Raises UserError for values without a setting, a setting
    that is chosen twice, and a setting without values beside others.
    """
    names, texts, halving = given[:LINES], given[LINES : 2 * LINES], bool(given[-1])
    pairs = [
        (name or NONE, str(text or "").strip()) for name, text in zip(names, texts, strict=True)
    ]
    for at, (name, text) in enumerate(pairs, 1):
        if text and not name:
            raise UserError(
                "These values belong to no setting.", f"Setting {at}: {text}", "Choose a setting."
            )
        if name and not text and any(other for _, other in pairs):
            raise UserError(
                f"“{label(name)}” has no values.",
                f"Setting {at}",
                "Write two or more, or choose “–” for no setting.",
            )
    lines = [f"{name}={text}" for name, text in pairs if text]
    return parse_tries(lines), halving


def planned(
    studio: Studio, recipe: Recipe, dataset: StoredDataset, given: Sequence[Any]
) -> Plan | None:
    """The sweep that the fold describes; None while no values are written. Raises UserError."""
    tries, halving = read_lines(given)
    if not tries:
        return None
    machine = machine_now()
    return plan_sweep(
        studio.home, recipe, dataset, tries, halving=halving, machine=machine, where=WHERE
    )


def shown_plan(plan: Plan | None, reason: str = "", error: UserError | None = None) -> list[Any]:
    """Updates of what is said and of the button."""
    off = gr.update(value=QUEUE, interactive=False)
    if error is not None:
        return [markup.error_card(error), off]
    if plan is None:
        return [markup.line(reason, "quiet") if reason else "", off]
    notes = markup.each(Markup('<p class="quiet">{}</p>'), ((note,) for note in plan.notes))
    said = Markup('<p role="status"><b>{}</b></p>{}').format(f"{plan.sentence()}.", notes)
    words = f"Queue {len(plan.runs)} runs"
    return [said, gr.update(value=words, interactive=True)]


def queue_plan(studio: Studio, plan: Plan, dataset: StoredDataset, preset: str) -> Sweep:
    """Queue the runs and wake the scheduler. Raises UserError."""
    sweep = create_sweep(studio.home, plan, dataset, preset=preset)
    studio.scheduler.wake()
    return sweep


def queued(sweep: Sweep) -> list[Any]:
    """Updates of what is said and of the button, once the runs are queued."""
    names = label(*sweep.tries)
    text = f"{len(sweep.runs)} runs are queued, one for each value of {names}."
    return [
        markup.line(f"{text} The Runs tab shows them and marks the best.", "quiet"),
        gr.update(value=QUEUE, interactive=False),
    ]
