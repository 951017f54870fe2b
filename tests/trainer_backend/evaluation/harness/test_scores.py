"""lm-eval's calls and results, with an object that has the same calls in place of the package."""

from types import SimpleNamespace

import pytest

from trainer_backend.errors import UserError
from trainer_backend.evaluation.harness import process
from trainer_backend.evaluation.harness.scores import Harness, scores
from trainer_backend.home import read_json, write_json


class FakeManager:
    all_tasks = ("arc_easy", "hellaswag", "far_away")

    def load(self, names):
        if names == ["far_away"]:
            raise ConnectionError("Couldn't reach 'far/away' on the Hub\nand more")


class FakePackage:
    """lm_eval as far as it is called; the score is how a logit of the model differs."""

    def __init__(self):
        self.tasks = SimpleNamespace(TaskManager=FakeManager)
        self.models = SimpleNamespace(huggingface=SimpleNamespace(HFLM=SimpleNamespace))
        self.calls = []

    def simple_evaluate(self, model, tasks, **options):
        import torch

        self.calls.append({"tasks": tasks, **options})
        logits = model.pretrained(torch.tensor([[5, 6, 7]])).logits
        values = {"acc,none": float(logits[0, -1].mean()), "acc_stderr,none": "N/A"}
        return {"results": {"arc_easy": values}, "n-samples": {"arc_easy": {"effective": 3}}}


def test_results_are_named_and_what_is_no_number_is_left_out():
    def results(acc, strict):
        values = {"alias": "gsm8k", "acc,none": acc, "acc_stderr,none": 0.125}
        values |= {"exact_match,strict-match": strict, "exact_match_stderr,strict-match": "N/A"}
        values |= {"bypass,none": "N/A", "sample_len": 3, "perplexity,none": float("nan")}
        return {"results": {"gsm8k": values}, "n-samples": {"gsm8k": {"effective": 4}}}

    same = {"stderr": 0.125, "base_stderr": 0.125, "rows": 4}
    assert scores(results(0.25, 0.5), results(0.75, 1)) == {
        "gsm8k": {
            "acc": {"base": 0.25, "tuned": 0.75, **same},
            "exact_match (strict-match)": {
                **{"base": 0.5, "tuned": 1.0, "stderr": None, "base_stderr": None, "rows": 4}
            },
        }
    }
    assert scores({}, {}) == {}


def test_an_unknown_task_and_data_that_are_not_here_are_said():
    def refused(task) -> UserError:
        with pytest.raises(UserError) as caught:
            Harness([task], package=FakePackage()).check()
        return caught.value

    assert "hellaswag" in refused("helaswag").fix and "no task" in refused("helaswag").what
    missing = refused("far_away")
    assert "not on this machine" in missing.what and missing.where.endswith("'far/away' on the Hub")
    Harness(["arc_easy"], package=FakePackage()).check()


def test_both_models_are_asked_alike_and_only_the_tuned_one_has_the_adapter(
    finished, tmp_path, monkeypatch
):
    package = FakePackage()
    monkeypatch.setattr("trainer_backend.evaluation.harness.scores._lm_eval", lambda: package)
    asked = {"run": str(finished.dir), "step": 4, "tasks": ["arc_easy"], "rows": 3, "chat": True}
    write_json(tmp_path / "request.json", asked)
    process.answer(tmp_path)
    found = read_json(tmp_path / "reply.json")["results"]["arc_easy"]["acc"]
    assert found["base"] != found["tuned"] and found["rows"] == 3 and found["stderr"] is None
    first, second = package.calls
    assert first == second and first["limit"] == 3 and first["apply_chat_template"] is True
    write_json(tmp_path / "request.json", {**asked, "tasks": ["far_away"]})
    process.answer(tmp_path)
    assert "not on this machine" in read_json(tmp_path / "reply.json")["error"]["what"]
