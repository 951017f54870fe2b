"""Finished runs without a model, kept evaluations, and a client that answers for both sides."""

import time

from run_files import set_state

from trainer_backend.evaluation.results import Asked, Evaluation, Metric, keep
from trainer_backend.home import write_json
from trainer_backend.runs.checkpoints import commit
from trainer_backend.runs.run import Run


def give_checkpoint(run: Run, step: int = 4) -> Run:
    """Give a run a committed checkpoint without weights, and end it."""
    folder = run.dir / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    write_json(folder / "adapter_config.json", {})
    commit(folder, step, run=run.id)
    set_state(run, state="finished", step=step, precision="fp32")
    return run


def add_evaluation(run: Run, rows: int, word: str = "tuned", step: int = 4) -> Evaluation:
    """An evaluation of the first held-out rows: base says “base N”, the run “WORD N”."""
    _, held = run.split()
    examples = list(run.dataset().examples(held[:rows]))
    asked = [
        Asked(
            one.row,
            one.messages[0]["content"],
            one.messages[-1]["content"],
            f"base {one.row}",
            f"{word} {one.row}",
            {},
            one.messages[:-1],
        )
        for one in examples
    ]
    metric = {"exact_match": Metric(0.0, 1.0, "higher", (0.5, 1.0), rows)}
    data = run.spec()["dataset"]["id"]
    made = Evaluation(
        run.id, step, rows, metric, "better", "exact_match", "", examples=asked, dataset_id=data
    )
    keep(run, made)
    return made


class Answers:
    """A client whose models answer “RUN SIDE: question”; counts what it is asked."""

    def __init__(self, same: bool = False, seconds: float = 0.0):
        self.same, self.seconds, self.asked, self.closed = same, seconds, [], 0
        self.error = None

    def chat_steps(self, run_or_model, messages, **options):
        self.asked.append((run_or_model, messages, options))
        own = messages if isinstance(messages, dict) else {options["which"]: messages}
        yield {"fetching": {"what": "Loading the model", "words": "half", "done": 1, "total": 2}}
        try:
            for side, said in own.items():
                time.sleep(self.seconds)
                if self.error:
                    raise self.error
                text = said[-1]["content"] if self.same else f"{run_or_model} {side}"
                yield {"which": side, "text": text, "content": text, "cut": False}
        finally:
            self.closed += 1
