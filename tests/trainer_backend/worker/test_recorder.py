"""The time left counts every evaluation and save to come, and never doubles after the first."""

from types import SimpleNamespace

import pytest
from transformers import TrainerState

from trainer_backend.worker.recorder import TimeLeft


def arguments(evaluates="steps", saves="steps"):
    return SimpleNamespace(eval_strategy=evaluates, save_strategy=saves)


def at(step, last=20, *, eval_steps=10, save_steps=2**31 - 1):
    return TrainerState(
        global_step=step,
        max_steps=last,
        num_train_epochs=2,
        eval_steps=eval_steps,
        save_steps=save_steps,
    )


@pytest.fixture
def played():
    """`play("step", 2.0)` lets two seconds pass and notes a step."""
    now = [0.0]
    left = TimeLeft(eval_share=0.5, clock=lambda: now[0])

    def play(part, seconds):
        now[0] += seconds
        if part:
            left.note(part)

    return left, play


def test_nothing_is_said_before_the_first_step(played):
    left, _ = played
    assert left.seconds(arguments(), at(0)) is None


def test_evaluations_and_saves_to_come_are_counted(played):
    left, play = played
    play("step", 30.0)  # warms up
    for _ in range(9):
        play("step", 2.0)
    # 10 steps, 2 evaluations of half an epoch (20 s) at a third of the price, nothing yet for saves
    assert left.seconds(arguments(), at(10)) == pytest.approx(10 * 2 + 20 / 3)
    assert left.seconds(arguments("no"), at(10)) == pytest.approx(20)
    play("evaluation", 8.0)
    assert left.seconds(arguments(), at(10)) == pytest.approx(20 + 8)
    play("save", 1.0)
    assert left.seconds(arguments(), at(10, save_steps=3)) == pytest.approx(20 + 8 + 4)
    assert left.seconds(arguments("epoch", "epoch"), at(10)) == pytest.approx(20 + 8 + 1)
    play("step", 2.0)
    assert left.seconds(arguments(), at(19)) == pytest.approx(2 + 8 + 1)
    assert left.seconds(arguments(), at(20)) == pytest.approx(8 + 1)
    play("evaluation", 8.0)
    play("save", 1.0)
    assert left.seconds(arguments(), at(20)) == 0


def test_it_runs_down_while_an_evaluation_goes_on(played):
    left, play = played
    play("step", 2.0)
    play("evaluation", 30.0)
    before = left.seconds(arguments(), at(19))
    play("", 10.0)
    assert left.seconds(arguments(), at(19)) == pytest.approx(before - 10)
