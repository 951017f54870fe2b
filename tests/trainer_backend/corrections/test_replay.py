"""Training on corrections: how many rows of what, nothing held out among them, the settings."""

from collections import Counter

import pytest

from trainer_backend.corrections.correction import Wrong, keys_of
from trainer_backend.corrections.kept import keep_correction, take_back
from trainer_backend.corrections.replay import old_rows, plan_replay, replay_dataset
from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.errors import UserError
from trainer_backend.models.loaded.answer_parts import Answer
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run

ROWS = [{"prompt": f"Question {n}", "response": f"Answer {n}"} for n in range(120)]


@pytest.fixture
def run(home):
    data = create_from_rows(home, ROWS, name="many")
    recipe = Recipe(max_steps=20, eval_fraction=0.2, packing=True, per_device_train_batch_size=32)
    return create_run(home, recipe, data, preset="balanced")


def correct(run, question, answer="Corrected", system=""):
    before = [{"role": "system", "content": system}] if system else []
    asked = [*before, {"role": "user", "content": question}]
    return keep_correction(run.home, Wrong(run.id, asked, Answer("wrong")), Answer(answer))


def question_of(run, at, held_out=False):
    indices = run.split()[1 if held_out else 0]
    return next(run.dataset().examples([indices[at]])).messages[0]["content"]


def asked_in(dataset, indices):
    return [one.messages[-2]["content"] for one in dataset.examples(indices)]


def test_a_mix_of_corrections_and_old_rows_with_the_same_held_out_rows(run):
    for n in range(4):
        correct(run, f"Something new {n}")
    correct(run, question_of(run, 3, held_out=True))
    replay = plan_replay(run)
    assert (replay.corrections, replay.times, len(replay.chosen), replay.left_out) == (5, 4, 60, 0)
    mixed = replay_dataset(replay)
    train, held_out = mixed.split(0.05, 1)  # whatever the share: the rows stay held out
    assert (len(train), len(held_out)) == (80, 24)
    old_train, old_held_out = run.split()
    assert asked_in(mixed, held_out) == asked_in(run.dataset(), old_held_out)
    counts = Counter(asked_in(mixed, train))
    assert [counts[f"Something new {n}"] for n in range(4)] == [4] * 4
    assert counts[question_of(run, 3, held_out=True)] == 4
    rest = set(counts) - {f"Something new {n}" for n in range(4)}
    rest -= {question_of(run, 3, held_out=True)}
    assert len(rest) == 60 and rest <= set(asked_in(run.dataset(), old_train))
    assert not rest & set(asked_in(run.dataset(), old_held_out))
    order = asked_in(mixed, train)
    assert order[:20].count("Something new 0") < 4  # interleaved, not first
    assert mixed.source["corrections"]["corrected"] == [80 + 1 + 3]
    assert replay_dataset(plan_replay(run)).id == mixed.id


def test_the_numbers_are_said_before_start(run):
    for n in range(4):
        correct(run, f"Something new {n}")
    correct(run, question_of(run, 0, held_out=True))
    first, held_out = plan_replay(run).sentences()
    assert first == (
        "A new run from these weights learns 5 corrections, each 4 times, and 60 of the 96 old "
        "training rows, so that it does not forget them: 80 rows, 25% of them corrections, "
        "3 epochs, about 30 steps."
    )
    assert held_out == (
        "The 24 held-out rows of this run stay held out. 1 of them was corrected and so will be "
        "trained on; the result tells them apart."
    )


def test_an_old_row_whose_answer_was_corrected_is_not_replayed(run):
    for at in range(25):
        correct(run, question_of(run, at))
    replay = plan_replay(run)
    # 25 corrections once and 71 of 96 old rows: the others have been corrected
    assert (replay.times, len(replay.chosen), replay.left_out) == (1, 71, 25)
    corrected = {one.key for one in replay.kept.corrections}
    chosen = run.dataset().examples(replay.chosen)
    assert not any(corrected.intersection(keys_of(one)) for one in chosen)
    assert "25 old rows left out: you corrected the answer." in replay.sentences()


def test_the_settings_of_the_run_for_a_small_mix(run):
    correct(run, "Something new")
    recipe = plan_replay(run).recipe()
    changed = {name for name, value in recipe.to_dict().items() if value != run.settings()[name]}
    assert changed == {"max_steps", "packing", "per_device_train_batch_size"}
    assert recipe.per_device_train_batch_size == 8 and recipe.num_train_epochs == 3


def test_a_system_text_of_the_settings_moves_into_the_rows_where_one_was_asked_without(home):
    data = create_from_rows(home, ROWS, name="many")
    run = create_run(home, Recipe(system_prompt="Be kind.", eval_fraction=0.2), data)
    correct(run, "Something new", system="Be kind.")
    assert plan_replay(run).recipe().system_prompt == "Be kind."
    correct(run, "Without any")
    replay = plan_replay(run)
    assert replay.recipe().system_prompt == ""
    mixed = replay_dataset(replay)
    for one in mixed.examples():
        roles = [message["role"] for message in one.messages]
        without = one.messages[-2]["content"] == "Without any"
        assert roles == (["user", "assistant"] if without else ["system", "user", "assistant"])
    again = create_run(home, replay.recipe(), mixed)
    assert old_rows(again).system_prompt == "Be kind."


def test_corrections_on_corrections_go_back_to_the_first_rows(run):
    correct(run, "First")
    correct(run, "Taken back later")
    mixed = replay_dataset(plan_replay(run))
    second = create_run(run.home, plan_replay(run).recipe(), mixed)
    take_back(second, 2)
    correct(second, "Second")
    replay = plan_replay(second)
    assert replay.old.dataset.id == run.dataset().id
    assert old_rows(second).held_out.tolist() == run.split()[1]
    again = replay_dataset(replay)
    train, held_out = again.split(0.05, 1)
    assert "Taken back later" not in asked_in(again, train) and len(held_out) == 24
    assert Counter(asked_in(again, train))["First"] == 4
    assert again.name == "many with 2 corrections"


def test_without_corrections_and_for_plain_text_it_is_refused(home, run):
    with pytest.raises(UserError, match="No correction"):
        plan_replay(run)
    texts = create_from_rows(home, [{"text": f"Plain text {n}"} for n in range(20)], name="texts")
    plain = create_run(home, Recipe(), texts)
    correct(plain, "Something new")
    with pytest.raises(UserError, match="plain text"):
        plan_replay(plain)


def test_without_held_out_rows_none_are_made(home):
    data = create_from_rows(home, ROWS, name="many")
    run = create_run(home, Recipe(eval_fraction=0.0), data)
    correct(run, "Something new")
    replay = plan_replay(run)
    assert replay_dataset(replay).held_out is None and len(replay.sentences()) == 1
