"""CUDA graphs of whole steps: the course of usual steps, and the usual step where one fails."""

import pytest
import torch
from bookkept import trainer

from trainer_backend.training.steps.graphs import StepGraphs
from trainer_backend.training.steps.recording import CudaRecorder

pytestmark = pytest.mark.gpu

USUAL = {"max_steps": 30, "learning_rate": 1e-3, "fill_rows": True, "cuda_graphs": True}


@pytest.fixture
def trained(tmp_path, make_model, tokenizer, device):
    """Train on the card with or without graphs; returns the trainer and how often one replayed."""
    if device != "cuda":
        pytest.skip("graphs are recorded on CUDA only")

    def run(recorder=None, **settings):
        found = trainer(tmp_path, make_model(), tokenizer, **{**USUAL, **settings})
        if recorder is not None:
            found.graphs = StepGraphs(found, recorder)
        replays = []
        usual = found.graphs._replayed
        found.graphs._replayed = lambda *given: replays.append(1) or usual(*given)
        found.train()
        return found, len(replays)

    return run


def course(run, name="loss"):
    return [row[name] for row in run.state.log_history if name in row]


def said(run):
    return [one for one in run.paths.sentences if "CUDA graphs" in one]


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize(
    "settings", [{}, {"packing": True, "max_length": 64}, {"gradient_accumulation_steps": 2}]
)
def test_graphs_follow_the_course_of_usual_steps(trained, lora, settings):
    plain, _ = trained(lora=lora, bf16=True, **{**settings, "cuda_graphs": False})
    found, replays = trained(lora=lora, bf16=True, **settings)
    assert replays > 0 and len(said(found)) == 1
    assert course(found) == pytest.approx(course(plain), rel=5e-3)
    assert course(found, "grad_norm") == pytest.approx(course(plain, "grad_norm"), rel=0.1)
    assert course(found, "num_tokens") == course(plain, "num_tokens")


class Waiting(CudaRecorder):
    """A recorder whose work waits for the device, which no capture allows."""

    def record(self, work):
        def waits():
            loss, sums = work()
            loss.item()
            return loss, sums

        return super().record(waits)


def test_a_capture_that_fails_leaves_the_usual_step(trained):
    plain, _ = trained(cuda_graphs=False)
    found, replays = trained(Waiting(torch.device("cuda", 0)))
    assert replays == 0 and len(said(found)) == 1 and "as usual" in said(found)[0]
    assert course(found) == pytest.approx(course(plain), rel=1e-4)
