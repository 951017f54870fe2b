"""The corrected rows of an evaluation apart from the others."""

from trainer_backend.corrections.correction import Wrong
from trainer_backend.corrections.kept import keep_correction
from trainer_backend.corrections.outcome import outcome_for, outcome_of, telling, with_outcome
from trainer_backend.corrections.replay import plan_replay, replay_dataset
from trainer_backend.evaluation.results import Asked, Evaluation, evaluations_of, keep
from trainer_backend.models.loaded.answer_parts import Answer
from trainer_backend.runs.create import create_run


def asked(n, score, name="exact_match"):
    said = [{"role": "user", "content": f"Say {n}"}]
    return Asked(n, f"Say {n}", f"{n}!", "", "", {name: {"base": 0.0, "tuned": score}}, said)


def result(scores, name="exact_match", checkpoint=4, **more):
    rows = [asked(n, score, name) for n, score in scores.items()]
    return Evaluation(
        "run-1", checkpoint, len(rows), {}, "better", name, "Better.", examples=rows, **more
    )


def correct(run, *numbers):
    for n in numbers:
        given = Wrong(run.id, [{"role": "user", "content": f"Say {n}"}], Answer("wrong"))
        kept = keep_correction(run.home, given, Answer(f"{n}?"))
    return kept


def test_corrected_rows_and_the_others_are_counted_apart(run):
    kept = correct(run, 0, 1)
    before = result({0: 0.0, 1: 0.0, 2: 1.0, 3: 1.0, 4: 0.5})
    now = result({0: 1.0, 1: 1.0, 2: 1.0, 3: 0.0, 4: 1.0})
    outcome = outcome_of(now, kept.corrections, before)
    assert outcome.sentence() == (
        "Corrected rows: 2 of 2 right now, before 0 of 2; the others: 2 of 3, before 2 of 3."
    )
    assert outcome_of(now, kept.corrections).sentence() == (
        "Corrected rows: 2 of 2 right now; the others: 2 of 3."
    )


def test_a_measure_of_likeness_gives_its_mean(run):
    kept = correct(run, 0)
    outcome = outcome_of(result({0: 0.9, 1: 0.5, 2: 0.25}, "chrf"), kept.corrections)
    assert outcome.sentence() == "Corrected rows: chrF 0.90 now; the others: chrF 0.38."


def test_a_run_trained_on_corrections_tells_what_became_of_them(home, run):
    assert outcome_for(run) is None
    correct(run, 0, 1)
    replay = plan_replay(run)
    second = create_run(home, replay.recipe(), replay_dataset(replay))
    assert outcome_for(second) is None
    keep(run, result({0: 0.0, 2: 1.0}))
    keep(second, result({0: 0.0, 2: 1.0}))
    assert outcome_for(second).sentence() == (
        "Corrected rows: 0 of 1 right now, before 0 of 1; the others: 1 of 1, before 1 of 1."
    )
    # asked as they were corrected, they are judged by the corrected answers
    of_corrections = replay.kept.dataset.id
    keep(second, result({0: 1.0, 1: 1.0}, dataset_id=of_corrections, held_out=False))
    assert outcome_for(second).corrected.rows == 2 and outcome_for(second).corrected.score == 1.0
    told = with_outcome(second, result({0: 0.0, 2: 1.0}))
    assert told.sentence == (
        "Better. Corrected rows: 2 of 2 right now; the others: 1 of 1, before 1 of 1."
    )
    assert told.warnings[0].startswith("1 of the held-out rows asked was corrected and trained on")
    assert with_outcome(run, told) is told


def test_an_evaluation_asked_for_later_tells_it_too_and_keeps_it(home, run):
    correct(run, 0, 1)
    replay = plan_replay(run)
    second = create_run(home, replay.recipe(), replay_dataset(replay))

    def evaluate(run, **how):
        keep(run, found := result({0: 1.0, 2: 1.0}, checkpoint=how["checkpoint"]))
        return found

    told = telling(evaluate)(second, checkpoint=4)
    assert told.sentence.startswith("Better. Corrected rows: 1 of 1 right now")
    assert [one.sentence for one in evaluations_of(second)] == [told.sentence]
    assert telling(evaluate)(run, checkpoint=4).sentence == "Better."
