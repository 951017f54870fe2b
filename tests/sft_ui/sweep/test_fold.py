"""The fold “Try several values”: its lines, what it says, and what it queues."""

import pytest

from sft_ui.sweep.fold import (
    OFFERED,
    planned,
    queue_plan,
    queued,
    read_lines,
    shown_plan,
    values_label,
)
from trainer_backend.errors import UserError
from trainer_backend.recipe import SETTINGS, Recipe
from trainer_backend.runs import list_runs
from trainer_backend.sweeps import list_sweeps

RANKS = ["lora_r", "", "", "4, 8", "", "", False]


def test_lines_become_values():
    given = ["lora_r", "", "adapter", "4, 8", None, "lora,full", True]
    assert read_lines(given) == ({"lora_r": ["4", "8"], "adapter": ["lora", "full"]}, True)
    assert read_lines(["lora_r", "", "", "", "", " ", False]) == ({}, False)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (["", "lora_r", "", "1, 2", "4, 8", "", False], "These values belong to no setting."),
        (["lora_r", "seed", "", "4, 8", "", "", False], "“Seed” has no values."),
        (["lora_r", "lora_r", "", "4, 8", "2, 3", "", False], "“lora_r” is tried twice."),
    ],
)
def test_a_line_that_is_half_written_is_named(given, what):
    with pytest.raises(UserError) as caught:
        read_lines(given)
    assert caught.value.what == what


def test_the_plan_is_said_and_queued(studio, dataset):
    plan = planned(studio, Recipe(max_steps=4), dataset, RANKS)
    said, button = shown_plan(plan)
    assert "<b>2 runs, about " in said
    assert (button["value"], button["interactive"]) == ("Queue 2 runs", True)
    sweep = queue_plan(studio, plan, dataset, "quick_try")
    assert studio.scheduler.calls == ["wake"] and list_sweeps(studio.home) == [sweep]
    assert {run.id for run in list_runs(studio.home)} == {one.id for one in sweep.runs}
    said, button = queued(sweep)
    assert "2 runs are queued" in said and not button["interactive"], "a second click does nothing"


def test_mistakes_are_shown_and_nothing_can_be_queued(studio, dataset, hostile):
    with pytest.raises(UserError) as caught:
        planned(studio, Recipe(), dataset, ["lora_r", "", "", f"4, {hostile}", "", "", False])
    said, button = shown_plan(None, "", caught.value)
    assert "“lora_r” cannot be" in said and "<script" not in said
    assert button["interactive"] is False
    assert planned(studio, Recipe(), dataset, ["lora_r", "", "", "", "", "", False]) is None
    assert "Choose data first." in shown_plan(None, "Choose data first.")[0]


def test_every_offered_setting_says_what_its_values_may_be():
    assert set(OFFERED) <= set(SETTINGS)
    assert values_label("lora_r") == "Values from 1 to 1,024, with commas"
    assert values_label("adapter") == "Values, of lora, qlora, full"
    assert values_label("use_dora") == "Values, of true, false"
    assert values_label("") == "Values"
