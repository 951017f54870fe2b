"""A home with one dataset, and stand-ins for the scheduler and the model process."""

import pytest

from sft_ui.context import Studio
from trainer_backend.data.store.uploads import create_from_rows
from trainer_backend.home import open_home
from trainer_backend.recipe.recipe import Recipe
from trainer_backend.runs.create import create_run

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>${alert(3)}{{value}}![x](http://e/x)"
)


class SchedulerStandIn:
    def __init__(self):
        self.calls = []

    def wake(self):
        self.calls.append("wake")

    def stop(self, run_id):
        self.calls.append("stop")

    def queue_position(self, run_id):
        return 1


class ModelStandIn:
    """Answers with the given words; records requests and whether a stream was closed."""

    def __init__(self, words=("Par", "Paris")):
        self.words, self.asked, self.closed = words, [], 0
        self.answers = []  # given instead of the words, once

    def chat(self, run_or_model, messages, **options):
        self.asked.append((run_or_model, messages, options))
        sides = ("base", "tuned") if options["which"] == "both" else (options["which"],)
        try:
            while self.answers:
                yield self.answers.pop(0)
                if not self.answers:
                    return
            for text in self.words:
                for side in sides:
                    yield {"which": side, "text": text}
        finally:
            self.closed += 1


@pytest.fixture
def home(tmp_path):
    return open_home(tmp_path / "home")


@pytest.fixture
def studio(home):
    return Studio(home, SchedulerStandIn(), ModelStandIn())


@pytest.fixture
def dataset(home):
    rows = [{"prompt": f"Question {n}", "response": f"Answer {n}"} for n in range(60)]
    return create_from_rows(home, rows, name="Sixty")


@pytest.fixture
def run(home, dataset):
    return create_run(home, Recipe(max_steps=4), dataset, name="A run")


@pytest.fixture
def hostile():
    return HOSTILE
