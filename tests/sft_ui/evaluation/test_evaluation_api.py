"""/evaluate_run as a script calls it, with a stand-in for the model process."""

import gradio as gr
import pytest
from evaluated import evaluation
from run_files import set_state

from sft_ui import layout
from trainer_backend.runs.checkpoints import commit


@pytest.fixture
def ended(run):
    for step in (2, 4):
        folder = run.dir / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        commit(folder, step, None, run.id)
    set_state(run, state="finished")
    return run


@pytest.fixture
def asked(studio, ended):
    """What the model process was asked for."""
    found = []

    def evaluate(run_id, **options):
        found.append((run_id, options))
        steps = (2, 4) if options.get("checkpoint") == "all" else (4,)
        yield {"progress": {"what": "Asking", "done": 1, "total": 8, "unit": "answers"}}
        for step in steps:
            yield {"evaluation": evaluation(ended, step).to_dict()}

    studio.model_process.evaluate = evaluate
    return found


@pytest.fixture
def call(studio, asked):
    """The endpoint's own function."""
    app = layout.build_app(studio.home, studio.scheduler, studio.model_process)
    return next(one.fn for one in app.fns.values() if one.api_name == "evaluate_run")


def test_a_script_gets_the_contract(call, ended, asked):
    found = call(ended.id, '{"rows": 5, "checkpoint": "last"}')
    assert asked == [(ended.id, {"rows": 5, "checkpoint": "last"})]
    assert (found["run"], found["checkpoint"], found["verdict"]) == (ended.id, 4, "better")
    assert found["metrics"]["loss"]["better"] == "lower" and found["examples"]
    assert [one["checkpoint"] for one in call(ended.id, {"checkpoint": "all"})] == [2, 4]


@pytest.mark.parametrize(
    "options, words",
    [
        ('{"metrics": "rouge"}', "Perhaps rouge_l is meant."),
        ('{"harness": "arc"}', "Unknown option “harness”."),
        ('{"data": "/etc/passwd"}', "Unknown option “data”."),
        ("[1]", '{"rows": 40, "checkpoint": "best"}'),
    ],
)
def test_a_mistake_is_answered_before_a_process_starts(call, ended, asked, options, words):
    with pytest.raises(gr.Error) as caught:
        call(ended.id, options)
    assert words in str(caught.value.message).replace("&quot;", '"') and asked == []
