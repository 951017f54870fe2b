"""`corrections` lists what is kept, and `train --from RUN --corrections` trains on it."""

import json

from trainer_backend.corrections.correction import Wrong
from trainer_backend.corrections.kept import keep_correction
from trainer_backend.evaluation.results import best_known, evaluations_of
from trainer_backend.models.loaded.answer_parts import Answer
from trainer_backend.runs.create import list_runs


def test_corrections_are_listed_trained_on_and_taken_back(call, finished):
    code, out, _ = call("corrections", finished.id)
    assert code == 0 and out == "No corrections are kept for the data of this run.\n"
    assert call("train", "--corrections")[0] == 2
    assert call("train", "--from", finished.id, "--corrections")[0] == 2
    given = Wrong(finished.id, [{"role": "user", "content": "Say 70"}], Answer("7"), row=3)
    kept = keep_correction(finished.home, given, Answer("70!"))
    code, out, _ = call("corrections", finished.id)
    assert "   1  Say 70  →  70!" in out and "learns 1 correction, each 4 times, and 12" in out
    code, out, _ = call("corrections", finished.id, "--json")
    found = json.loads(out)
    assert found["dataset_id"] == kept.dataset.id and found["outcome"] is None
    assert (
        found["corrections"][0] | {"answer": "70!", "model_said": "7", "row": 3}
        == (found["corrections"][0])
    )
    code, out, err = call("train", "--from", finished.id, "--corrections", "--name", "Corrected")
    assert code == 0 and "A new run from these weights learns 1 correction" in err
    run = list_runs(finished.home)[0]
    assert run.name() == "Corrected" and run.state()["state"] == "finished"
    assert run.spec()["start"]["run"] == finished.id and run.state()["total_steps"] == 12
    assert len(run.split()[1]) == len(finished.split()[1])
    (asked,) = (one for one in evaluations_of(run) if one.dataset_id == kept.dataset.id)
    assert [one.prompt for one in asked.examples] == ["Say 70"]
    assert "Corrected rows: " in best_known(run).sentence
    assert call("corrections", run.id, "--take-back", 1)[1].startswith("No corrections")
