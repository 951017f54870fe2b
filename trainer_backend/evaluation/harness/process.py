"""The process that asks lm-eval: loads base and tuned model, runs the tasks on both, replies.

It reads and writes files of the folder that it is given, and ends.
"""

import sys
from pathlib import Path
from typing import Any

from trainer_backend.errors import UserError
from trainer_backend.evaluation.engine.sides import open_sides
from trainer_backend.evaluation.harness.ask import REPLY, REQUEST, SIDE
from trainer_backend.evaluation.harness.scores import Harness, scores
from trainer_backend.home import read_json, write_json
from trainer_backend.models.loaded.load import load_processing
from trainer_backend.models.loaded.pretrained import tokenizer_of
from trainer_backend.runs import Run, run_target


def answer(folder: Path) -> None:
    """Do what the folder's request asks and write the reply. Raises what it did not foresee."""
    asked: Any = read_json(folder / REQUEST)

    def tell(what: str, done: float, total: float, unit: str, words: str = "") -> None:
        write_json(folder / SIDE, {"what": f"{what} {words}".strip()})

    try:
        harness = Harness(asked["tasks"], asked["rows"], asked["chat"])
        harness.check()  # before a model is loaded for it
        run = Run(Path(asked["run"]))
        target = run_target(run, asked["step"])
        sides, base = open_sides(run.home, target, tell)
        tokenizer = tokenizer_of(load_processing(target.checkpoint or base))
        found = {}
        for name, side in (("base", sides.base), ("tuned", sides.tuned)):
            tell(f"lm-eval asks the {name} model", 0, 1, "")
            with side() as model:
                found[name] = harness.results(model, tokenizer)
        reply: dict[str, Any] = {"results": scores(found["base"], found["tuned"])}
    except UserError as error:
        reply = {"error": error.to_dict()}
    write_json(folder / REPLY, reply)


if __name__ == "__main__":
    answer(Path(sys.argv[1]))
