"""What Start asks about content that the chat template omits, once its rows are counted."""

import numpy as np
import pytest

from sft_ui.data.lengths.feed import report
from sft_ui.recipe_form import form_values
from sft_ui.train.decision import choices_of, shown_question, undecided
from sft_ui.train.next_run_card.next_run import Asked, start_run, start_state
from trainer_backend.data.checks.content import flag
from trainer_backend.data.store.length_report import LengthReport
from trainer_backend.errors import UserError
from trainer_backend.recipe.recipe import Recipe

VALUES = form_values(Recipe(max_steps=5))


@pytest.fixture
def lengths():
    """Three rows, of which two have calls that are lost; the training template writes them."""
    lost = flag("calls") | flag("calls", "lost")
    numbers = [np.array(one, np.int32) for one in ([9, 9, 9], [3, 3, 3], [9, 9, 9], [6, 6, 6])]
    content = np.array([lost, lost, flag("answer")], np.int64)
    return LengthReport(np.arange(1, 4), *numbers, content=content, mended=("calls",))


def test_start_waits_for_a_decision_and_shows_the_choices(studio, dataset, lengths):
    asked = Asked(dataset.id, "quick_try", VALUES, lengths)
    button, *_ = start_state(studio, asked)
    assert button["interactive"] is False and "Decide" in button["value"]
    with pytest.raises(UserError) as raised:
        start_run(studio, asked, "")
    assert raised.value.code == "content_lost" and studio.scheduler.calls == []
    box, said, *buttons = shown_question(raised.value)
    assert box["visible"] and "tool calls" in said
    words = [one["value"] for one in buttons if one["visible"]]
    assert words == ["Use the training template", "Train without it", "Leave those rows out"]


@pytest.mark.parametrize("decided", ["train_without", "leave_out"])
def test_after_a_decision_it_starts(studio, dataset, lengths, decided):
    values = {**VALUES, "lost_content": decided}
    run = start_run(studio, Asked(dataset.id, "quick_try", values, lengths), "")
    assert run.spec()["recipe"]["lost_content"] == decided


def test_nothing_is_asked_without_counts_or_losses(lengths):
    recipe = Recipe()
    whole = LengthReport(lengths.rows, *[lengths.total] * 4, content=np.zeros(3, np.int64))
    assert undecided(None, recipe) is undecided(whole, recipe) is undecided(lengths, None) is None
    assert choices_of(None) == [] and shown_question(None)[0]["visible"] is False


def test_the_findings_beside_the_chart_have_the_choices(lengths):
    (found,) = report(lengths, 512, 0)["problems"]
    assert (found["code"], found["severity"], found["count"]) == ("calls_lost", "error", 2)
    assert found["choices"][0]["change"] == {"chat_template": "training"}
    (decided,) = report(lengths, 512, 0, "train_without")["problems"]
    assert decided["severity"] == "warning"
